"""``katops inspect``: what files hold, and the lines of YAML with which they can be trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.probe import probe
from katops.data.formats import PLAIN, candidates_of, describe, guess
from katops.data.inspection.glance import Glance
from katops.data.inspection.render import render as render
from katops.data.layout import ChannelArray, FileLayout
from katops.data.many_files import check_alike
from katops.data.reading.hdf5 import chunks_touched
from katops.data.reading.paths import choose
from katops.data.sources import find_files
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

# Folders may hold thousands of files; this many, evenly spread, keep inspection at about a second.
_MOST_FILES = 64
# Reading that many times the bytes of a frame, or holding that many bytes in memory, is worth a conversion.
_WASTEFUL, _LARGE = 4.0, 2**30


@dataclass(frozen=True)
class ArrayInfo:
    """One array of the file as it is stored, and how it is read ("" where it is not)."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    bytes_stored: int
    role: str = ""
    unit: str = ""
    reading: str = ""
    why: str = ""


@dataclass(frozen=True)
class ChannelStatistics:
    """Range of a channel over a few samples; ``nonfinite`` counts NaN and infinity, which the rest leaves out."""

    name: str
    samples: int
    minimum: float
    mean: float
    maximum: float
    std: float
    nonfinite: int


@dataclass(frozen=True)
class Inspection:
    """Everything that :func:`katops.data.inspection.render.render` shows.

    Attributes:
        path: what was asked for: a file, a folder or a pattern.
        files: all files that it means.
        size: bytes of all files.
        container: of the first file, one of :data:`katops.data.storage.CONTAINERS`.
        format: name of the recognised format.
        candidates: further formats that the file could have; it is then shown as ``format``.
        arrays: those of the first file.
        attributes: root attributes of the first file.
        layouts: the descriptions of the files that were looked at, at most 64; empty where they cannot be read as
            fields. Files of answers only, such as predictions, are described with their channels as inputs.
        guessed: whether roles and axes are guesses.
        statement: what was stated to describe the files.
        statistics: of each channel, in the first file.
        warnings: sentences about what is wrong or remarkable.
        yaml: the ``data:`` section; "" where the files cannot be trained on.
    """

    path: str
    files: tuple[Path, ...]
    size: int
    container: str
    format: str
    candidates: tuple[str, ...]
    arrays: tuple[ArrayInfo, ...]
    attributes: dict[str, Any]
    layouts: tuple[FileLayout, ...] = ()
    guessed: bool = False
    statement: dict[str, Any] = field(default_factory=dict)
    statistics: tuple[ChannelStatistics, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    yaml: str = ""

    @property
    def layout(self) -> FileLayout | None:
        """The description of the first file."""
        return self.layouts[0] if self.layouts else None


def inspect(path: str | Path) -> Inspection:
    """Look into a file of any kind and layout, or into the files of a folder or pattern; takes about a second.

    Raises:
        UserError: a file is missing, of a kind that is not read, truncated or damaged.
    """
    files = find_files(path)
    tree = probe(files[0])
    found = [entry.name for entry in candidates_of(tree)]
    proposal = guess.propose(tree)
    warnings: list[str] = []
    layouts: tuple[FileLayout, ...] = ()
    together = False
    if proposal is None:
        warnings.append(
            "no array in this file looks like a field (real numbers, a sample axis and 1 to 3 axes of space)"
        )
    else:
        layouts, together = _describe(files, proposal.statement, warnings)
    if layouts and not layouts[0].outputs:
        warnings.append("the file holds only inputs or only answers, so it cannot be trained on")
    warnings += _complex(tree)
    statistics = _statistics(layouts[0], warnings) if layouts else ()
    arrays = tuple(_array_info(array) for array in tree.arrays.values())
    return Inspection(
        path=str(path),
        files=tuple(files),
        size=sum(_size(file) for file in files),
        container=tree.container,
        format=found[0] if found else PLAIN,
        candidates=tuple(found[1:]),
        arrays=_with_roles(arrays, tree, layouts[0], warnings) if layouts else arrays,
        attributes=tree.attributes,
        layouts=layouts,
        guessed=not found,
        statement=dict(proposal.statement) if proposal else {},
        statistics=statistics,
        warnings=tuple(warnings),
        yaml=_yaml(path, layouts, proposal) if together and layouts[0].outputs else "",
    )


def _describe(
    files: Sequence[Path], statement: dict[str, Any], warnings: list[str]
) -> tuple[tuple[FileLayout, ...], bool]:
    """The layouts of the files, and whether all of them can be read as one data set."""
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), _MOST_FILES)).astype(int))
    layouts: list[FileLayout] = []
    for number in chosen:
        try:
            layouts.append(describe(files[number], **statement))
        except UserError as error:
            warnings.append(str(error))
            if not number:
                return (), False
    try:
        check_alike(layouts)
    except UserError as error:
        warnings.append(str(error))
        return tuple(layouts), False
    return tuple(layouts), len(layouts) == len(chosen)


def _complex(tree: StoredTree) -> list[str]:
    """That arrays which may be meant as fields are left out."""
    return [
        f"array {array.name!r} holds complex values, which are not read; store their two parts as separate arrays"
        for array in tree.arrays.values()
        if np.dtype(array.dtype).kind == "c" or array.attributes.get("type") == "complex"
    ]


def _yaml(path: str | Path, layouts: Sequence[FileLayout], proposal: guess.Proposal) -> str:
    """The block, with what was asked for in place of the first file."""
    return guess.yaml_block(replace(layouts[0], path=Path(path)), proposal)


def _array_info(array: StoredArray) -> ArrayInfo:
    return ArrayInfo(
        path=array.path,
        shape=array.logical_shape,
        dtype=str(array.attributes.get("type", "text")) if array.dtype == "|O" else str(np.dtype(array.dtype)),
        storage=_storage(array),
        bytes_stored=array.stored_bytes,
        role=str(array.attributes.get("role", "")),
        unit=str(array.attributes.get("unit", array.attributes.get("units", ""))),
    )


def _storage(array: StoredArray) -> str:
    if array.nothing_written:
        return "never written"
    filters = " + ".join(array.filters)
    if array.chunks is not None:
        return f"chunks {' x '.join(map(str, array.chunks))}, {filters or 'no filter'}"
    if filters:
        return filters
    order = ", column-major" if array.column_major else ""
    return f"contiguous{order}" if array.offset is not None or not array.size else "in one piece"


def _with_roles(
    arrays: Sequence[ArrayInfo], tree: StoredTree, layout: FileLayout, warnings: list[str]
) -> tuple[ArrayInfo, ...]:
    """The arrays with what they are used for and how they are read."""
    kinds = {"input": layout.inputs, "output": layout.outputs, "constant": layout.constants}
    roles: dict[str, set[str]] = {}
    for role, channels in kinds.items():
        for channel in channels:
            for name in channel.datasets:
                roles.setdefault(name, set()).add(role)
    parameters = {channel.name for channel in layout.meta.parameters}
    readings = {}
    for channel in layout.arrays:
        way, why = _reading(layout, channel)
        readings |= dict.fromkeys(channel.datasets, (way, why))
        if "convert" in why:
            sentence = f"array {channel.datasets[0].lstrip('/')!r} is read slowly: {why}"
            if sentence not in warnings:
                warnings.append(sentence)
    shown = []
    for array in arrays:
        role = array.role or {"input+output": "state"}.get(text := "+".join(sorted(roles.get(array.path, ()))), text)
        if not role and array.path.lstrip("/") in parameters:
            role = "parameter"
        way, why = readings.get(array.path, ("", ""))
        shown.append(replace(array, role=role, reading=way, why=why))
    return tuple(shown)


def _reading(layout: FileLayout, array: ChannelArray) -> tuple[str, str]:
    """(reading path, what it costs)."""
    axes = tuple(axis.name for axis in layout.meta.axes)
    way, why = choose(layout, array, axes)
    stored = layout.storage[array.datasets[0]]
    if way == "ram":
        held = 4 * prod(layout.space) * (int(layout.frames.sum()) if array.has_time else layout.n_samples)
        advice = "; katops convert makes a file that is read in pieces" if held > _LARGE else ""
        return way, f"{why}; held in memory, {held / 1e9:.2g} GB{advice}"
    if stored.chunks is not None:
        read = chunks_touched(array, stored.chunks, 1) * prod(stored.chunks)
        components = prod(
            size for axis, size in zip(array.axes, array.shape, strict=True) if axis not in ("sample", "time")
        )
        ratio = read / components
        if ratio >= _WASTEFUL and not (way == "chunk-map" and array.axes[0] == "sample" and stored.chunks[0] == 1):
            return way, f"{why}; a frame costs {ratio:.0f} times its bytes, katops convert makes a file without that"
        if way == "h5py" and stored.filters:
            return way, f"{why}; unpacked anew for every window, katops convert makes a file without that"
    return way, why


def _statistics(layout: FileLayout, warnings: list[str]) -> tuple[ChannelStatistics, ...]:
    glance = Glance(layout)
    rows = []
    for array in layout.arrays:
        try:
            values, samples = glance.share(array)
        except UserError as error:
            warnings.append(str(error))
            continue
        rows.append(_row(array.name, values, samples))
        if rows[-1].nonfinite:
            warnings.append(
                f"channel {array.name!r} holds {rows[-1].nonfinite} values that are not finite in the "
                f"{rows[-1].samples} samples that were read; training refuses them, and --check lists all such samples"
            )
        elif rows[-1].std == 0.0:
            warnings.append(f"channel {array.name!r} is constant over the samples that were read")
    return tuple(rows)


def _row(name: str, values: np.ndarray, samples: int) -> ChannelStatistics:
    finite = values[np.isfinite(values)]
    known = finite if finite.size else np.full(1, np.nan)
    return ChannelStatistics(
        name=name,
        samples=samples,
        minimum=float(known.min()),
        mean=float(known.mean()),
        maximum=float(known.max()),
        std=float(known.std()),
        nonfinite=values.size - finite.size,
    )


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
