"""What a CUDA kernel needs from a driver: to be compiled for a device, and to be launched there.

:mod:`katops.ops.cuda_driver` does it with CuPy; the tests do it with a C++ compiler on the CPU.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

# kernel(grid, block, arguments, shared_bytes): one-dimensional launch on torch's current stream of the device that the
# kernel was loaded for, without waiting. Arguments are pointers (``Tensor.data_ptr()``) and 64-bit integers.
Kernel = Callable[[int, int, tuple[int, ...], int], None]


@dataclass(frozen=True)
class DeviceProperties:
    """What a launch plan depends on."""

    name: str
    multiprocessors: int
    capability: tuple[int, int]


class CudaDriver(Protocol):
    """Compiles and launches on the devices of one machine."""

    def properties(self, device: int) -> DeviceProperties:
        """Of the device with this index."""

    def load(self, device: int, source: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Kernel]:
        """The ``extern "C"`` kernels of a source, compiled for the device with these NVRTC options; cached.

        Raises:
            BackendUnavailable: the source does not compile or cannot be loaded; not permanent where the only obstacle
                is that a CUDA graph is being captured on the device and the kernels are not there yet.
        """
