"""What a data file means, once its format is understood: arrays per channel, axes, times, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.storage import StoredArray
from katops.errors import UserError
from katops.fields import Axis, Boundary, Channel, FieldMeta, normalise_boundary


@dataclass(frozen=True)
class Statement:
    """What the configuration says about a file; ``None`` where it says nothing. See :func:`.formats.describe`."""

    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    constants: tuple[str, ...] | None = None
    parameters: tuple[str, ...] | None = None
    channels: Mapping[str, tuple[str, ...]] | None = None
    boundary: Boundary | None = None
    grid: str | Sequence[str] | None = None
    domain: tuple[tuple[float, float], ...] | None = None
    axes: tuple[str, ...] | Mapping[str, tuple[str, ...]] | None = None
    time_step: float | None = None
    format: str | None = None


@dataclass(frozen=True)
class ChannelArray:
    """One scalar channel and where its numbers are stored.

    Attributes:
        name: name of the channel.
        datasets: path of the array; one path per sample in files that store each sample in a group of its own.
        dtype: element type as stored, in numpy's spelling (``"<f4"``, ``"|b1"``).
        axes: what each stored axis is, in the order of storage: "sample", "time", the name of a spatial axis, or
            "channel" for an axis of components. An axis that is missing is one along which the values do not change; a
            sample axis is also missing where ``datasets`` has an entry per sample.
        shape: as stored (of the first sample's array; only the time axis may differ in the others).
        component: the index along each "channel" axis, in order.
        unit: "" where unknown or dimensionless.
        quantity, place, shift: see :class:`katops.fields.Channel` (``place`` is its ``component``).
        scale, offset: physical value = scale * stored value + offset (packed netCDF).
        missing: stored value that means "no value", read as NaN.
    """

    name: str
    datasets: tuple[str, ...]
    dtype: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    component: tuple[int, ...] = ()
    unit: str = ""
    quantity: str = ""
    place: tuple[int, ...] = ()
    shift: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    missing: float | None = None

    @property
    def has_time(self) -> bool:
        """Whether the channel changes in time."""
        return "time" in self.axes

    @property
    def channel(self) -> Channel:
        """Name, unit and place in a vector or tensor."""
        return Channel(self.name, self.unit, self.quantity, self.place, self.shift)

    def size(self, axis: str) -> int | None:
        """Points along an axis; ``None`` where the channel does not have it."""
        return self.shape[self.axes.index(axis)] if axis in self.axes else None


@dataclass(frozen=True, eq=False)
class FileLayout:
    """A parsed data file. Two layouts are equal where the files agree in everything but their name and date.

    Attributes:
        path: the file.
        container: how it is stored, one of :data:`.storage.CONTAINERS`.
        format: name of the recognised format.
        meta: channels, axes, parameters; one frame in, one frame out (windows are chosen later).
        inputs, outputs, constants: the arrays, in the order of ``meta.inputs`` and so on; ``outputs`` is empty where
            the file is only to be predicted from.
        frames: (N,) int64, frames of each sample; 1 for steady problems.
        space: sizes of the spatial axes.
        times: (T,) or (N, T) float64, T the longest trajectory, in ``meta.time_unit``; ``None`` for steady problems.
        parameters: (N, number of parameters) float64.
        scalars: (1 or N, T, number of scalars) float64; ``None`` where there are none.
        attributes: root attributes as plain values.
        storage: how the arrays of the channels are stored, by path.
        notes: sentences about what is remarkable: what was corrected, ignored or assumed.
        stamp: (bytes, modification time in ns) when the file was parsed; a reader refuses a file that changed since.
    """

    path: Path
    container: str
    format: str
    meta: FieldMeta
    inputs: tuple[ChannelArray, ...]
    outputs: tuple[ChannelArray, ...]
    frames: np.ndarray
    space: tuple[int, ...]
    parameters: np.ndarray
    constants: tuple[ChannelArray, ...] = ()
    times: np.ndarray | None = None
    scalars: np.ndarray | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    storage: dict[str, StoredArray] = field(default_factory=dict, repr=False)
    notes: tuple[str, ...] = ()
    stamp: tuple[int, int] = (0, 0)

    @property
    def n_samples(self) -> int:
        """N."""
        return len(self.frames)

    @property
    def time_dependent(self) -> bool:
        """Whether any input or output has a time axis."""
        return any(array.has_time for array in (*self.inputs, *self.outputs))

    @property
    def arrays(self) -> tuple[ChannelArray, ...]:
        """Every channel once: inputs, outputs, constants."""
        return tuple(dict.fromkeys((*self.inputs, *self.outputs, *self.constants)))

    @property
    def parts(self) -> tuple[tuple[str, int, int], ...]:
        """The other files that the arrays lie in, with their stamps; see :class:`katops.data.storage.StoredArray`."""
        return tuple(dict.fromkeys(part for array in self.storage.values() for part in array.parts))

    @property
    def stamps(self) -> list[list[int]]:
        """(bytes, modification time) of the file and of those that it is put together from."""
        return [list(self.stamp), *([size, modified] for _, size, modified in self.parts)]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FileLayout):
            return NotImplemented
        names = [entry.name for entry in fields(self) if entry.name not in ("path", "stamp", "storage")]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return type(one) is type(other) and one == other


def check_array(path: Path, array: StoredArray) -> StoredArray:
    """The array itself, after checking that it holds real numbers that were written.

    Raises:
        UserError: its elements are complex, compound or text, it holds no sample, nothing was ever written into it, or
            a file that it lies in is missing (a reader would get zeros).
    """
    if not array.is_real:
        kind = array.attributes.get("type", np.dtype(array.dtype).name)
        raise UserError(
            f"{path}: array {array.name!r} holds {kind} values; only real numbers (bool, integer, float) are read, so "
            f"store the parts of a complex or compound value as separate arrays"
        )
    if not array.shape or 0 in array.shape:
        raise UserError(f"{path}: array {array.name!r} has shape {array.logical_shape}; there is no sample in it")
    if array.nothing_written:
        raise UserError(
            f"{path}: array {array.name!r} was created but never written; the file is incomplete, make it again"
        )
    if array.incomplete and array.chunks is None:
        raise UserError(
            f"{path}: array {array.name!r} lies in other files that are not all there: {array.incomplete}; put back "
            f"what is missing, or make it again"
        )
    return array


def restate_axes(axes: Sequence[Axis], statement: Statement) -> tuple[Axis, ...]:
    """Axes with the stated boundary, grid and domain in place of their own.

    Raises:
        UserError: the statement does not fit the number of axes, or names something unknown.
    """
    restated = list(axes)
    if statement.boundary is not None:
        sides = normalise_boundary(statement.boundary, len(axes), names=[axis.name for axis in axes])
        restated = [replace(axis, boundary=side) for axis, side in zip(restated, sides, strict=True)]
    if statement.grid is not None:
        grids = [statement.grid] * len(axes) if isinstance(statement.grid, str) else list(statement.grid)
        if len(grids) != len(axes):
            raise UserError(f"grid {statement.grid!r} has {len(grids)} entries; give one for each of {len(axes)} axes")
        restated = [replace(axis, grid=grid, points=()) for axis, grid in zip(restated, grids, strict=True)]
    if statement.domain is not None:
        if len(statement.domain) != len(axes):
            raise UserError(
                f"data.domain has {len(statement.domain)} entries; give [lower, upper] for each of {len(axes)} axes"
            )
        ends = [tuple(map(float, pair)) for pair in statement.domain]
        restated = [replace(axis, lower=low, upper=up) for axis, (low, up) in zip(restated, ends, strict=True)]
    return tuple(restated)


def check_roles(path: Path, inputs: Sequence[ChannelArray], outputs: Sequence[ChannelArray]) -> None:
    """Refuse a channel that is to be predicted from itself at the same time.

    Raises:
        UserError: a channel without a time axis is both input and output, or a channel is listed twice.
    """
    for kind, arrays in (("inputs", inputs), ("outputs", outputs)):
        names = [array.name for array in arrays]
        if len(set(names)) != len(names):
            raise UserError(f"{path}: data.{kind} names a channel twice: {', '.join(names)}")
    for array in inputs:
        if not array.has_time and array in outputs:
            raise UserError(
                f"{path}: channel {array.name!r} (shape {array.shape}) is both input and output, which needs a time "
                f"axis; if its second axis is time, say so in data.axes, e.g. axes: [sample, time, x]"
            )
