"""Any file, its arrays and their axes stated in the configuration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.netcdf_conventions import packing
from katops.data.formats.plain_axes import axes_of, said, space_of
from katops.data.layout import ChannelArray, FileLayout, Statement, check_array
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError, did_you_mean
from katops.fields import Axis


def recognise(tree: StoredTree) -> bool:
    """Always: this is the format of last resort."""
    return True


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """The stated arrays with the stated axes; see :func:`katops.data.formats.description.describe` for the rules."""
    if statement.inputs is None or statement.outputs is None:
        raise UserError(_unstated(tree, statement))
    wanted = {kind: getattr(statement, kind) or () for kind in ("inputs", "outputs", "constants")}
    arrays = _stated_arrays(tree, [name for names in wanted.values() for name in names], statement)
    axes = axes_of(tree, list(arrays.values()), statement)
    channels = {name: _channels(tree, name, array, axes[array.path], statement) for name, array in arrays.items()}
    every = _without_namesakes(tree, [channel for entries in channels.values() for channel in entries])
    chosen = {kind: _names(entries, channels) for kind, entries in wanted.items()}
    _check_sizes(tree, every)
    space = space_of(axes.values(), every)
    n_samples = next((channel.size("sample") for channel in every if "sample" in channel.axes), 1)
    n_frames = next((channel.size("time") for channel in every if channel.has_time), 1)
    parameters, units = per_sample(tree, statement.parameters or (), n_samples)
    draft = Draft(
        format="plain",
        # Not the name of the file: the same data under another name is the same data.
        name=str(tree.attributes.get("name", _problem(statement))),
        channels=every,
        axes=[Axis(name) for name in space],
        space=tuple(space.values()),
        frames=np.full(n_samples, n_frames, dtype=np.int64),
        parameters=parameters,
        units=units,
    )
    # What was used up here is not compared again.
    return finish(tree, replace(statement, **chosen, parameters=None, axes=None, channels=None), draft)


def _problem(statement: Statement) -> str:
    """``a -> u``, or ``a`` where the file is only predicted from."""
    return " -> ".join(", ".join(names) for names in (statement.inputs, statement.outputs) if names)


def candidates(tree: StoredTree) -> dict[str, StoredArray]:
    """Arrays that could be fields: real numbers, at least two axes of at least two points after the sample axis's."""
    return {
        array.name: array
        for array in tree.arrays.values()
        if array.is_real
        and 2 <= len(array.shape) <= 6
        and array.size
        and all(size > 1 for size in array.logical_shape[1:])
    }


def per_sample(tree: StoredTree, names: Sequence[str], n_samples: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Values (N,) or (1,) and units, by name, of arrays with one value per sample or one for all.

    Raises:
        UserError: an array does not exist, holds no real numbers, or has another number of values.
    """
    arrays = {name.strip("/"): check_scalars(tree, tree.array(name), n_samples) for name in names}
    values = {name: np.asarray(tree.values(array.path), dtype=np.float64).ravel() for name, array in arrays.items()}
    return values, {name: unit_of(array) for name, array in arrays.items()}


def check_scalars(tree: StoredTree, array: StoredArray, n_samples: int) -> StoredArray:
    """The array itself, after checking that it holds one number, or one per sample; a 1 in the shape is no axis."""
    if not array.is_real or (array.size != 1 and [size for size in array.shape if size != 1] != [n_samples]):
        raise UserError(
            f"{tree.path}: array {array.name!r} has shape {array.logical_shape} and element type {array.dtype}; a "
            f"parameter is one real number, or ({n_samples},), one per sample"
        )
    return array


def unit_of(array: StoredArray) -> str:
    """The attribute ``unit`` or ``units``, "" where there is neither."""
    unit = array.attributes.get("unit", array.attributes.get("units"))
    return unit if isinstance(unit, str) else ""


def _unstated(tree: StoredTree, statement: Statement) -> str:
    missing = [f"data.{kind}" for kind in ("inputs", "outputs") if getattr(statement, kind) is None]
    fields = candidates(tree)
    if not fields:
        return (
            f"{tree.path} holds no array that could be a field (real numbers, axes: sample and at least one of space)"
        )
    names = list(fields)
    if tree.container == "numpy":
        return f"{tree.path} holds one array of shape {fields[names[0]].logical_shape}; {_together(statement)}"
    kind = {"hdf5": "plain HDF5"}.get(tree.container, "a file without a description")
    return (
        f"{tree.path} is {kind}, so {' and '.join(missing)} must say which arrays to use, e.g. "
        f"'inputs: [{names[0]}]' and 'outputs: [{names[-1]}]'; arrays in the file: {said(list(fields.values())[:12])}"
    )


def _together(statement: Statement) -> str:
    """How to put two .npy files into one."""
    stated = [*(statement.inputs or ()), *(statement.outputs or ())]
    names = list(dict.fromkeys(name for name in stated if name != "data"))
    names = names if len(names) > 1 else [*dict.fromkeys([*(names or ["a"]), "u"])]
    arrays = ", ".join(f"{name}=np.load({f'{name}.npy'!r})" for name in names)
    return (
        f"fields that are inputs and outputs go into one file: np.savez('both.npz', {arrays}), or state "
        f"inputs: [data] and outputs: [data] if it holds trajectories"
    )


def _stated_arrays(tree: StoredTree, wanted: Iterable[str], statement: Statement) -> dict[str, StoredArray]:
    """The arrays of all channels that are asked for, by the name under which they are asked for."""
    parts = {part: name for name, names in (statement.channels or {}).items() for part in names}
    for name in statement.channels or {}:
        _find(tree, name, statement)
    found: dict[str, StoredArray] = {}
    for name in wanted:
        # "data[1]", or a component that data.channels names.
        owner = parts.get(name) or (name[: name.rindex("[")] if name.endswith("]") and "[" in name else name)
        owner = name if tree.find(name) else owner
        array = _find(tree, owner, statement)
        known = next((key for key, other in found.items() if other.path == array.path), owner)
        found[known] = array
    return found


def _find(tree: StoredTree, name: str, statement: Statement) -> StoredArray:
    if tree.find(name) is None and not tree.has_group(name):
        fields = candidates(tree)
        if tree.container == "numpy":
            raise UserError(f"{tree.path} holds one array, which is called 'data'; {_together(statement)}")
        raise UserError(
            f"{tree.path} has no array {name!r}{did_you_mean(name, fields)} "
            f"Arrays that could be fields: {', '.join(list(fields)[:12]) or 'none'}."
        )
    return check_array(tree.path, tree.array(name))


def _channels(
    tree: StoredTree, name: str, array: StoredArray, axes: tuple[str, ...], statement: Statement
) -> list[ChannelArray]:
    """The channels of an array: itself, or one for each component."""
    stated: Mapping[str, tuple[str, ...]] = statement.channels or {}
    parts = stated.get(name, stated.get(array.name, stated.get(array.path)))
    stored = tuple(reversed(axes)) if array.column_major else axes
    scale, offset, missing = packing(array)
    whole = ChannelArray(
        name=name,
        datasets=(array.path,),
        dtype=array.dtype,
        axes=stored,
        shape=array.shape,
        unit=unit_of(array),
        scale=scale,
        offset=offset,
        missing=missing,
    )
    if "channel" not in axes:
        if parts is not None and len(parts) != 1:
            raise UserError(
                f"{tree.path}: data.channels names {len(parts)} components of {name!r}, but data.axes states no "
                f"channel axis for it"
            )
        return [whole if parts is None else replace(whole, name=parts[0])]
    count = whole.size("channel")
    if parts is None:
        parts = tuple(f"{name}[{place}]" for place in range(count))
    if len(parts) != count:
        raise UserError(
            f"{tree.path}: data.channels names {len(parts)} components of {name!r} ({', '.join(parts)}), but its shape "
            f"{array.logical_shape} has {count} along the channel axis"
        )
    return [replace(whole, name=part, component=(place,)) for place, part in enumerate(parts)]


def _names(wanted: Sequence[str], channels: Mapping[str, Sequence[ChannelArray]]) -> tuple[str, ...]:
    """Names of channels: the path of an array stands for all components of it."""
    return tuple(
        name
        for entry in wanted
        for name in ([channel.name for channel in channels[entry]] if entry in channels else [entry])
    )


def _without_namesakes(tree: StoredTree, channels: list[ChannelArray]) -> list[ChannelArray]:
    names = [channel.name for channel in channels]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(
            f"{tree.path}: data.channels gives two components the name {twice[0]!r}; every name is used once"
        )
    return channels


def _check_sizes(tree: StoredTree, channels: Sequence[ChannelArray]) -> None:
    known: dict[str, ChannelArray] = {}
    for channel in channels:
        for axis in channel.axes:
            other = known.setdefault(axis, channel)
            if axis != "channel" and other.size(axis) != channel.size(axis):
                shapes = [f"{c.name!r} {_logical(tree, c)}" for c in (other, channel)]
                raise UserError(
                    f"{tree.path}: arrays {' and '.join(shapes)} disagree along {axis!r} ({other.size(axis)} and "
                    f"{channel.size(axis)}); the number of samples, of frames and of points must be the same"
                )


def _logical(tree: StoredTree, channel: ChannelArray) -> tuple[int, ...]:
    return tree.array(channel.datasets[0]).logical_shape
