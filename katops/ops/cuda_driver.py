"""The CUDA driver, through CuPy: kernels are compiled by NVRTC for the running device and launched on torch's streams.

Memory, streams and events stay torch's. CuPy contributes two things that torch does not expose on every supported
version: NVRTC with a cache on the disk, and ``cuLaunchKernel``.
"""

import importlib.metadata
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from katops.ops.cuda_launch import DeviceProperties, Kernel
from katops.ops.dispatch import BackendUnavailable

CUPY_PACKAGE = re.compile(r"cupy(-cuda\d+x?|-rocm-[\d-]+)?")
# Answers to a launch that leave the device and its context as they were. Drivers load kernels lazily, so that an image
# that does not fit the device may be found out as late as that.
REFUSALS = frozenset(
    {
        "CUDA_ERROR_INVALID_VALUE",
        "CUDA_ERROR_INVALID_IMAGE",
        "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
    }
)


class CupyDriver:
    """See :class:`katops.ops.cuda_launch.CudaDriver`. Safe to use from several threads.

    Args:
        cupy: the imported module.
    """

    def __init__(self, cupy: ModuleType) -> None:
        self._cupy = cupy
        self._loaded: dict[tuple[int, str, tuple[str, ...]], dict[str, Kernel]] = {}
        self._lock = threading.Lock()

    def properties(self, device: int) -> DeviceProperties:
        """Of the device with this index, as torch knows it."""
        found = torch.cuda.get_device_properties(device)
        return DeviceProperties(found.name, found.multi_processor_count, (found.major, found.minor))

    def load(self, device: int, source: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Kernel]:
        """The ``extern "C"`` kernels of a source by name; compiled once per device, source and options.

        Raises:
            BackendUnavailable: the source does not compile or cannot be loaded; not permanent while a CUDA graph is
                being captured, when nothing can be loaded.
        """
        with self._lock:
            kernels = self._loaded.setdefault((device, source, options), {})
            missing = tuple(name for name in names if name not in kernels)
            if missing:
                with _current(self._cupy, device):
                    if torch.cuda.is_current_stream_capturing():
                        raise BackendUnavailable(
                            "a CUDA graph is being captured and the kernels are not compiled yet; "
                            "call katops.prepare() or run the model once before",
                            permanent=False,
                        )
                    kernels.update(self._compile(device, source, options, missing))
            return {name: kernels[name] for name in names}

    def _compile(self, device: int, source: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Kernel]:
        try:
            try:
                functions = self._functions(source, options, names)
            except OSError:
                # The cache on the disk cannot be written; without it every process compiles for itself.
                with _environment("CUPY_CACHE_IN_MEMORY", "1"):
                    functions = self._functions(source, options, names)
        except Exception as error:
            name = torch.cuda.get_device_name(device)
            failed = isinstance(error, self._cupy.cuda.compiler.CompileException)
            raise BackendUnavailable(
                f"the kernels do not compile for {name}: {first_error(str(error))}"
                if failed
                else f"the kernels cannot be loaded on {name}: {first_error(f'{type(error).__name__}: {error}')}"
            ) from error
        return {name: _launcher(self._cupy, device, function) for name, function in functions.items()}

    def _functions(self, source: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Any]:
        """CuPy's functions for the current device; its RawKernels would look theirs up again at every launch."""
        module = self._cupy.RawModule(code=source, options=options, backend="nvrtc")
        return {name: module.get_function(name).kernel for name in names}


class NvrtcDriver:
    """A :class:`katops.ops.cuda_launch.CudaDriver` without a device: compiles with the NVRTC that CuPy uses.

    It tells a machine without a GPU whether one with a GPU will be able to compile.

    Args:
        cupy: the imported module.
        capability: (9, 0) for compute capability 9.0.
    """

    def __init__(self, cupy: ModuleType, capability: tuple[int, int]) -> None:
        self._nvrtc = cupy.cuda.nvrtc
        self._capability = capability

    def properties(self, device: int) -> DeviceProperties:
        """Of no device in particular."""
        return DeviceProperties("no device", 1, self._capability)

    def load(self, device: int, source: str, options: tuple[str, ...], names: tuple[str, ...]) -> dict[str, Kernel]:
        """Compile; the kernels cannot be launched.

        Raises:
            BackendUnavailable: NVRTC is missing or refuses the source.
        """
        architecture = "sm_{}{}".format(*self._capability)
        try:
            program = self._nvrtc.createProgram(source, "katops.cu", (), ())
        except Exception as error:
            raise BackendUnavailable(f"NVRTC cannot be used: {_first_line(error)}") from error
        try:
            self._nvrtc.compileProgram(program, (*options, f"-arch={architecture}"))
        except Exception as error:
            log = first_error(self._nvrtc.getProgramLog(program))
            raise BackendUnavailable(f"the kernels do not compile for {architecture}: {log}") from error
        finally:
            self._nvrtc.destroyProgram(program)
        return dict.fromkeys(names, _not_launched)


def _not_launched(grid: int, block: int, arguments: tuple[int, ...], shared_bytes: int) -> None:
    raise BackendUnavailable("the kernels are compiled for a device that is not there")


def connect() -> CupyDriver:
    """A driver for the devices that torch sees.

    Raises:
        BackendUnavailable: torch has no CUDA or no device, CuPy is missing, does not fit torch, or finds no driver.
    """
    if torch.version.cuda is None:
        raise BackendUnavailable(f"torch {torch.__version__} is built without CUDA")
    if not torch.cuda.is_available():
        raise BackendUnavailable("torch sees no CUDA device (nvidia-smi says whether the driver does)")
    packages = installed_packages()
    if len(packages) > 1:
        raise BackendUnavailable(
            f"several CuPy packages are installed over one another ({', '.join(packages)}); "
            f"uninstall all of them and install {_extra()}"
        )
    cupy = import_cupy()
    version = cupy.cuda.runtime.runtimeGetVersion()
    if version // 1000 != int(torch.version.cuda.split(".")[0]):
        raise BackendUnavailable(
            f"CuPy {cupy.__version__} is built for CUDA {version // 1000} and torch {torch.__version__} for CUDA "
            f"{torch.version.cuda}; uninstall CuPy and install {_extra()}"
        )
    try:
        cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise BackendUnavailable(f"CuPy {cupy.__version__} cannot use the driver: {_first_line(error)}") from error
    return CupyDriver(cupy)


def import_cupy() -> ModuleType:
    """CuPy, imported even where its cache folder cannot be made, which it does not survive by itself.

    Raises:
        BackendUnavailable: it is not installed or cannot be imported.
    """
    try:
        if _cache_folder_exists():
            import cupy
        else:
            with tempfile.TemporaryDirectory() as folder, _environment("CUPY_CACHE_DIR", folder):
                import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise BackendUnavailable(f"CuPy cannot be imported: {_first_line(error)}") from error
        raise BackendUnavailable(f"CuPy is not installed; install {_extra()}") from error
    except Exception as error:
        raise BackendUnavailable(f"CuPy cannot be imported: {_first_line(error)}") from error
    return cupy


def installed_packages() -> list[str]:
    """The installed distributions that provide the module ``cupy``, as "name version"; more than one is a mistake."""
    found = {str(package.metadata["Name"]).lower(): package.version for package in importlib.metadata.distributions()}
    return [f"{name} {version}" for name, version in sorted(found.items()) if CUPY_PACKAGE.fullmatch(name)]


def first_error(log: str) -> str:
    """The first error of a compiler's log, without the temporary file that it names."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    line = next((line for line in lines if "error" in line), lines[0] if lines else "no message")
    return re.sub(r"^\S+\((\d+)\): ", r"line \1: ", line)


class _TorchStream:
    """The stream that is current in torch when it is asked, for the only thing that CuPy asks of a stream.

    A pointer kept from an earlier launch would put work on another stream, and nothing into a CUDA graph.
    """

    __slots__ = ("_device",)

    def __init__(self, device: int) -> None:
        self._device = device

    @property
    def ptr(self) -> int:
        return torch._C._cuda_getCurrentRawStream(self._device)


def _launcher(cupy: ModuleType, device: int, function: Any) -> Kernel:
    """CuPy passes Python integers by value as 64 bits and binds the context of the current device to a new thread.

    Backward passes run in threads of their own. Which device is current there is asked of CuPy, for that is the device
    whose context it binds; both CuPy and torch go by the context that is current in the driver.
    """
    stream = _TorchStream(device)
    current_device = cupy.cuda.runtime.getDevice
    driver_error = cupy.cuda.driver.CUDADriverError

    def launch(grid: int, block: int, arguments: tuple[int, ...], shared_bytes: int) -> None:
        try:
            if current_device() == device:
                function((grid,), (block,), arguments, shared_bytes, stream)
            else:
                with _current(cupy, device):
                    function((grid,), (block,), arguments, shared_bytes, stream)
        except driver_error as error:
            # Everything else, above all what an earlier kernel has done to the device, is no matter of this launch.
            if str(error).partition(":")[0] not in REFUSALS:
                raise
            name = torch.cuda.get_device_name(device)
            raise BackendUnavailable(f"the kernels cannot be launched on {name}: {_first_line(error)}") from error

    return launch


@contextmanager
def _current(cupy: ModuleType, device: int) -> Iterator[None]:
    """Make a device current for CuPy, and leave it as torch does.

    CuPy's own guard would, on its way out, create a context and occupy memory on a device that nobody uses: the first
    one, where a process works on the second. Torch's only remembers such a device, so it may find nothing to change on
    the way in where CuPy has something to.
    """
    with torch.cuda.device(device):
        cupy.cuda.runtime.setDevice(device)
        yield


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _cache_folder_exists() -> bool:
    """Whether CuPy's folder for compiled kernels is there or can be made."""
    folder = os.environ.get("CUPY_CACHE_DIR", str(Path("~/.cupy/kernel_cache").expanduser()))
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError:
        return False
    return True


def _extra() -> str:
    major = (torch.version.cuda or "13").split(".")[0]
    return f"'katops[cuda{major}]'"


def _first_line(error: Exception) -> str:
    """What went wrong: the first line that says something; CuPy wraps errors in pages framed by lines of = signs."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines()]
    return next((line for line in lines if line.strip("=- ")), type(error).__name__)
