"""The last step of describing a file that names its own channels: selection by name, checks, the finished layout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from katops.data.formats.coordinates import even_step
from katops.data.formats.names import in_order, select
from katops.data.formats.provenance import restated
from katops.data.layout import ChannelArray, FileLayout, Statement, check_array, check_roles, restate_axes
from katops.data.storage import StoredTree
from katops.errors import UserError, did_you_mean
from katops.fields import Axis, Channel, FieldMeta


@dataclass
class Draft:
    """What a format found in a file, before the configuration chooses from it.

    Attributes:
        format, name: of the layout and of the data set.
        channels: every channel of the file.
        axes: spatial axes in array order.
        space: their sizes.
        frames: (N,) frames of each sample.
        times: (T,) or (N, T); ``None`` for steady problems.
        parameters: (N,) values, or one number for all samples, by name.
        scalars: (1 or N, T) values by name.
        inputs, outputs: names of channels used where the configuration names none; ``None``: those that move.
        constants: likewise; ``None``: those that do not move, beside others that do.
        aliases: further spellings of the channels, those of the file.
        notes: see :attr:`FileLayout.notes`.
        units: of parameters and scalars, by name.
        licence, citation, coordinates, time_unit: see :class:`katops.fields.FieldMeta`.
    """

    format: str
    name: str
    channels: list[ChannelArray]
    axes: list[Axis]
    space: tuple[int, ...]
    frames: np.ndarray
    times: np.ndarray | None = None
    parameters: Mapping[str, np.ndarray | float] = field(default_factory=dict)
    scalars: Mapping[str, np.ndarray] = field(default_factory=dict)
    inputs: tuple[str, ...] | None = None
    outputs: tuple[str, ...] | None = None
    constants: tuple[str, ...] | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    units: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    coordinates: str = "cartesian"
    time_unit: str = ""


def finish(tree: StoredTree, statement: Statement, draft: Draft) -> FileLayout:
    """The layout of a file whose channels are known, with the configuration's choices made.

    A file that katops exported into a published layout has the axes and times of its provenance.

    Inputs and outputs default to the channels that change in time; those that do not become constants, unless they are
    stated as inputs or the problem is steady.

    Raises:
        UserError: a stated channel, parameter or axis does not exist, or an array that is used holds no real numbers.
    """
    if statement.channels is not None:
        raise UserError(
            f"{tree.path} names its channels itself; drop data.channels, or state data.format: plain to describe the "
            f"arrays yourself"
        )
    _check_axis_names(tree, statement, draft.axes)
    draft = restated(tree, draft)
    inputs = _chosen(tree, "inputs", statement, draft)
    outputs = _chosen(tree, "outputs", statement, draft)
    check_roles(tree.path, inputs, outputs)
    constants = _constants(tree, statement, draft, inputs, (*inputs, *outputs))
    steady = not any(array.has_time for array in (*inputs, *outputs))
    storage = {path: tree.arrays[path] for channel in (*inputs, *outputs, *constants) for path in channel.datasets}
    for array in storage.values():
        check_array(tree.path, array)
    times = None if steady else _times(draft, statement)
    parameters = _parameters(tree, statement, draft)
    meta = FieldMeta(
        name=draft.name,
        inputs=tuple(array.channel for array in inputs),
        outputs=tuple(array.channel for array in outputs),
        constants=tuple(array.channel for array in constants),
        axes=restate_axes(draft.axes, statement),
        parameters=tuple(Channel(name, draft.units.get(name, "")) for name in parameters),
        scalars=() if steady else tuple(Channel(name, draft.units.get(name, "")) for name in draft.scalars),
        time_step=None if times is None else statement.time_step or even_step(times),
        time_unit="" if steady else draft.time_unit,
        coordinates=draft.coordinates,
        licence=draft.licence,
        citation=draft.citation,
    )
    n_samples = len(draft.frames)
    return FileLayout(
        path=tree.path,
        container=tree.container,
        format=draft.format,
        meta=meta,
        inputs=inputs,
        outputs=outputs,
        constants=constants,
        frames=np.ones(n_samples, dtype=np.int64) if steady else np.asarray(draft.frames, dtype=np.int64),
        space=draft.space,
        times=times,
        parameters=_table(parameters, n_samples),
        scalars=None if steady else _scalars(draft.scalars),
        attributes=dict(tree.attributes),
        storage=storage,
        notes=tuple(draft.notes),
        stamp=tree.stamp,
    )


def components(quantity: str, axes: Sequence[str], size: int, /, **common: Any) -> list[ChannelArray]:
    """The components of a vector whose last stored axis counts them, named after the spatial axes.

    Args:
        quantity: name of the vector.
        axes: names of the spatial axes in the order of the components; numbers are used where there are not as many.
        size: number of components.
        common: the other arguments of :class:`ChannelArray`.
    """
    names = list(axes) if len(axes) == size else [str(number) for number in range(size)]
    return [
        ChannelArray(name=f"{quantity}_{name}", quantity=quantity, component=(place,), place=(place,), **common)
        for place, name in enumerate(names)
    ]


def _chosen(tree: StoredTree, kind: str, statement: Statement, draft: Draft) -> tuple[ChannelArray, ...]:
    channels = in_order(draft.channels)
    names = getattr(statement, kind)
    if names is None:
        names = getattr(draft, kind) or [channel.name for channel in channels if channel.has_time]
        if not names:
            raise UserError(
                f"{tree.path} has no channel that changes in time; choose with data.{kind} from: "
                f"{', '.join(channel.name for channel in channels)}"
            )
    return select(tree.path, channels, names, draft.aliases)


def _constants(
    tree: StoredTree, statement: Statement, draft: Draft, inputs: Sequence[ChannelArray], used: Sequence[ChannelArray]
) -> tuple[ChannelArray, ...]:
    """The stated constants, or everything static beside channels that move."""
    if statement.constants is None and draft.constants is not None:
        constants = select(tree.path, draft.channels, draft.constants, draft.aliases)
        return tuple(channel for channel in constants if channel not in used)
    if statement.constants is None:
        if not any(channel.has_time for channel in used):
            return ()
        return tuple(channel for channel in in_order(draft.channels) if not channel.has_time and channel not in used)
    constants = select(tree.path, in_order(draft.channels), statement.constants, draft.aliases)
    for channel in constants:
        if channel.has_time or channel in inputs:
            reason = "changes in time" if channel.has_time else "is an input already"
            raise UserError(f"{tree.path}: data.constants names {channel.name!r}, which {reason}; take it out there")
    return constants


def _check_axis_names(tree: StoredTree, statement: Statement, axes: Sequence[Axis]) -> None:
    own = [axis.name for axis in axes]
    stated = statement.axes
    if stated is None:
        return
    for names in stated.values() if isinstance(stated, Mapping) else (stated,):
        if [name for name in names if name not in ("sample", "time", "channel")] != own:
            raise UserError(
                f"{tree.path} names its axes itself ({', '.join(own)}); drop data.axes, which says {', '.join(names)}, "
                f"or state data.format: plain to describe the arrays yourself"
            )


def _times(draft: Draft, statement: Statement) -> np.ndarray:
    frames = int(draft.frames.max())
    times = np.arange(frames, dtype=np.float64) if draft.times is None else np.asarray(draft.times, dtype=np.float64)
    if statement.time_step is not None:
        return times[..., :1] + statement.time_step * np.arange(frames)
    return times


def _parameters(tree: StoredTree, statement: Statement, draft: Draft) -> dict[str, np.ndarray | float]:
    if statement.parameters is None:
        return dict(draft.parameters)
    for name in statement.parameters:
        if name not in draft.parameters:
            raise UserError(
                f"{tree.path} has no parameter {name!r}{did_you_mean(name, draft.parameters)} "
                f"Its parameters: {', '.join(draft.parameters) or 'none'}."
            )
    return {name: draft.parameters[name] for name in statement.parameters}


def _table(parameters: Mapping[str, np.ndarray | float], n_samples: int) -> np.ndarray:
    table = np.empty((n_samples, len(parameters)), dtype=np.float64)
    for column, values in enumerate(parameters.values()):
        table[:, column] = values
    return table


def _scalars(scalars: Mapping[str, np.ndarray]) -> np.ndarray | None:
    if not scalars:
        return None
    return np.stack(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in scalars.values())), axis=-1)
