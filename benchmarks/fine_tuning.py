"""Fine-tuning a pretrained scOT beside the same net from scratch, by the number of trajectories.

    katops train configs/scot_pretrain.yaml        # the model to start from
    python benchmarks/fine_tuning.py               # half an hour on a core
    python benchmarks/fine_tuning.py --steps 20 --sizes 8 --seeds 0   # a try

The downstream task is ``configs/scot_finetune.yaml``: incompressible flow from piecewise constant vorticity, which the
pretraining has not seen. Both nets take the same number of optimiser steps on the same trajectories, at rates of 5e-4
and 1e-3 that were not tuned; the model of the best epoch is tested on the same 64 trajectories, direct from their first
frame to all later ones. The figure is the small sister of that of the paper (Herde et al., arXiv 2405.19101, figure 7).

Adds a row per training to ``benchmarks/results/fine_tuning_<device>.csv``; what is in the file already is not trained
again.
"""

import argparse
import math
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from matplotlib.figure import Figure
from rich.console import Console

import katops
from katops.benchmark import as_text, present_device, read_csv, write_csv
from katops.benchmark.machine import versions
from katops.hardware import device_name

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "scot_finetune.yaml"
RESULTS = Path(__file__).parent / "results"
PRETRAINED, SCRATCH = "pretrained", "from scratch"
PAIRS = 21  # in each trajectory: six frames


@dataclass(frozen=True)
class Training:
    """One row.

    Attributes:
        start: pretrained or from scratch.
        trajectories: of the training.
        velocity_l2: relative L2 error of the velocity, mean over the test trajectories and frames.
        last_l2: the same, of the last frame.
        persistence_l2: of the first frame in place of all others.
    """

    start: str
    trajectories: int
    seed: int
    steps: int
    learning_rate: float
    device: str
    threads: int
    seconds: float
    velocity_l2: float
    last_l2: float
    persistence_l2: float
    versions: str


def main() -> None:
    """Train what is not in the file yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu or cuda; the GPU if there is one")
    parser.add_argument("--pretrained", default="runs/scot_pretrain", help="the run to start from")
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 32, 128], help="numbers of trajectories")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=400, help="optimiser steps of every training")
    parser.add_argument("--rates", type=float, nargs=2, default=[5e-4, 1e-3], metavar=("PRETRAINED", "SCRATCH"))
    parser.add_argument("--folder", type=Path, default=Path("runs/fine_tuning"))
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    parser.add_argument("--plot", type=Path, help="a picture of what is in the file, such as docs/fine_tuning.png")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    output = arguments.output or RESULTS / f"fine_tuning_{_slug(device)}.csv"
    for seed in arguments.seeds:
        for trajectories in arguments.sizes:
            for start, rate in zip((PRETRAINED, SCRATCH), arguments.rates, strict=True):
                known = {(row.start, row.trajectories, row.seed, row.steps) for row in rows_of(output)}
                if (start, trajectories, seed, arguments.steps) in known:
                    continue
                say(f"{start}, {trajectories} trajectories, seed {seed}")
                row = trained(start, trajectories, seed, rate, arguments, device)
                write_csv(output, sorted([*rows_of(output), row], key=lambda r: (r.trajectories, r.start, r.seed)))
    sys.stdout.write(as_text(HEADER, cells(rows_of(output))) + "\n")
    if arguments.plot:
        draw(rows_of(output), arguments.plot)


def rows_of(output: Path) -> list[Training]:
    """What is in the file so far."""
    return read_csv(output, Training) if output.is_file() else []


def trained(
    start: str, trajectories: int, seed: int, rate: float, arguments: argparse.Namespace, device: torch.device
) -> Training:
    """Train, and measure on the test trajectories."""
    values = yaml.safe_load(CONFIG.read_text())
    train: dict[str, Any] = {**values["train"], "learning_rate": rate, "max_steps": arguments.steps}
    train["epochs"] = math.ceil(arguments.steps / math.ceil(trajectories * PAIRS / train["batch_size"]))
    train["device"] = device.type
    data = {**values["data"], "split": {**values["data"]["split"], "train": trajectories}}
    if start == SCRATCH:
        del train["initial"]
        data["normalizer"] = "standard"
    else:
        train["initial"] = arguments.pretrained
    run = arguments.folder / f"{start.replace(' ', '_')}-{trajectories}-{arguments.steps}-seed{seed}"
    values = {key: value for key, value in values.items() if key != "report"}
    config = {**values, "output": str(run), "seed": seed, "data": data, "train": train}
    result = katops.train(config, overwrite=run.is_dir(), console=Console(stderr=True))
    evaluation = next(iter(result.evaluations.values()))
    column = list(evaluation.groups.groups).index("velocity")
    of_model = evaluation.groups.mean("model")[:, column]
    of_persistence = evaluation.groups.mean("persistence")[:, column]
    return Training(
        start,
        trajectories,
        seed,
        arguments.steps,
        rate,
        device_name(device),
        torch.get_num_threads(),
        result.bundle.header["training"]["seconds"],
        float(of_model.mean()),
        float(of_model[-1]),
        float(of_persistence.mean()),
        versions(),
    )


HEADER = ("trajectories", "start", "steps", "velocity L2 %", "last frame %", "persistence %", "pretrained over scratch")


def cells(rows: list[Training]) -> list[list[str]]:
    """A line for each number of trajectories and start."""
    groups: dict[tuple[int, str], list[Training]] = {}
    for row in rows:
        groups.setdefault((row.trajectories, row.start), []).append(row)

    def mean(group: list[Training], name: str) -> float:
        return statistics.mean(getattr(row, name) for row in group)

    lines = []
    for (trajectories, start), group in groups.items():
        scratch = groups.get((trajectories, SCRATCH))
        ratio = mean(group, "velocity_l2") / mean(scratch, "velocity_l2") if scratch else math.nan
        errors = [f"{100 * mean(group, name):.1f}" for name in ("velocity_l2", "last_l2", "persistence_l2")]
        lines.append([str(trajectories), start, str(group[0].steps), *errors, f"{ratio:.2f}"])
    return lines


def draw(rows: list[Training], path: Path) -> None:
    """Error of the velocity against the number of trajectories, one line for each start."""
    figure = Figure(figsize=(6.4, 3.8), dpi=110, layout="constrained", facecolor="white")
    axes = figure.subplots()
    for start, colour, marker in ((SCRATCH, "#D55E00", "s"), (PRETRAINED, "#0072B2", "o")):
        sizes = sorted({row.trajectories for row in rows if row.start == start})
        errors = [
            100 * statistics.mean(row.velocity_l2 for row in rows if (row.start, row.trajectories) == (start, size))
            for size in sizes
        ]
        axes.plot(sizes, errors, color=colour, marker=marker, label=start)
    axes.axhline(100 * rows[0].persistence_l2, color="#999999", linestyle=":", label="persistence")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_xlabel("trajectories of the flow to be learned")
    axes.set_ylabel("relative L2 error of the velocity, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.legend(frameon=False)
    figure.savefig(path, metadata={"Software": None})


def _slug(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else device_name(device).lower().replace(" ", "_")


def say(line: str) -> None:
    """A line of progress."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
