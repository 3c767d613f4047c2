"""The group rational function on the CPU with numba: which machine code runs a call, and on how many threads."""

import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

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
# Shorter runs of neighbouring elements are gathered from several rows, so that the vectors are full: about a thousand
# elements of each group, and no more rows than the second-level cache holds.
_SHORT_INNER = 64
_GATHERED_PER_GROUP = 1024
_GATHERED_IN_ALL = 65536
# A forked child must not enter a parallel region: OpenMP ends it, and other threading layers wait for ever.
_PROCESS = os.getpid()


def load(device: torch.device) -> "NumbaRational":
    """The kernels for the CPU.

    Raises:
        BackendUnavailable: numba cannot be imported.
    """
    try:
        from katops.ops import rational_numba
    except Exception as error:  # not ImportError alone: a numba that does not fit the installed numpy raises others
        raise BackendUnavailable(f"numba cannot be imported ({error}); pip install numba brings it") from error
    return NumbaRational(rational_numba, ChunkedRational())


class NumbaRational:
    """Kernels compiled on first use for each combination of types and degrees, and kept on disk.

    They run on as many threads as torch uses. The bits of the results do not depend on that number.

    Args:
        kernels: the module :mod:`katops.ops.rational_numba`.
        fallback: computes the tensors with elements so large that powers overflow and no wider type is at hand.
    """

    def __init__(self, kernels: ModuleType, fallback: RationalKernels) -> None:
        self._fallback = fallback
        self._variant = kernels.Variant
        self._forward = cache(kernels.compile_forward)
        self._backward = cache(kernels.compile_backward)
        # The simplest threading layer aborts the process when two threads start parallel work at once.
        self._parallel_work = threading.Lock()

    def supports(self, x: torch.dtype, compute: torch.dtype, y: torch.dtype) -> bool:
        """float32 and bfloat16 in float32, float32 to bfloat16, and float64."""
        return (x, compute, y) in _SERVED

    def prepare(self, dtypes: Sequence[torch.dtype], degrees: tuple[int, int] = (5, 4)) -> None:
        """Compile ahead for these types of x, for one thread and for several; types that are not served are skipped."""
        for dtype in dtypes:
            compute = compute_type(dtype)
            if self.supports(dtype, compute, dtype):
                for parallel in (False, True):
                    variant = self._variant_for(dtype, compute, dtype, degrees, parallel)
                    self._forward(variant)
                    self._backward(variant, True)

    def forward(
        self, x: Tensor, numerator: Tensor, denominator: Tensor, layout: GroupLayout, dtype: torch.dtype
    ) -> Tensor:
        """See :meth:`RationalKernels.forward`."""
        compute, degrees = _compute_and_degrees(x, numerator, denominator)
        a, b = numerator.to(compute), denominator.to(compute)
        y = torch.empty_like(x, dtype=dtype)

        def run(parallel: bool) -> int:
            kernel = self._forward(self._variant_for(x.dtype, compute, dtype, degrees, parallel))
            addresses = x.data_ptr(), y.data_ptr(), a.data_ptr(), b.data_ptr()
            return kernel(*addresses, *_sizes(a, b, layout), far_limit(compute, *degrees), _tasks(layout))

        if self._run(run, x.numel()):
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
        results = torch.empty_like(x), torch.empty_like(a), torch.empty_like(b)

        def run(parallel: bool) -> int:
            variant = self._variant_for(x.dtype, compute, gradient.dtype, degrees, parallel)
            kernel = self._backward(variant, needs[1] or needs[2])
            addresses = [tensor.data_ptr() for tensor in (x, gradient, results[0], a, b, *results[1:])]
            return kernel(*addresses, *_sizes(a, b, layout), far_limit(compute, *degrees), _tasks(layout))

        if self._run(run, x.numel()):
            return self._fallback.backward(x, gradient, numerator, denominator, layout, needs)
        inputs = x, numerator, denominator
        return tuple(
            result.to(given.dtype) if needed else None
            for result, given, needed in zip(results, inputs, needs, strict=True)
        )

    def _variant_for(
        self, x: torch.dtype, compute: torch.dtype, y: torch.dtype, degrees: tuple[int, int], parallel: bool
    ) -> object:
        return self._variant(
            x=_NUMPY_TYPES[x],
            y=_NUMPY_TYPES[y],
            compute=_NUMPY_TYPES[compute],
            degrees=degrees,
            in_double=compute == torch.float32 and max(degrees) <= _HIGHEST_DEGREE_IN_DOUBLE,
            parallel=parallel,
        )

    def _run(self, kernel: Callable[[bool], int], elements: int) -> int:
        """Call ``kernel(parallel)``: in parallel where that pays, is allowed, and nobody else does it right now."""
        threads = torch.get_num_threads()
        if threads == 1 or elements < _SEQUENTIAL_BELOW or os.getpid() != _PROCESS:
            return kernel(False)
        if not self._parallel_work.acquire(blocking=False):
            return kernel(False)
        try:
            return _with_threads(threads, kernel)
        finally:
            self._parallel_work.release()


def _with_threads(threads: int, kernel: Callable[[bool], int]) -> int:
    """Call ``kernel(True)`` while numba uses this many threads, or as many as it has."""
    import numba

    before = numba.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    try:
        return kernel(True)
    finally:
        numba.set_num_threads(before)


def _compute_and_degrees(x: Tensor, numerator: Tensor, denominator: Tensor) -> tuple[torch.dtype, tuple[int, int]]:
    degrees = numerator.shape[1] - 1, denominator.shape[1]
    return compute_type(x.dtype, numerator.dtype, denominator.dtype), degrees


def _sizes(a: Tensor, b: Tensor, layout: GroupLayout) -> tuple[int, ...]:
    return len(a), len(b), *layout, _gathered_rows(layout)


def _gathered_rows(layout: GroupLayout) -> int:
    """How many rows of [groups, inner] are gathered at a time; 0 where the memory is worked on as it lies."""
    if layout.inner >= _SHORT_INNER:
        return 0
    row = layout.groups * layout.inner
    rows = min(_GATHERED_PER_GROUP // layout.inner, _GATHERED_IN_ALL // row, layout.outer)
    return rows if rows > 1 else 0


def _tasks(layout: GroupLayout) -> int:
    """A number of parts that depends on the sizes alone; the sums of the parts stay small beside the tensor."""
    outer, groups, inner = layout
    elements = outer * groups * inner
    return max(1, min(_MOST_TASKS, elements // 8192, elements // (256 * groups)))
