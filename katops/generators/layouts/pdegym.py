"""PDEgym, the data sets of Poseidon: one array with all channels, (sample, time, channel, x, y), without coordinates.

Source of the layout: https://huggingface.co/camlab-ethz (Herde et al., NeurIPS 2024, arXiv:2405.19101). The files are
netCDF-4, which is HDF5.
"""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from katops.data.formats.provenance import NAME
from katops.data.writing import hdf5_file
from katops.generators.layouts.provenance import provenance_text
from katops.generators.layouts.source import Source, Writer, has, no_place
from katops.generators.problem import Problem

_VELOCITY = ("velocity_x", "velocity_y")
_FLUID = ("density", *_VELOCITY, "pressure")
_ENERGY = "energy"
_ACCEPTED = (
    "navier_stokes with velocities, euler (richtmyer_meshkov with a tracer only), wave, allen_cahn and poisson in two "
    "dimensions, and helmholtz with a value on the boundary"
)


def writer(problem: Problem) -> Writer:
    """The arrays that the published file of the problem has, under their names.

    Raises:
        UserError: PDEgym has no such data set.
    """
    fill = _plan(problem)
    if fill is None:
        raise no_place("pdegym", problem, _ACCEPTED)

    def write(source: Source, path: Path) -> None:
        with hdf5_file(path, track_order=True) as (file, _):
            fill(file, source)
            file.attrs[NAME] = provenance_text(source)

    return write


def _plan(problem: Problem) -> Callable[[h5py.File, Source], None] | None:
    name = problem.meta.name
    forced = "kolmogorov" in str(problem.recipe.get("variant", ""))
    if len(problem.meta.axes) != 2:
        return None
    if name == "navier_stokes":
        for channels in (_VELOCITY, (*_VELOCITY, "tracer")):
            if has(problem, *channels):
                return _stacked("solution" if forced else "velocity", channels)
    if name == "euler":
        if has(problem, *_FLUID, "tracer"):
            return _stacked("solution", (*_FLUID, "tracer"))
        if "richtmyer_meshkov" in str(problem.recipe.get("variant", "")):
            return None  # the published file has a tracer, another name of the array and other times
        if has(problem, *_FLUID, _ENERGY) or (has(problem, *_FLUID) and "gamma" in problem.recipe):
            return _stacked("data", (*_FLUID, _ENERGY))
    moving = [channel.name for channel in problem.meta.outputs]
    if name == "wave":
        return _separate({"solution": moving[0], "c": problem.meta.constants[0].name})
    if name == "allen_cahn" and len(problem.fields) == 1:
        return _separate({"solution": moving[0]})
    if name == "poisson" and len(problem.fields) == 2:
        return _separate({"source": problem.meta.inputs[0].name, "solution": moving[0]})
    if name == "helmholtz" and len(problem.fields) == 2 and len(problem.meta.parameters) == 1:
        return _helmholtz
    return None


def _stacked(name: str, channels: tuple[str, ...]) -> Callable[[h5py.File, Source], None]:
    """All channels in one array; the energy of a gas is computed where it is not among the samples."""

    def fill(file: h5py.File, source: Source) -> None:
        stored = [channel for channel in channels if channel in source.problem.fields]
        shape = source.shape(stored[0])
        dataset = file.create_dataset(name, (*shape[:2], len(channels), *shape[2:]), "<f4")
        for part, values in source.blocks(stored):
            if len(stored) < len(channels):
                values.append(_energy(*values, gamma=float(source.problem.recipe["gamma"])))
            dataset[part] = np.stack(values, axis=2)

    return fill


def _energy(
    density: np.ndarray, velocity_x: np.ndarray, velocity_y: np.ndarray, pressure: np.ndarray, gamma: float
) -> np.ndarray:
    """Total energy of an ideal gas, p / (gamma - 1) + rho |v|^2 / 2."""
    return pressure / (gamma - 1) + density * (velocity_x**2 + velocity_y**2) / 2


def _separate(channels: dict[str, str]) -> Callable[[h5py.File, Source], None]:
    """An array for each channel; arguments are name in the file -> channel."""

    def fill(file: h5py.File, source: Source) -> None:
        for name, channel in channels.items():
            dataset = file.create_dataset(name, source.shape(channel), "<f4")
            for part, [values] in source.blocks([channel]):
                dataset[part] = values

    return fill


def _helmholtz(file: h5py.File, source: Source) -> None:
    """A group for each sample with the coefficient, the solution and the value on the boundary."""
    meta = source.problem.meta
    [values] = source.parameters().values()
    for part, blocks in source.blocks([meta.inputs[0].name, meta.outputs[0].name]):
        for sample, a, u in zip(range(part.start, part.stop), *blocks, strict=True):
            group = file.create_group(f"Sample_{sample}")
            group["a"], group["u"], group["bc"] = a, u, values[sample]
