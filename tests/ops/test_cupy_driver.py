"""What the bridge asks of CuPy and of torch, recorded by stand-ins for both; and of the real CuPy what needs no GPU."""

import ctypes
import importlib
import importlib.util
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from katops.ops import cuda_driver
from katops.ops.cuda_driver import CupyDriver, NvrtcDriver, connect, import_cupy, installed_packages
from katops.ops.dispatch import BackendUnavailable

SOURCE, OPTIONS = 'extern "C" __global__ void scale(float* x, long long n) {}', ("-std=c++17",)
Launch = namedtuple("Launch", "device grid block arguments shared_bytes stream")

real_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")


class CompileError(Exception):
    """Stands for cupy.cuda.compiler.CompileException."""


class DriverError(RuntimeError):
    """Stands for cupy.cuda.driver.CUDADriverError: "NAME_OF_THE_CODE: what the driver says about it"."""


@dataclass
class Machine:
    """Two devices, the one current in the driver, and everything that was asked of them."""

    current: int = 0
    streams: dict[int, int] = field(default_factory=lambda: {0: 0, 1: 0})
    capturing: set[int] = field(default_factory=set)
    compiled: list[tuple[int, str, tuple[str, ...]]] = field(default_factory=list)
    launches: list[Launch] = field(default_factory=list)
    compilation: BaseException | None = None
    launching: BaseException | None = None
    in_memory: list[str | None] = field(default_factory=list)

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        before, self.current = self.current, index
        try:
            yield
        finally:
            self.current = before


def fake_cupy(machine: Machine, version: int = 13020) -> ModuleType:
    """A module with the part of CuPy that the bridge uses."""

    class Function:
        def __init__(self, device: int) -> None:
            self.device = device

        def __call__(self, grid: tuple, block: tuple, args: tuple, shared_mem: int = 0, stream: object = None) -> None:
            assert machine.current == self.device, "launched in the context of another device"
            if machine.launching is not None:
                raise machine.launching
            machine.launches.append(Launch(machine.current, grid, block, args, shared_mem, stream.ptr))

    class RawModule:
        def __init__(self, *, code: str, options: tuple[str, ...], backend: str) -> None:
            assert backend == "nvrtc"
            self.code, self.options = code, options

        def get_function(self, name: str) -> SimpleNamespace:
            machine.in_memory.append(cuda_driver.os.environ.get("CUPY_CACHE_IN_MEMORY"))
            if machine.compilation is not None and not (
                isinstance(machine.compilation, OSError) and machine.in_memory[-1] == "1"
            ):
                raise machine.compilation
            machine.compiled.append((machine.current, self.code, self.options))
            return SimpleNamespace(kernel=Function(machine.current))

    cupy = ModuleType("cupy")
    cupy.__version__ = "14.2.0"
    cupy.RawModule = RawModule
    cupy.cuda = SimpleNamespace(
        compiler=SimpleNamespace(CompileException=CompileError),
        driver=SimpleNamespace(CUDADriverError=DriverError),
        runtime=SimpleNamespace(
            getDevice=lambda: machine.current,
            setDevice=lambda index: setattr(machine, "current", index),
            getDeviceCount=lambda: 2,
            runtimeGetVersion=lambda: version,
        ),
    )
    return cupy


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """Two pretended devices under torch and CuPy."""
    machine = Machine()
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(machine))
    monkeypatch.setattr(cuda_driver, "installed_packages", lambda: ["cupy-cuda13x 14.2.0"])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", machine.device)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU {index}")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: machine.current in machine.capturing)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", machine.streams.__getitem__, raising=False)
    return machine


@pytest.fixture
def driver(machine: Machine) -> CupyDriver:
    return connect()


def test_a_launch_passes_grid_block_arguments_and_shared_memory_on(machine: Machine, driver: CupyDriver) -> None:
    kernel = driver.load(0, SOURCE, OPTIONS, ("scale",))["scale"]
    kernel(7, 256, (2**47 + 16, 2**40), 1024)
    assert machine.launches == [Launch(0, (7,), (256,), (2**47 + 16, 2**40), 1024, 0)]


def test_a_kernel_of_the_second_device_runs_there_while_the_first_is_current(
    machine: Machine, driver: CupyDriver
) -> None:
    kernel = driver.load(1, SOURCE, OPTIONS, ("scale",))["scale"]
    assert machine.current == 0
    machine.streams[1] = 1234
    kernel(1, 32, (5,), 0)
    assert machine.launches == [Launch(1, (1,), (32,), (5,), 0, 1234)]
    assert machine.current == 0


def test_the_current_device_is_not_touched_where_it_is_the_right_one(
    machine: Machine, driver: CupyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = driver.load(1, SOURCE, OPTIONS, ("scale",))["scale"]
    machine.current = 1
    monkeypatch.setattr(torch.cuda, "device", lambda index: pytest.fail("a guard where none is needed"))
    kernel(1, 32, (5,), 0)
    assert machine.launches[-1].device == 1


def test_a_device_that_torch_believes_current_and_the_driver_does_not_is_made_current(
    machine: Machine, driver: CupyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = driver.load(1, SOURCE, OPTIONS, ("scale",))["scale"]

    @contextmanager
    def nothing_to_do(index: int) -> Iterator[None]:
        yield

    monkeypatch.setattr(torch.cuda, "device", nothing_to_do)
    kernel(1, 32, (5,), 0)
    assert machine.launches[-1].device == 1


@pytest.mark.parametrize("current", [0, 1])
@pytest.mark.parametrize(
    "refusal",
    [
        "CUDA_ERROR_INVALID_VALUE: invalid argument",
        "CUDA_ERROR_INVALID_IMAGE: device kernel image is invalid",
        "CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device",
        "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES: too many resources requested for launch",
    ],
)
def test_a_launch_that_the_driver_refuses_is_one_sentence_and_another_backends_turn(
    machine: Machine, driver: CupyDriver, refusal: str, current: int
) -> None:
    kernel = driver.load(1, SOURCE, OPTIONS, ("scale",))["scale"]
    machine.current, machine.launching = current, DriverError(refusal)
    with pytest.raises(BackendUnavailable) as caught:
        kernel(1, 32, (5,), 0)
    assert str(caught.value) == f"the kernels cannot be launched on GPU 1: {refusal}"
    assert caught.value.permanent
    assert machine.current == current


@pytest.mark.parametrize(
    "error",
    [
        DriverError("CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
        DriverError("CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure"),
        DriverError("CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("cudaErrorIllegalAddress: an illegal memory access was encountered"),
        TypeError("Unsupported type <class 'float'>"),
        KeyboardInterrupt(),
    ],
    ids=repr,
)
def test_every_other_error_of_a_launch_goes_on_as_it_is(
    machine: Machine, driver: CupyDriver, error: BaseException
) -> None:
    kernel = driver.load(0, SOURCE, OPTIONS, ("scale",))["scale"]
    machine.launching = error
    with pytest.raises(type(error)) as caught:
        kernel(1, 32, (5,), 0)
    assert caught.value is error


def test_the_stream_is_asked_for_at_every_launch(machine: Machine, driver: CupyDriver) -> None:
    kernel = driver.load(0, SOURCE, OPTIONS, ("scale",))["scale"]
    for stream in (0, 111, 222, 111):
        machine.streams[0] = stream
        kernel(1, 32, (), 0)
    assert [launch.stream for launch in machine.launches] == [0, 111, 222, 111]


def test_a_source_is_compiled_once_per_device_source_and_options(machine: Machine, driver: CupyDriver) -> None:
    for _ in range(3):
        for device in (0, 1):
            for source in (SOURCE, SOURCE + "//"):
                for options in (OPTIONS, (*OPTIONS, "-DWIDE")):
                    driver.load(device, source, options, ("scale",))
    assert len(machine.compiled) == 8
    assert len(set(machine.compiled)) == 8


def test_kernels_asked_for_later_are_added(machine: Machine, driver: CupyDriver) -> None:
    first = driver.load(0, SOURCE, OPTIONS, ("scale",))
    both = driver.load(0, SOURCE, OPTIONS, ("scale", "sum"))
    assert both["scale"] is first["scale"]
    assert sorted(both) == ["scale", "sum"]
    assert len(machine.compiled) == 2


def test_threads_that_ask_at_once_compile_once(
    machine: Machine, driver: CupyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    functions = driver._functions

    def slow(*arguments: object) -> dict:
        time.sleep(0.02)
        return functions(*arguments)

    monkeypatch.setattr(driver, "_functions", slow)
    threads = [threading.Thread(target=driver.load, args=(0, SOURCE, OPTIONS, ("scale",))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(machine.compiled) == 1


def test_a_compile_error_is_one_sentence_with_the_compilers_first_error(machine: Machine, driver: CupyDriver) -> None:
    machine.compilation = CompileError(
        '/tmp/abc/0f3.cubin.cu(3): warning #177-D: variable "n" was declared but never referenced\n\n'
        '/tmp/abc/0f3.cubin.cu(12): error: identifier "y" is undefined\n      x[0] = y;\n             ^\n\n'
        '1 error detected in the compilation of "/tmp/abc/0f3.cubin.cu".\n'
    )
    with pytest.raises(BackendUnavailable) as caught:
        driver.load(1, SOURCE, OPTIONS, ("scale",))
    assert str(caught.value) == 'the kernels do not compile for GPU 1: line 12: error: identifier "y" is undefined'
    assert caught.value.permanent
    assert machine.current == 0


def test_a_device_too_new_for_nvrtc_is_one_sentence(machine: Machine, driver: CupyDriver) -> None:
    machine.compilation = RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available")
    with pytest.raises(BackendUnavailable, match=r"^the kernels cannot be loaded on GPU 0: RuntimeError: CUDA_ERROR"):
        driver.load(0, SOURCE, OPTIONS, ("scale",))


def test_a_failed_compilation_is_tried_again_when_asked_again(machine: Machine, driver: CupyDriver) -> None:
    machine.compilation = CompileError("error: out of memory")
    with pytest.raises(BackendUnavailable):
        driver.load(0, SOURCE, OPTIONS, ("scale",))
    machine.compilation = None
    assert set(driver.load(0, SOURCE, OPTIONS, ("scale",))) == {"scale"}


def test_nothing_is_compiled_while_a_graph_is_captured_on_that_device(machine: Machine, driver: CupyDriver) -> None:
    machine.capturing = {1}
    assert driver.load(0, SOURCE, OPTIONS, ("scale",))
    with pytest.raises(BackendUnavailable, match="graph is being captured") as caught:
        driver.load(1, SOURCE, OPTIONS, ("scale",))
    assert not caught.value.permanent
    assert [device for device, *_ in machine.compiled] == [0]


def test_loaded_kernels_are_at_hand_during_a_capture(machine: Machine, driver: CupyDriver) -> None:
    driver.load(0, SOURCE, OPTIONS, ("scale",))
    machine.capturing = {0}
    driver.load(0, SOURCE, OPTIONS, ("scale",))["scale"](1, 32, (), 0)
    assert len(machine.launches) == 1


def test_a_cache_folder_that_cannot_be_written_is_done_without(
    machine: Machine, driver: CupyDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUPY_CACHE_IN_MEMORY", raising=False)
    machine.compilation = PermissionError("read-only")
    driver.load(0, SOURCE, OPTIONS, ("scale",))["scale"](1, 32, (), 0)
    assert machine.in_memory == [None, "1"]
    assert "CUPY_CACHE_IN_MEMORY" not in cuda_driver.os.environ
    assert len(machine.launches) == 1


def test_properties_are_those_that_torch_reports(driver: CupyDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    reported = SimpleNamespace(name="NVIDIA H200", multi_processor_count=132, major=9, minor=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: reported)
    assert driver.properties(0) == cuda_driver.DeviceProperties("NVIDIA H200", 132, (9, 0))


@pytest.mark.parametrize(("cuda", "extra"), [("12.8", "'katops[cuda12]'"), ("13.0", "'katops[cuda13]'")])
def test_without_cupy_the_sentence_names_the_extra_for_torchs_cuda(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, cuda: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(BackendUnavailable) as caught:
        connect()
    assert str(caught.value) == f"CuPy is not installed; install {extra}"


def test_cupy_for_another_cuda_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(machine, version=12090))
    with pytest.raises(BackendUnavailable, match=r"built for CUDA 12 and torch .* for CUDA 13\.0; .*cuda13"):
        connect()


def test_cupy_without_a_driver_is_refused(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_driver() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    monkeypatch.setattr(sys.modules["cupy"].cuda.runtime, "getDeviceCount", no_driver)
    with pytest.raises(BackendUnavailable, match="cannot use the driver: cudaErrorInsufficientDriver"):
        connect()


def test_torch_without_cuda_or_without_a_device_is_said_first(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendUnavailable, match="sees no CUDA device"):
        connect()
    monkeypatch.setattr(torch.version, "cuda", None)
    with pytest.raises(BackendUnavailable, match="is built without CUDA"):
        connect()


def test_two_cupy_packages_are_refused_by_name(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["cupy-cuda12x 13.6.0", "cupy-cuda13x 14.2.0"]
    monkeypatch.setattr(cuda_driver, "installed_packages", lambda: found)
    with pytest.raises(BackendUnavailable, match=r"cupy-cuda12x 13\.6\.0, cupy-cuda13x 14\.2\.0"):
        connect()


def test_only_the_packages_that_provide_cupy_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["torch", "cupy-cuda13x", "CuPy", "cupy-xarray", "cupy-rocm-5-0", "cuda-pathfinder"]
    packages = [SimpleNamespace(metadata={"Name": name}, version="1.0") for name in names]
    monkeypatch.setattr(cuda_driver.importlib.metadata, "distributions", lambda: packages)
    assert installed_packages() == ["cupy 1.0", "cupy-cuda13x 1.0", "cupy-rocm-5-0 1.0"]


@pytest.fixture
def not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nobody had imported CuPy yet."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    del sys.modules["cupy"]


def test_a_broken_cupy_is_one_sentence(not_imported: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cupy").mkdir()
    (tmp_path / "cupy" / "__init__.py").write_text(
        "try:\n    raise ImportError('libnvrtc.so.13: cannot open shared object file')\n"
        "except ImportError as error:\n    raise ImportError('\\n====\\nFailed to import CuPy.\\n====') from error\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    with pytest.raises(BackendUnavailable) as caught:
        import_cupy()
    assert str(caught.value) == "CuPy cannot be imported: libnvrtc.so.13: cannot open shared object file"


def test_cupy_is_imported_where_its_cache_folder_cannot_be_made(
    not_imported: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cupy.py").write_text(
        "import os\nos.makedirs(os.environ['CUPY_CACHE_DIR'], exist_ok=True)\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(tmp_path)
    unusable = tmp_path / "cupy.py" / "cache"
    monkeypatch.setenv("CUPY_CACHE_DIR", str(unusable))
    assert import_cupy().__file__ == str(tmp_path / "cupy.py")
    assert cuda_driver.os.environ["CUPY_CACHE_DIR"] == str(unusable)


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The real one."""
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    return import_cupy()


@real_cupy
def test_the_real_cupy_has_what_the_bridge_calls(cupy: ModuleType) -> None:
    for name in ("getDevice", "setDevice", "getDeviceCount", "runtimeGetVersion"):
        assert callable(getattr(cupy.cuda.runtime, name))
    assert issubclass(cupy.cuda.compiler.CompileException, Exception)
    assert issubclass(cupy.cuda.driver.CUDADriverError, Exception)
    assert cupy.RawModule(code=SOURCE, options=OPTIONS, backend="nvrtc").get_function
    assert hasattr(cupy.RawKernel, "kernel")


@real_cupy
@pytest.mark.parametrize("value", [0, -3, 2**31, 2**47 + 16, 2**62])
def test_the_real_cupy_passes_integers_as_64_bits(cupy: ModuleType, value: int) -> None:
    if int(cupy.__version__.split(".")[0]) < 14:
        pytest.skip("CuPy 13 packs integers where Python cannot look")
    packed = importlib.import_module("cupy._core._scalar").CScalar(value)
    assert ctypes.c_int64.from_address(packed.ptr).value == value


@real_cupy
@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_the_real_cupy_without_a_driver_is_one_sentence(cupy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.version, "cuda", f"{cupy.cuda.runtime.runtimeGetVersion() // 1000}.0")
    with pytest.raises(BackendUnavailable, match=r"^CuPy \S+ cannot use the driver: cudaError\w+: .*$"):
        connect()


@real_cupy
def test_the_real_nvrtc_compiles_without_a_driver_and_names_the_first_error(cupy: ModuleType) -> None:
    try:
        cupy.cuda.nvrtc.getVersion()
    except Exception:
        pytest.skip("no NVRTC on this machine")
    hopper = NvrtcDriver(cupy, (9, 0))
    assert set(hopper.load(0, SOURCE, OPTIONS, ("scale",))) == {"scale"}
    with pytest.raises(BackendUnavailable) as caught:
        hopper.load(0, SOURCE.replace("{}", "{ x[0] = y; }"), OPTIONS, ("scale",))
    assert str(caught.value) == 'the kernels do not compile for sm_90: line 1: error: identifier "y" is undefined'
    with pytest.raises(BackendUnavailable, match="for sm_20: nvrtc: error: invalid value for --gpu-architecture"):
        NvrtcDriver(cupy, (2, 0)).load(0, SOURCE, OPTIONS, ("scale",))


DOUBLE = """
extern "C" __global__ void scale(float* x, long long n) {
    long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= 2;
}
"""
gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or importlib.util.find_spec("cupy") is None, reason="needs a GPU and CuPy"
)


def doubled(x: torch.Tensor) -> torch.Tensor:
    """Twice ``x``, computed in a copy by the kernel above."""
    y = x.clone()
    kernel = connect().load(x.device.index, DOUBLE, OPTIONS, ("scale",))["scale"]
    kernel((x.numel() + 255) // 256, 256, (y.data_ptr(), y.numel()), 0)
    return y


@gpu
def test_a_gpu_runs_the_kernel_on_the_current_stream_without_being_waited_for() -> None:
    x = torch.arange(1000.0, device="cuda:0")
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        y = doubled(x)
        assert not stream.query()
    stream.synchronize()
    assert torch.equal(y, 2 * x)


@gpu
def test_a_gpu_runs_the_kernel_in_a_backward_pass_and_in_a_new_thread() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: object, gradient: torch.Tensor) -> torch.Tensor:
            return doubled(gradient)

    x = torch.ones(1000, device="cuda:0", requires_grad=True)
    Double.apply(x).sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2.0))
    results = []
    thread = threading.Thread(target=lambda: results.append(doubled(x.detach())))
    thread.start()
    thread.join()
    assert torch.equal(results[0], x.grad)


@gpu
def test_a_gpu_that_refuses_a_launch_goes_on_working() -> None:
    x = torch.ones(1000, device="cuda:0")
    kernel = connect().load(0, DOUBLE, OPTIONS, ("scale",))["scale"]
    for grid, block, shared_bytes in ((1, 4096, 0), (1, 256, 2**24)):
        with pytest.raises(BackendUnavailable, match=r"cannot be launched on .*: CUDA_ERROR_INVALID_VALUE"):
            kernel(grid, block, (x.data_ptr(), x.numel()), shared_bytes)
    assert torch.equal(doubled(x), torch.full_like(x, 2.0))


@gpu
def test_a_gpu_replays_a_captured_launch_and_refuses_to_load_during_the_capture() -> None:
    x = torch.ones(1000, device="cuda:0")
    driver = connect()
    kernel = driver.load(0, DOUBLE, OPTIONS, ("scale",))["scale"]
    kernel(4, 256, (x.data_ptr(), x.numel()), 0)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kernel(4, 256, (x.data_ptr(), x.numel()), 0)
        with pytest.raises(BackendUnavailable) as caught:
            driver.load(0, DOUBLE + "//", OPTIONS, ("scale",))
    assert not caught.value.permanent
    for _ in range(3):
        graph.replay()
    assert torch.equal(x, torch.full_like(x, 16.0))
