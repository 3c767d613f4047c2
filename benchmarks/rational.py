"""The group rational function beside GELU, plain torch, compiled torch and a Triton kernel: the figures of the README.

    python benchmarks/rational.py                    # on the GPU if there is one, else on the CPU
    python benchmarks/rational.py --device cpu --threads 2

Writes ``benchmarks/results/rational_cpu.csv`` or ``rational_<gpu>.csv`` after every case, so that a run that is stopped
leaves what it measured. About two minutes on two cores, at most eight on a GPU. The exit code is 1 where a backend of
katops fails; peers may.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from katops.benchmark import (
    Case,
    Competitor,
    Machine,
    Measurement,
    as_text,
    describe,
    measure,
    present_device,
    standard,
    write_csv,
)
from katops.benchmark.competitors import GELU, CannotRun, Function
from katops.benchmark.rational import BACKWARD, BOTH, FORWARD
from katops.benchmark.table import RATIONAL_HEADER, heading, rational_cells, reasons
from katops.benchmark.timing import WallClock

RESULTS = Path(__file__).parent / "results"

# The most telling first: KAT-B's two activations at batch 256, images with channels first, groups of 24 and 25 channels
# (the latter cannot be read 16 bytes at a time), and a tensor that fits a GPU's cache.
GPU_SHAPES = (
    (256, 197, 768),
    (256, 197, 3072),
    (128, 197, 768),
    (64, 192, 56, 56),
    (256, 197, 192),
    (256, 197, 200),
    (32, 197, 768),
)
COMPILED_SHAPE = (256, 197, 768)  # torch.compile takes several seconds per shape and type
GPU_TYPES = (torch.float32, torch.bfloat16, torch.float16)
CPU_SHAPE = (32, 197, 768)
CPU_TYPES = (torch.float32, torch.bfloat16)
SMALL = (8, 64)  # nothing but the cost of a call

# Shapes and groups at which index arithmetic goes wrong if it does.
ODD = (
    ((1, 8), 8), ((3, 5, 24), 8), ((7, 25), 1), ((2, 3, 40), 8), ((5, 197, 200), 8), ((1, 197, 96), 1),
    ((33, 100), 4), ((2, 24, 7, 7), 8), ((3, 8, 1, 1), 8), ((2, 192, 14, 14), 8), ((1, 6, 56, 56), 3), ((4097, 24), 8),
)  # fmt: skip

# Fractions of the copy bandwidth to be reached from 38 M elements on, and times in units of GELU's on a CPU.
GPU_GOALS = {
    (FORWARD, "float32"): 0.95,
    (FORWARD, "bfloat16"): 0.92,
    (BACKWARD, "float32"): 0.92,
    (BACKWARD, "bfloat16"): 0.80,
}
CPU_GOALS = {
    ("katops numba", FORWARD): 0.9,
    ("katops numba", BOTH): 1.5,
    ("katops torch_chunked", FORWARD): 10.0,
    ("katops torch_chunked", BOTH): 10.0,
}
LARGE = 38_000_000


def main() -> int:
    """Check, measure, print and write; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cpu, cuda, cuda:1; the GPU if there is one")
    parser.add_argument("--threads", type=int, default=2, help="of torch on the CPU (default 2)")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--minutes", type=float, default=7, help="no other case begins after that (default 7)")
    parser.add_argument("--output", type=Path, help="the CSV file; by default in benchmarks/results")
    arguments = parser.parse_args()
    device = present_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    end = time.monotonic() + 60 * arguments.minutes
    machine = describe(device)
    say(f"{machine.device}: copy {machine.copy_bandwidth / 1e9:.0f} GB/s; {machine.versions}")
    slug = "cpu" if device.type == "cpu" else machine.device.lower().replace(" ", "_")
    output = arguments.output or RESULTS / f"rational_{slug}.csv"

    failed = mistakes(check(device, machine))
    rows: list[Measurement] = []
    for case in cases(device):
        if time.monotonic() > end:
            say(f"left out for want of time: {case.shape} {case.dtype}")
            continue
        measured = list(measurements(case, machine, arguments.rounds))
        rows += measured
        report(measured)
        write_csv(output, rows)
    say("\n".join(goals(rows)))
    say(f"wrote {output}")
    failed += mistakes(rows)
    for line in failed:
        say(f"MISTAKE: {line}")
    return 1 if failed else 0


def cases(device: torch.device) -> Iterator[Case]:
    """What is measured on a device; the small one by the clock on the wall."""
    shapes, types = (GPU_SHAPES, GPU_TYPES) if device.type == "cuda" else ((CPU_SHAPE,), CPU_TYPES)
    for shape in shapes:
        for dtype in types:
            yield Case(shape, dtype=dtype, device=device)
    yield Case(SMALL, dtype=torch.float32, device=device)


def competitors(case: Case) -> list[Competitor]:
    """The usual ones, and on a GPU the Triton kernel."""
    compiled = case.shape in (COMPILED_SHAPE, CPU_SHAPE) and (case.device.type == "cpu" or case.shape == COMPILED_SHAPE)
    found = standard(case.device, compiled=compiled)
    if case.device.type == "cuda":
        found.append(Competitor("Triton, FlashKAT's design", triton_kernel))
    return found


def triton_kernel(case: Case) -> Function:
    """The kernel beside this file, where Triton is installed."""
    try:
        from flash_rational_triton import flash_rational
    except ImportError:
        raise CannotRun("triton is not installed") from None
    if case.channel_dim != -1:
        raise CannotRun("takes (..., channels) only")
    return flash_rational


def measurements(case: Case, machine: Machine, rounds: int) -> Iterator[Measurement]:
    """All rows of a case."""
    clock = None
    if case.shape == SMALL and case.device.type == "cuda":
        clock = WallClock(partial(torch.cuda.synchronize, case.device))
    return measure(case, competitors(case), machine, rounds=rounds, clock=clock)


def check(device: torch.device, machine: Machine) -> list[Measurement]:
    """Print the largest errors of every backend over odd shapes; all rows, for what failed."""
    worst: dict[str, list[float]] = {}
    rows: list[Measurement] = []
    for shape, groups in ODD:
        case = Case(shape, groups, device=device)
        of_katops = [one for one in standard(device, compiled=False) if one.name.startswith(("katops", GELU))]
        for row in measure(case, of_katops, machine, rounds=1, operations=[BOTH]):
            rows.append(row)
            if row.error_y is not None:
                errors = row.error_y, row.error_dx, row.error_coefficients
                worst[row.competitor] = [
                    max(pair) for pair in zip(worst.get(row.competitor, errors), errors, strict=True)
                ]
    for name, errors in worst.items():
        text = ", ".join(f"{label} {error:.1e}" for label, error in zip(("y", "dx", "da, db"), errors, strict=True))
        say(f"{name}: largest errors over {len(ODD)} odd shapes, float32: {text}")
    for line in reasons(rows):
        say(f"not measured: {line}")
    return rows


def mistakes(rows: list[Measurement]) -> list[str]:
    """What backends of katops raised that they must not, with the case; once per backend and case."""
    return list(
        dict.fromkeys(
            f"{row.competitor}, {row.shape} {row.dtype}: {row.reason}"
            for row in rows
            if row.failed and row.competitor.startswith("katops")
        )
    )


def report(rows: list[Measurement]) -> None:
    """Print the rows of a case."""
    cells = [rational_cells(row) for row in rows if not row.reason]
    say("\n" + heading(rows[0]).partition(";")[0])
    say(as_text(RATIONAL_HEADER, cells))
    for line in reasons(rows):
        say(f"not measured: {line}")


def goals(rows: list[Measurement]) -> Iterator[str]:
    """A line per goal: what was asked for, what was measured."""
    for row in rows:
        elements = 1
        for size in row.shape.split("x"):
            elements *= int(size)
        fraction = GPU_GOALS.get((row.operation, row.dtype))
        if row.competitor == "katops cupy" and elements >= LARGE and fraction and row.fraction_of_copy is not None:
            yield f"{row.operation} {row.dtype} {row.shape}: {row.fraction_of_copy:.2f} of a copy, goal {fraction:.2f}"
        times = CPU_GOALS.get((row.competitor, row.operation))
        if row.dtype == "float32" and row.shape == "32x197x768" and times and row.ratio_to_gelu is not None:
            yield f"{row.competitor}, {row.operation}: {row.ratio_to_gelu:.2f} x {GELU}, goal {times:.1f}"


def say(text: str) -> None:
    """Print at once, also into a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
