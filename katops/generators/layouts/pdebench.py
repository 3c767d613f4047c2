"""PDEBench: flat files with one array per variable, and files with a group for each seed.

Source of the layout: https://github.com/pdebench/PDEBench and https://doi.org/10.18419/darus-2986 (Takamoto et al.,
NeurIPS 2022, arXiv:2210.07182).
"""

from collections.abc import Mapping, Sequence
from math import pi
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from katops.data.formats.provenance import NAME
from katops.data.writing import hdf5_file
from katops.generators.layouts.provenance import provenance_text
from katops.generators.layouts.source import Source, Writer, has, no_place
from katops.generators.problem import Problem

_ACCEPTED = (
    "darcy, advection, burgers, euler (flat files), diffusion_reaction and shallow_water (a group for each seed)"
)
_VARIABLES = {"velocity_x": "Vx", "velocity_y": "Vy", "velocity_z": "Vz"}
_FLUID = {"density", "pressure", *_VARIABLES}


def writer(problem: Problem) -> Writer:
    """The layout of the published set of the same name.

    Raises:
        UserError: PDEBench has no such set.
    """
    name, channels = problem.meta.name, tuple(problem.fields)
    if name == "darcy" and len(channels) == 2:
        return _Flat({"nu": channels[0], "tensor": channels[1]}, {"beta": _number(problem, "source_term") or 1.0})
    if name == "euler" and _FLUID.issuperset(channels):
        # The published gas has a little viscosity, eta and zeta; ours has none.
        return _Flat({_VARIABLES.get(channel, channel): channel for channel in channels}, {"eta": 0.0, "zeta": 0.0})
    if name in ("advection", "burgers") and len(channels) == 1 and problem.times is not None:
        attribute = _parameter_of_line(problem)
        if attribute:
            return _Flat({"tensor": channels[0]}, attribute)
    if name == "diffusion_reaction" and len(channels) == 2 and len(problem.meta.axes) == 2:
        diffusivities = {"Du": "diffusivity_u", "Dv": "diffusivity_v", "k": "k"}
        # The published generator reshapes to (time, y, x, channel).
        return _Seeds(channels, ("y", "x"), {key: _number(problem, name) for key, name in diffusivities.items()})
    if name == "shallow_water" and has(problem, "height"):
        constants = {"inner_height": 2.0, "gravity": _number(problem, "gravity") or 1.0}
        return _Seeds(channels, ("x", "y"), constants)
    raise no_place("pdebench", problem, _ACCEPTED)


def _parameter_of_line(problem: Problem) -> dict[str, float] | None:
    """The one parameter of a set in one dimension. The flux of PDEBench's Burgers equation carries 1/pi."""
    if problem.meta.name == "advection":
        speed = _number(problem, "beta")
        return None if speed is None else {"beta": speed}
    viscosity = _number(problem, "viscosity")
    return None if viscosity is None else {"Nu": pi * viscosity}


def _number(problem: Problem, name: str) -> float | None:
    """A constant of the recipe; ``None`` where it has none of that name."""
    value = problem.recipe.get(name)
    return float(value) if isinstance(value, int | float) else None


class _Flat:
    """(N, T, \\*space) for each variable in the root, coordinates beside it, parameters as attributes."""

    def __init__(self, variables: Mapping[str, str], attributes: Mapping[str, float]) -> None:
        self.variables = variables
        self.attributes = attributes

    def __call__(self, source: Source, path: Path) -> None:
        with hdf5_file(path) as (file, _):
            for axis in source.problem.meta.axes:
                file[f"{axis.name}-coordinate"] = source.points(axis.name).astype("<f4")
            if source.problem.times is not None:
                file["t-coordinate"] = _with_one_more(source.problem.times).astype("<f4")
            for name, channel in self.variables.items():
                self._write(file, name, channel, source)
            file.attrs.update(self.attributes)
            file.attrs[NAME] = provenance_text(source)

    def _write(self, file: h5py.File, name: str, channel: str, source: Source) -> None:
        """One variable; the solution of a steady problem has a time axis of length 1."""
        stored = source.shape(channel)
        one_frame = source.problem.times is None and name == "tensor"
        dataset = file.create_dataset(name, (stored[0], *[1] * one_frame, *stored[1:]), "<f4")
        for part, [values] in source.blocks([channel]):
            dataset[part] = values[:, None] if one_frame else values


def _with_one_more(times: np.ndarray) -> np.ndarray:
    """The published files store one time more than they have frames."""
    return np.append(times, 2 * times[-1] - times[-2])


class _Seeds:
    """A group for each sample: ``data`` (T, \\*space, C), ``grid/{x,y,t}`` and the attribute ``config``."""

    def __init__(self, channels: Sequence[str], axes: tuple[str, ...], constants: Mapping[str, float | None]) -> None:
        self.channels = channels
        self.axes = axes
        self.constants = {name: value for name, value in constants.items() if value is not None}

    def __call__(self, source: Source, path: Path) -> None:
        own = [axis.name for axis in source.problem.meta.axes]
        order = (1, *(own.index(axis) + 2 for axis in self.axes), 0)
        parameters = source.parameters()
        width = max(4, len(str(source.samples - 1)))
        with hdf5_file(path) as (file, _):
            for part, values in source.blocks(self.channels):
                for sample, fields in zip(range(part.start, part.stop), zip(*values, strict=True), strict=True):
                    group = file.create_group(f"{sample:0{width}d}")
                    group["data"] = np.stack(fields).transpose(order)
                    for axis in own:
                        group[f"grid/{axis}"] = source.points(axis).astype("<f4")
                    group["grid/t"] = np.asarray(source.problem.times, dtype="<f4")
                    of_sample = {name: float(numbers[sample]) for name, numbers in parameters.items()}
                    group.attrs["config"] = yaml.safe_dump({"sim": {**self._run(source), **of_sample, "seed": sample}})
            file.attrs[NAME] = provenance_text(source)

    def _run(self, source: Source) -> dict[str, Any]:
        """What all seeds share: constants, grid and times, under the published names."""
        axes = source.problem.meta.axes
        names = (("x_left", "x_right"), ("y_bottom", "y_top"))
        ends = {
            end: value
            for axis, pair in zip(axes, names, strict=False)
            for end, value in zip(pair, (axis.lower, axis.upper), strict=True)
        }
        sizes = {f"{axis.name}dim": size for axis, size in zip(axes, source.space, strict=True)}
        return {**self.constants, **ends, **sizes, "t": float(source.problem.times[-1]), "tdim": source.frames}
