"""The Well: fields by tensor order with flags for what they vary along, boundary masks, scalars, grids of many kinds.

Format and data: https://github.com/PolymathicAI/the_well (Ohana et al., NeurIPS 2024, arXiv:2412.00568), CC BY 4.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.coordinates import axis_from_points, numbers, same_rows
from katops.data.formats.well_boundary import boundaries
from katops.data.formats.well_scalars import dataset_parameters, scalars, words
from katops.data.layout import ChannelArray, FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis, Side

FORMAT = "the_well"
LICENCE = "CC BY 4.0"
_GROUPS = ("t0_fields", "t1_fields", "t2_fields")


def recognise(tree: StoredTree) -> bool:
    """Whether there is a group ``dimensions`` with the attribute ``spatial_dims`` beside a group of fields."""
    return "spatial_dims" in tree.groups.get("/dimensions", {}) and any(tree.has_group(name) for name in _GROUPS)


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Channels, grid, boundary, times, parameters and scalars of a file of The Well.

    Fields that change in time are inputs and outputs, the others are constants. An extra group
    ``additional_information`` is left alone.
    """
    notes: list[str] = []
    dims = tuple(dict.fromkeys(words(tree.groups["/dimensions"]["spatial_dims"])))
    grids = {name: _grid_points(tree, name, notes) for name in dims}
    channels = [
        channel
        for order, group in enumerate(_GROUPS)
        for array in _listed(tree, group)
        for channel in _field(tree, array, order, grids, notes)
    ]
    n_samples, n_frames = _sizes(tree, channels)
    in_time, per_sample = scalars(tree, n_samples, n_frames)
    sides = boundaries(tree, dims, notes)
    draft = Draft(
        format=FORMAT,
        name=str(tree.attributes.get("dataset_name", "the_well")),
        channels=channels,
        axes=[_axis(tree, name, grids[name], sides[name], notes) for name in dims],
        space=tuple(len(points) for points in grids.values()),
        frames=np.full(n_samples, n_frames),
        times=_times(tree, n_samples, n_frames, statement),
        parameters={**dataset_parameters(tree, {*in_time, *per_sample}, notes), **per_sample},
        scalars=in_time,
        notes=notes,
        licence=LICENCE,
        coordinates=_coordinates(str(tree.attributes.get("grid_type", "")), dims),
    )
    return finish(tree, statement, draft)


def _listed(tree: StoredTree, group: str) -> Iterator[StoredArray]:
    """The arrays of a group, those that its attribute ``field_names`` lists first and in its order."""
    members = tree.members(group)
    listed = words(tree.groups.get(f"/{group}", {}).get("field_names"))
    return (members[name] for name in dict.fromkeys([*listed, *members]) if name in members)


def _grid_points(tree: StoredTree, name: str, notes: list[str]) -> np.ndarray:
    array = tree.array(f"dimensions/{name}")
    points = numbers(tree, array.path)
    if points.ndim == 0:
        raise UserError(f"{tree.path}: the grid along {name} is one number; expected its coordinates")
    if array.attributes.get("time_varying", False):
        raise UserError(f"{tree.path}: the grid along {name} moves in time (shape {points.shape}), which is not read")
    if points.ndim == 2:
        if not same_rows(points):
            notes.append(f"the grid along {name} differs between samples; the first sample's is described")
        points = points[0]
    return points


def _field(
    tree: StoredTree, array: StoredArray, order: int, grids: dict[str, np.ndarray], notes: list[str]
) -> Iterator[ChannelArray]:
    """The components of one field: [sample] [time] [each spatial axis it varies along] [components]."""
    varies = array.attributes.get("dim_varying", [True] * len(grids))
    axes = [
        *["sample"] * bool(array.attributes.get("sample_varying", True)),
        *["time"] * bool(array.attributes.get("time_varying", True)),
        *[name for name, flag in zip(grids, np.atleast_1d(varies), strict=False) if flag],
    ]
    sizes = array.shape[len(axes) :]
    expected = tuple(len(grids[name]) for name in axes if name in grids)
    spatial = tuple(size for name, size in zip(axes, array.shape, strict=False) if name in grids)
    if len(array.shape) < len(axes) or spatial != expected or not _components_fit(sizes, order):
        raise UserError(
            f"{tree.path}: {array.name} has shape {array.shape}; by its attributes it is ({', '.join(axes)}) with "
            f"{expected} points in space and {order} axes of components behind"
        )
    name = array.name.rsplit("/", 1)[-1]
    if array.attributes.get("symmetric", False):
        notes.append(f"{name} is symmetric: its components below the diagonal repeat those above")
    shape_of_tensor = _tensor_shape(sizes, order)
    for place in np.ndindex(shape_of_tensor):
        flat = int(np.ravel_multi_index(place, shape_of_tensor)) if place else 0
        yield ChannelArray(
            name=_component_name(name, place, shape_of_tensor, tuple(grids)),
            datasets=(array.path,),
            dtype=array.dtype,
            axes=(*axes, *["channel"] * len(sizes)),
            shape=array.shape,
            component=place if len(sizes) == order else (flat,),
            quantity=name if order else "",
            place=place,
        )


def _components_fit(sizes: tuple[int, ...], order: int) -> bool:
    """Whether the axes behind space are those of a tensor; one axis of length 1 or of D x D is taken too."""
    if len(sizes) == order:
        return True
    if len(sizes) != 1:
        return False
    return sizes == (1,) if order == 0 else order == 2 and round(sizes[0] ** 0.5) ** 2 == sizes[0]


def _tensor_shape(sizes: tuple[int, ...], order: int) -> tuple[int, ...]:
    if order == 2 and len(sizes) == 1:
        return (round(sizes[0] ** 0.5),) * 2
    return sizes if order else ()


def _component_name(name: str, place: tuple[int, ...], shape: tuple[int, ...], dims: tuple[str, ...]) -> str:
    """velocity_x, D_xy; numbers where there are not as many components as spatial axes."""
    if not place:
        return name
    words = [dims[index] if size == len(dims) else str(index) for index, size in zip(place, shape, strict=True)]
    return f"{name}_{('' if all(len(word) == 1 for word in words) else '_').join(words)}"


def _sizes(tree: StoredTree, channels: Sequence[ChannelArray]) -> tuple[int, int]:
    """(samples, frames), after checking that the fields and the attribute ``n_trajectories`` agree."""
    if not channels:
        raise UserError(f"{tree.path}: the groups {', '.join(_GROUPS)} hold no field")
    found: dict[str, dict[str, int]] = {"sample": {}, "time": {}}
    for channel, axis in product(channels, found):
        if (size := channel.size(axis)) is not None:
            found[axis][channel.datasets[0]] = size
    stated = tree.attributes.get("n_trajectories")
    if isinstance(stated, int):
        found["sample"]["attribute n_trajectories"] = stated
    if (stored := tree.find("dimensions/time")) is not None and stored.shape:
        found["time"][stored.path] = stored.shape[-1]
    for axis, sizes in found.items():
        if len(set(sizes.values())) > 1:
            listed = ", ".join(f"{name} {size}" for name, size in sizes.items())
            raise UserError(f"{tree.path}: the parts of the file disagree on the length of the {axis} axis: {listed}")
    return next(iter(found["sample"].values()), 1), next(iter(found["time"].values()), 1)


def _axis(tree: StoredTree, name: str, points: np.ndarray, sides: tuple[Side, Side], notes: list[str]) -> Axis:
    axis, note = axis_from_points(name, points, sides, path=tree.path)
    notes.extend([note] if note else [])
    if sides[0] == "periodic" and axis.grid == "nodes":
        notes.append(f"{name} is periodic, but its points include both ends, so the last one repeats the first")
    return axis


def _times(tree: StoredTree, n_samples: int, n_frames: int, statement: Statement) -> np.ndarray | None:
    """(T,) where all samples agree, else (N, T)."""
    stored = tree.find("dimensions/time")
    if stored is None:
        return None
    times = numbers(tree, stored.path)
    if times.shape not in ((n_frames,), (n_samples, n_frames), (1, n_frames)) and statement.time_step is None:
        raise UserError(
            f"{tree.path}: {stored.name} has shape {stored.shape}; ({n_frames},) or ({n_samples}, {n_frames}) fits"
        )
    return times[0] if times.ndim == 2 and same_rows(times) else times


def _coordinates(grid_type: str, dims: Sequence[str]) -> str:
    """What the axes measure; the names of the axes say more than ``grid_type`` does."""
    angles = {"theta", "phi"} & set(dims)
    if "log_r" in dims:
        return "log_spherical"
    if angles and ("r" not in dims or len(dims) == 3 or "spher" in grid_type.lower()):
        return "spherical"
    return "polar" if angles else "cartesian"
