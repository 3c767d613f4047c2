"""The Well: fields by tensor order with flags for what they vary along, boundary masks, scalars, grids.

Source of the layout: https://github.com/PolymathicAI/the_well (Ohana et al., NeurIPS 2024, arXiv:2412.00568).
"""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

from katops.data.formats.provenance import NAME
from katops.data.writing import hdf5_file
from katops.fields import Axis
from katops.generators.layouts.provenance import provenance_text
from katops.generators.layouts.source import Source, Writer
from katops.generators.problem import Problem

_CONDITIONS = {"periodic": "PERIODIC", "open": "OPEN", "none": "OPEN"}
"""The Well knows three conditions; all others are walls to it."""
_TEXT = h5py.string_dtype()


def writer(problem: Problem) -> Writer:
    """Any problem: scalars as ``t0_fields``, components of vectors together as ``t1_fields``."""
    return _write


def _write(source: Source, path: Path) -> None:
    meta = source.problem.meta
    with hdf5_file(path, track_order=True) as (file, _):
        file.attrs["dataset_name"] = meta.name
        file.attrs["grid_type"] = meta.coordinates
        file.attrs["n_spatial_dims"] = len(meta.axes)
        file.attrs["n_trajectories"] = source.samples
        file.attrs["simulation_parameters"] = _texts([])
        _write_dimensions(file, source)
        _write_boundaries(file, meta.axes, source.space)
        _write_scalars(file, source)
        _write_fields(file, source)
        file.attrs[NAME] = provenance_text(source)


def _write_dimensions(file: h5py.File, source: Source) -> None:
    group = file.create_group("dimensions", track_order=True)
    group.attrs["spatial_dims"] = _texts([axis.name for axis in source.problem.meta.axes])
    times = np.zeros(1) if source.problem.times is None else source.problem.times
    for name, values in (
        ("time", times),
        *((axis.name, source.points(axis.name)) for axis in source.problem.meta.axes),
    ):
        group[name] = np.asarray(values, dtype=np.float64)
        group[name].attrs.update({"sample_varying": False, "time_varying": name == "time"})


def _write_boundaries(file: h5py.File, axes: Sequence[Axis], space: Sequence[int]) -> None:
    """One group for each condition of an axis, with a mask that is true at the ends where it holds."""
    conditions = file.create_group("boundary_conditions", track_order=True)
    for axis, size in zip(axes, space, strict=True):
        for kind in dict.fromkeys(axis.boundary):
            group = conditions.create_group(f"{axis.name}_{kind}")
            mask = np.zeros(size, dtype=bool)
            mask[0], mask[-1] = (side == kind for side in axis.boundary)
            group["mask"] = mask
            group.attrs["bc_type"] = _CONDITIONS.get(kind, "WALL")
            group.attrs["associated_dims"] = _texts([axis.name])
            group.attrs["associated_fields"] = _texts([])
            group.attrs.update({"sample_varying": False, "time_varying": False})


def _write_scalars(file: h5py.File, source: Source) -> None:
    group = file.create_group("scalars", track_order=True)
    parameters = source.parameters()
    group.attrs["field_names"] = _texts(list(parameters))
    for name, values in parameters.items():
        group[name] = values
        group[name].attrs.update({"sample_varying": True, "time_varying": False})


def _write_fields(file: h5py.File, source: Source) -> None:
    groups = [file.create_group(f"t{order}_fields", track_order=True) for order in range(3)]
    names: list[list[str]] = [[], [], []]
    for quantity, channels in _quantities(source.problem).items():
        order = int(len(channels) > 1)
        names[order].append(quantity)
        shape = source.shape(channels[0])
        dataset = groups[order].create_dataset(quantity, (*shape, *[len(channels)] * order), "<f4")
        for part, values in source.blocks(channels):
            dataset[part] = np.stack(values, axis=-1) if order else values[0]
        moves = len(shape) == len(source.space) + 2
        dataset.attrs["dim_varying"] = [True] * len(source.space)
        dataset.attrs.update({"sample_varying": True, "time_varying": moves})
        dataset.attrs["unit"] = source.problem.fields[channels[0]].unit
    for group, listed in zip(groups, names, strict=True):
        group.attrs["field_names"] = _texts(listed)


def _quantities(problem: Problem) -> dict[str, list[str]]:
    """Name of a field -> its channels: one, or the components of a vector along all axes."""
    axes = [axis.name for axis in problem.meta.axes]
    found: dict[str, list[str]] = {}
    for channel in problem.fields:
        quantity, _, end = channel.rpartition("_")
        whole = [f"{quantity}_{axis}" for axis in axes]
        if len(axes) > 1 and end in axes and all(name in problem.fields for name in whole):
            found[quantity] = whole
        else:
            found[channel] = [channel]
    return found


def _texts(values: Sequence[str]) -> np.ndarray:
    return np.array(list(values), dtype=_TEXT)
