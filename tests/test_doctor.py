"""The doctor on this machine's CPU, with backends that are missing, broken, wrong and right."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from katops import doctor
from katops.cli import app
from katops.ops import cuda_driver, rational, rational_torch
from katops.ops.dispatch import Backend, BackendUnavailable, BackendWarning, Dispatcher
from katops.ops.rational_check import check_rational
from katops.ops.rational_torch import TorchRational

CPU = torch.device("cpu")


class HalfTheGradient(TorchRational):
    """Right forward, wrong backward."""

    def backward(self, *arguments: object) -> tuple[Tensor | None, ...]:
        return tuple(None if each is None else each / 2 for each in super().backward(*arguments))


class OneNaN(TorchRational):
    """One element of y is not a number."""

    def forward(self, *arguments: object) -> Tensor:
        y = super().forward(*arguments)
        y[3, 5] = torch.nan
        return y


class Crashing(TorchRational):
    """Raises what no backend may."""

    def forward(self, *arguments: object) -> Tensor:
        raise RuntimeError("an illegal memory access was encountered\nCompile with TORCH_USE_CUDA_DSA")


def dispatcher(*backends: Backend) -> Dispatcher:
    return Dispatcher("group_rational", [*backends, Backend("torch", (), 0, rational_torch.load)])


def use(monkeypatch: pytest.MonkeyPatch, *backends: Backend) -> None:
    """Let the doctor find these backends, beside the definition."""
    monkeypatch.setattr(rational, "RATIONAL", dispatcher(*backends))


def run(*arguments: str) -> tuple[int, str]:
    """Exit code and output of ``katops doctor``."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["doctor", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


@pytest.fixture
def no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a GPU, and without CuPy."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setitem(sys.modules, "cupy", None)


@pytest.fixture
def failing_cupy(no_devices: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A CuPy whose NVRTC refuses every source, under a torch that sees a device."""

    class CompileException(Exception):
        pass

    def refuse(**arguments: object) -> None:
        raise CompileException('/tmp/a.cu(9): error: identifier "__nv_half" is undefined\n')

    def refuse_options(program: int, options: tuple[str, ...]) -> None:
        raise RuntimeError("NVRTC_ERROR_COMPILATION (6)")

    cupy = ModuleType("cupy")
    cupy.__version__, cupy.__file__ = "14.2.0", str(tmp_path / "cupy" / "__init__.py")
    cupy.RawModule = refuse
    cupy.cuda = SimpleNamespace(
        compiler=SimpleNamespace(CompileException=CompileException),
        driver=SimpleNamespace(get_build_version=lambda: 13020),
        get_cuda_path=lambda: str(tmp_path / "cuda"),
        nvrtc=SimpleNamespace(
            getVersion=lambda: (13, 0),
            createProgram=lambda *arguments: 1,
            compileProgram=refuse_options,
            getProgramLog=lambda program: 'katops.cu(9): error: identifier "__nv_half" is undefined\n',
            destroyProgram=lambda program: None,
        ),
        runtime=SimpleNamespace(
            getDevice=lambda: 0, setDevice=lambda index: None, getDeviceCount=lambda: 1, runtimeGetVersion=lambda: 13020
        ),
    )
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(cuda_driver, "installed_packages", lambda: ["cupy-cuda13x 14.2.0"])
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda index: torch.no_grad())
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA H200")
    return cupy


def load_with_cupy(device: torch.device) -> TorchRational:
    """A backend that compiles when it is loaded."""
    cuda_driver.connect().load(0, "source", (), ("kernel",))
    return TorchRational()


def test_this_machine_computes_right() -> None:
    diagnosis = doctor.diagnose()
    assert diagnosis.right
    cpu = diagnosis.devices[0]
    assert cpu.device == "cpu"
    assert [check.dtype for check in cpu.checks] == ["float32", "bfloat16"]
    assert {check.backend for check in cpu.checks} <= {backend.name for backend in cpu.backends if backend.available}
    assert diagnosis.versions["torch"].startswith(torch.__version__)


def test_a_cupy_that_cannot_compile_is_a_reason_and_no_error(
    failing_cupy: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Backend("cupy", ("cpu",), 2, load_with_cupy))
    code, output = run()
    assert code == 0
    reason = 'the kernels do not compile for NVIDIA H200: line 9: error: identifier "__nv_half" is undefined'
    assert [line.split(maxsplit=2) for line in output.splitlines() if line.startswith("  group_rational")] == [
        ["group_rational", "cupy", f"no: {reason}"],
        ["group_rational", "torch", "runs"],
    ]
    assert "float32   right by torch" in output
    assert "bfloat16  right by torch" in output


def test_without_a_device_nvrtc_is_tried_alone(failing_cupy: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    code, output = run()
    assert code == 0
    assert 'sm_90: the kernels do not compile for sm_90: line 9: error: identifier "__nv_half"' in output


def test_a_diagnosis_leaves_the_warning_about_a_missing_backend_to_the_users_own_calls(
    no_devices: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(device: torch.device) -> TorchRational:
        raise BackendUnavailable("it is not installed")

    use(monkeypatch, Backend("fast", ("cpu",), 1, missing))
    assert [line.reason for line in doctor.diagnose().devices[0].backends] == ["it is not installed", ""]
    with pytest.warns(BackendWarning, match="runs without its backend 'fast' on cpu, slower: it is not installed"):
        rational.RATIONAL.choose(CPU, (torch.float32,) * 3)


@pytest.mark.parametrize("backend", [HalfTheGradient, OneNaN, Crashing])
def test_wrong_numbers_are_an_error(
    no_devices: None, monkeypatch: pytest.MonkeyPatch, backend: type[TorchRational]
) -> None:
    use(monkeypatch, Backend("fast", ("cpu",), 1, lambda device: backend()))
    code, output = run()
    assert code == 1
    assert "float32   WRONG" in output
    code, output = run("--json")
    assert code == 1
    assert json.loads(output)["right"] is False


def test_the_check_tells_which_result_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    check = check_rational(dispatcher(Backend("fast", (), 1, lambda device: HalfTheGradient())), CPU, torch.float32)
    assert check.errors["y"] <= 1
    assert min(check.errors[name] for name in ("dx", "coefficients")) > 100
    assert check.backend == "fast"


def test_a_crash_is_told_in_one_line_and_in_full_in_the_json(no_devices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, Backend("fast", ("cpu",), 1, lambda device: Crashing()))
    output = run()[1]
    assert "RuntimeError: an illegal memory access was encountered" in output
    assert "TORCH_USE_CUDA_DSA" not in output
    assert "TORCH_USE_CUDA_DSA" in json.loads(run("--json")[1])["devices"][0]["checks"][0]["problem"]


def test_the_json_holds_the_whole_diagnosis(no_devices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    code, output = run("--json")
    assert code == 0
    report = json.loads(output)
    assert set(report) == {"right"} | {field.name for field in dataclasses.fields(doctor.Diagnosis)}
    assert report["devices"][0]["backends"] == [{"name": "torch", "available": True, "reason": ""}]
    assert report["versions"]["CuPy"].startswith("CuPy is not installed; install 'katops[cuda")
    assert "CUDA" in report["cuda"]


def test_a_cuda_path_elsewhere_than_cupys_libraries_is_hinted_at(
    failing_cupy: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch)
    monkeypatch.setenv("CUDA_PATH", "/opt/old-cuda")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    diagnosis = doctor.diagnose()
    assert diagnosis.versions["CUDA_PATH"] == "/opt/old-cuda"
    assert diagnosis.hints == [
        f"CUDA_PATH is /opt/old-cuda, CuPy's CUDA libraries are in {tmp_path / 'cuda'}; "
        "where kernels do not compile, unset CUDA_PATH"
    ]


def test_two_cupy_packages_are_hinted_at(no_devices: None, monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch)
    monkeypatch.setattr(doctor, "installed_packages", lambda: ["cupy-cuda12x 13.6.0", "cupy-cuda13x 14.2.0"])
    assert "cupy-cuda12x 13.6.0 and cupy-cuda13x 14.2.0 lie over one another" in run()[1]


def test_a_gpu_is_described_by_name_capability_memory_and_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = SimpleNamespace(name="NVIDIA H200", major=9, minor=0, total_memory=139 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: reported)
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 13000, raising=False)
    description = doctor._description(torch.device("cuda", 0))
    assert description.startswith("NVIDIA H200, compute capability 9.0, 139 GiB, driver ")
    assert description.endswith("for CUDA 13.0")


def test_the_diagnosis_needs_nothing_of_the_training(tmp_path: Path) -> None:
    script = """
import sys
sys.argv[0] = "katops"  # the command
for name in ("lightning", "omegaconf", "pydantic", "h5py", "matplotlib", "scipy", "rich", "typer"):
    sys.modules[name] = None
from katops.doctor import diagnose
from katops.ops import rational, rational_torch
from katops.ops.dispatch import Backend, Dispatcher
rational.RATIONAL = Dispatcher("group_rational", [Backend("torch", (), 0, rational_torch.load)])
assert diagnose().right
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
