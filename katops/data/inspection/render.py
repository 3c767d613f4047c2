"""An :class:`~katops.data.inspection.inspect.Inspection` as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from katops.data.layout import FileLayout

if TYPE_CHECKING:
    from katops.data.inspection.inspect import Inspection
    from katops.data.statistics.scan import Finding

_MOST_ROWS = 40
_CONTAINERS = {
    "hdf5": "HDF5",
    "matlab73": "MATLAB 7.3 (HDF5)",
    "matlab5": "MATLAB 5",
    "numpy": "NumPy",
    "npz": "NumPy archive",
    "torch": "torch.save",
    "netcdf3": "classic netCDF",
    "zarr": "zarr",
}


def render(inspection: Inspection, console: Console) -> None:
    """Print arrays, axes, parameters, statistics, attributes, warnings and the YAML block."""
    console.print(f"[bold]{escape(inspection.path)}[/]", soft_wrap=True)
    files = f"{len(inspection.files)} files, " if len(inspection.files) > 1 else ""
    others = f" (or {', '.join(inspection.candidates)})" if inspection.candidates else ""
    console.print(
        f"{files}{_CONTAINERS[inspection.container]}, format {inspection.format}{others}, {_bytes(inspection.size)}, "
        f"{_count(len(inspection.arrays), 'array')}{_samples(inspection)}",
        soft_wrap=True,
    )
    if len(inspection.files) > 1:
        console.print(f"Arrays, axes and channels are those of {escape(str(inspection.files[0]))}.", soft_wrap=True)
    if inspection.arrays:
        console.print(_arrays(inspection))
    if inspection.layout:
        console.print(_axes(inspection.layout))
        if inspection.layout.meta.parameters:
            console.print(_parameters(inspection.layouts))
    if inspection.statistics:
        console.print(_statistics(inspection))
    if inspection.attributes:
        console.print(_attributes(inspection.attributes))
    for note in inspection.notes:
        console.print(f"[cyan]note:[/] {escape(note)}", soft_wrap=True)
    for warning in inspection.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    if inspection.yaml:
        console.print()
        if inspection.guessed:
            console.print("The file does not say what its arrays mean; lines with # check are guesses.")
        if inspection.candidates:
            console.print("The file can be read in several ways; say which one is meant with data.format.")
        console.print(inspection.yaml, markup=False, highlight=False, soft_wrap=True)


def render_findings(findings: Sequence[Finding], line: str, console: Console) -> None:
    """Print all bad samples, and the line that leaves them out.

    Args:
        findings: from :func:`katops.data.statistics.scan.scan`.
        line: from :func:`katops.data.statistics.scan.exclude_line`.
        console: where to.
    """
    if not findings:
        console.print("every value is finite")
        return
    table = _table("What training would refuse", "sample", "file", "in the file", "channel", "not finite", "from frame")
    for finding in findings[:_MOST_ROWS]:
        since = "" if finding.first_frame is None else str(finding.first_frame)
        count = finding.problem or str(finding.count)
        cells = (str(finding.number), finding.file.name, str(finding.sample), finding.channel, count, since)
        table.add_row(*map(escape, cells))
    if len(findings) > _MOST_ROWS:
        table.add_row(f"... and {len(findings) - _MOST_ROWS} more")
    console.print(table)
    console.print("This line in the data: section leaves these samples out:")
    console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _samples(inspection: Inspection) -> str:
    if inspection.layout is None:
        return ""
    layout, layouts = inspection.layout, inspection.layouts
    count = _count(sum(entry.n_samples for entry in layouts), "sample")
    in_files = f" in {len(layouts)} of the files" if len(layouts) < len(inspection.files) else ""
    if not layout.time_dependent:
        return f", {count}{in_files}, steady"
    frames = np.concatenate([entry.frames for entry in layouts])
    lengths = str(frames.min()) if frames.min() == frames.max() else f"{frames.min()} to {frames.max()}"
    step, unit = layout.meta.time_step, layout.meta.time_unit
    times = f"time step {step:g} {unit}".rstrip() if step is not None else "uneven times"
    return f", {count}{in_files}, {lengths} frames, {times}"


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _arrays(inspection: Inspection) -> Table:
    roles = "role (guess)" if inspection.guessed else "role"
    names = ("path", "shape", "type", "storage", "size", roles, "channel", "read", "unit")
    # What is used comes first: a file may hold thousands of arrays.
    rows = []
    for array in sorted(inspection.arrays, key=lambda array: not array.role)[:_MOST_ROWS]:
        shape = " x ".join(map(str, array.shape)) or "scalar"
        size = _bytes(array.bytes_stored)
        channels = ", ".join(array.channels)
        told = (array.path, shape, array.dtype, array.storage, size, array.role, channels, array.reading, array.unit)
        rows.append(told)
    filled = [column for column in range(len(names)) if any(row[column] for row in rows)]
    table = _table("Arrays", *(names[column] for column in filled))
    table.padding = (0, 1, 0, 0)
    for row in rows:
        table.add_row(*(escape(row[column]) for column in filled))
    if len(inspection.arrays) > _MOST_ROWS:
        table.add_row(f"... and {len(inspection.arrays) - _MOST_ROWS} more")
    return table


def _axes(layout: FileLayout) -> Table:
    assumed = " (assumed)" if layout.format == "plain" else ""
    kind = f", {layout.meta.coordinates}" if layout.meta.coordinates != "cartesian" else ""
    table = _table(f"Axes{assumed}{kind}", "name", "points", "grid", "from", "to", "boundary", "unit")
    for axis, size in zip(layout.meta.axes, layout.space, strict=True):
        sides = axis.boundary[0] if axis.boundary[0] == axis.boundary[1] else " / ".join(axis.boundary)
        cells = (axis.name, str(size), axis.grid, f"{axis.lower:g}", f"{axis.upper:g}", sides, axis.unit)
        table.add_row(*map(escape, cells))
    return table


def _parameters(layouts: Sequence[FileLayout]) -> Table:
    first = layouts[0].meta.parameters
    values = np.concatenate([layout.parameters for layout in layouts if layout.meta.parameters == first])
    table = _table("Parameters", "name", "from", "to", "different", "unit")
    for column, channel in enumerate(first):
        numbers = values[:, column]
        known = numbers[np.isfinite(numbers)]
        ends = (f"{known.min():.5g}", f"{known.max():.5g}") if known.size else ("nan", "nan")
        table.add_row(escape(channel.name), *ends, str(len(np.unique(numbers))), escape(channel.unit))
    return table


def _statistics(inspection: Inspection) -> Table:
    samples = max(row.samples for row in inspection.statistics)
    title = f"Channels (part of the values of {_count(samples, 'sample')})"
    table = _table(title, "name", "minimum", "mean", "maximum", "std", "not finite")
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
