"""netCDF files (classic, netCDF-4) and zarr stores whose dimensions say what they are.

A field has a time dimension and one to three dimensions of space with coordinate variables; further dimensions of one
point are passed over (a single level). Nothing else is guessed: files with other dimensions are read as "plain".
Conventions: https://cfconventions.org, chapters 4 and 5.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from katops.data.formats import pdegym
from katops.data.formats.assembling import Draft, finish
from katops.data.formats.coordinates import axis_from_points, check_increasing
from katops.data.formats.names import canonical, in_order
from katops.data.formats.netcdf_conventions import coordinates, dimensions, packing, role_of, unit, variables
from katops.data.layout import ChannelArray, FileLayout, Statement, check_array
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis

_ROLES = ("sample", "time", "channel")
_LONGITUDE = ("degrees_east", "degree_east", "degree_e", "degrees_e")
_LATITUDE = ("degrees_north", "degree_north", "degree_n", "degrees_n")


def recognise(tree: StoredTree) -> bool:
    """Whether a variable has a time dimension and one to three dimensions of space with coordinates."""
    if tree.container not in ("hdf5", "netcdf3", "zarr") or tree.attributes.get("format") == "katops":
        return False
    return any("time" in axes for axes in _fields(tree).values()) and not pdegym.recognise(tree)


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Every variable on the grid as a channel; those that move are input and output."""
    roles = _fields(tree)
    space = _space(tree, roles)
    notes = [_ignored(name, array) for name, array in variables(tree).items() if name not in roles and array.shape]
    channels = [_channel(tree, name, axes) for name, axes in roles.items()]
    full = [channel for channel in channels if channel.has_time and set(space) <= set(channel.axes)]
    n_samples, frames = (next((c.size(axis) for c in channels if axis in c.axes), 1) for axis in ("sample", "time"))
    moving = tuple(channel.name for channel in in_order(full))
    draft = Draft(
        format="netcdf",
        name=str(tree.attributes.get("title", ", ".join(moving))),
        channels=channels,
        axes=[_axis(tree, name, notes) for name in space],
        space=tuple(space.values()),
        frames=np.full(n_samples, frames),
        inputs=moving,
        outputs=moving,
        constants=tuple(c.name for c in channels if not c.has_time),
        coordinates="spherical" if _is_sphere(tree, space) else "cartesian",
        notes=notes,
    )
    _add_times(tree, statement, draft, frames)
    _add_numbers(tree, draft, n_samples, frames)
    return finish(tree, statement, draft)


def _ignored(name: str, array: StoredArray) -> str:
    named = ", ".join(dimensions(array) or ()) or "without dimensions"
    return f"the variable {name} ({named}) does not lie on the grid and is no channel"


def _fields(tree: StoredTree) -> dict[str, tuple[str, ...]]:
    """What each stored axis of each field is, by the name of the variable."""
    found = {}
    for name, array in variables(tree).items():
        axes = _roles(tree, array)
        if array.is_real and array.size and axes is not None and 1 <= _n_space(axes) <= 3:
            found[name] = axes
    return found


def _roles(tree: StoredTree, array: StoredArray) -> tuple[str, ...] | None:
    """What each stored axis is; ``None`` where one is neither time, nor a sample, nor space, nor a single point."""
    names = dimensions(array)
    if names is None:
        return None
    roles = []
    for name, size in zip(names, array.shape, strict=True):
        if role_of(name) in ("time", "sample"):
            roles.append(role_of(name))
        elif size == 1:
            roles.append("channel")
        elif coordinates(tree, name) is not None:
            roles.append(name)
        else:
            return None
    single = [role for role in roles if role != "channel"]
    return tuple(roles) if len(set(single)) == len(single) else None


def _space(tree: StoredTree, roles: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """The spatial dimensions and their sizes, those of the field that has most of them."""
    fullest = max((axes for axes in roles.values() if "time" in axes), key=_n_space)
    space = [axis for axis in fullest if axis not in _ROLES]
    others = {axis for axes in roles.values() for axis in axes if axis not in (*_ROLES, *space)}
    if others:
        raise UserError(
            f"{tree.path}: its variables lie on different grids ({', '.join(space)} and {', '.join(sorted(others))}); "
            f"state data.format: plain and describe the arrays of one of them"
        )
    return {axis: tree.array(axis).size for axis in space}


def _n_space(axes: tuple[str, ...]) -> int:
    return sum(axis not in _ROLES for axis in axes)


def _channel(tree: StoredTree, name: str, axes: tuple[str, ...]) -> ChannelArray:
    array = check_array(tree.path, tree.array(name))
    scale, offset, missing = packing(array)
    return ChannelArray(
        name=canonical(name),
        datasets=(array.path,),
        dtype=array.dtype,
        axes=axes,
        shape=array.shape,
        component=(0,) * axes.count("channel"),
        unit=unit(array),
        scale=scale,
        offset=offset,
        missing=missing,
    )


def _axis(tree: StoredTree, name: str, notes: list[str]) -> Axis:
    points = coordinates(tree, name)
    text = str(tree.array(name).attributes.get("units", ""))
    if text.lower() in _LONGITUDE and _closes(points):
        # No grid point is given twice, and the next one would be the first again.
        return Axis(name, "periodic_nodes", float(points[0]), float(points[0]) + 360.0, ("periodic", "periodic"), text)
    axis, note = axis_from_points(name, points, ("none", "none"), path=tree.path, unit=unit(tree.array(name)))
    notes.extend([note] if note else [])
    return axis


def _closes(longitudes: np.ndarray) -> bool:
    steps = np.diff(longitudes)
    spacing = 360.0 / len(longitudes)
    return bool(np.allclose(steps, spacing, rtol=0.0, atol=1e-3 * spacing))


def _is_sphere(tree: StoredTree, space: Mapping[str, int]) -> bool:
    units = {str(tree.array(name).attributes.get("units", "")).lower() for name in space}
    return bool(units & set(_LONGITUDE)) and bool(units & set(_LATITUDE))


def _add_times(tree: StoredTree, statement: Statement, draft: Draft, frames: int) -> None:
    name = next((name for name in tree.members() if role_of(name) == "time"), None)
    times = None if name is None else coordinates(tree, name)
    if times is None or len(times) != frames:
        if statement.time_step is None:
            draft.notes.append("the file stores no times: frames count as 1 apart; state data.time_step")
        return
    if statement.time_step is None:
        times = check_increasing(tree.path, name, times, draft.frames)
    draft.times = times
    # "hours since 1950-01-01": the reference date is no unit.
    draft.time_unit = unit(tree.array(name)).partition(" since ")[0]


def _add_numbers(tree: StoredTree, draft: Draft, n_samples: int, frames: int) -> None:
    """Variables along the samples are parameters, those along time are scalars."""
    parameters, scalars, units = {}, {}, {}
    for name, array in variables(tree).items():
        names = dimensions(array)
        if not array.is_real or names is None or len(names) != 1:
            continue
        if role_of(names[0]) == "sample" and array.size == n_samples:
            parameters[name] = np.asarray(tree.values(name), dtype=np.float64)
        elif role_of(names[0]) == "time" and array.size == frames:
            scalars[name] = np.asarray(tree.values(name), dtype=np.float64)[None]
        units[name] = unit(array)
    draft.parameters, draft.scalars, draft.units = parameters, scalars, units
