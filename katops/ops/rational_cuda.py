"""The group rational function on CUDA: ``cuda/rational.cu``, compiled per instance when it is first needed."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from katops.ops.cuda_launch import CudaDriver, Kernel
from katops.ops.cuda_source import cuda_source
from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_kernels import Gradients, compute_type, far_limit
from katops.ops.rational_plan import LaunchBounds, LaunchPlan, launch_bounds, launch_plan, vector_width

NAMES = {torch.float32: "float", torch.float64: "double", torch.bfloat16: "BFloat16", torch.float16: "Float16"}
MOST_LAUNCHES = 4096  # remembered; a plan is a matter of microseconds
SUM_THREADS = 256
SUM_BYTES = SUM_THREADS // 32 * 8
SHARED_NUMERATOR, SHARED_DENOMINATOR = 1, 2


class Types(NamedTuple):
    """Storage types: of x and dx, of y and its gradient, of the coefficients and their gradients."""

    x: torch.dtype
    y: torch.dtype
    numerator: torch.dtype
    denominator: torch.dtype

    @property
    def compute(self) -> torch.dtype:
        """The type of the arithmetic."""
        return compute_type(self.x, self.numerator, self.denominator)


class Degrees(NamedTuple):
    """m and n."""

    numerator: int
    denominator: int

    @property
    def coefficients(self) -> int:
        """Coefficients per group."""
        return self.numerator + 1 + self.denominator


class Launch(NamedTuple):
    """All that a call needs besides its tensors."""

    kernel: Kernel
    sum_partials: Kernel | None
    plan: LaunchPlan
    numbers: tuple[int, ...]
    sum_numbers: tuple[int, ...]
    sum_grid: int
    partials: int
    compute: torch.dtype


class CudaRational:
    """:class:`katops.ops.rational_kernels.RationalKernels` on one CUDA device.

    Every launch goes to torch's current stream, and nothing waits. Equal input gives equal bits.

    Args:
        driver: compiles and launches.
        device: index of the device.

    Raises:
        BackendUnavailable: from every method that runs a kernel, where it cannot be compiled.
    """

    def __init__(self, driver: CudaDriver, device: int) -> None:
        self._driver = driver
        self._device = device
        self._multiprocessors = driver.properties(device).multiprocessors
        self._source = cuda_source("rational.cu")
        self._launches: dict[tuple, Launch] = {}

    def supports(self, x: torch.dtype, compute: torch.dtype, y: torch.dtype) -> bool:
        """Whether input of type ``x``, arithmetic in ``compute`` and output of type ``y`` are served."""
        return x in NAMES and y in NAMES and compute in (torch.float32, torch.float64)

    def forward(
        self, x: Tensor, numerator: Tensor, denominator: Tensor, layout: GroupLayout, dtype: torch.dtype
    ) -> Tensor:
        """y = P(x) / Q(x), rounded once to ``dtype``."""
        y = torch.empty_like(x, dtype=dtype)
        x_address, y_address = x.data_ptr(), y.data_ptr()
        alignment = (x_address // x.element_size() | y_address // y.element_size()) & 7
        key = (
            layout, alignment, x.dtype, dtype, numerator.dtype, denominator.dtype, numerator.shape, denominator.shape
        )  # fmt: skip
        launch = self._launches.get(key)
        if launch is None:
            launch = self._remember(key, self._plan_launch(key, None))
        plan = launch.plan
        pointers = (x_address, numerator.data_ptr(), denominator.data_ptr(), y_address)
        launch.kernel(plan.grid, plan.threads, pointers + launch.numbers, plan.shared_bytes)
        return y

    def backward(
        self,
        x: Tensor,
        gradient: Tensor,
        numerator: Tensor,
        denominator: Tensor,
        layout: GroupLayout,
        needs: tuple[bool, bool, bool],
    ) -> Gradients:
        """The gradients of x, numerator and denominator; None where it is not needed."""
        needs_x, needs_a, needs_b = needs
        needs_sums = needs_a or needs_b
        if not (needs_x or needs_sums):
            return None, None, None
        grad_x = torch.empty_like(x) if needs_x else None
        x_address, gradient_address = x.data_ptr(), gradient.data_ptr()
        grad_x_address = grad_x.data_ptr() if needs_x else 0
        alignment = ((x_address | grad_x_address) // x.element_size() | gradient_address // gradient.element_size()) & 7
        key = (
            layout, alignment, x.dtype, gradient.dtype, numerator.dtype, denominator.dtype,
            numerator.shape, denominator.shape, needs_x, needs_sums
        )  # fmt: skip
        launch = self._launches.get(key)
        if launch is None:
            launch = self._remember(key, self._plan_launch(key, (needs_x, needs_sums)))
        plan = launch.plan
        partials = torch.empty(launch.partials, dtype=launch.compute, device=x.device) if needs_sums else None
        partials_address = partials.data_ptr() if needs_sums else 0
        pointers = (
            x_address, gradient_address, numerator.data_ptr(), denominator.data_ptr(), grad_x_address, partials_address
        )  # fmt: skip
        launch.kernel(plan.grid, plan.threads, pointers + launch.numbers, plan.shared_bytes)
        if not needs_sums:
            return grad_x, None, None
        grad_a, grad_b = torch.empty_like(numerator), torch.empty_like(denominator)
        pointers = (partials_address, denominator.data_ptr(), grad_a.data_ptr(), grad_b.data_ptr())
        launch.sum_partials(launch.sum_grid, SUM_THREADS, pointers + launch.sum_numbers, SUM_BYTES)
        return grad_x, grad_a if needs_a else None, grad_b if needs_b else None

    def prepare(self, dtypes: Sequence[torch.dtype], degrees: tuple[int, int] = (5, 4)) -> None:
        """Compile ahead what training in these types needs: aligned tensors, float32 coefficients at least.

        Args:
            dtypes: of x; the 16-bit types include float32 input with output of that type, as under autocast.
            degrees: m and n.
        """
        for dtype in dtypes:
            for x in {dtype, torch.float32} if dtype.itemsize == 2 else {dtype}:
                coefficients = compute_type(dtype)
                types = Types(x, dtype, coefficients, coefficients)
                double = types.compute == torch.float64
                width = vector_width(64, 0, max(x.itemsize, dtype.itemsize), double)
                for needs in (None, (True, True)):
                    self._kernels(types, Degrees(*degrees), width, False, needs)

    def _remember(self, key: tuple, launch: Launch) -> Launch:
        if len(self._launches) >= MOST_LAUNCHES:
            self._launches.clear()
        self._launches[key] = launch
        return launch

    def _plan_launch(self, key: tuple, needs: tuple[bool, bool] | None) -> Launch:
        """The launch for a key of :meth:`forward` (``needs`` None) or :meth:`backward` (dx, sums)."""
        layout, alignment, x, y, a, b, a_shape, b_shape = key[:8]
        types, degrees = Types(x, y, a, b), Degrees(a_shape[1] - 1, b_shape[1])
        double = types.compute == torch.float64
        elements = layout.outer * layout.inner if layout.groups == 1 else layout.inner
        width = vector_width(elements, alignment, max(x.itemsize, y.itemsize), double)
        sums = degrees.coefficients if needs and needs[1] else 0
        bounds = [_bounds(types, degrees, needs, segment) for segment in (False, True)]
        plan = launch_plan(layout, width, self._multiprocessors, *bounds, sums, types.compute.itemsize)
        shared = (a_shape[0] == 1) * SHARED_NUMERATOR + (b_shape[0] == 1) * SHARED_DENOMINATOR
        kernel, sum_partials = self._kernels(types, degrees, width, plan.segment, needs)
        return Launch(
            kernel=kernel,
            sum_partials=sum_partials,
            plan=plan,
            numbers=(*plan.numbers, shared) if needs is None else (*plan.numbers, shared, plan.team),
            sum_numbers=(plan.rows, layout.groups, shared),
            sum_grid=a_shape.numel() + b_shape.numel(),
            partials=sums * layout.groups * plan.rows,
            compute=types.compute,
        )

    def _kernels(
        self, types: Types, degrees: Degrees, width: int, segment: bool, needs: tuple[bool, bool] | None
    ) -> tuple[Kernel, Kernel | None]:
        options = instance_options(types, degrees, width, segment, needs)
        names = ("rational_forward",) if needs is None else ("rational_backward", "sum_partials")
        kernels = self._driver.load(self._device, self._source, options, names)
        return kernels[names[0]], kernels.get("sum_partials")


def instance_options(
    types: Types, degrees: Degrees, width: int, segment: bool, needs: tuple[bool, bool] | None
) -> tuple[str, ...]:
    """The compiler's options for one instance; ``needs`` is None for the forward kernel, else (dx, sums)."""
    bounds = _bounds(types, degrees, needs, segment)
    macros = {
        "M": degrees.numerator,
        "N": degrees.denominator,
        "X": NAMES[types.x],
        "Y": NAMES[types.y],
        "A": NAMES[types.numerator],
        "B": NAMES[types.denominator],
        "COMPUTE": NAMES[types.compute],
        "WIDTH": width,
        "SEGMENT": int(segment),
        "FAR_LIMIT": far_limit(types.compute, *degrees),
        "THREADS": bounds.threads,
        "BLOCKS": bounds.blocks,
    }
    if needs is None:
        macros["FORWARD"] = 1
    else:
        macros |= {"BACKWARD": 1, "NEEDS_X": int(needs[0]), "NEEDS_COEFFICIENTS": int(needs[1])}
    return ("-std=c++17", *(f"-DKATOPS_{name}={value}" for name, value in macros.items()))


def _bounds(types: Types, degrees: Degrees, needs: tuple[bool, bool] | None, segment: bool) -> LaunchBounds:
    return launch_bounds(degrees.coefficients, types.compute == torch.float64, needs is not None, segment)


def load(device: torch.device) -> CudaRational:
    """The kernels for a CUDA device.

    Raises:
        BackendUnavailable: CuPy, the driver or the device is missing.
    """
    driver = _driver()
    return CudaRational(driver, torch.cuda.current_device() if device.index is None else device.index)


@functools.cache
def _driver() -> CudaDriver:
    """One for the process: its modules are shared by all devices' objects."""
    from katops.ops.cuda_driver import connect

    return connect()
