"""``katops bench``: from options as texts to a table on the terminal and a CSV file."""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from katops.benchmark.competitors import standard
from katops.benchmark.layers import LayerMeasurement, check_layers, measure_layers
from katops.benchmark.machine import describe, present_device
from katops.benchmark.rational import Case, Measurement, measure
from katops.benchmark.results import write_csv
from katops.benchmark.table import LAYER_HEADER, RATIONAL_HEADER, heading, layer_cells, rational_cells, reasons
from katops.benchmark.timing import Progress
from katops.errors import UserError, did_you_mean
from katops.progress import bar

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
# What is measured, and the shape of the input: a batch of ViT-B's tokens, and one that takes layers on a CPU a second.
SHAPES = {"rational": "32,197,768", "layers": "8,197,384"}

LEGEND = {
    True: "error: largest of y, dx and coefficients, relative to the terms; memory: peak in x",
    False: "memory: peak beyond inputs and parameters, results and gradients included",
}


@dataclass(frozen=True)
class Options:
    """What the command line says; see its help."""

    device: str | None = None
    dtype: str = "float32"
    shape: str | None = None
    groups: int = 8
    threads: int | None = None
    backends: tuple[str, ...] = ()
    csv: Path | None = None
    rounds: int = 15

    def case(self, kind: str) -> Case:
        """The options as a case of one of the benchmarks.

        Raises:
            UserError: one of them means nothing.
        """
        if self.dtype not in DTYPES:
            guess = did_you_mean(self.dtype, DTYPES)
            raise UserError(f"--dtype: unknown type {self.dtype!r}{guess} Allowed: {', '.join(DTYPES)}.")
        try:
            shape = tuple(int(size) for size in (self.shape or SHAPES[kind]).split(","))
        except ValueError:
            raise UserError(f"--shape: sizes separated by commas, e.g. 32,197,768; given: {self.shape!r}") from None
        return Case(shape, self.groups, DTYPES[self.dtype], present_device(self.device))


def run(kind: str, layers: str, options: Options, console: Console) -> None:
    """Measure and print; what was measured before Ctrl-C is printed and written, then KeyboardInterrupt goes on.

    Args:
        kind: "rational" or "layers".
        layers: names of layers separated by commas; all channel mixers if empty.

    Raises:
        UserError: an option means nothing, or nothing here serves it.
    """
    if kind not in SHAPES:
        raise UserError(f"unknown benchmark {kind!r}{did_you_mean(kind, SHAPES)} Allowed: {', '.join(SHAPES)}.")
    if kind == "rational" and layers:
        raise UserError("--layers belongs to the benchmark of layers: katops bench layers --layers mlp,linear")
    if kind == "layers" and options.backends:
        raise UserError("--backend belongs to the benchmark of the rational function: katops bench --backend numba")
    case = options.case(kind)
    rows: list[Measurement | LayerMeasurement] = []
    try:
        with _threads(options.threads), bar(console, f"measuring {kind}") as progress:
            for row in _measurements(kind, layers, case, options, progress):
                rows.append(row)  # one by one: those before an interruption stay
    finally:
        if rows:
            _show(rows, console)
            if options.csv is not None:
                write_csv(options.csv, rows)
                console.print(f"wrote {options.csv}", soft_wrap=True, highlight=False)


def _measurements(
    kind: str, layers: str, case: Case, options: Options, progress: Progress
) -> Iterator[Measurement | LayerMeasurement]:
    if kind == "layers":
        names = [name.strip() for name in layers.split(",") if name.strip()]
        check_layers(names)
        machine = describe(case.device)
        return measure_layers(names, case, machine, rounds=options.rounds, progress=lambda _: progress)
    competitors = standard(case.device, options.backends, compiled=not options.backends)
    machine = describe(case.device)
    return measure(case, competitors, machine, rounds=options.rounds, progress=lambda _: progress)


def _show(rows: Sequence[Measurement | LayerMeasurement], console: Console) -> None:
    rational = isinstance(rows[0], Measurement)
    header, cells = (RATIONAL_HEADER, rational_cells) if rational else (LAYER_HEADER, layer_cells)
    console.print(heading(rows[0]), soft_wrap=True, highlight=False)
    measured = [cells(row) for row in rows if not row.reason]
    for operation, group in itertools.groupby(measured, key=lambda row: row[0]):
        table = Table(title=f"\n{operation}", title_justify="left", title_style="bold", box=None, header_style="dim")
        for column, name in enumerate(header[1:]):
            table.add_column(name, justify="right" if column else "left", no_wrap=True)
        for row in group:
            table.add_row(*map(escape, row[1:]))
        console.print(table)
    if measured:
        console.print(LEGEND[rational], highlight=False)
    for line in reasons(rows):
        console.print(f"not measured: {line}", soft_wrap=True, highlight=False, markup=False)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """torch on that many threads of the CPU."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
