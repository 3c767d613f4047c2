"""The CUDA kernels on the CPU: the same source, compiled by a C++ compiler against an emulation of CUDA's threads."""

import ctypes
import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from katops.ops.cuda_launch import DeviceProperties, Kernel
from katops.ops.rational_cuda import CudaRational

HEADER = Path(__file__).with_name("cuda_host.h")


class HostDriver:
    """A :class:`katops.ops.cuda_launch.CudaDriver` whose device is the CPU.

    Args:
        folder: for the shared libraries.
        multiprocessors: a few, so that every thread walks over several vectors.
        order: "forwards", "backwards" or a seed: the order in which the threads of a block run.
    """

    def __init__(self, folder: Path, multiprocessors: int, order: str | int = "forwards") -> None:
        self.folder = folder
        self.multiprocessors = multiprocessors
        self.order = order
        self.launches: list[tuple[str, int, int]] = []

    def properties(self, device: int) -> DeviceProperties:
        """Of a device as small as wished."""
        return DeviceProperties("host", self.multiprocessors, (9, 0))

    def load(self, device: int, source: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Kernel]:
        """The kernels from a shared library, built once per source and options."""
        macros = [option for option in options if option.startswith("-D")]
        digest = hashlib.sha256("\n".join([source, HEADER.read_text(), *macros]).encode()).hexdigest()[:24]
        library = self.folder / f"{digest}.so"
        if not library.exists():
            text = self.folder / f"{digest}.cpp"
            text.write_text(source)
            command = [
                "g++",
                "-std=c++17",
                "-Og",
                "-march=native",
                "-ffp-contract=off",
                "-U_FORTIFY_SOURCE",
                "-shared",
                "-fPIC",
                "-w",
            ]
            subprocess.run([*command, "-include", str(HEADER), *macros, "-o", str(library), str(text)], check=True)
        loaded = ctypes.CDLL(str(library))
        return {name: self._kernel(loaded, name) for name in names}

    def _kernel(self, library: ctypes.CDLL, name: str) -> Kernel:
        address = ctypes.cast(getattr(library, name), ctypes.c_void_p)

        def kernel(grid: int, block: int, arguments: tuple[int, ...], shared_bytes: int) -> None:
            assert block % 32 == 0
            assert shared_bytes <= 48 * 1024
            order = self._order(block)
            values = (ctypes.c_longlong * len(arguments))(*arguments)
            failed = library.launch(
                address, grid, block, values, len(arguments), order.ctypes.data_as(ctypes.POINTER(ctypes.c_uint))
            )
            assert not failed, f"{name}: some threads of a block wait for others that never come"
            self.launches.append((name, grid, block))

        return kernel

    def _order(self, block: int) -> np.ndarray:
        threads = np.arange(block, dtype=np.uint32)
        if self.order == "forwards":
            return threads
        return (
            threads[::-1].copy()
            if self.order == "backwards"
            else np.random.default_rng(self.order).permutation(threads)
        )


@pytest.fixture(scope="session")
def host_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the compiled kernels lie."""
    if shutil.which("g++") is None:
        pytest.skip("running the CUDA kernels on the CPU needs g++")
    return tmp_path_factory.mktemp("cuda_host")


@pytest.fixture
def host_rational(host_libraries: Path) -> Callable[..., CudaRational]:
    """Makes a CudaRational for CPU tensors: ``host_rational(multiprocessors=1, order="forwards")``."""
    return lambda multiprocessors=1, order="forwards": CudaRational(
        HostDriver(host_libraries, multiprocessors, order), device=0
    )
