"""A training step of MgNO beside the same net written down layer by layer, in the same rounds: time and peak memory.

    python benchmarks/mgno_step.py           # on the GPU if there is one, else on the CPU

One step: forward, mean square, backward, in float32 and eager mode, on random fields. The sizes are the published
ones for Darcy flow (four layers of width 24) and a wider net; the transcription (``mgno_transcription.py``) has the
published modules, 4-wide prolongations and torch's default memory order. Writes
``benchmarks/results/mgno_step_cpu.csv`` or ``..._<gpu>.csv``.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from mgno_transcription import TranscribedMgNO
from torch import nn

from katops.benchmark import as_text, present_device, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.memory import peak_extra_bytes
from katops.benchmark.results import number
from katops.benchmark.timing import WallClock, time_interleaved
from katops.hardware import device_name
from katops.models import build_model

RESULTS = Path(__file__).parent / "results"
KATOPS, TRANSCRIPTION = "katops", "transcription"
LAYERS = 4
CASES = ((24, 64, 16, 5), (24, 256, 2, 6), (24, 256, 8, 6), (32, 128, 8, 6))
"""Width, points per axis, batch, grids."""


@dataclass(frozen=True)
class StepMeasurement:
    """One row: a training step of one of the two.

    Attributes:
        milliseconds: per step, median over the rounds.
        spread: distance between the quartiles over the median.
        times_faster: the transcription's time over this one, same rounds.
        peak_megabytes: held at the peak of a step beyond what was there before.
    """

    model: str
    device: str
    threads: int
    width: int
    points: int
    batch: int
    levels: int
    parameters: int
    milliseconds: float
    spread: float
    times_faster: float
    peak_megabytes: float
    rounds: int
    versions: str


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda, cuda:1; the GPU if there is one")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch on the CPU (default 1 and 2)")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    rows: list[StepMeasurement] = []
    for threads in arguments.threads if device.type == "cpu" else arguments.threads[:1]:
        torch.set_num_threads(threads)
        for case in CASES:
            say(f"{threads} threads, width {case[0]}, {case[1]} points, batch {case[2]}", sys.stderr)
            rows += measurements(case, device, arguments.rounds)
    cells = [
        [row.model, f"{row.threads}", f"{row.width}", f"{row.batch} x {row.points}²", number(row.milliseconds),
         f"{100 * row.spread:.0f} %", f"{row.times_faster:.2f}", number(row.peak_megabytes)]
        for row in rows
    ]  # fmt: skip
    say(f"{rows[0].device}, float32")
    say(as_text(("model", "threads", "width", "batch", "ms", "spread", "x faster", "peak MB"), cells))
    slug = "cpu" if device.type == "cpu" else rows[0].device.lower().replace(" ", "_")
    output = arguments.output or RESULTS / f"mgno_step_{slug}.csv"
    write_csv(output, rows)
    say(f"wrote {output}")


def measurements(case: tuple[int, int, int, int], device: torch.device, rounds: int) -> list[StepMeasurement]:
    """Both models in interleaved rounds."""
    width, points, batch, levels = case
    schedule = [*[[1, 0]] * (levels - 1), [2, 0]]
    models = {
        KATOPS: build_model("mgno", hidden_channels=width, n_layers=LAYERS, schedule=schedule),
        TRANSCRIPTION: TranscribedMgNO(1, width, LAYERS, schedule),
    }
    fields = torch.randn(batch, 1, points, points, device=device)
    steps = {name: training_step(model.to(device), fields) for name, model in models.items()}
    clock = WallClock(partial(torch.cuda.synchronize, device) if device.type == "cuda" else None)
    found = time_interleaved({name: (lambda step=step: [step]) for name, step in steps.items()}, clock, rounds)
    if not found.timings:
        raise KeyboardInterrupt
    yardstick = found.timings[TRANSCRIPTION].median
    return [
        StepMeasurement(
            name,
            device_name(device),
            torch.get_num_threads(),
            width,
            points,
            batch,
            levels,
            sum(parameter.numel() for parameter in models[name].parameters()),
            1e3 * timing.median,
            timing.spread,
            yardstick / timing.median,
            peak_extra_bytes(steps[name], device) / 1e6,
            len(timing.seconds),
            versions(),
        )
        for name, timing in found.timings.items()
    ]


def training_step(model: nn.Module, fields: torch.Tensor) -> Callable[[], None]:
    """A function that makes one forward and backward pass, always on the same fields."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(fields).square().mean().backward()

    return step


def say(line: str, stream=sys.stdout) -> None:
    """A line of output."""
    print(line, file=stream, flush=True)


if __name__ == "__main__":
    main()
