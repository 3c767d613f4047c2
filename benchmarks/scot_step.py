"""A training step of scOT beside the same net written down step by step, in the same rounds: time and peak memory.

    python benchmarks/scot_step.py           # on the GPU if there is one, else on the CPU

One step: forward, mean square, backward, in float32 and eager mode, on random fields and times. The size is that of
Poseidon-T; the transcription (``scot_transcription.py``) has the same weights. Writes
``benchmarks/results/scot_step_cpu.csv`` or ``..._<gpu>.csv``.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from scot_transcription import TranscribedScOT
from torch import Tensor, nn

from katops.benchmark import as_text, present_device, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.memory import peak_extra_bytes
from katops.benchmark.results import number
from katops.benchmark.timing import WallClock, time_interleaved
from katops.hardware import device_name
from katops.models import build_model

RESULTS = Path(__file__).parent / "results"
KATOPS, TRANSCRIPTION = "katops", "transcription"
CHANNELS, BATCH, POINTS = 4, 4, 128


@dataclass(frozen=True)
class StepMeasurement:
    """One row: a training step of one of the two.

    Attributes:
        milliseconds: per step, median over the rounds.
        fastest: per step, the fastest round.
        spread: distance between the quartiles over the median.
        of_transcription: the fastest time over the transcription's.
        peak_megabytes: held at the peak of a step beyond what was there before.
        memory_of_transcription: that over the transcription's.
        largest_difference: of the outputs of the two, over the largest output.
    """

    model: str
    device: str
    threads: int
    points: int
    batch: int
    parameters: int
    milliseconds: float
    fastest: float
    spread: float
    of_transcription: float
    peak_megabytes: float
    memory_of_transcription: float
    largest_difference: float
    rounds: int
    versions: str


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda, cuda:1; the GPU if there is one")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="of torch on the CPU (default 1 and 2)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    rows: list[StepMeasurement] = []
    for threads in arguments.threads if device.type == "cpu" else arguments.threads[:1]:
        torch.set_num_threads(threads)
        say(f"{threads} threads", sys.stderr)
        rows += measurements(device, arguments.rounds)
    cells = [
        [row.model, f"{row.threads}", number(row.milliseconds), number(row.fastest), f"{100 * row.spread:.0f} %",
         f"{row.of_transcription:.2f}", number(row.peak_megabytes), f"{row.memory_of_transcription:.2f}"]
        for row in rows
    ]  # fmt: skip
    say(f"{rows[0].device}, float32, batch {BATCH}, {POINTS} x {POINTS} points")
    say(as_text(("model", "threads", "ms", "fastest", "spread", "of its time", "peak MB", "of its memory"), cells))
    slug = "cpu" if device.type == "cpu" else rows[0].device.lower().replace(" ", "_")
    output = arguments.output or RESULTS / f"scot_step_{slug}.csv"
    write_csv(output, rows)
    say(f"wrote {output}")


def measurements(device: torch.device, rounds: int) -> list[StepMeasurement]:
    """Both models in interleaved rounds."""
    torch.manual_seed(0)
    models = {
        KATOPS: build_model("scot_tiny", in_channels=CHANNELS, out_channels=CHANNELS).to(device),
        TRANSCRIPTION: TranscribedScOT(CHANNELS, CHANNELS, POINTS).to(device),
    }
    models[TRANSCRIPTION].load_state_dict(models[KATOPS].state_dict())
    batch = torch.randn(BATCH, CHANNELS, POINTS, POINTS, device=device), torch.rand(BATCH, device=device)
    with torch.no_grad():
        outputs = [model(*batch) for model in models.values()]
    difference = ((outputs[0] - outputs[1]).abs().max() / outputs[1].abs().max()).item()
    steps = {name: training_step(model, batch) for name, model in models.items()}
    clock = WallClock(partial(torch.cuda.synchronize, device) if device.type == "cuda" else None)
    found = time_interleaved({name: (lambda step=step: [step]) for name, step in steps.items()}, clock, rounds)
    if not found.timings:
        raise KeyboardInterrupt
    fastest = {name: min(timing.seconds) for name, timing in found.timings.items()}
    peaks = {name: peak_extra_bytes(step, device) for name, step in steps.items()}
    return [
        StepMeasurement(
            name,
            device_name(device),
            torch.get_num_threads(),
            POINTS,
            BATCH,
            sum(parameter.numel() for parameter in models[name].parameters()),
            1e3 * timing.median,
            1e3 * fastest[name],
            timing.spread,
            fastest[name] / fastest[TRANSCRIPTION],
            peaks[name] / 1e6,
            peaks[name] / peaks[TRANSCRIPTION],
            difference,
            len(timing.seconds),
            versions(),
        )
        for name, timing in found.timings.items()
    ]


def training_step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Callable[[], None]:
    """A function that makes one forward and backward pass, always on the same batch."""

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(*batch).square().mean().backward()

    return step


def say(line: str, stream=sys.stdout) -> None:
    """A line of output."""
    print(line, file=stream, flush=True)


if __name__ == "__main__":
    main()
