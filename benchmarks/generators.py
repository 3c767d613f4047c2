"""Seconds per sample of every problem that ``katops generate`` knows, and its solvers beside those of other libraries.

    python benchmarks/generators.py                            # all problems, ten minutes on two cores
    python benchmarks/generators.py --device cuda              # those that are solved in torch, on the GPU
    PYTHONPATH=/path/to/peers python benchmarks/generators.py  # exponax, jax-cfd, py-pde from a folder of their own

The first table is the whole command: drawing, solving, writing and reading back, with one thread per core. The second
table gives every library the same initial data and asks for the same accuracy: of the time steps tried, the longest
with an error below the limit counts. Writes ``benchmarks/results/generators_<device>.csv`` and, on a CPU,
``generator_peers_cpu.csv``.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from generator_peers import PEERS, SolverMeasurement, measure

from katops.benchmark import as_text, present_device, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.results import number
from katops.errors import UserError
from katops.generators import create_problem
from katops.generators.writer import write
from katops.hardware import device_name

RESULTS = Path(__file__).parent / "results"
SECONDS = 8.0
"""Generating goes on with twice as many samples until it takes so long."""

CASES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("darcy", {"variant": "smooth", "resolution": 128}),
    ("darcy", {"variant": "rough", "resolution": 128}),
    ("darcy", {"variant": "multiscale", "resolution": 128}),
    ("poisson", {"resolution": 128}),
    ("helmholtz", {"resolution": 128}),
    ("advection", {}),
    ("burgers", {}),
    ("burgers", {"variant": "pdebench"}),
    ("allen_cahn", {"resolution": 128}),
    ("diffusion_reaction", {}),
    ("wave", {"variant": "gaussian"}),
    ("wave", {"variant": "layer"}),
    ("shallow_water", {"resolution": 64}),
    ("navier_stokes", {"variant": "fno_1e-3", "resolution": 64}),
    ("navier_stokes", {"variant": "piecewise_constant", "resolution": 128}),
    ("navier_stokes", {"variant": "tracer", "resolution": 128}),
    ("euler", {"variant": "riemann", "resolution": 64}),
    ("euler", {"variant": "kelvin_helmholtz", "resolution": 64}),
    ("euler", {"variant": "richtmyer_meshkov", "resolution": 64}),
)


@dataclass(frozen=True)
class GenerationMeasurement:
    """One row: a problem.

    Attributes:
        options: those that are not at their default.
        shape: points of one field of one sample, frames first.
        samples: generated in the round that counts.
        seconds_per_sample: wall time of the whole call over the samples.
        rejected: draws that the solver refused.
        reason: why there are no numbers.
    """

    problem: str
    options: str
    shape: str
    device: str
    workers: int
    samples: int | None
    seconds_per_sample: float | None
    megabytes_per_second: float | None
    rejected: int | None
    versions: str
    reason: str = ""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 (default cpu)")
    parser.add_argument("--only", nargs="*", default=[], help="problems to measure")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a measurement (default 8)")
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison (default 5)")
    parser.add_argument("--peers-only", action="store_true", help="the comparison alone")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the CSV files")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    if not arguments.peers_only:
        rows = list(generation(device, arguments.only, arguments.seconds))
        write_csv(arguments.output / f"generators_{device.type}.csv", rows)
    if device.type == "cpu":
        compared = [row for name in PEERS if not arguments.only or name in arguments.only
                    for row in measure(name, arguments.rounds)]  # fmt: skip
        say(table(compared))
        write_csv(arguments.output / "generator_peers_cpu.csv", compared)


def generation(device: torch.device, only: list[str], seconds: float) -> Iterator[GenerationMeasurement]:
    """The rows, printed as they come."""
    for problem, options in CASES:
        if only and problem not in only:
            continue
        try:
            row = generate_for(problem, options, device, seconds)
        except UserError as error:
            row = GenerationMeasurement(
                problem, _listed(options), "", device.type, 0, *[None] * 4, versions(), str(error)
            )
        told = row.reason or f"{number(row.seconds_per_sample)} s per sample ({row.samples} samples of {row.shape})"
        say(f"{problem:20} {_listed(options):42} {told}")
        yield row


def generate_for(problem: str, options: dict[str, Any], device: torch.device, seconds: float) -> GenerationMeasurement:
    """Generate files of more and more samples until one takes long enough.

    Raises:
        UserError: the problem is not solved on that device, or an option is wrong.
    """
    placed = options if device.type == "cpu" else {**options, "device": str(device)}
    made = create_problem(problem, **placed)
    workers = (os.cpu_count() or 1) if device.type == "cpu" else 1
    made.samples(1, range(1))  # What is compiled or planned at first does not count.
    samples, elapsed = workers, 0.0
    with tempfile.TemporaryDirectory() as folder:
        while True:
            start = time.perf_counter()
            path = write(made, samples, 0, Path(folder) / f"{samples}.h5", workers)
            elapsed = time.perf_counter() - start
            if elapsed >= seconds:
                break
            samples *= min(8, max(2, int(seconds / max(elapsed, 1e-3)) + 1))
        n_bytes, rejected = path.stat().st_size, _rejected(path)
    shape = next(iter(made.fields.values())).shape
    where = device_name(device)
    return GenerationMeasurement(
        problem, _listed(options), " x ".join(map(str, shape)), where, workers, samples, elapsed / samples,
        n_bytes / elapsed / 1e6, rejected, versions(),
    )  # fmt: skip


def table(rows: list[SolverMeasurement]) -> str:
    """The comparison as text."""
    names = [entry.name for entry in fields(SolverMeasurement)][:-3]
    cells = [[entry if isinstance(entry, str) else number(entry) for entry in astuple(row)[:-3]] for row in rows]
    return as_text([*names, ""], [[*line, row.reason] for line, row in zip(cells, rows, strict=True)])


def say(text: str, file: object = None) -> None:
    """Print at once, also into a file."""
    print(text, file=file, flush=True)


def _rejected(path: Path) -> int:
    import h5py

    with h5py.File(path, "r") as file:
        return int(file.attrs["rejected"])


def _listed(options: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in options.items())


if __name__ == "__main__":
    main()
