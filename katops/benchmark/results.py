"""Measurements as CSV files and as text: one frozen dataclass per row, one column per field."""

import csv
import io
import types
import typing
from collections.abc import Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any, TypeVar

from katops.files import write_text

Row = TypeVar("Row")


def write_csv(path: Path, rows: Sequence[Any]) -> None:
    """Write measurements of one kind; None is an empty cell."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(rows[0])])
    writer.writerows([["" if value is None else value for value in astuple(row)] for row in rows])
    write_text(path, text.getvalue())


def read_csv(path: Path, kind: type[Row]) -> list[Row]:
    """The measurements that :func:`write_csv` wrote, equal to what was given to it."""
    hints = typing.get_type_hints(kind)
    with path.open(encoding="utf-8", newline="") as file:
        return [
            kind(**{name: _parse(value, hints[name]) for name, value in row.items()}) for row in csv.DictReader(file)
        ]


def as_text(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of cells, padded to the same width."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    )


def number(value: float | None, digits: int = 3) -> str:
    """A cell: a few significant digits, or a dash where there is no number."""
    if value is None:
        return "-"
    return f"{value:.{digits}g}" if 1e-3 <= abs(value) < 10**digits or value == 0 else _long(value)


def _long(value: float) -> str:
    return f"{value:.1e}" if abs(value) < 1 else f"{value:.0f}"


def _parse(text: str, kind: Any) -> Any:
    if isinstance(kind, types.UnionType):
        return None if text == "" else _parse(text, typing.get_args(kind)[0])
    return text == "True" if kind is bool else kind(text)
