"""An :class:`~katops.data.inspect.Inspection` as text for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from katops.data.layout import FileLayout

if TYPE_CHECKING:
    from katops.data.inspect import Inspection

_MOST_ROWS = 40


def render(inspection: Inspection, console: Console) -> None:
    """Print arrays, axes, statistics, attributes, warnings and the YAML block."""
    more = "+" if inspection.more else ""
    console.print(f"[bold]{escape(str(inspection.path))}[/]", soft_wrap=True)
    console.print(
        f"format {inspection.format}, {_bytes(inspection.size)}, {len(inspection.arrays)}{more} arrays"
        f"{_samples(inspection.layout)}"
    )
    if inspection.arrays:
        console.print(_arrays(inspection))
    if inspection.layout:
        console.print(_axes(inspection.layout))
    if inspection.statistics:
        console.print(_statistics(inspection))
    if inspection.attributes:
        console.print(_attributes(inspection.attributes))
    for warning in inspection.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    if inspection.yaml:
        console.print()
        if inspection.guessed:
            console.print("The file does not say what its arrays mean; roles and axes below are guesses.")
        console.print(inspection.yaml, markup=False, highlight=False, soft_wrap=True)


def _samples(layout: FileLayout | None) -> str:
    if layout is None:
        return ""
    step, unit = layout.meta.time_step, layout.meta.time_unit
    frames = f", {layout.n_frames} frames, time step {step:g} {unit}".rstrip() if layout.time_dependent else ", steady"
    return f", {layout.n_samples} samples{frames}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _arrays(inspection: Inspection) -> Table:
    roles = "role (guess)" if inspection.guessed else "role"
    table = _table("Arrays", "path", "shape", "type", "storage", "size", roles, "unit")
    for array in inspection.arrays[:_MOST_ROWS]:
        shape = " x ".join(map(str, array.shape)) or "scalar"
        cells = (array.path, shape, array.dtype, array.storage, _bytes(array.bytes_stored), array.role, array.unit)
        table.add_row(*map(escape, cells))
    if len(inspection.arrays) > _MOST_ROWS:
        table.add_row(f"... and {len(inspection.arrays) - _MOST_ROWS} more")
    return table


def _axes(layout: FileLayout) -> Table:
    assumed = "" if layout.format == "katops" else " (assumed)"
    table = _table(f"Axes{assumed}", "name", "points", "grid", "from", "to", "boundary", "unit")
    for axis, size in zip(layout.meta.axes, layout.space, strict=True):
        sides = axis.boundary[0] if axis.boundary[0] == axis.boundary[1] else " / ".join(axis.boundary)
        cells = (axis.name, str(size), axis.grid, f"{axis.lower:g}", f"{axis.upper:g}", sides, axis.unit)
        table.add_row(*map(escape, cells))
    return table


def _statistics(inspection: Inspection) -> Table:
    samples = min(row.samples for row in inspection.statistics)
    table = _table(f"Channels (over {samples} samples)", "name", "minimum", "mean", "maximum", "std", "not finite")
    for row in inspection.statistics:
        numbers = (row.minimum, row.mean, row.maximum, row.std)
        table.add_row(escape(row.name), *(f"{number:.5g}" for number in numbers), str(row.nonfinite))
    return table


def _attributes(attributes: dict[str, Any]) -> Table:
    table = _table("Attributes", "name", "value")
    for name, value in list(attributes.items())[:_MOST_ROWS]:
        text = str(value)
        table.add_row(escape(name), escape(text if len(text) <= 200 else f"{text[:200]}..."))
    return table


def _bytes(size: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
