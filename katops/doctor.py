"""What runs on this machine and why: versions, devices, backends, and whether the kernels compute right.

``katops doctor`` prints it; :func:`diagnose` returns it. A missing CuPy, driver or device is a reason, not an error,
since another backend runs. Wrong numbers are an error.
"""

import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

import katops
from katops.ops import cpu_team
from katops.ops.cuda_driver import NvrtcDriver, connect, import_cupy, installed_packages
from katops.ops.dispatch import BackendStatus, BackendUnavailable, Dispatcher
from katops.ops.rational_check import RationalCheck, check_rational
from katops.ops.rational_kernels import RationalKernels

if TYPE_CHECKING:
    from rich.console import Console

CHECKED_TYPES = (torch.float32, torch.bfloat16)
COMPILED_CAPABILITIES = ((8, 0), (9, 0))
CUDA_VARIABLES = ("CUDA_PATH", "CUDA_HOME")


@dataclass(frozen=True)
class DeviceDiagnosis:
    """One device: what it is, which backends it has for the group rational function, what the chosen one computes."""

    device: str
    description: str
    backends: list[BackendStatus]
    checks: list[RationalCheck]


@dataclass(frozen=True)
class Compilation:
    """The kernels compiled for an architecture by the NVRTC that CuPy uses; the problem is "" where it went well."""

    architecture: str
    seconds: float
    problem: str


@dataclass(frozen=True)
class Diagnosis:
    """All that ``katops doctor`` says.

    Args:
        versions: of katops and what it runs on, by name.
        hints: what looks wrong in the environment, a sentence each.
        cuda: why no CUDA kernels can run at all; "" where they can.
        devices: the CPU and every CUDA device.
        compilations: without a CUDA device, whether the kernels would compile for one; empty where nothing could try.
    """

    versions: dict[str, str]
    hints: list[str]
    cuda: str
    devices: list[DeviceDiagnosis]
    compilations: list[Compilation]

    @property
    def right(self) -> bool:
        """Whether every device computes right, with whatever backend."""
        return all(check.right for device in self.devices for check in device.checks)

    def to_json(self) -> str:
        """For bug reports."""
        return json.dumps({"right": self.right, **dataclasses.asdict(self)}, indent=2)


def diagnose() -> Diagnosis:
    """Look at this machine, compile the kernels and check their numbers on every device; takes some seconds."""
    with warnings.catch_warnings():
        # Missing backends are part of the diagnosis.
        warnings.simplefilter("ignore")
        gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        # First of all: it loads what the versions are read from.
        devices = _diagnose_devices([torch.device("cpu"), *gpus])
        try:
            cupy = import_cupy()
        except BackendUnavailable as error:
            cupy = None
            problem = str(error)
        versions = {**_versions(), **(_cupy_versions(cupy) if cupy else {"CuPy": problem})}
        return Diagnosis(
            versions=versions,
            hints=_hints(cupy),
            cuda=_sentence_of(connect),
            devices=devices,
            compilations=[_compile(cupy, each) for each in COMPILED_CAPABILITIES] if cupy and not gpus else [],
        )


def _diagnose_devices(devices: list[torch.device]) -> list[DeviceDiagnosis]:
    from katops.ops.rational import RATIONAL

    # One of the doctor's own: the other warns once, and that is for the user's own calls.
    dispatcher = Dispatcher(RATIONAL.operation, RATIONAL.backends)
    return [_diagnose_device(dispatcher, device) for device in devices]


def _diagnose_device(dispatcher: Dispatcher[RationalKernels], device: torch.device) -> DeviceDiagnosis:
    checks = []
    for dtype in CHECKED_TYPES:
        try:
            checks.append(check_rational(dispatcher, device, dtype))
        except Exception as error:  # a crash is what the doctor is asked to find
            problem = f"{type(error).__name__}: {error}"
            checks.append(RationalCheck(str(dtype).removeprefix("torch."), problem=problem))
    # After the checks, which may find out that a backend cannot run.
    return DeviceDiagnosis(str(device), _description(device), dispatcher.status(device), checks)


def _description(device: torch.device) -> str:
    if device.type == "cpu":
        return f"{platform.machine()}, {torch.get_num_threads()} threads"
    found = torch.cuda.get_device_properties(device)
    return (
        f"{found.name}, compute capability {found.major}.{found.minor}, {found.total_memory / 2**30:.0f} GiB, "
        f"driver {_driver_version()}"
    )


def _driver_version() -> str:
    """As nvidia-smi prints it where the kernel module tells, and the CUDA version that the driver supports."""
    supported = torch._C._cuda_getDriverVersion()
    text = f"for CUDA {supported // 1000}.{supported % 1000 // 10}"
    file = Path("/proc/driver/nvidia/version")
    version = re.search(r"\s(\d+\.\d+(\.\d+)?)\s", file.read_text()) if file.is_file() else None
    return f"{version[1]} {text}" if version else text


def _versions() -> dict[str, str]:
    versions = {
        "katops": katops.__version__,
        "Python": f"{platform.python_version()} on {platform.platform()}",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda or 'none'}",
    }
    try:
        versions["numba"] = f"{importlib.metadata.version('numba')}, on {_threads()}"
    except importlib.metadata.PackageNotFoundError:
        versions["numba"] = "not installed"
    for name in CUDA_VARIABLES:
        if os.environ.get(name):
            versions[name] = os.environ[name]
    return versions


def _threads() -> str:
    """What the compiled loops run on."""
    shared = isinstance(cpu_team.team(), cpu_team.OpenMP)
    return "the threads of torch (OpenMP)" if shared else "threads of Python (torch's OpenMP is not GNU's)"


def _cupy_versions(cupy: ModuleType) -> dict[str, str]:
    cuda = cupy.cuda
    # What the wheel was built with is linked into it; NVRTC comes from elsewhere.
    return {
        "CuPy": f"{', '.join(installed_packages()) or cupy.__version__} in {Path(cupy.__file__).parent}",
        "CuPy built for CUDA": _told(lambda: _dotted(cuda.driver.get_build_version())),
        "CuPy's CUDA runtime": _told(lambda: _dotted(cuda.runtime.runtimeGetVersion())),
        "NVRTC": _told(lambda: "{}.{}".format(*cuda.nvrtc.getVersion())),
        "NVRTC loaded from": ", ".join(_loaded_libraries("libnvrtc")) or "unknown",
    }


def _dotted(version: int) -> str:
    """13020 is 13.2."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _told(question: Callable[[], Any]) -> str:
    try:
        return str(question())
    except Exception as error:  # whatever a broken installation raises
        return f"not found ({type(error).__name__}: {' '.join(str(error).split())})"


def _loaded_libraries(name: str) -> list[str]:
    """The files of this process's shared libraries that have the name; empty where the system does not tell."""
    maps = Path("/proc/self/maps")
    if not maps.is_file():
        return []
    paths = {line.split(maxsplit=5)[-1].strip() for line in maps.read_text().splitlines()}
    return sorted(path for path in paths if Path(path).name.startswith(f"{name}.so"))


def _hints(cupy: ModuleType | None) -> list[str]:
    hints = []
    packages = installed_packages()
    if len(packages) > 1:
        hints.append(f"{' and '.join(packages)} lie over one another; uninstall all of them and install one")
    # None where NVIDIA's packages for CUDA 12 lie in a folder each
    folder = cupy.cuda.get_cuda_path() if cupy else None
    for name in CUDA_VARIABLES:
        value = os.environ.get(name)
        if value and folder and os.path.realpath(value) != os.path.realpath(folder):
            hints.append(
                f"{name} is {value}, CuPy's CUDA libraries are in {folder}; where kernels do not compile, unset {name}"
            )
    return hints


def _sentence_of(function: Callable[[], object]) -> str:
    try:
        function()
    except BackendUnavailable as error:
        return str(error)
    return ""


def _compile(cupy: ModuleType, capability: tuple[int, int]) -> Compilation:
    from katops.ops.rational_cuda import CudaRational

    start = time.perf_counter()
    problem = _sentence_of(lambda: CudaRational(NvrtcDriver(cupy, capability), 0).prepare(CHECKED_TYPES))
    return Compilation("sm_{}{}".format(*capability), time.perf_counter() - start, problem)


def render(diagnosis: Diagnosis, console: "Console") -> None:
    """Print it."""
    from rich.markup import escape
    from rich.table import Table

    versions = Table.grid(padding=(0, 2))
    versions.add_column(no_wrap=True)
    versions.add_column(overflow="fold")
    for name, version in diagnosis.versions.items():
        versions.add_row(name, escape(version))
    console.print(versions, highlight=False)
    for hint in diagnosis.hints:
        console.print(f"[yellow]hint:[/] {escape(hint)}", soft_wrap=True)
    for device in diagnosis.devices:
        console.print(f"\n[bold]{device.device}[/]  {escape(device.description)}", highlight=False)
        _render_backends(device, console)
        for check in device.checks:
            _render_check(check, console)
    if diagnosis.cuda:
        console.print(f"\nno CUDA kernels here: {escape(diagnosis.cuda)}", soft_wrap=True)
    for compilation in diagnosis.compilations:
        result = escape(compilation.problem) or f"the CUDA kernels compile ({compilation.seconds:.1f} s)"
        console.print(f"  without a device, {compilation.architecture}: {result}", soft_wrap=True)


def _render_backends(device: DeviceDiagnosis, console: "Console") -> None:
    from rich.markup import escape

    running = {check.backend for check in device.checks}
    for backend in device.backends:
        state = "runs" if backend.name in running else "available" if backend.available else "no"
        reason = f": {escape(backend.reason)}" if backend.reason else ""
        console.print(f"  group_rational  {backend.name:<14} {state}{reason}", soft_wrap=True, highlight=False)


def _render_check(check: RationalCheck, console: "Console") -> None:
    from rich.markup import escape

    verdict = "[green]right[/]" if check.right else "[bold red]WRONG[/]"
    if check.problem:
        text = escape(check.problem.splitlines()[0])
    else:
        errors = ", ".join(f"{name} {error:.2g}" for name, error in check.errors.items())
        text = (
            f"by {check.backend}; errors as parts of the allowed: {errors}; "
            f"first call {check.first_seconds:.2f} s, then {1e3 * check.seconds:.2f} ms"
        )
    console.print(f"  {check.dtype:<9} {verdict} {text}", soft_wrap=True, highlight=False)
