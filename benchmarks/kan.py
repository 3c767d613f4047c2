"""A forward and backward pass of B-spline KANs beside their peers, in the same rounds: time and peak memory.

    python benchmarks/kan.py           # on the GPU if there is one, else on the CPU, one thread

One step: forward, mean square, backward, in float32 and eager mode, cubic splines on five intervals. Peers: the
arithmetic of efficient-kan (``kan_transcription.py``); pykan in its fast mode, ``KAN(...).speed()``, and as it starts,
where the package is installed (``pip install --no-deps pykan==0.2.8``; ``PYTHONPATH`` may name a folder of its own);
and, for scale, an MLP of the same widths. Writes ``benchmarks/results/kan_cpu.csv`` or ``..._<gpu>.csv``.
"""

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import torch
from kan_transcription import TranscribedKAN
from torch import nn

from katops.benchmark import as_text, present_device, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.memory import peak_extra_bytes
from katops.benchmark.results import number
from katops.benchmark.timing import WallClock, time_interleaved
from katops.hardware import device_name
from katops.models import build_model

RESULTS = Path(__file__).parent / "results"
KATOPS = "katops"
CASES = (([64, 64, 1], 1000), ([16, 16, 1], 1000), ([16, 8, 2], 500), ([256, 256, 10], 1000))
"""Widths, rows."""
MOST_EDGES_OF_PYKAN = 10_000
"""Beyond that its default mode takes minutes."""


@dataclass(frozen=True)
class StepMeasurement:
    """One row: a step of one competitor.

    Attributes:
        milliseconds: per step, median over the rounds.
        spread: distance between the quartiles over the median.
        time_of_katops: the time of katops over this one, same rounds.
        peak_megabytes: held at the peak of a step beyond what was there before.
    """

    model: str
    device: str
    threads: int
    widths: str
    rows: int
    parameters: int
    milliseconds: float
    spread: float
    time_of_katops: float
    peak_megabytes: float
    rounds: int
    versions: str


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda, cuda:1; the GPU if there is one")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU (default 1)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    rows: list[StepMeasurement] = []
    for widths, count in CASES:
        say(f"{widths}, {count} rows", sys.stderr)
        rows += measurements(widths, count, device, arguments.rounds)
    cells = [
        [row.model, row.widths, f"{row.rows}", number(row.milliseconds), f"{100 * row.spread:.0f} %",
         f"{row.time_of_katops:.3f}", number(row.peak_megabytes)]
        for row in rows
    ]  # fmt: skip
    say(f"{rows[0].device}, {rows[0].threads} threads, float32")
    say(as_text(("model", "widths", "rows", "ms", "spread", "katops / this", "peak MB"), cells))
    slug = "cpu" if device.type == "cpu" else rows[0].device.lower().replace(" ", "_")
    output = arguments.output or RESULTS / f"kan_{slug}.csv"
    write_csv(output, rows)
    say(f"wrote {output}")


def competitors(widths: list[int]) -> dict[str, nn.Module]:
    """The models by name."""
    found: dict[str, nn.Module] = {
        KATOPS: build_model("kan", in_features=widths[0], hidden=widths[1:-1], out_features=widths[-1]),
        "efficient-kan, transcribed": TranscribedKAN(widths),
        "MLP": nn.Sequential(*(layer for pair in pairwise(widths) for layer in (nn.Linear(*pair), nn.SiLU()))),
    }
    edges = sum(before * after for before, after in pairwise(widths))
    published = published_package() if edges <= MOST_EDGES_OF_PYKAN else None
    if published is not None:
        found["pykan, speed()"] = published.KAN(width=list(widths), grid=5, k=3, auto_save=False).speed()
        found["pykan"] = published.KAN(width=list(widths), grid=5, k=3, auto_save=False)
    return found


@cache
def published_package() -> ModuleType | None:
    """The package of pykan, which has the name of this file; None where it is not installed."""
    before = sys.path.copy()
    sys.path[:] = [folder for folder in before if Path(folder).resolve() != Path(__file__).resolve().parent]
    try:
        return importlib.import_module("kan")
    except ImportError:
        return None
    finally:
        sys.path[:] = before


def measurements(widths: list[int], rows: int, device: torch.device, rounds: int) -> list[StepMeasurement]:
    """All competitors in interleaved rounds."""
    models = competitors(widths)
    x = 2 * torch.rand(rows, widths[0], device=device) - 1
    steps = {name: training_step(model.to(device), x) for name, model in models.items()}
    clock = WallClock(partial(torch.cuda.synchronize, device) if device.type == "cuda" else None)
    found = time_interleaved({name: (lambda step=step: [step]) for name, step in steps.items()}, clock, rounds)
    if not found.timings:
        raise KeyboardInterrupt
    own = found.timings[KATOPS].median
    return [
        StepMeasurement(
            name,
            device_name(device),
            torch.get_num_threads(),
            "-".join(map(str, widths)),
            rows,
            sum(parameter.numel() for parameter in models[name].parameters() if parameter.requires_grad),
            1e3 * timing.median,
            timing.spread,
            own / timing.median,
            peak_extra_bytes(steps[name], device) / 1e6,
            len(timing.seconds),
            versions(),
        )
        for name, timing in found.timings.items()
    ]


def training_step(model: nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """A function that makes one forward and backward pass, always on the same rows."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(x).square().mean().backward()

    return step


def say(line: str, stream=sys.stdout) -> None:
    """A line of output."""
    print(line, file=stream, flush=True)


if __name__ == "__main__":
    main()
