"""What a measurement ran on: device, threads, versions, and how fast memory is there."""

import platform
from dataclasses import dataclass
from importlib import metadata

import torch

from katops.benchmark.timing import Clock, Timing, clock_for
from katops.errors import UserError
from katops.hardware import device_name

# Far beyond the last cache, and short: 2 x 256 MB on a CPU, 2 x 2 GB on a GPU.
_COPY_BYTES = {"cpu": 2**28, "cuda": 2**31}
_COPIES = 7
_PACKAGES = (
    "katops", "torch", "numba", "numpy", "triton", "cupy-cuda12x", "cupy-cuda13x", "kat_rational", "rational_kat"
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """A line for tables and CSV files.

    Attributes:
        device: the name of the CPU or GPU.
        threads: of torch on the CPU.
        versions: of the packages that matter, as one text.
        copy_bandwidth: bytes per second of a large copy, reads and writes counted.
    """

    device: str
    threads: int
    versions: str
    copy_bandwidth: float


def describe(device: torch.device, copy_bytes: int | None = None) -> Machine:
    """The machine as it is now; the copy bandwidth is measured, ``copy_bytes`` at a time."""
    bandwidth = copy_bandwidth(device, copy_bytes or _COPY_BYTES[device.type])
    return Machine(device_name(device), torch.get_num_threads(), versions(), bandwidth)


def present_device(name: str | None = None) -> torch.device:
    """The device of that name; without one the GPU if there is one, else the CPU.

    Raises:
        UserError: there is no such device here.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"unknown device {name!r}; allowed: cpu, cuda, cuda:1, ...") from None
    if device.type not in _COPY_BYTES:
        raise UserError(f"benchmarks run on cpu and cuda devices; given: {name!r}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"the device {name!r} is not here: torch sees {torch.cuda.device_count()} GPUs; use cpu")
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else torch.device("cpu")


def versions() -> str:
    """Python, and each package that is installed, e.g. ``Python 3.11.4, torch 2.8.0``."""
    found = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def copy_bandwidth(device: torch.device, copy_bytes: int, clock: Clock | None = None) -> float:
    """Bytes per second of ``target.copy_(source)``, source read and target written: median of a few copies."""
    clock = clock or clock_for(device)
    source = torch.arange(copy_bytes // 4, dtype=torch.float32, device=device)
    target = torch.zeros_like(source)
    times = [clock.seconds_per_call([lambda: target.copy_(source)]) for _ in range(_COPIES + 2)]
    return 2 * copy_bytes / Timing(tuple(times[2:])).median
