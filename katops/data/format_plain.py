"""Any HDF5 file, its arrays and their axes stated in the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py

from katops.data.layout import (
    ChannelArray,
    FileLayout,
    Statement,
    attributes_of,
    check_array,
    check_roles,
    plain_value,
    restate_axes,
)
from katops.errors import UserError, did_you_mean
from katops.fields import Axis, FieldMeta

SPACE = ("x", "y", "z")
MOST_ARRAYS = 1000
"""Arrays that are looked at when candidates are listed; files with one group per sample have many more."""


def recognise(file: h5py.File) -> bool:
    """Always: this is the format of last resort."""
    return True


def describe(file: h5py.File, path: Path, statement: Statement) -> FileLayout:
    """The stated arrays with the stated axes; see :func:`.formats.describe` for the rules."""
    if statement.inputs is None or statement.outputs is None:
        raise UserError(_unstated(file, path, statement))
    names = list(dict.fromkeys((*statement.inputs, *statement.outputs)))
    items = {name: _find(file, path, name) for name in names}
    axes = _axis_names(path, items, statement)
    arrays = {name: _channel_array(path, name, item, axes) for name, item in items.items()}
    _check_sizes(path, list(arrays.values()), axes)
    inputs = tuple(arrays[name] for name in statement.inputs)
    outputs = tuple(arrays[name] for name in statement.outputs)
    check_roles(path, inputs, outputs)
    moving = [array for array in arrays.values() if array.has_time]
    attributes = attributes_of(file)
    space = [Axis(name) for name in axes if name not in ("sample", "time")]
    meta = FieldMeta(
        # Not the name of the file: the same data under another name is the same data.
        name=str(attributes.get("name", f"{', '.join(statement.inputs)} -> {', '.join(statement.outputs)}")),
        inputs=tuple(array.channel for array in inputs),
        outputs=tuple(array.channel for array in outputs),
        axes=restate_axes(space, statement),
        time_step=float(statement.time_step or 1.0) if moving else None,
    )
    first = next(iter(arrays.values()))
    return FileLayout(
        path=path,
        format="plain",
        meta=meta,
        inputs=inputs,
        outputs=outputs,
        parameters=(),
        n_samples=first.shape[0],
        n_frames=moving[0].shape[1] if moving else 1,
        space=first.space,
        attributes=attributes,
    )


def candidates(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Arrays that could be fields: real numbers, at least two axes of at least two points after the sample axis's."""
    found: dict[str, h5py.Dataset] = {}
    seen = 0

    def look(name: str, item: h5py.HLObject) -> bool | None:
        nonlocal seen
        seen += 1
        is_field = isinstance(item, h5py.Dataset) and item.dtype.kind in "biuf" and 2 <= item.ndim <= 5
        if is_field and item.size and all(size > 1 for size in item.shape[1:]):
            found[name] = item
        return True if seen >= MOST_ARRAYS else None

    file.visititems(look)
    return found


def _unstated(file: h5py.File, path: Path, statement: Statement) -> str:
    missing = [f"data.{kind}" for kind in ("inputs", "outputs") if getattr(statement, kind) is None]
    fields = candidates(file)
    if not fields:
        return f"{path} holds no array that could be a field (real numbers, axes: sample and at least one of space)"
    shapes = ", ".join(f"{name} {item.shape}" for name, item in list(fields.items())[:12])
    names = list(fields)
    return (
        f"{path} is plain HDF5, so {' and '.join(missing)} must say which arrays to use, e.g. "
        f"'inputs: [{names[0]}]' and 'outputs: [{names[-1]}]'; arrays in the file: {shapes}"
    )


def _find(file: h5py.File, path: Path, name: str) -> h5py.Dataset:
    item = file.get(name)
    if item is None:
        fields = candidates(file)
        raise UserError(
            f"{path} has no array {name!r}{did_you_mean(name, fields)} "
            f"Arrays that could be fields: {', '.join(list(fields)[:12]) or 'none'}."
        )
    return check_array(path, name, item)


def _axis_names(path: Path, items: dict[str, h5py.Dataset], statement: Statement) -> tuple[str, ...]:
    """Names of all axes, stated or implied by the rank."""
    if statement.axes is not None:
        return _check_stated(path, statement.axes)
    ranks = sorted({item.ndim for item in items.values()})
    if ranks == [2]:
        return ("sample", "x")
    shapes = ", ".join(f"{name} {item.shape}" for name, item in items.items())
    guesses = _possible_statements(ranks)
    if not guesses:
        raise UserError(f"{path}: arrays must be (sample, *space) or (sample, time, *space); given: {shapes}")
    statements = " or ".join(f"data.axes: [{', '.join(guess)}]" for guess in guesses)
    raise UserError(
        f"{path}: it is not clear which axes the arrays have ({shapes}); state them in the configuration: {statements}"
    )


def _possible_statements(ranks: Sequence[int]) -> list[tuple[str, ...]]:
    """The statements that arrays of these ranks could mean."""
    highest = ranks[-1]
    timed = ("sample", "time", *SPACE[: highest - 2])
    steady = ("sample", *SPACE[: highest - 1])
    guesses = [timed] if 3 <= highest <= 5 and ranks[0] >= highest - 1 else []
    return guesses + ([steady] if len(ranks) == 1 and 2 <= highest <= 4 else [])


def _check_stated(path: Path, axes: tuple[str, ...]) -> tuple[str, ...]:
    space = [name for name in axes if name not in ("sample", "time")]
    good = axes in (("sample", *space), ("sample", "time", *space))
    if not good or not 1 <= len(space) <= 3 or len(set(axes)) != len(axes) or "channel" in axes:
        raise UserError(
            f"{path}: data.axes: [{', '.join(axes)}] cannot be read; allowed are sample, then time if there is one, "
            f"then 1 to 3 spatial axes, e.g. [sample, time, x, y], and one array per channel"
        )
    return axes


def _channel_array(path: Path, name: str, item: h5py.Dataset, axes: tuple[str, ...]) -> ChannelArray:
    has_time = "time" in axes and item.ndim == len(axes)
    if item.ndim != len(axes) and not ("time" in axes and item.ndim == len(axes) - 1):
        raise UserError(
            f"{path}: array {name!r} has shape {item.shape}, which does not fit data.axes: [{', '.join(axes)}]"
        )
    return ChannelArray(
        name=name,
        dataset=item.name,
        dtype=item.dtype.str,
        shape=item.shape,
        has_time=has_time,
        unit=str(plain_value(item.attrs.get("unit", item.attrs.get("units", "")))),
        chunks=item.chunks,
    )


def _check_sizes(path: Path, arrays: Sequence[ChannelArray], axes: tuple[str, ...]) -> None:
    if "time" in axes and not any(array.has_time for array in arrays):
        raise UserError(
            f"{path}: data.axes: [{', '.join(axes)}] states time, but no array has {len(axes)} axes: "
            f"{', '.join(f'{array.name} {array.shape}' for array in arrays)}"
        )
    first = arrays[0]
    moving = next((array for array in arrays if array.has_time), None)
    for array in arrays:
        same_frames = not array.has_time or array.shape[1] == moving.shape[1]
        if array.shape[0] != first.shape[0] or array.space != first.space or not same_frames:
            raise UserError(
                f"{path}: arrays {first.name!r} {first.shape} and {array.name!r} {array.shape} disagree; the number "
                f"of samples, of frames and of points along [{', '.join(axes)}] must be the same"
            )
