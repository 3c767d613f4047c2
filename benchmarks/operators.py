"""MgNO beside FNO, TFNO, U-NO and a U-Net: error after the same epochs and after the same time, three seeds.

    python benchmarks/operators.py                      # four hours on a core
    python benchmarks/operators.py --epochs 2 --seeds 0 # a try

Darcy flow with a piecewise constant coefficient on 64 x 64 points, generated on the spot: 1000 training and 200 test
samples. Every model has about 0.4 million real parameters (a complex weight counts twice) and is trained by
``katops.train`` with the same loss (H1), batches of 16, AdamW and one cycle of the learning rate.

- equal epochs: ``--epochs`` for all.
- equal time: each model gets as many epochs as fit into the time of MgNO's. The time of a training step is measured
  for all models in the same interleaved rounds before anything is trained.

Adds a row per training to ``benchmarks/results/operators_cpu.csv`` or ``..._<gpu>.csv``; what is in the file already is
not trained again, so that an interrupted benchmark continues, and processes with other ``--seeds`` share the work.
"""

import argparse
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TextIO

import torch
from rich.console import Console

import katops
from katops.benchmark import as_text, present_device, read_csv, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.timing import WallClock, time_interleaved
from katops.bundle import Bundle
from katops.hardware import device_name
from katops.metrics import h1
from katops.models import build_model

RESULTS = Path(__file__).parent / "results"
TRAIN, TEST, POINTS, BATCH = 1000, 200, 64, 16
EQUAL_EPOCHS, EQUAL_TIME = "equal epochs", "equal time"


@dataclass(frozen=True)
class Contestant:
    """A model with its learning rate: the best of 1e-3, 3e-3 and 1e-2 after five epochs with seed 0.

    TFNO has FNO's. MgNO diverges at 3e-3 and has 2e-3.
    """

    label: str
    model: str
    learning_rate: float
    options: dict[str, Any] = field(default_factory=dict)


CONTESTANTS = (
    Contestant("MgNO", "mgno_tiny", 2e-3, {"bias_nodes": [9, 9]}),
    Contestant("FNO, 12 modes, width 13", "fno", 1e-2, {"modes": 12, "hidden_channels": 13}),
    Contestant("FNO, 6 modes, width 24", "fno", 1e-2, {"modes": 6, "hidden_channels": 24}),
    Contestant("TFNO, 12 modes, width 40", "tfno", 1e-2, {"modes": 12, "hidden_channels": 40}),
    Contestant("U-NO, 12 modes, width 14", "uno", 1e-2, {"modes": 12, "hidden_channels": 14}),
    Contestant("U-Net, width 7", "unet", 1e-2, {"hidden_channels": 7}),
)


@dataclass(frozen=True)
class StepTime:
    """A training step: median over interleaved rounds, and the distance between the quartiles over it."""

    milliseconds: float
    spread: float


@dataclass(frozen=True)
class Training:
    """One row: a training and the errors on the test samples.

    Attributes:
        setting: equal epochs or equal time.
        parameters: real numbers.
        step_milliseconds, spread: see :class:`StepTime`.
        seconds: of the training itself, which shared the machine with whatever ran beside it.
        relative_l2, h1: means over the test samples.
    """

    setting: str
    model: str
    parameters: int
    device: str
    threads: int
    epochs: int
    seed: int
    learning_rate: float
    step_milliseconds: float
    spread: float
    seconds: float
    relative_l2: float
    h1: float
    versions: str


def main() -> None:
    """Train what is not in the file yet, add row after row to it, and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu or cuda; the GPU if there is one")
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU (default 1)")
    parser.add_argument("--epochs", type=int, default=20, help="of every model, and of MgNO in equal time (default 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rounds", type=int, default=7, help="of the step times (default 7)")
    parser.add_argument("--folder", type=Path, default=Path("runs/operators"), help="of data and unfinished trainings")
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    slug = "cpu" if device.type == "cpu" else device_name(device).lower().replace(" ", "_")
    output = arguments.output or RESULTS / f"operators_{slug}.csv"
    steps = known_step_times(output) or step_times(device, arguments.rounds)
    for seed in arguments.seeds:
        for setting, contestant, epochs in planned(steps, arguments.epochs):
            if (setting, contestant.label, seed) in {(row.setting, row.model, row.seed) for row in rows_of(output)}:
                continue
            say(f"{setting}: {contestant.label}, {epochs} epochs, seed {seed}")
            bundle = trained(contestant, epochs, seed, arguments.folder, device)
            row = training(setting, contestant, epochs, seed, steps[contestant.label], bundle, device)
            # Other processes may have added theirs meanwhile.
            write_csv(output, sorted([*rows_of(output), row], key=order))
    say(as_text(HEADER, cells(rows_of(output))), sys.stdout)


def rows_of(output: Path) -> list[Training]:
    """What is in the file so far."""
    return read_csv(output, Training) if output.is_file() else []


def order(row: Training) -> tuple[bool, int, int]:
    """Of the rows in the file: by setting, contestant, seed."""
    labels = [contestant.label for contestant in CONTESTANTS]
    return row.setting == EQUAL_TIME, labels.index(row.model), row.seed


def training(
    setting: str,
    contestant: Contestant,
    epochs: int,
    seed: int,
    step: StepTime,
    bundle: Bundle,
    device: torch.device,
) -> Training:
    """The row of a finished training."""
    errors = next(iter(bundle.header["metrics"].values()))["model"]
    return Training(
        setting,
        contestant.label,
        real_parameters(bundle.predictor.model),
        device_name(device),
        torch.get_num_threads(),
        epochs,
        seed,
        contestant.learning_rate,
        step.milliseconds,
        step.spread,
        bundle.header["training"]["seconds"],
        errors["relative_l2"],
        errors["h1"],
        versions(),
    )


def known_step_times(output: Path) -> dict[str, StepTime]:
    """The step times in the file, so that a continued benchmark plans as it began; empty where one is missing."""
    known = {row.model: StepTime(row.step_milliseconds, row.spread) for row in rows_of(output)}
    return known if len(known) == len(CONTESTANTS) else {}


def step_times(device: torch.device, rounds: int) -> dict[str, StepTime]:
    """Time of a training step of every contestant, in interleaved rounds."""
    fields, targets = (torch.randn(BATCH, 1, POINTS, POINTS, device=device) for _ in range(2))
    models = {c.label: build_model(c.model, **c.options).to(device) for c in CONTESTANTS}

    def calls(model: torch.nn.Module) -> list[Callable[[], None]]:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)

        def step() -> None:
            optimizer.zero_grad()
            h1(model(fields), targets).mean().backward()
            optimizer.step()

        return [step]

    clock = WallClock(partial(torch.cuda.synchronize, device) if device.type == "cuda" else None)
    found = time_interleaved(
        {label: partial(calls, model) for label, model in models.items()},
        clock,
        rounds,
        progress=lambda done, total: say(f"step times, round {done} of {total}"),
    )
    if not found.timings:
        raise KeyboardInterrupt
    return {label: StepTime(1e3 * timing.median, timing.spread) for label, timing in found.timings.items()}


def planned(steps: dict[str, StepTime], epochs: int) -> list[tuple[str, Contestant, int]]:
    """(setting, contestant, epochs) of one seed; the time to be shared is MgNO's."""
    budget = epochs * steps[CONTESTANTS[0].label].milliseconds
    equal = [(EQUAL_EPOCHS, contestant, epochs) for contestant in CONTESTANTS]
    timed = [(EQUAL_TIME, c, max(1, round(budget / steps[c.label].milliseconds))) for c in CONTESTANTS]
    return equal + timed


def trained(contestant: Contestant, epochs: int, seed: int, folder: Path, device: torch.device) -> Bundle:
    """The model of one training, which is made or continued unless it is there."""
    slug = contestant.label.lower().replace(",", "").replace(" ", "_")
    run = folder / f"{slug}-{epochs}-epochs-seed{seed}"
    if (run / "summary.json").is_file():
        return katops.load(run)
    config = {
        "task": "operator",
        "name": run.name,
        "output": str(run),
        "seed": seed,
        "data": {
            "file": str(folder / f"darcy_{POINTS}.h5"),
            "generate": {"problem": "darcy", "samples": TRAIN + TEST, "resolution": POINTS, "seed": 0},
            "split": {"train": TRAIN, "validation": 0, "test": TEST},
        },
        "model": {"name": contestant.model, **contestant.options},
        "train": {
            "epochs": epochs,
            "batch_size": BATCH,
            "learning_rate": contestant.learning_rate,
            "loss": "h1",
            "device": device.type,
        },
    }
    return katops.train(config, resume=run.is_dir(), console=Console(stderr=True)).bundle


def real_parameters(model: torch.nn.Module) -> int:
    """Real numbers among the parameters; a complex one is two."""
    return sum(parameter.numel() * (2 if parameter.is_complex() else 1) for parameter in model.parameters())


HEADER = (
    "setting",
    "model",
    "parameters",
    "step ms",
    "epochs",
    "L2 %",
    "H1 %",
    "MgNO's L2 over it",
    "MgNO's H1 over it",
)


def cells(rows: list[Training]) -> list[list[str]]:
    """A line per setting and model: mean and standard deviation over the seeds, and the ratio of the means."""
    groups: dict[tuple[str, str], list[Training]] = {}
    for row in rows:
        groups.setdefault((row.setting, row.model), []).append(row)

    def errors(group: list[Training], name: str) -> list[float]:
        return [100 * getattr(row, name) for row in group]

    def spread(values: list[float]) -> str:
        return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")

    lines = []
    for (setting, model), group in groups.items():
        first = groups[setting, CONTESTANTS[0].label]
        ratios = [
            statistics.mean(errors(first, name)) / statistics.mean(errors(group, name))
            for name in ("relative_l2", "h1")
        ]
        lines.append(
            [setting, model, f"{group[0].parameters:,}", f"{group[0].step_milliseconds:.0f}", f"{group[0].epochs}"]
            + [spread(errors(group, name)) for name in ("relative_l2", "h1")]
            + [f"{ratio:.2f}" for ratio in ratios]
        )
    return lines


def say(line: str, stream: TextIO = sys.stderr) -> None:
    """A line of progress, or of the result."""
    stream.write(f"{line}\n")
    stream.flush()


if __name__ == "__main__":
    main()
