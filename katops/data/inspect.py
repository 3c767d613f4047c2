"""``katops inspect``: what a file holds, and the lines of YAML with which it can be trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from katops.data import guess
from katops.data.formats import describe, recognise
from katops.data.hdf5 import FieldFile
from katops.data.layout import ChannelArray, FileLayout, attributes_of, plain_value
from katops.data.opening import open_file, reading
from katops.data.render import render as render
from katops.errors import UserError

# Files with one group per sample hold ten thousand arrays; these bounds keep inspection at about a second.
_MOST_OBJECTS = 4000
_MOST_SAMPLES = 8
_MOST_VALUES = 2**21


@dataclass(frozen=True)
class ArrayInfo:
    """One array of the file as it is stored."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    storage: str
    bytes_stored: int
    role: str = ""
    unit: str = ""


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
    """Everything that :func:`katops.data.render.render` shows.

    Attributes:
        path, size: the file and its bytes.
        format: name of the recognised format.
        arrays: the arrays, at most a few thousand.
        more: whether the file holds further objects that were not looked at.
        attributes: root attributes.
        layout: the description; ``None`` where the file cannot be read as fields. A file of answers only, such as
            predictions, is described with its channels as inputs.
        guessed: whether roles and axes are guesses.
        statistics: of each channel of the layout.
        warnings: sentences about what is wrong or remarkable.
        yaml: the ``data:`` section; "" where the file cannot be trained on.
    """

    path: Path
    size: int
    format: str
    arrays: tuple[ArrayInfo, ...]
    more: bool
    attributes: dict[str, Any]
    layout: FileLayout | None = None
    guessed: bool = False
    statistics: tuple[ChannelStatistics, ...] = ()
    warnings: tuple[str, ...] = field(default=())
    yaml: str = ""


def inspect(path: str | Path) -> Inspection:
    """Look into an HDF5 file of any layout; takes about a second, however large the file.

    Raises:
        UserError: the file is missing, not HDF5, truncated or damaged.
    """
    path = Path(path)
    with open_file(path) as file, reading(path):
        name = recognise(file).name
        arrays, more = _arrays(file)
        attributes = attributes_of(file)
        proposal = guess.propose(file) if name == "plain" else guess.propose_self_described(file)
    layout, warnings = None, []
    if proposal is None:
        warnings.append(
            "no array in this file looks like a field (real numbers, a sample axis and 1 to 3 axes of space)"
        )
    else:
        try:
            layout = describe(path, **proposal.statement)
        except UserError as error:
            warnings.append(str(error))
    if layout and not layout.outputs:
        warnings.append("the file holds only inputs or only answers, so it cannot be trained on")
    statistics = _statistics(layout, warnings) if layout else ()
    return Inspection(
        path=path,
        size=path.stat().st_size,
        format=name,
        arrays=_with_roles(arrays, layout),
        more=more,
        attributes=attributes,
        layout=layout,
        guessed=name == "plain",
        statistics=statistics,
        warnings=tuple(warnings),
        yaml=guess.yaml_block(layout, proposal) if layout and layout.outputs else "",
    )


def _arrays(file: h5py.File) -> tuple[list[ArrayInfo], bool]:
    arrays: list[ArrayInfo] = []
    seen = 0

    def look(name: str, item: h5py.HLObject) -> bool | None:
        nonlocal seen
        seen += 1
        if isinstance(item, h5py.Dataset):
            arrays.append(_array_info(name, item))
        return True if seen >= _MOST_OBJECTS else None

    stopped = file.visititems(look)
    return arrays, bool(stopped)


def _array_info(name: str, item: h5py.Dataset) -> ArrayInfo:
    return ArrayInfo(
        path=f"/{name}",
        shape=item.shape or (),
        dtype="text" if item.dtype.kind in "OSU" else str(item.dtype),
        storage=_storage(item),
        bytes_stored=item.id.get_storage_size(),
        role=str(plain_value(item.attrs.get("role", ""))),
        unit=str(plain_value(item.attrs.get("unit", item.attrs.get("units", "")))),
    )


def _storage(item: h5py.Dataset) -> str:
    if item.is_virtual:
        return "virtual"
    if item.external:
        return "external file"
    if item.chunks is None:
        return "contiguous" if item.id.get_storage_size() or not item.size else "never written"
    chunks = " x ".join(map(str, item.chunks))
    filters = [item.compression or "", "shuffle" if item.shuffle else ""]
    named = " + ".join(part for part in filters if part)
    return f"chunks {chunks}, {named or ('filtered' if item.id.get_create_plist().get_nfilters() else 'no filter')}"


def _with_roles(arrays: list[ArrayInfo], layout: FileLayout | None) -> tuple[ArrayInfo, ...]:
    if layout is None:
        return tuple(arrays)
    inputs = {array.dataset for array in layout.inputs}
    outputs = {array.dataset for array in layout.outputs}
    roles = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output") | dict.fromkeys(inputs & outputs, "state")
    roles |= dict.fromkeys(layout.parameters, "parameter")
    return tuple(ArrayInfo(**{**vars(array), "role": array.role or roles.get(array.path, "")}) for array in arrays)


def _statistics(layout: FileLayout, warnings: list[str]) -> tuple[ChannelStatistics, ...]:
    reader = FieldFile(layout, dtype="float64")
    rows = []
    for array in dict.fromkeys((*layout.inputs, *layout.outputs)):
        try:
            rows.append(_channel_statistics(reader, array))
        except UserError as error:
            warnings.append(str(error))
            continue
        if rows[-1].nonfinite:
            warnings.append(
                f"channel {array.name!r} holds {rows[-1].nonfinite} values that are not finite in the "
                f"{rows[-1].samples} samples that were read; training refuses them"
            )
        if rows[-1].std == 0.0:
            warnings.append(f"channel {array.name!r} is constant over the samples that were read")
    reader.close()
    return tuple(rows)


def _channel_statistics(reader: FieldFile, array: ChannelArray) -> ChannelStatistics:
    """Over evenly spread samples and frames, as many as fit the bound on values."""
    affordable = max(1, _MOST_VALUES // prod(array.space))
    frames = min(array.shape[1], affordable, 16) if array.has_time else 1
    samples = min(array.shape[0], max(1, affordable // frames), _MOST_SAMPLES)
    which = np.unique(np.linspace(0, array.shape[0] - 1, samples).astype(np.int64))
    starts = (
        np.unique(np.linspace(0, array.shape[1] - 1, frames).astype(np.int64)) if array.has_time else np.zeros(1, int)
    )
    values = reader.read([array], np.repeat(which, len(starts)), np.tile(starts, len(which)))
    finite = values[np.isfinite(values)]
    known = finite if finite.size else np.full(1, np.nan)
    return ChannelStatistics(
        name=array.name,
        samples=len(which),
        minimum=float(known.min()),
        mean=float(known.mean()),
        maximum=float(known.max()),
        std=float(known.std()),
        nonfinite=values.size - finite.size,
    )
