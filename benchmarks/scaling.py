"""Training throughput of one and of two processes on this machine, and the loader's share of the time.

    python benchmarks/scaling.py             # one and two processes with a thread each, or with a GPU each

The configuration is a small published size, MgNO of width 24 on 64 x 64 points of Darcy flow, read from an HDF5 file
that is generated first. Each job is ``torchrun ... -m katops train`` on the same file; its first epoch is left out. The
share of the loader is the time that a process waits for batches. Jobs take turns. Writes
``benchmarks/results/scaling_cpu.csv`` or ``..._<gpu>.csv``.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import torch

from katops.benchmark import as_text, write_csv
from katops.hardware import device_name

RESULTS = Path(__file__).parent / "results"
SAMPLES, POINTS, BATCH, EPOCHS = 320, 64, 8, 4


@dataclass(frozen=True)
class Scaling:
    """One row.

    Attributes:
        processes: on this machine, each with one thread or one GPU.
        strategy: how they share the work.
        samples_per_second: of all processes together, median over the rounds.
        of_one: that over the rate of one process.
        loader_share: part of the time that the first process waits for batches.
    """

    device: str
    processes: int
    strategy: str
    batch_per_process: int
    samples_per_second: float
    of_one: float
    loader_share: float


def configuration(folder: Path, output: str, strategy: str) -> dict[str, Any]:
    """What is trained."""
    return {
        "name": "scaling",
        "output": str(folder / output),
        "data": {
            "file": str(folder / "darcy.h5"),
            "generate": {"problem": "darcy", "samples": SAMPLES + 16, "resolution": POINTS},
            "split": {"train": SAMPLES, "validation": 8, "test": 8},
        },
        "model": {"name": "mgno", "hidden_channels": 24, "n_layers": 4, "levels": 5},
        "train": {"epochs": EPOCHS, "batch_size": BATCH, "strategy": strategy},
        "report": {"examples": 1},
    }


def train_and_watch(config: Path, waited: Path) -> None:
    """In a process of the job: ``katops train``, and the seconds that it has waited for training batches."""
    from katops import api
    from katops.data.loader import FieldLoader
    from katops.distributed import current, joined

    seconds = 0.0
    iterate = FieldLoader.__iter__

    def watched(loader: FieldLoader) -> Iterator[Any]:
        nonlocal seconds
        batches = iterate(loader)
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if loader.sampler.shuffle:  # that of the training
                seconds += time.perf_counter() - began
            if batch is None:
                return
            yield batch

    FieldLoader.__iter__ = watched
    with joined():
        api.train(json.loads(config.read_text(encoding="utf-8")), progress=False)
        if current().is_first:
            waited.write_text(str(seconds), encoding="utf-8")


def run(folder: Path, processes: int, strategy: str, number: int) -> tuple[float, float]:
    """Samples per second, and the loader's share, of one job."""
    config, output = folder / "scaling.yaml", f"run-{processes}-{strategy}-{number}"
    config.write_text(json.dumps(configuration(folder, output, strategy)), encoding="utf-8")
    waited = folder / "waited.txt"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*launcher, __file__, "--worker", str(config), str(waited)], check=True, env=environment)
    with (folder / output / "log.csv").open(encoding="utf-8") as file:
        seconds = [float(row["seconds"]) for row in csv.DictReader(file)]
    later = seconds[1:]
    return SAMPLES * len(later) / sum(later), float(waited.read_text(encoding="utf-8")) / sum(seconds)


def measure(rounds: int) -> list[Scaling]:
    """All jobs, in turns."""
    jobs = [(1, "ddp"), (2, "ddp"), (2, "fsdp")]
    found: dict[tuple[int, str], list[tuple[float, float]]] = {job: [] for job in jobs}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            for job in jobs:
                found[job].append(run(Path(folder), *job, number))
                sys.stderr.write(f"round {number + 1}: {job[0]} x {job[1]}: {found[job][-1][0]:.1f} samples/s\n")
    device = device_name(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    rates = {job: median(rate for rate, _ in each) for job, each in found.items()}
    return [
        Scaling(
            device,
            *job,
            BATCH,
            round(rates[job], 1),
            round(rates[job] / rates[jobs[0]], 2),
            round(median(share for _, share in found[job]), 3),
        )
        for job in jobs
    ]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        train_and_watch(*arguments.worker)
        return
    rows = measure(arguments.rounds)
    header = [field.name for field in fields(Scaling)]
    sys.stdout.write(as_text(header, [[str(value) for value in astuple(row)] for row in rows]) + "\n")
    kind = "cpu" if not torch.cuda.is_available() else rows[0].device.replace(" ", "_").lower()
    write_csv(RESULTS / f"scaling_{kind}.csv", rows)


if __name__ == "__main__":
    main()
