"""Windows out of HDF5 files: katops beside plain ``preadv`` of the same bytes, h5py, mmap and published loaders.

    python benchmarks/hdf5.py                        # files of 400 MB in a temporary folder, ten minutes
    PYTHONPATH=/path/to/peers python benchmarks/hdf5.py    # peers that are installed in a folder of their own

Batches of 32 random windows, half input, half target, from one trajectory file. ``warm`` reads from the page cache,
``cold`` after the file was dropped from it. Then three epochs of random windows over a file of 10 GB (sparse), for the
memory. Writes ``benchmarks/results/hdf5_cpu.csv`` and ``hdf5_memory_cpu.csv``.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from hdf5_files import Case, write
from hdf5_readers import READERS, Batch, NotHere

from katops.benchmark import as_text, write_csv
from katops.benchmark.machine import versions
from katops.benchmark.results import number
from katops.benchmark.timing import WallClock, time_interleaved
from katops.data import FieldDataset, Window, batch_loader, describe
from katops.data.reading.reader import FieldReader
from katops.hardware import device_name

RESULTS = Path(__file__).parent / "results"
BATCH = 32
CASES = (
    ("contiguous", 16, 2),
    ("contiguous", 128, 2),
    ("contiguous", 128, 10),
    ("frame chunks", 128, 2),
    ("frame chunks", 128, 10),
    ("seed groups", 16, 2),
    ("seed groups", 128, 2),
    ("seed groups", 128, 10),
    ("The Well", 72, 2),
    ("The Well", 72, 10),
    ("pairs", 128, 2),
)
"""Layout, grid points along an axis, frames of a window."""


@dataclass(frozen=True)
class ReadMeasurement:
    """One row: a reader on the windows of a layout.

    Attributes:
        cache: "warm" or "cold".
        window_bytes: bytes of a window in the file.
        batches_per_second: batches of ``batch`` windows, from the median over the rounds.
        gigabytes_per_second: of window bytes.
        ratio_to_preadv: rate over that of plain preadv in the same rounds.
        spread: distance between the quartiles of the time over its median.
        path: the reading path, of katops.
        reason: why there are no numbers.
    """

    layout: str
    cache: str
    window_bytes: int
    reader: str
    batch: int
    batches_per_second: float | None
    gigabytes_per_second: float | None
    ratio_to_preadv: float | None
    spread: float | None
    rounds: int
    path: str
    device: str
    processors: int
    versions: str
    reason: str = ""


@dataclass(frozen=True)
class MemoryMeasurement:
    """Memory of the process after an epoch over a large file: peak so far, beyond what it was before the first."""

    epoch: int
    file_gigabytes: float
    read_gigabytes: float
    peak_growth_megabytes: float
    open_files: int


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--megabytes", type=int, default=400, help="size of a file (default 400)")
    parser.add_argument("--only", nargs="*", default=[], help="layouts to measure, e.g. contiguous 'The Well'")
    parser.add_argument("--cache", choices=["warm", "cold"], nargs="*", default=["warm", "cold"])
    parser.add_argument("--folder", type=Path, help="where the files are made; a temporary folder by default")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--memory-run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.memory_run:
        for row in memory_run(arguments.memory_run):
            say(" ".join(map(str, astuple(row))))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        rows = list(measurements(folder, arguments))
        write_csv(arguments.output / "hdf5_cpu.csv", rows)
        say(f"wrote {arguments.output / 'hdf5_cpu.csv'}")
        memory = memory_rows(folder)
    header = ("epoch", "file GB", "read GB", "peak growth MB", "open files")
    say(as_text(header, [[number(value) for value in astuple(row)] for row in memory]))
    write_csv(arguments.output / "hdf5_memory_cpu.csv", memory)


def measurements(folder: Path, arguments: argparse.Namespace) -> Iterator[ReadMeasurement]:
    """All rows; tables are printed as they are complete."""
    for layout, side, steps in CASES:
        if arguments.only and layout not in arguments.only:
            continue
        case = write(layout, folder, arguments.megabytes * 10**6 // (1 if side > 16 else 4), side, steps)
        for cache in arguments.cache:
            rows = measure(case, cache, arguments.rounds)
            cells = [
                [row.reader, number(row.batches_per_second), number(row.gigabytes_per_second),
                 number(row.ratio_to_preadv), number(row.spread), row.path or row.reason]
                for row in rows
            ]  # fmt: skip
            say(f"\n{layout}, windows of {case.window_bytes} bytes, {cache}")
            say(as_text(("reader", "batches/s", "GB/s", "x preadv", "spread", ""), cells))
            yield from rows


def measure(case: Case, cache: str, rounds: int) -> list[ReadMeasurement]:
    """One case in interleaved rounds, every reader with windows of its own in every round."""
    cold = cache == "cold"
    n_batches = 4 if case.window_bytes > 4096 else 16
    readers, reasons = {}, {}
    for name, build in READERS.items():
        try:
            readers[name] = build(case, BATCH)
        except NotHere as reason:
            reasons[name] = str(reason)
    generator = np.random.default_rng(0)
    descriptor = os.open(case.path, os.O_RDONLY)
    os.fsync(descriptor)

    def prepare(name: str) -> list[Callable[[], object]]:
        read = readers[name]
        batches = [draw(case, generator) for _ in range(n_batches)]
        if cold:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            read = partial(read, cold=True) if name.startswith("katops") else read
        elif name == next(iter(readers)):
            # The whole file is in the page cache, whoever read what before.
            for offset in range(0, case.path.stat().st_size, 2**24):
                os.pread(descriptor, 2**24, offset)
        return [partial(read, batches)]

    found = time_interleaved(
        {name: partial(prepare, name) for name in readers}, WallClock(), rounds, warm_up=1 if cold else 10
    )
    os.close(descriptor)
    if not found.timings:
        raise KeyboardInterrupt
    paths = ", ".join(sorted(set(FieldReader([describe(case.path, **case.statement)]).paths.values())))
    rows = []
    for name in READERS:
        timing = found.timings.get(name)
        seconds = timing.median / n_batches if timing else None
        rows.append(
            ReadMeasurement(
                case.layout, cache, case.window_bytes, name, BATCH,
                batches_per_second=1 / seconds if timing else None,
                gigabytes_per_second=BATCH * case.window_bytes / seconds / 1e9 if timing else None,
                ratio_to_preadv=found.timings["preadv"].median / timing.median if timing else None,
                spread=timing.spread if timing else None,
                rounds=len(timing.seconds) if timing else 0,
                path=paths if name.startswith("katops") else "",
                device=device_name(torch.device("cpu")),
                processors=os.cpu_count() or 1,
                versions=f"{versions()}, h5py {h5py.__version__}, HDF5 {h5py.version.hdf5_version}",
                reason=reasons.get(name, ""),
            )
        )  # fmt: skip
    return rows


def draw(case: Case, generator: np.random.Generator) -> Batch:
    """Random windows."""
    return generator.integers(0, case.samples, BATCH), generator.integers(0, case.starts, BATCH)


def memory_rows(folder: Path) -> list[MemoryMeasurement]:
    """Three epochs over a file of 10 GB, in a process of its own."""
    command = [sys.executable, __file__, "--memory-run", str(folder / "large.h5")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split() for line in done.stdout.splitlines()]
    return [MemoryMeasurement(int(a), float(b), float(c), float(d), int(e)) for a, b, c, d, e in rows]


def memory_run(path: Path) -> Sequence[MemoryMeasurement]:
    """Read random windows of a file of 10 GB that takes no space on the disk, three times."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # The space is reserved and stays a hole on the disk.
    with h5py.File(path, "w") as file:
        space = h5py.h5s.create_simple((64, 640, 256, 256))
        h5py.h5d.create(file.id, b"u", h5py.h5t.IEEE_F32LE, space, plan)
    layout = describe(path, inputs=["u"], outputs=["u"], axes=["sample", "time", "x", "y"])
    dataset = FieldDataset(layout, window=Window(stride=8))
    loader = batch_loader(dataset, batch_size=BATCH, shuffle=True)
    for _ in zip(loader, range(4), strict=False):
        pass
    before, rows = _peak(), []
    for epoch in range(1, 4):
        n_bytes = sum(batch.x.nbytes + batch.y.nbytes for batch in loader)
        files = len(os.listdir("/proc/self/fd"))
        rows.append(MemoryMeasurement(epoch, path.stat().st_size / 1e9, n_bytes / 1e9, _peak() - before, files))
    return rows


def _peak() -> float:
    """Megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def say(text: str, file: object = None) -> None:
    """Print at once, also into a file."""
    print(text, file=file, flush=True)


if __name__ == "__main__":
    main()
