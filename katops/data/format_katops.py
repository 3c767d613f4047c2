"""The katops HDF5 layout (docs/data_format.md): files that describe themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from katops.data.layout import (
    ChannelArray,
    FileLayout,
    Statement,
    attributes_of,
    check_array,
    check_roles,
    members,
    plain_value,
    restate_axes,
)
from katops.errors import UserError, did_you_mean
from katops.fields import Axis, Channel, FieldMeta

VERSION = 1
ROLES = ("input", "output", "state")


def recognise(file: h5py.File) -> bool:
    """Whether the root attribute ``format`` is "katops"."""
    return plain_value(file.attrs.get("format")) == "katops"


def describe(file: h5py.File, path: Path, statement: Statement) -> FileLayout:
    """Parse and verify the whole structure: attributes, axes, fields, times, parameters, quality."""
    attributes = attributes_of(file)
    _check_whole(path, attributes)
    axes = _axes(file, path)
    arrays, roles = _fields(file, path, axes)
    n_samples = next(iter(arrays.values())).shape[0]
    first_time, time_step, time_unit = _times(file, path, arrays, statement.time_step)
    parameters = _scalars(file, path, "parameters", n_samples)
    _scalars(file, path, "quality", n_samples)
    inputs = _select(path, "inputs", arrays, roles, statement.inputs)
    outputs = _select(path, "outputs", arrays, roles, statement.outputs)
    check_roles(path, inputs, outputs)
    _check_axis_names(path, axes, statement.axes)
    meta = FieldMeta(
        name=str(attributes.get("name", "unnamed")),
        inputs=tuple(array.channel for array in inputs),
        outputs=tuple(array.channel for array in outputs),
        axes=restate_axes(axes, statement),
        parameters=tuple(parameters.values()),
        time_step=time_step if any(array.has_time for array in (*inputs, *outputs)) else None,
        time_unit=time_unit,
    )
    return FileLayout(
        path=path,
        format="katops",
        meta=meta,
        inputs=inputs,
        outputs=outputs,
        parameters=tuple(parameters),
        n_samples=n_samples,
        n_frames=next((array.shape[1] for array in (*inputs, *outputs) if array.has_time), 1),
        space=next(iter(arrays.values())).space,
        first_time=first_time,
        attributes=attributes,
    )


def _check_whole(path: Path, attributes: dict[str, Any]) -> None:
    version = attributes.get("format_version")
    if version != VERSION:
        raise UserError(
            f"{path} has format_version {version!r}; this katops reads version {VERSION}, so update katops or make the "
            f"file again"
        )
    if attributes.get("complete") is not True:
        raise UserError(
            f"{path} is incomplete: the attribute 'complete', which is written last, is missing; it was copied or "
            f"written half-way, so copy or generate it again"
        )


def _attribute(path: Path, item: h5py.HLObject, name: str) -> Any:
    if name not in item.attrs:
        raise UserError(f"{path}: {item.name} lacks the attribute {name!r} (docs/data_format.md)")
    return plain_value(item.attrs[name])


def _axes(file: h5py.File, path: Path) -> tuple[Axis, ...]:
    group = file.get("axes")
    if not isinstance(group, h5py.Group) or not 1 <= len(group) <= 3:
        raise UserError(f"{path}: the group /axes must hold 1 to 3 arrays of coordinates (docs/data_format.md)")
    places = {name: _attribute(path, item, "position") for name, item in members(group).items()}
    if sorted(places.values()) != list(range(len(places))):
        raise UserError(f"{path}: the positions of the axes must be 0, 1, ...; found {places}")
    return tuple(_axis(path, name, group[name]) for name in sorted(places, key=places.get))


def _axis(path: Path, name: str, item: h5py.Dataset) -> Axis:
    axis = Axis(
        name=name,
        grid=_attribute(path, item, "grid"),
        lower=float(_attribute(path, item, "lower")),
        upper=float(_attribute(path, item, "upper")),
        boundary=tuple(_attribute(path, item, "boundary")),
        unit=str(plain_value(item.attrs.get("unit", ""))),
    )
    check_array(path, item.name, item)
    if item.ndim != 1:
        raise UserError(f"{path}: {item.name} has shape {item.shape}; coordinates have one axis")
    expected = axis.coordinates(item.size)
    if not np.allclose(item[()], expected, rtol=0.0, atol=1e-5 * (axis.upper - axis.lower)):
        raise UserError(
            f"{path}: the coordinates in {item.name} are not the {item.size} {axis.grid} of "
            f"[{axis.lower:g}, {axis.upper:g}]; only evenly spaced grids are read"
        )
    return axis


def _fields(file: h5py.File, path: Path, axes: Sequence[Axis]) -> tuple[dict[str, ChannelArray], dict[str, str]]:
    """Arrays and roles by channel name, in the order of creation."""
    group = file.get("fields")
    if not isinstance(group, h5py.Group) or not len(group):
        raise UserError(f"{path}: the group /fields holds no channel (docs/data_format.md)")
    sizes = tuple(file["axes"][axis.name].size for axis in axes)
    arrays, roles = {}, {}
    for name, item in members(group).items():
        check_array(path, item.name, item)
        has_time = item.ndim == len(axes) + 2
        arrays[name] = ChannelArray(
            name=name,
            dataset=item.name,
            dtype=item.dtype.str,
            shape=item.shape,
            has_time=has_time,
            unit=str(plain_value(item.attrs.get("unit", ""))),
            chunks=item.chunks,
        )
        roles[name] = _attribute(path, item, "role")
        if roles[name] not in ROLES:
            raise UserError(f"{path}: {item.name} has role {roles[name]!r}; allowed: {', '.join(ROLES)}")
        if item.ndim not in (len(axes) + 1, len(axes) + 2) or arrays[name].space != sizes:
            raise UserError(
                f"{path}: {item.name} has shape {item.shape}, but the axes have {sizes} points; a field is "
                f"(N, *space) or (N, T, *space)"
            )
        first = next(iter(arrays.values()))
        if item.shape[0] != first.shape[0]:
            raise UserError(
                f"{path}: {item.name} has {item.shape[0]} samples, but {first.dataset} has {first.shape[0]}"
            )
    return arrays, roles


def _times(
    file: h5py.File, path: Path, arrays: dict[str, ChannelArray], stated: float | None
) -> tuple[float, float | None, str]:
    """(time of the first frame, time step, unit)."""
    moving = [array for array in arrays.values() if array.has_time]
    if not moving:
        return 0.0, None, ""
    item = file.get("time")
    if not isinstance(item, h5py.Dataset):
        raise UserError(f"{path}: {moving[0].dataset} has a time axis, but there is no array /time")
    for array in moving:
        if item.shape != array.shape[1:2]:
            raise UserError(f"{path}: /time has shape {item.shape}, but {array.dataset} has {array.shape[1]} frames")
    times, unit = np.asarray(item[()], dtype=np.float64), str(plain_value(item.attrs.get("unit", "")))
    if stated is not None or len(times) == 1:
        return float(times[0]), float(stated or 1.0), unit
    steps = np.diff(times)
    if not np.allclose(steps, steps.mean(), rtol=1e-4, atol=0.0) or steps.mean() <= 0:
        raise UserError(
            f"{path}: the times in /time are not evenly spaced and increasing (steps from {steps.min():g} to "
            f"{steps.max():g}); state data.time_step to count frames as evenly spaced"
        )
    return float(times[0]), float(steps.mean()), unit


def _scalars(file: h5py.File, path: Path, kind: str, n_samples: int) -> dict[str, Channel]:
    """Path -> name and unit of the (N,) arrays of a group."""
    scalars = {}
    for name, item in (members(file[kind]) if kind in file else {}).items():
        check_array(path, item.name, item)
        if item.shape != (n_samples,):
            raise UserError(f"{path}: {item.name} has shape {item.shape}; it should be ({n_samples},), one per sample")
        scalars[item.name] = Channel(name, str(plain_value(item.attrs.get("unit", ""))))
    return scalars


def _select(
    path: Path, kind: str, arrays: dict[str, ChannelArray], roles: dict[str, str], names: Sequence[str] | None
) -> tuple[ChannelArray, ...]:
    """The stated channels, or those whose role fits."""
    if names is None:
        wanted = (kind.removesuffix("s"), "state")
        names = [name for name in arrays if roles[name] in wanted]
        if not names:
            raise UserError(
                f"{path} has no channel with role {' or '.join(wanted)}; choose with data.{kind} from: "
                f"{', '.join(arrays)}"
            )
    for name in names:
        if name not in arrays:
            raise UserError(
                f"{path} has no channel {name!r}{did_you_mean(name, arrays)} Its channels: {', '.join(arrays)}."
            )
    return tuple(arrays[name] for name in names)


def _check_axis_names(path: Path, axes: Sequence[Axis], stated: Sequence[str] | None) -> None:
    if stated is None:
        return
    own = [axis.name for axis in axes]
    if [name for name in stated if name not in ("sample", "time")] != own:
        raise UserError(
            f"{path} is in the katops layout and names its axes itself ({', '.join(own)}); drop data.axes, which says "
            f"{', '.join(stated)}"
        )
