"""PDEgym, the data sets of Poseidon: one array per file with all channels, without coordinates, times or names.

Published at https://huggingface.co/camlab-ethz (Herde et al., NeurIPS 2024, arXiv:2405.19101), CC BY-NC 4.0. What the
files do not say is from the data set cards: unit square, evenly spaced in space and time, which channel is what.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.names import vector
from katops.data.formats.netcdf_conventions import variables
from katops.data.layout import ChannelArray, FileLayout, Statement, check_array
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis, Channel
from katops.pdegym import CITATION, LICENCE, SETS

_SPACE = ("x", "y")
_VELOCITY = vector("velocity", _SPACE)
_FLUID = (Channel("density"), *_VELOCITY, Channel("pressure"))
_ALIASES = {"rho": "density", "u": "velocity_x", "v": "velocity_y", "p": "pressure", "E": "energy"}
_SWAPPED = ("sample", "time", "channel", "y", "x")


@dataclass(frozen=True)
class _Problem:
    """One kind of file.

    Attributes:
        name: of the data set.
        array: the array with the channels.
        channels: in the order of storage; one without a channel axis where it is one.
        boundary: of all sides.
        end: time of the last frame, and how many frames there are then.
    """

    name: str
    array: str
    channels: tuple[Channel, ...]
    boundary: str
    end: tuple[float, int] = (1.0, 21)


_FLUIDS = (
    _Problem("pdegym_incompressible", "velocity", _VELOCITY, "periodic"),
    _Problem("pdegym_incompressible", "velocity", (*_VELOCITY, Channel("tracer")), "periodic"),
    _Problem("pdegym_compressible", "data", (*_FLUID, Channel("energy")), "periodic"),
    _Problem("pdegym_kolmogorov", "solution", _VELOCITY, "periodic"),
    _Problem("pdegym_richtmyer_meshkov", "solution", (*_FLUID, Channel("tracer")), "periodic", (2.0, 21)),
    _Problem(
        "pdegym_rayleigh_taylor", "solution", (*_FLUID, Channel("tracer"), Channel("potential")), "none", (5.0, 11)
    ),
)
_SOLUTION = (Channel("solution"),)
_WAVE = _Problem("pdegym_wave", "solution", _SOLUTION, "open")
_SHORT_WAVE = _Problem("pdegym_wave", "solution", _SOLUTION, "open", (1.0, 16))
_ALLEN_CAHN = _Problem("pdegym_allen_cahn", "solution", _SOLUTION, "periodic", (2e-4, 20))
_WAVE_FRAMES = (15, 16, 21)


def recognise(tree: StoredTree) -> bool:
    """Whether the root holds exactly the arrays of one of the data sets, of the rank that they have there.

    Helmholtz has a group ``Sample_<number>`` with ``a``, ``u`` and ``bc`` for each sample instead.
    """
    return tree.container in ("hdf5", "netcdf3", "zarr") and _kind(tree) is not None


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Channels, axes, times and boundary, from which arrays there are and how many channels they have."""
    kind = _kind(tree)
    if isinstance(kind, _Problem):
        return _trajectories(tree, statement, kind)
    return {"airfoil": _airfoil, "poisson": _poisson, "helmholtz": _helmholtz}[kind](tree, statement)


def kind_of(tree: StoredTree) -> str | None:
    """What a file of PDEgym holds, as :attr:`katops.pdegym.PublishedSet.kind` spells it; ``None`` for other files."""
    kind = _kind(tree) if recognise(tree) else None
    return kind.name if isinstance(kind, _Problem) else f"pdegym_{kind}" if kind else None


def _kind(tree: StoredTree) -> _Problem | str | None:
    arrays = {name: array for name, array in variables(tree).items() if array.is_real}
    ranks = {name: len(array.shape) for name, array in arrays.items()}
    if not arrays:
        return "helmholtz" if _has_sample_groups(tree) else None
    if ranks == {"source": 3, "solution": 3}:
        return "poisson" if arrays["source"].shape == arrays["solution"].shape else None
    if ranks == {"solution": 4, "c": 3}:
        return _SHORT_WAVE if arrays["solution"].shape[1] == 16 else _WAVE
    if ranks == {"solution": 4}:
        frames = arrays["solution"].shape[1]
        waves = _WAVE if frames in _WAVE_FRAMES else None
        return "airfoil" if frames == 2 else _ALLEN_CAHN if frames == 20 else waves
    if len(ranks) != 1 or set(ranks.values()) != {5}:
        return None
    [(name, array)] = arrays.items()
    return next((p for p in _FLUIDS if p.array == name and len(p.channels) == array.shape[2]), None)


def _trajectories(tree: StoredTree, statement: Statement, problem: _Problem) -> FileLayout:
    array = check_array(tree.path, tree.array(problem.array))
    axes = _stored_axes(array, statement)
    channels = [
        ChannelArray(
            name=channel.name,
            datasets=(array.path,),
            dtype=array.dtype,
            axes=axes,
            shape=array.shape,
            component=(place,) if "channel" in axes else (),
            quantity=channel.quantity,
            place=channel.component,
        )
        for place, channel in enumerate(problem.channels)
    ]
    moving = tuple(channel.name for channel in channels)
    n_samples, frames = array.shape[:2]
    speed = tree.find("c")
    if speed is not None:
        channels.append(_static(check_array(tree.path, speed), "wave_speed"))
        _check_alike(tree, array, speed)
    space = tuple(channels[0].size(name) for name in _SPACE)
    draft = _draft(problem.name, channels, problem.boundary, space, np.full(n_samples, frames))
    draft.inputs = draft.outputs = moving
    draft.constants = ("wave_speed",) if speed is not None else ()
    draft.aliases = {"c": "wave_speed"} if problem.array == "solution" and len(array.shape) == 4 else _ALIASES
    draft.times = _times(problem, frames, statement, draft)
    if problem.channels == _VELOCITY and axes != _SWAPPED:
        draft.notes.append(
            f"Poseidon's own reader takes the last two axes of NS-SL, whose files look like this one, for (y, x); "
            f"state data.preset: NS-SL or data.axes: [{', '.join(_SWAPPED)}] to do the same"
        )
    # Axes that were used up here are not compared again.
    return finish(tree, replace(statement, axes=None) if axes == _SWAPPED else statement, draft)


def _poisson(tree: StoredTree, statement: Statement) -> FileLayout:
    arrays = [check_array(tree.path, tree.array(name)) for name in ("source", "solution")]
    n_samples, *space = arrays[0].shape
    channels = [_static(array, array.name) for array in arrays]
    draft = _draft("pdegym_poisson", channels, "dirichlet", tuple(space), np.ones(n_samples, dtype=np.int64))
    draft.inputs, draft.outputs = ("source",), ("solution",)
    return finish(tree, statement, draft)


def _airfoil(tree: StoredTree, statement: Statement) -> FileLayout:
    """Where the airfoil is, to the density; (N, 2, X, Y)."""
    array = check_array(tree.path, tree.array("solution"))
    channels = [
        ChannelArray(
            name=name,
            datasets=(array.path,),
            dtype=array.dtype,
            axes=("sample", "channel", *_SPACE),
            shape=array.shape,
            component=(place,),
        )
        for place, name in enumerate(("airfoil", "density"))
    ]
    draft = _draft("pdegym_airfoil", channels, "none", array.shape[2:], np.ones(array.shape[0], dtype=np.int64))
    draft.inputs, draft.outputs = ("airfoil",), ("density",)
    draft.notes.append("the two entries of the second axis are taken for airfoil and density (SE-AF), not for frames")
    return finish(tree, statement, draft)


def _helmholtz(tree: StoredTree, statement: Statement) -> FileLayout:
    """Coefficient ``a`` and the value ``bc`` on the boundary to ``u``, a group per sample."""
    names = sorted(tree.subgroups(), key=_number)
    arrays = {part: _alike(tree, [f"{name}/{part}" for name in names]) for part in ("a", "u", "bc")}
    values = np.array([float(np.ravel(tree.values(array.path))[0]) for array in arrays["bc"]])
    draft = _draft(
        "pdegym_helmholtz",
        [
            ChannelArray(
                name=name,
                datasets=tuple(array.path for array in arrays[part]),
                dtype=arrays[part][0].dtype,
                axes=_SPACE,
                shape=arrays[part][0].shape,
            )
            for part, name in (("a", "coefficient"), ("u", "solution"))
        ],
        "dirichlet",
        arrays["a"][0].shape,
        np.ones(len(names), dtype=np.int64),
    )
    draft.inputs, draft.outputs = ("coefficient",), ("solution",)
    draft.parameters = {"boundary_value": values}
    draft.aliases = {"a": "coefficient", "u": "solution", "bc": "boundary_value"}
    return finish(tree, statement, draft)


def _draft(name: str, channels: list[ChannelArray], boundary: str, space: tuple[int, ...], frames: np.ndarray) -> Draft:
    fitting = [entry.name for entry in SETS.values() if entry.kind == name]
    return Draft(
        format="pdegym",
        name=name,
        channels=channels,
        axes=[Axis(axis, boundary=(boundary, boundary)) for axis in _SPACE],
        space=space,
        frames=frames,
        constants=(),
        notes=[
            f"taken for {name} of Poseidon by its arrays alone: cell centres of the unit square, boundary {boundary}; "
            f"state data.format: plain and describe the arrays if this file is another one",
            f"data.preset: NAME says the rest, where NAME is one of {', '.join(fitting)}",
        ],
        licence=LICENCE,
        citation=CITATION,
    )


def _static(array: StoredArray, name: str) -> ChannelArray:
    return ChannelArray(
        name=name, datasets=(array.path,), dtype=array.dtype, axes=("sample", *_SPACE), shape=array.shape
    )


def _stored_axes(array: StoredArray, statement: Statement) -> tuple[str, ...]:
    axes = ("sample", "time", *(("channel",) if len(array.shape) == 5 else ()), *_SPACE)
    return _SWAPPED if statement.axes == _SWAPPED and len(array.shape) == 5 else axes


def _times(problem: _Problem, frames: int, statement: Statement, draft: Draft) -> np.ndarray | None:
    end, published = problem.end
    if statement.time_step is None and frames != published:
        draft.notes.append(
            f"the file has {frames} frames, published are {published} up to time {end:g}: frames count as 1 apart; "
            f"state data.time_step"
        )
    return end * np.arange(frames) / (frames - 1) if frames == published else None


def _check_alike(tree: StoredTree, array: StoredArray, static: StoredArray) -> None:
    if static.shape != (array.shape[0], *array.shape[-2:]):
        raise UserError(
            f"{tree.path}: arrays {array.name!r} {array.shape} and {static.name!r} {static.shape} disagree; the latter "
            f"should be ({array.shape[0]}, {array.shape[-2]}, {array.shape[-1]})"
        )


def _alike(tree: StoredTree, names: list[str]) -> list[StoredArray]:
    """The arrays of one kind in all groups, which must agree in shape and type."""
    arrays = [tree.array(name) for name in names]
    first = arrays[0]
    for array in arrays:
        if (array.shape, array.dtype) != (first.shape, first.dtype):
            raise UserError(
                f"{tree.path}: {array.name} has shape {array.shape} and type {array.dtype}, but {first.name} has "
                f"{first.shape} and {first.dtype}"
            )
    return arrays


def _has_sample_groups(tree: StoredTree) -> bool:
    names = tree.subgroups()
    found = bool(names) and all(_number(name) is not None for name in names)
    return found and {"a", "u", "bc"} <= set(tree.members(names[0]))


def _number(group: str) -> int | None:
    head, _, digits = group.rpartition("_")
    return int(digits) if head == "Sample" and digits.isdigit() else None
