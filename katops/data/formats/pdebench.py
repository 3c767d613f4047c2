"""PDEBench, flat files: one array per variable in the root, (sample, time, \\*space), coordinates, scalar attributes.

Advection, Burgers, reaction-diffusion, compressible Navier-Stokes in 1-D, 2-D and 3-D, and Darcy flow. Source of the
data: https://doi.org/10.18419/darus-2986 (Takamoto et al., NeurIPS 2022, arXiv:2210.07182).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.coordinates import axis_from_points, numbers
from katops.data.layout import ChannelArray, FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis

FORMAT = "pdebench"
_COMPONENTS = {"Vx": 0, "Vy": 1, "Vz": 2}


@dataclass(frozen=True)
class _Problem:
    """Which of the data sets it is: a name for it and the boundary, "" where the content does not tell."""

    name: str
    boundary: str
    note: str = ""


def recognise(tree: StoredTree) -> bool:
    """Whether the root holds ``tensor`` or ``density``, and ``x-coordinate``."""
    return tree.find("x-coordinate") is not None and any(tree.find(name) for name in ("tensor", "density"))


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Channels, grid, times and parameters of a flat PDEBench file; see the module."""
    grids = {
        axis: numbers(tree, f"{axis}-coordinate").ravel()
        for axis in "xyz"
        if tree.find(f"{axis}-coordinate") is not None and tree.array(f"{axis}-coordinate").size > 1
    }
    arrays = {name: array for name, array in tree.members().items() if not name.endswith("-coordinate")}
    steady = _is_steady(arrays)
    problem = _problem(tree.attributes, arrays, len(grids), steady)
    notes = [problem.note] if problem.note else []
    channels = []
    for name, array in arrays.items():
        axes = _axes(tree, array, grids, steady)
        if axes is None:
            notes.append(f"the array {name} (shape {array.shape}) does not lie on the grid and is not read")
        else:
            channels.append(_channel(name, array, axes, steady))
    n_samples, frames = _sizes(tree, channels)
    if any("sample" not in channel.axes for channel in channels):
        notes.append("the arrays have no sample axis: the file is taken for one sample")
    times = None if steady else _times(tree, statement, frames, notes)
    if steady and tree.find("t-coordinate") is not None:
        notes.append("t-coordinate is ignored: the problem is steady, its times are those of the pseudo-time stepping")
    boundary = problem.boundary or "none"
    if not problem.boundary and statement.boundary is None:
        notes.append(
            "the file does not say what holds at the boundary: state data.boundary (published: periodic; open for "
            "'trans'; KH: periodic in x and open in y)"
        )
    draft = Draft(
        format=FORMAT,
        name=problem.name,
        channels=channels,
        axes=_grid(tree, grids, boundary, notes),
        space=tuple(len(points) for points in grids.values()),
        frames=np.full(n_samples, frames),
        times=times,
        parameters=_parameters(tree.attributes, problem),
        inputs=("coefficient",) if steady else None,
        outputs=("solution",) if steady else None,
        aliases={"tensor": "solution", "nu": "coefficient"} if steady else {"tensor": "u", "nu": "coefficient"},
        notes=notes,
    )
    return finish(tree, statement, draft)


def _is_steady(arrays: Mapping[str, StoredArray]) -> bool:
    """Whether it is Darcy flow: a coefficient ``nu`` (N, X, Y) beside ``tensor`` (N, 1, X, Y), one frame."""
    nu, tensor = arrays.get("nu"), arrays.get("tensor")
    return nu is not None and tensor is not None and tensor.shape == (*nu.shape[:-2], 1, *nu.shape[-2:])


def _problem(attributes: Mapping[str, Any], arrays: Mapping[str, StoredArray], n_axes: int, steady: bool) -> _Problem:
    """The data set, from the arrays and the names of the scalar attributes."""
    if steady:
        return _Problem("pdebench_2d_darcy", "dirichlet")
    if "density" in arrays:
        name = f"pdebench_{n_axes}d_compressible_navier_stokes"
        # Training files have a sample axis; some test files (Kelvin-Helmholtz) are open along y.
        if "M" in attributes and n_axes > 1 and len(arrays["density"].shape) == n_axes + 2:
            note = "boundary taken for periodic, as in every published training file; the file does not say"
            return _Problem(name, "periodic", note)
        return _Problem(name, "")
    if n_axes == 1 and "Nu" in attributes and "rho" in attributes:
        return _Problem("pdebench_1d_reaction_diffusion", "periodic")
    if n_axes == 1 and "Nu" in attributes:
        return _Problem("pdebench_1d_burgers", "periodic")
    if n_axes == 1 and "beta" in attributes:
        return _Problem("pdebench_1d_advection", "periodic")
    return _Problem(f"pdebench_{n_axes}d", "")


def _axes(
    tree: StoredTree, array: StoredArray, grids: Mapping[str, np.ndarray], steady: bool
) -> tuple[str, ...] | None:
    """What each stored axis is; ``None`` where the array does not lie on the grid.

    Axes of length 1 in front (files that were generated at home, PDEBench#57) and behind (unused dimensions) are passed
    over as axes of one component.
    """
    space = tuple(len(points) for points in grids.values())
    for behind in range(4 - len(space)):
        end = len(array.shape) - behind
        if array.shape[end:] == (1,) * behind and array.shape[end - len(space) : end] == space and end >= len(space):
            leading = _leading(tree, array, array.shape[: end - len(space)], steady)
            return (*leading, *grids, *("channel",) * behind)
    if array.name in ("tensor", "density"):
        points = ", ".join(f"{axis}-coordinate {len(values)}" for axis, values in grids.items())
        raise UserError(
            f"{tree.path}: {array.name} has shape {array.shape}, whose last axes are not those of the coordinates "
            f"({points} points); describe the file with data.format: plain and data.axes"
        )
    return None


def _leading(tree: StoredTree, array: StoredArray, sizes: tuple[int, ...], steady: bool) -> tuple[str, ...]:
    instants = tree.find("t-coordinate")
    times = () if instants is None else (instants.size, instants.size - 1)
    if len(sizes) == 0:
        return ()
    if steady and len(sizes) <= 2:
        return ("sample", "channel")[-len(sizes) :] if array.name == "tensor" else ("sample", "channel")[: len(sizes)]
    if len(sizes) == 1:
        return ("time",) if sizes[0] in times and array.name != "nu" else ("sample",)
    if len(sizes) == 2:
        return ("sample", "time")
    if len(sizes) == 3 and sizes[0] == 1:
        return ("channel", "sample", "time")
    raise UserError(
        f"{tree.path}: {array.name} has shape {array.shape}; a PDEBench array is (sample, time, *space) with the "
        f"space of the coordinate arrays, so describe the file with data.format: plain and data.axes"
    )


def _channel(name: str, array: StoredArray, axes: tuple[str, ...], steady: bool) -> ChannelArray:
    common = {
        "datasets": (array.path,),
        "dtype": array.dtype,
        "axes": axes,
        "shape": array.shape,
        "component": (0,) * axes.count("channel"),
    }
    if name in _COMPONENTS:
        place = _COMPONENTS[name]
        return ChannelArray(name=f"velocity_{'xyz'[place]}", quantity="velocity", place=(place,), **common)
    own = {"tensor": "solution" if steady else "u", "nu": "coefficient"}
    return ChannelArray(name=own.get(name, name), **common)


def _sizes(tree: StoredTree, channels: list[ChannelArray]) -> tuple[int, int]:
    """(samples, frames), after checking that the arrays agree."""
    sizes = []
    for axis in ("sample", "time"):
        found = {channel.datasets[0]: channel.size(axis) for channel in channels if channel.size(axis) is not None}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{path} {size}" for path, size in found.items())
            raise UserError(f"{tree.path}: the arrays disagree on the length of the {axis} axis: {listed}")
        sizes.append(next(iter(found.values()), 1))
    return sizes[0], sizes[1]


def _times(tree: StoredTree, statement: Statement, frames: int, notes: list[str]) -> np.ndarray | None:
    """The times of the frames: published files store one too many."""
    stored = tree.find("t-coordinate")
    if stored is None:
        if statement.time_step is None:
            notes.append("there is no t-coordinate: frames count as 1 apart; state data.time_step")
        return None
    times = numbers(tree, "t-coordinate").ravel()
    if len(times) == frames + 1:
        notes.append(f"t-coordinate has {len(times)} entries for {frames} frames; the last one is ignored")
        times = times[:-1]
    if len(times) != frames:
        if statement.time_step is None:
            raise UserError(
                f"{tree.path}: t-coordinate has {len(times)} entries for {frames} frames; state data.time_step to "
                f"count the frames as evenly spaced"
            )
        return None
    return times


def _grid(tree: StoredTree, grids: Mapping[str, np.ndarray], boundary: str, notes: list[str]) -> list[Axis]:
    axes = []
    for name, points in grids.items():
        axis, note = axis_from_points(name, points, (boundary, boundary), path=tree.path)
        if axis.grid != "cell_centres":
            note = (
                f"the {name}-coordinates are {axis.grid} of [{axis.lower:g}, {axis.upper:g}]; published: cell_centres"
            )
        notes.extend([note] if note else [])
        axes.append(axis)
    return axes


def _parameters(attributes: Mapping[str, Any], problem: _Problem) -> dict[str, float]:
    """The scalar attributes. The flux of PDEBench's Burgers equation carries 1/pi, so its viscosity is Nu/pi."""
    found = {
        name: float(value)
        for name, value in attributes.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
    if problem.name == "pdebench_1d_burgers":
        found["nu_effective"] = found["Nu"] / math.pi
    return found
