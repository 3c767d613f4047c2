"""A training step of KAT-Small beside one of timm's ViT-Small, in the same rounds: the price of learned activations.

    python benchmarks/kat_training_step.py           # on the GPU if there is one, else on the CPU

One step: forward, cross entropy, backward, AdamW, on random images of 224 x 224 pixels. float32 on a CPU; on a GPU bf16
by autocast. Writes ``benchmarks/results/kat_training_step_cpu.csv`` or ``..._<gpu>.csv``.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import timm
import torch
import torch.nn.functional as F

import katops  # noqa: F401 - registers the models with timm
from katops.benchmark import as_text, present_device, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.results import number
from katops.benchmark.timing import Rounds, WallClock, time_interleaved
from katops.hardware import device_name
from katops.ops.rational import RATIONAL

RESULTS = Path(__file__).parent / "results"
VIT, KAT = "vit_small_patch16_224", "kat_small"
BATCH = {"cpu": 4, "cuda": 256}
STEPS = {"cpu": 1, "cuda": 3}  # per round, in a row


@dataclass(frozen=True)
class StepMeasurement:
    """One row: a model's training step.

    Attributes:
        milliseconds: per step, median over the rounds.
        spread: distance between the quartiles over the median.
        ratio_to_vit: the time over that of the ViT in the same rounds.
        peak_gigabytes: of GPU memory during a step, weights and optimiser included, both models loaded.
    """

    model: str
    device: str
    dtype: str
    batch: int
    milliseconds: float
    spread: float
    images_per_second: float
    ratio_to_vit: float
    peak_gigabytes: float | None
    rounds: int
    threads: int
    backend: str
    versions: str


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda, cuda:1; the GPU if there is one")
    parser.add_argument("--threads", type=int, default=2, help="of torch on the CPU (default 2)")
    parser.add_argument("--batch", type=int, help="images per step (default 4 on a CPU, 256 on a GPU)")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--vit", default=VIT, help=f"timm model to compare with (default {VIT})")
    parser.add_argument("--kat", default=KAT, help=f"model to compare (default {KAT})")
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    batch = arguments.batch or BATCH[device.type]

    steps = {name: training_step(name, batch, device) for name in (arguments.vit, arguments.kat)}
    rows = measurements(steps, device, batch, arguments.rounds)
    cells = [
        [row.model, number(row.milliseconds), f"{100 * row.spread:.0f} %", number(row.images_per_second),
         f"{row.ratio_to_vit:.3f}", number(row.peak_gigabytes)]
        for row in rows
    ]  # fmt: skip
    say(f"batch {batch}, {rows[0].dtype}, {rows[0].device}, {rows[0].threads} threads, backend {rows[0].backend}")
    say(as_text(("model", "ms", "spread", "images/s", "x ViT", "peak GB"), cells))
    slug = "cpu" if device.type == "cpu" else rows[0].device.lower().replace(" ", "_")
    output = arguments.output or RESULTS / f"kat_training_step_{slug}.csv"
    write_csv(output, rows)
    say(f"wrote {output}")


def training_step(name: str, batch: int, device: torch.device) -> Callable[[], None]:
    """A function that makes one step of a new model, always on the same images."""
    torch.manual_seed(0)
    model = timm.create_model(name).to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=device.type == "cuda")
    images = torch.randn(batch, *model.pretrained_cfg["input_size"], device=device)
    labels = torch.randint(model.num_classes, (batch,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = F.cross_entropy(model(images), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def measurements(
    steps: dict[str, Callable[[], None]], device: torch.device, batch: int, rounds: int
) -> list[StepMeasurement]:
    """The steps in interleaved rounds, the first one being the ViT's."""
    repeated = {name: (lambda step=step: [step] * STEPS[device.type]) for name, step in steps.items()}
    clock = WallClock(partial(torch.cuda.synchronize, device) if device.type == "cuda" else None)
    found = time_interleaved(
        repeated, clock, rounds, progress=lambda done, total: say(f"round {done} of {total}", sys.stderr)
    )
    if not found.timings:
        raise KeyboardInterrupt
    return [_row(name, found, next(iter(steps)), steps[name], device, batch) for name in steps]


def _row(
    name: str, found: Rounds, vit: str, step: Callable[[], None], device: torch.device, batch: int
) -> StepMeasurement:
    timing = found.timings[name]
    half = device.type == "cuda"
    types = (torch.bfloat16, torch.float32, torch.bfloat16) if half else (torch.float32,) * 3
    return StepMeasurement(
        name,
        device_name(device),
        "bfloat16 autocast" if half else "float32",
        batch,
        1e3 * timing.median,
        timing.spread,
        batch / timing.median,
        timing.median / found.timings[vit].median,
        _peak_gigabytes(step, device) if half else None,
        len(timing.seconds),
        torch.get_num_threads(),
        RATIONAL.choose(device, types)[0],
        versions(),
    )


def _peak_gigabytes(step: Callable[[], None], device: torch.device) -> float:
    torch.cuda.reset_peak_memory_stats(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 1e9


def say(text: str, file: object = None) -> None:
    """Print at once, also into a file."""
    print(text, file=file, flush=True)


if __name__ == "__main__":
    main()
