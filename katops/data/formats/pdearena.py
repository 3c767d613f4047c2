"""PDEArena: one group named after the split, double precision, coordinates and conditions per sample.

Navier-Stokes with buoyant smoke in 2-D, Maxwell in 3-D, Kuramoto-Sivashinsky in 1-D. Source:
https://github.com/pdearena/pdearena (Gupta and Brandstetter, TMLR 2023, arXiv:2209.15616).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from katops.data.formats.assembling import Draft, components, finish
from katops.data.formats.coordinates import numbers, round_number, same_rows
from katops.data.layout import ChannelArray, FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis

FORMAT = "pdearena"
_SPLITS = ("train", "valid", "test")


def recognise(tree: StoredTree) -> bool:
    """Whether the root holds only groups named train, valid or test, with the arrays of one of the three problems."""
    groups = tree.subgroups()
    return bool(groups) and not tree.members() and set(groups) <= set(_SPLITS) and _kind(tree, groups[0]) != ""


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Channels, rebuilt coordinates and times, and the conditions of every sample; see the module."""
    groups = tree.subgroups()
    if len(groups) > 1:
        raise UserError(
            f"{tree.path} holds several splits ({', '.join(groups)}), published files hold one each; describe one of "
            f"them with data.format: plain, e.g. inputs: [{groups[0]}/u]"
        )
    members = tree.members(groups[0])
    values = {name: numbers(tree, array.path) for name, array in members.items() if _small(name)}
    describe_kind = {"smoke": _smoke, "maxwell": _maxwell, "ks": _kuramoto_sivashinsky}[_kind(tree, groups[0])]
    return finish(tree, statement, describe_kind(tree, members, values))


def _small(name: str) -> bool:
    return name in ("t", "x", "y", "dt", "dx", "dy", "buo_y", "v")


def _kind(tree: StoredTree, group: str) -> str:
    members = tree.members(group)
    ranks = {name: len(array.shape) for name, array in members.items()}
    if {"u", "vx", "vy"} <= ranks.keys() and ranks["u"] == ranks["vx"] == ranks["vy"] == 4:
        return "smoke"
    if "d_field" in ranks and ranks["d_field"] == 6:
        return "maxwell"
    return "ks" if any(name.startswith("pde_") for name in ranks) else ""


def _smoke(tree: StoredTree, members: Mapping[str, StoredArray], values: Mapping[str, np.ndarray]) -> Draft:
    """Smoke at cell centres; velocity on the lower faces of the cells, the first nx x ny of a staggered grid."""
    shape = _agreeing(tree, {name: members[name] for name in ("u", "vx", "vy")})
    samples, frames, *space = shape
    notes = [
        "velocity lies on a staggered grid, half a cell below the cell centres",
        "boundary: velocity is zero at the walls, smoke has no gradient there",
    ]
    axes = ("sample", "time", "x", "y")
    channels = [_channel("smoke", members["u"], axes)]
    for place, name in enumerate("xy"):
        shift = tuple(-0.5 if axis == place else 0.0 for axis in range(2))
        channels.append(
            _channel(f"velocity_{name}", members[f"v{name}"], axes, quantity="velocity", place=(place,), shift=shift)
        )
    parameters = {"buo_y": values["buo_y"]} if "buo_y" in values else {}
    grid = []
    for name, size in zip("xy", space, strict=True):
        axis, length_varies = _box(tree, name, size, values, notes)
        grid.append(axis)
        if length_varies:
            parameters[f"d{name}"] = values[f"d{name}"]
    return Draft(
        format=FORMAT,
        name="pdearena_2d_navier_stokes",
        channels=channels,
        axes=grid,
        space=tuple(space),
        frames=np.full(samples, frames),
        times=_times(tree, samples, frames, values, notes),
        parameters=_per_sample(tree, parameters, samples),
        aliases={"u": "smoke"},
        notes=notes,
    )


def _maxwell(tree: StoredTree, members: Mapping[str, StoredArray], values: Mapping[str, np.ndarray]) -> Draft:
    """Electric and magnetic field in the centre of a periodic box, which has no boundary of its own."""
    del values
    names = {"d_field": "electric_field", "h_field": "magnetic_field"}
    fields = {name: members[name] for name in names if name in members}
    samples, frames, *space, width = _agreeing(tree, fields)
    axes = ("sample", "time", "x", "y", "z", "channel")
    return Draft(
        format=FORMAT,
        name="pdearena_3d_maxwell",
        channels=[
            channel
            for name, array in fields.items()
            for channel in components(
                names[name], "xyz", width, datasets=(array.path,), dtype=array.dtype, axes=axes, shape=array.shape
            )
        ],
        axes=[Axis(name, "cell_centres", 0.0, 1.0, ("none", "none")) for name in "xyz"],
        space=tuple(space),
        frames=np.full(samples, frames),
        aliases=names,
        notes=[
            "d_field really holds the electric field E and is called electric_field",
            "no coordinates are stored: the domain counts as the unit cube (published: a grid spacing of 5e-7 m)",
            "no times are stored: frames count as 1 apart; state data.time_step",
            "the fields are cut out of a larger box, so there is no boundary condition",
        ],
    )


def _kuramoto_sivashinsky(
    tree: StoredTree, members: Mapping[str, StoredArray], values: Mapping[str, np.ndarray]
) -> Draft:
    """One periodic field; time step, grid spacing and viscosity differ from sample to sample."""
    fields = {name: array for name, array in members.items() if name.startswith("pde_")}
    name, array = next(iter(fields.items()))
    if len(fields) > 1 or len(array.shape) != 3:
        raise UserError(
            f"{tree.path}: expected one array pde_* of shape (sample, time, x); found "
            f"{', '.join(f'{key} {item.shape}' for key, item in fields.items())}"
        )
    samples, frames, size = array.shape
    notes: list[str] = []
    spacing = values.get("dx")
    length = float(size)
    if spacing is None:
        notes.append("no grid spacing is stored: it counts as 1")
    else:
        length = size * float(spacing.ravel()[0])
        if np.ptp(spacing):
            notes.append("the grid spacing differs between samples (parameter dx); the domain is the first sample's")
    return Draft(
        format=FORMAT,
        name="pdearena_1d_kuramoto_sivashinsky",
        channels=[_channel("u", array, ("sample", "time", "x"))],
        axes=[Axis("x", "periodic_nodes", 0.0, length, ("periodic", "periodic"))],
        space=(size,),
        frames=np.full(samples, frames),
        times=_times(tree, samples, frames, values, notes),
        parameters=_per_sample(tree, {key: values[key] for key in ("dt", "dx", "v") if key in values}, samples),
        aliases={name: "u"},
        notes=notes,
    )


def _channel(name: str, array: StoredArray, axes: tuple[str, ...], **place: object) -> ChannelArray:
    return ChannelArray(name=name, datasets=(array.path,), dtype=array.dtype, axes=axes, shape=array.shape, **place)


def _agreeing(tree: StoredTree, arrays: Mapping[str, StoredArray]) -> tuple[int, ...]:
    shapes = {array.shape for array in arrays.values()}
    if len(shapes) > 1:
        listed = ", ".join(f"{array.name} {array.shape}" for array in arrays.values())
        raise UserError(f"{tree.path}: the fields disagree in shape: {listed}")
    return next(iter(shapes))


def _box(
    tree: StoredTree, name: str, size: int, values: Mapping[str, np.ndarray], notes: list[str]
) -> tuple[Axis, bool]:
    """The axis between the ends of the stored coordinates, and whether its length differs between samples.

    The file stores n points with both ends of the box among them, and their distance as dx; the cells are n.
    """
    points = values.get(name)
    if points is None:
        notes.append(f"no coordinates are stored along {name}: the grid spacing counts as 1")
        return Axis(name, "cell_centres", 0.0, float(size), ("wall", "wall")), False
    rows = np.atleast_2d(points)
    if rows.shape[1] != size:
        raise UserError(f"{tree.path}: {name} has shape {points.shape}, but the fields have {size} points along {name}")
    tolerance = 1e-6 * float(np.abs(rows[0]).max())
    lower, upper = (round_number(float(end), tolerance)[0] for end in (rows[0, 0], rows[0, -1]))
    notes.append(f"the stored coordinates along {name} include both ends of the box; cell centres are used instead")
    varies = not same_rows(rows)
    if varies:
        notes.append(f"the length along {name} differs between samples; the domain is the first sample's")
    return Axis(name, "cell_centres", lower, upper, ("wall", "wall")), varies and f"d{name}" in values


def _times(
    tree: StoredTree, samples: int, frames: int, values: Mapping[str, np.ndarray], notes: list[str]
) -> np.ndarray | None:
    """First time + number of the frame * dt: (T,) where all samples agree, else (N, T).

    The stored times count one interval too few and are right only in the first entry.
    """
    first = np.atleast_2d(values["t"])[:, 0] if "t" in values else np.zeros(1)
    if "dt" not in values:
        notes.append("no dt is stored: frames count as 1 apart; state data.time_step")
        return None
    steps = values["dt"].ravel()
    if len(steps) not in (1, samples) or len(first) not in (1, samples):
        raise UserError(f"{tree.path}: dt has shape {values['dt'].shape}; expected one for each of {samples} samples")
    if "t" in values:
        notes.append("the stored times disagree with dt; they are counted in steps of dt from the first one")
    times = first[:, None] + steps[:, None] * np.arange(frames)
    return times[0] if same_rows(times) else times


def _per_sample(tree: StoredTree, values: Mapping[str, np.ndarray], samples: int) -> dict[str, np.ndarray]:
    for name, found in values.items():
        if found.size not in (1, samples):
            raise UserError(f"{tree.path}: {name} has shape {found.shape}; expected one for each of {samples} samples")
    return {name: found.ravel() for name, found in values.items()}
