"""What a data file holds, once its layout is understood: arrays per channel, axes, times, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from katops.errors import UserError
from katops.fields import Axis, Boundary, Channel, FieldMeta, normalise_boundary


@dataclass(frozen=True)
class Statement:
    """What the configuration says about a file; ``None`` where it says nothing. See :func:`.formats.describe`."""

    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    boundary: Boundary | None = None
    grid: str | Sequence[str] | None = None
    axes: tuple[str, ...] | None = None
    time_step: float | None = None


@dataclass(frozen=True)
class ChannelArray:
    """One stored channel: (N, \\*space), or (N, T, \\*space) where ``has_time``.

    Attributes:
        name: name of the channel.
        dataset: path of the array inside the file.
        dtype: element type as stored, in numpy's spelling (``"<f4"``, ``"|b1"``).
        shape: shape as stored.
        has_time: whether the second axis is time.
        unit: "" where unknown or dimensionless.
        chunks: chunk shape, ``None`` where the array is stored contiguously.
    """

    name: str
    dataset: str
    dtype: str
    shape: tuple[int, ...]
    has_time: bool
    unit: str = ""
    chunks: tuple[int, ...] | None = None

    @property
    def space(self) -> tuple[int, ...]:
        """Sizes of the spatial axes."""
        return self.shape[2:] if self.has_time else self.shape[1:]

    @property
    def channel(self) -> Channel:
        """Name and unit."""
        return Channel(self.name, self.unit)


@dataclass(frozen=True)
class FileLayout:
    """A parsed data file. Two layouts are equal where the files agree in everything but their name and date.

    Attributes:
        path: the file.
        format: name of the recognised format.
        meta: channels, axes, parameters; one frame in, one frame out (windows are chosen later).
        inputs, outputs: the arrays, in the order of ``meta.inputs`` and ``meta.outputs``; ``outputs`` is empty where
            the file is only to be predicted from.
        parameters: paths of the (N,) arrays, in the order of ``meta.parameters``.
        n_samples: N.
        n_frames: T; 1 for steady problems.
        space: sizes of the spatial axes.
        first_time: time of frame 0, in ``meta.time_unit``.
        attributes: root attributes as plain values.
        stamp: (bytes, modification time in ns) when the file was parsed; a reader refuses a file that changed since.
    """

    path: Path = field(compare=False)
    format: str
    meta: FieldMeta
    inputs: tuple[ChannelArray, ...]
    outputs: tuple[ChannelArray, ...]
    parameters: tuple[str, ...]
    n_samples: int
    n_frames: int
    space: tuple[int, ...]
    first_time: float = 0.0
    attributes: dict[str, Any] = field(default_factory=dict)
    stamp: tuple[int, int] = field(default=(0, 0), compare=False)

    @property
    def time_dependent(self) -> bool:
        """Whether any channel has a time axis."""
        return any(array.has_time for array in (*self.inputs, *self.outputs))


def check_array(path: Path, name: str, dataset: Any) -> h5py.Dataset:
    """The dataset itself, after checking that it holds real numbers that were written.

    Raises:
        UserError: it is a group, its elements are complex, compound or text, it holds no sample, or nothing was ever
            written into it (a reader would get zeros).
    """
    if not isinstance(dataset, h5py.Dataset):
        raise UserError(f"{path}: {name!r} is a group, not an array; name one of the arrays in it")
    if dataset.dtype.kind not in "biuf":
        raise UserError(
            f"{path}: array {name!r} holds {dataset.dtype} values; only real numbers (bool, integer, float) are read, "
            f"so store the parts of a complex or compound value as separate arrays"
        )
    if not dataset.shape or 0 in dataset.shape:
        raise UserError(f"{path}: array {name!r} has shape {dataset.shape}; there is no sample in it")
    stored_elsewhere = dataset.is_virtual or dataset.external
    if not stored_elsewhere and dataset.id.get_storage_size() == 0:
        raise UserError(f"{path}: array {name!r} was created but never written; the file is incomplete, make it again")
    return dataset


def members(group: h5py.Group) -> dict[str, h5py.HLObject]:
    """The items of a group by name; ``group.items()`` would give ``None`` for those that are damaged.

    Raises:
        KeyError: an item is damaged or its link leads nowhere.
    """
    return {name: group[name] for name in group}


def plain_value(value: Any) -> Any:
    """An HDF5 attribute as str, int, float, bool, list or ``None``."""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, np.ndarray):
        return [plain_value(item) for item in value.tolist()]
    if isinstance(value, np.generic):
        return plain_value(value.item())
    if isinstance(value, str | int | float | bool):
        return value
    return None if isinstance(value, h5py.Empty) else str(value)


def attributes_of(item: h5py.HLObject) -> dict[str, Any]:
    """All attributes of a file, group or array as plain values."""
    return {name: plain_value(value) for name, value in item.attrs.items()}


def restate_axes(axes: Sequence[Axis], statement: Statement) -> tuple[Axis, ...]:
    """Axes with the stated boundary and grid in place of their own.

    Raises:
        UserError: the statement does not fit the number of axes, or names something unknown.
    """
    restated = list(axes)
    if statement.boundary is not None:
        sides = normalise_boundary(statement.boundary, len(axes))
        restated = [replace(axis, boundary=side) for axis, side in zip(restated, sides, strict=True)]
    if statement.grid is not None:
        grids = [statement.grid] * len(axes) if isinstance(statement.grid, str) else list(statement.grid)
        if len(grids) != len(axes):
            raise UserError(f"grid {statement.grid!r} has {len(grids)} entries; give one for each of {len(axes)} axes")
        restated = [replace(axis, grid=grid) for axis, grid in zip(restated, grids, strict=True)]
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


def subsampled_axis(axis: Axis, size: int, step: int) -> Axis:
    """The axis of every ``step``-th grid point, the first one included.

    Its ends are chosen such that ``coordinates`` gives exactly the points that are kept. For ``nodes`` and a step that
    divides n - 1, and for ``periodic_nodes`` and a step that divides n, these are the old ends. Cell centres move: the
    first kept point lies h/2 from the end instead of step * h/2, so the new lower end is lower - (step - 1) h / 2.

    Raises:
        UserError: the axis is periodic and ``step`` does not divide ``size`` (the period would be cut), or fewer than
            two points are left.
    """
    if step == 1:
        return axis
    kept = -(-size // step)
    if kept < 2:
        raise UserError(f"data.subsample {step} leaves {kept} of the {size} points of axis {axis.name!r}; at least 2")
    if axis.boundary[0] == "periodic" and axis.grid != "nodes" and size % step:
        raise UserError(
            f"data.subsample {step} does not divide the {size} points of the periodic axis {axis.name!r}; "
            f"choose a divisor of {size}"
        )
    length = axis.upper - axis.lower
    if axis.grid == "nodes":
        spacing = length / (size - 1)
        return replace(axis, upper=axis.lower + (kept - 1) * step * spacing)
    spacing = length / size
    lower = axis.lower - (step - 1) * spacing / 2 if axis.grid == "cell_centres" else axis.lower
    return replace(axis, lower=lower, upper=lower + kept * step * spacing)
