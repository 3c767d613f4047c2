"""The group rational function on the CPU with numba: which machine code runs a call, and on how many threads."""

from collections.abc import Sequence
from ctypes import addressof, c_int64
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.ops import cpu_team
from katops.ops.dispatch import BackendUnavailable
from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_chunked import ChunkedRational
from katops.ops.rational_kernels import Gradients, RationalKernels, compute_type, far_limit

_SERVED = frozenset(
    {
        (torch.float32, torch.float32, torch.float32),
        (torch.float32, torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float32, torch.bfloat16),
        (torch.float64, torch.float64, torch.float64),
    }
)
_NUMPY_TYPES = {torch.float32: np.float32, torch.float64: np.float64, torch.bfloat16: np.uint16}

# Powers of 2^160, which stands for infinity, fit into float64 up to this degree.
_HIGHEST_DEGREE_IN_DOUBLE = 6
# Waking the threads costs as much as this many elements.
_SEQUENTIAL_BELOW = 32768
_MOST_TASKS = 128
# Shorter runs of neighbouring elements are put together from several rows: about a thousand elements of each group, and
# no more rows than the second-level cache holds. The backward pass gains more by it, having sums to add up per run.
_SHORT_FORWARD, _SHORT_BACKWARD = 8, 32
_GATHERED_PER_GROUP = 1024
_GATHERED_IN_ALL = 65536


def load(device: torch.device) -> "NumbaRational":
    """The kernels for the CPU.

    Raises:
        BackendUnavailable: numba cannot be imported.
    """
    try:
        from katops.ops import rational_numba
    except Exception as error:  # not ImportError alone: a numba that does not fit the installed numpy raises others
        raise BackendUnavailable(
            f"numba cannot be imported ({error}); pip install --force-reinstall numba brings one that fits"
        ) from error
    return NumbaRational(rational_numba, ChunkedRational())


class NumbaRational:
    """Kernels compiled on first use for each combination of types and degrees, and kept on disk.

    They run on torch's threads, as many as torch uses. The bits of the results do not depend on that number.

    Args:
        kernels: the module :mod:`katops.ops.rational_numba`.
        fallback: computes the tensors with elements so large that powers overflow and no wider type is at hand.
    """

    def __init__(self, kernels: ModuleType, fallback: RationalKernels) -> None:
        self._fallback = fallback
        self._kernels = kernels
        self._forward = cache(partial(self._compile, "compile_forward"))
        self._backward = cache(partial(self._compile, "compile_backward"))
        self._reduction = cache(partial(self._compile, "compile_reduction"))

    def supports(self, x: torch.dtype, compute: torch.dtype, y: torch.dtype) -> bool:
        """float32 and bfloat16 in float32, float32 to bfloat16, and float64."""
        return (x, compute, y) in _SERVED

    def prepare(self, dtypes: Sequence[torch.dtype], degrees: tuple[int, int] = (5, 4)) -> None:
        """Compile ahead for these types of x; types that are not served are skipped."""
        for dtype in dtypes:
            compute = compute_type(dtype)
            for x in {dtype, torch.float32} if dtype == torch.bfloat16 else {dtype}:
                if self.supports(x, compute, dtype):
                    types = (x, compute, dtype)
                    self._forward(types, degrees)
                    self._backward(types, degrees, True)
                    self._reduction(types, degrees)

    def forward(
        self, x: Tensor, numerator: Tensor, denominator: Tensor, layout: GroupLayout, dtype: torch.dtype
    ) -> Tensor:
        """See :meth:`RationalKernels.forward`."""
        compute, degrees = _compute_and_degrees(x, numerator, denominator)
        a, b = numerator.to(compute), denominator.to(compute)
        y, tasks = torch.empty_like(x, dtype=dtype), _tasks(layout)
        far = (c_int64 * tasks)()
        kernel = self._forward((x.dtype, compute, dtype), degrees)
        addresses = (x.data_ptr(), y.data_ptr(), a.data_ptr(), b.data_ptr(), addressof(far))
        sizes = (len(a), len(b), *layout, _rows_together(layout, _SHORT_FORWARD), tasks)
        _run(kernel.address, (*addresses, *sizes), x.numel())
        if any(far):
            return self._fallback.forward(x, numerator, denominator, layout, dtype)
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
        """See :meth:`RationalKernels.backward`."""
        compute, degrees = _compute_and_degrees(x, numerator, denominator)
        a, b = numerator.to(compute), denominator.to(compute)
        grad_x, grad_a, grad_b = torch.empty_like(x), torch.empty_like(a), torch.empty_like(b)
        sums, tasks = needs[1] or needs[2], _tasks(layout)
        totals = torch.zeros(tasks, layout.groups, sum(degrees) + 1 if sums else 0, dtype=torch.float64)
        far = (c_int64 * tasks)()
        types = (x.dtype, compute, gradient.dtype)
        addresses = [tensor.data_ptr() for tensor in (x, gradient, grad_x, a, b, totals)]
        sizes = (len(a), len(b), *layout, _rows_together(layout, _SHORT_BACKWARD), tasks)
        _run(self._backward(types, degrees, sums).address, (*addresses, addressof(far), *sizes), x.numel())
        if any(far):
            return self._fallback.backward(x, gradient, numerator, denominator, layout, needs)
        if sums:
            addresses = [tensor.data_ptr() for tensor in (totals, b, grad_a, grad_b)]
            sizes = (len(a), len(b), layout.groups, tasks)
            cpu_team.SEQUENTIAL.run(self._reduction(types, degrees).address, (*addresses, *sizes), 1)
        inputs = x, numerator, denominator
        return tuple(
            result.to(given.dtype) if needed else None
            for result, given, needed in zip((grad_x, grad_a, grad_b), inputs, needs, strict=True)
        )

    def _compile(
        self, name: str, types: tuple[torch.dtype, torch.dtype, torch.dtype], degrees: tuple[int, int], *options: bool
    ) -> Any:
        """The C function that a compiler of the kernels' module makes for types of x, arithmetic and y.

        Raises:
            BackendUnavailable: whatever goes wrong is a reason for another backend to run.
        """
        x, compute, y = types
        variant = self._kernels.Variant(
            x=_NUMPY_TYPES[x],
            y=_NUMPY_TYPES[y],
            compute=_NUMPY_TYPES[compute],
            degrees=degrees,
            limit=far_limit(compute, *degrees),
            in_double=compute == torch.float32 and max(degrees) <= _HIGHEST_DEGREE_IN_DOUBLE,
        )
        try:
            return getattr(self._kernels, name)(variant, *options)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise BackendUnavailable(
                f"the CPU kernels do not compile with this numba ({type(error).__name__}: {reason})"
            ) from error


def _run(function: int, entries: Sequence[int], elements: int) -> None:
    """In parallel where that pays and is allowed."""
    threads = torch.get_num_threads()
    if threads == 1 or elements < _SEQUENTIAL_BELOW or cpu_team.is_forked():
        cpu_team.SEQUENTIAL.run(function, entries, 1)
    else:
        cpu_team.team().run(function, entries, threads)


def _compute_and_degrees(x: Tensor, numerator: Tensor, denominator: Tensor) -> tuple[torch.dtype, tuple[int, int]]:
    degrees = numerator.shape[1] - 1, denominator.shape[1]
    return compute_type(x.dtype, numerator.dtype, denominator.dtype), degrees


def _rows_together(layout: GroupLayout, short: int) -> int:
    """How many rows of [groups, inner] are put together; 0 where the memory is worked on as it lies."""
    if layout.inner >= short:
        return 0
    row = layout.groups * layout.inner
    rows = min(_GATHERED_PER_GROUP // layout.inner, _GATHERED_IN_ALL // row, layout.outer)
    return rows if rows > 1 else 0


def _tasks(layout: GroupLayout) -> int:
    """A number of parts that depends on the sizes alone; the sums of the parts stay small beside the tensor."""
    outer, groups, inner = layout
    elements = outer * groups * inner
    return max(1, min(_MOST_TASKS, elements // 8192, elements // (256 * groups)))
