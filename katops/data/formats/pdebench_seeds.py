"""PDEBench, one group per seed: ``data`` (time, \\*space, channel), ``grid/{x,y,t}`` and the attribute ``config``.

Diffusion-sorption in 1-D, diffusion-reaction and the radial dam break (shallow water) in 2-D. Seeds may be missing, and
may have different numbers of frames. Source of the data: https://doi.org/10.18419/darus-2986.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import yaml

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.coordinates import axis_from_points, numbers, same_rows
from katops.data.layout import ChannelArray, FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis, Side

FORMAT = "pdebench_seeds"
_NOT_PHYSICS = {"seed", "n", "xdim", "ydim", "tdim", "n_time_steps", "t", "T_end"}
_NOT_PHYSICS |= {"x_left", "x_right", "y_bottom", "y_top"}
"""Numbers in ``config`` that describe the grid and the run; coordinates and times say them too."""
_SEED_LINE = re.compile(r"^\s*seed:.*\n?", re.MULTILINE)


@dataclass(frozen=True)
class _Problem:
    """One of the data sets; ``keys`` are words of its ``config`` that the others lack."""

    name: str
    keys: frozenset[str]
    channels: tuple[str, ...]
    axes: tuple[str, ...]
    boundary: tuple[Side, Side]
    note: str = ""


_PROBLEMS = (
    _Problem(
        "pdebench_1d_diffusion_sorption",
        frozenset({"por", "rho_s", "k_f"}),
        ("u",),
        ("x",),
        ("dirichlet", "open"),
        "boundary: u = 1 on the left, u = D du/dx on the right, which is called open here",
    ),
    _Problem(
        "pdebench_2d_diffusion_reaction",
        frozenset({"Du", "Dv", "k"}),
        ("u", "v"),
        # The generator reshapes to (time, y, x, channel).
        ("y", "x"),
        ("neumann", "neumann"),
    ),
    _Problem(
        "pdebench_2d_radial_dam_break",
        frozenset({"dam_radius", "inner_height", "gravity"}),
        ("h",),
        ("x", "y"),
        ("open", "open"),
    ),
)


def recognise(tree: StoredTree) -> bool:
    """Whether the root holds nothing but groups whose names are numbers, with arrays ``data`` in them."""
    seeds = tree.subgroups()
    if tree.members() or not all(seed.isdigit() for seed in seeds):
        return False
    return any(f"/{seed}/data" in tree.arrays for seed in seeds)


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Channels, grid, times of every seed and the numbers of ``config``; see the module."""
    seeds = tree.subgroups()
    arrays = [_data(tree, seed) for seed in seeds]
    _check_alike(tree, arrays)
    notes: list[str] = []
    configs = _configs(tree, seeds, notes)
    problem = _problem(configs, arrays[0], notes)
    names = _channel_names(tree, statement, problem, arrays[0].shape[-1])
    axis_names = _axis_order(tree, seeds[0], arrays[0], problem, notes)
    boundary = problem.boundary if problem else ("none", "none")
    if problem is None and statement.boundary is None:
        notes.append("the file does not say what holds at the boundary: state data.boundary")
    common = {"datasets": tuple(array.path for array in arrays), "dtype": arrays[0].dtype, "shape": arrays[0].shape}
    draft = Draft(
        format=FORMAT,
        name=problem.name if problem else "pdebench_seeds",
        channels=[
            ChannelArray(name=name, axes=("time", *axis_names, "channel"), component=(place,), **common)
            for place, name in enumerate(names)
        ],
        axes=[_axis(tree, seeds[0], name, boundary, notes) for name in axis_names],
        space=arrays[0].shape[1:-1],
        frames=np.array([array.shape[0] for array in arrays]),
        times=_times(tree, seeds, arrays, statement),
        parameters=_parameters(configs, notes),
        notes=notes,
    )
    # The names of the components of "data" are used up; there is nothing else to name.
    others = {name: parts for name, parts in (statement.channels or {}).items() if name != "data"}
    return finish(tree, replace(statement, channels=others or None), draft)


def _data(tree: StoredTree, seed: str) -> StoredArray:
    found = tree.arrays.get(f"/{seed}/data")
    if found is None:
        raise UserError(f"{tree.path}: seed {seed} has no array data; the file is incomplete, so download it again")
    return found


def _check_alike(tree: StoredTree, arrays: Sequence[StoredArray]) -> None:
    first = arrays[0]
    if not 3 <= len(first.shape) <= 5:
        raise UserError(
            f"{tree.path}: {first.name} has shape {first.shape}; a seed's data is (time, *space, channel) with 1 to 3 "
            f"axes of space"
        )
    for array in arrays:
        if array.shape[1:] != first.shape[1:] or array.dtype != first.dtype:
            raise UserError(
                f"{tree.path}: {array.name} has shape {array.shape} and type {array.dtype}, but {first.name} has "
                f"{first.shape} and {first.dtype}; only the number of frames may differ between seeds"
            )


def _configs(tree: StoredTree, seeds: Sequence[str], notes: list[str]) -> list[Mapping[str, Any]]:
    """The block ``sim`` of every seed's ``config``; parsed once where seeds differ in nothing but the seed."""
    parsed: dict[str, Mapping[str, Any]] = {}
    configs = []
    for seed in seeds:
        text = _SEED_LINE.sub("", _simulation_block(str(tree.groups[f"/{seed}"].get("config", ""))))
        if text not in parsed:
            parsed[text] = _parse(text)
        configs.append(parsed[text])
    if not any(configs):
        notes.append("no seed has a readable attribute config, so there are no parameters")
    return configs


def _simulation_block(text: str) -> str:
    """The lines of the top-level entry ``sim``, without the long blocks around it; everything where there is none."""
    start = text.find("\nsim:") + 1 if not text.startswith("sim:") else 0
    if not start and not text.startswith("sim:"):
        return text
    end = re.compile(r"^[^\s#-]", re.MULTILINE).search(text, start + 1)
    return text[start : end.start() if end else len(text)]


def _parse(text: str) -> Mapping[str, Any]:
    try:
        values = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    inner = values.get("sim", values) if isinstance(values, dict) else {}
    return inner if isinstance(inner, dict) else {}


def _problem(configs: Sequence[Mapping[str, Any]], array: StoredArray, notes: list[str]) -> _Problem | None:
    """The data set by the words of its config; by the shape of the arrays where there is none."""
    n_axes, n_channels = len(array.shape) - 2, array.shape[-1]
    fitting = [p for p in _PROBLEMS if (len(p.axes), len(p.channels)) == (n_axes, n_channels)]
    if not any(configs):
        found = fitting[0] if fitting else None
        if found:
            notes.append(f"taken for {found.name} by its shape {array.shape}, for want of an attribute config")
    else:
        found = next((problem for problem in fitting if problem.keys <= configs[0].keys()), None)
    if found and found.note:
        notes.append(found.note)
    return found


def _channel_names(tree: StoredTree, statement: Statement, problem: _Problem | None, n_channels: int) -> Sequence[str]:
    stated = (statement.channels or {}).get("data")
    if stated is not None:
        if len(stated) != n_channels:
            raise UserError(f"{tree.path}: data.channels names {len(stated)} channels of data, which has {n_channels}")
        return stated
    return problem.channels if problem else [f"data[{number}]" for number in range(n_channels)]


def _coordinates(tree: StoredTree, seed: str, axis: str) -> StoredArray | None:
    return tree.arrays.get(f"/{seed}/grid/{axis}")


def _axis_order(
    tree: StoredTree, seed: str, array: StoredArray, problem: _Problem | None, notes: list[str]
) -> tuple[str, ...]:
    """Names of the spatial axes in the order of storage, by the sizes of the coordinates where they decide."""
    sizes = array.shape[1:-1]
    usual = problem.axes if problem else tuple("xyz"[: len(sizes)])
    for order in (usual, usual[::-1]):
        points = [_coordinates(tree, seed, axis) for axis in order]
        if all(found is not None and found.size == size for found, size in zip(points, sizes, strict=True)):
            if order != usual:
                notes.append(f"the axes of data are ({', '.join(order)}) by their sizes, unlike the published file's")
            return order
    listed = ", ".join(f"{axis} {getattr(_coordinates(tree, seed, axis), 'size', 'none')}" for axis in usual)
    raise UserError(
        f"{tree.path}: {array.name} has shape {array.shape}, which does not fit the points in /{seed}/grid: {listed}"
    )


def _axis(tree: StoredTree, seed: str, name: str, boundary: tuple[Side, Side], notes: list[str]) -> Axis:
    axis, note = axis_from_points(name, numbers(tree, f"/{seed}/grid/{name}").ravel(), boundary, path=tree.path)
    notes.extend([note] if note else [])
    return axis


def _times(
    tree: StoredTree, seeds: Sequence[str], arrays: Sequence[StoredArray], statement: Statement
) -> np.ndarray | None:
    """(T,) where all seeds agree, else (N, T), NaN behind the end of a shorter one; ``None``: count the frames."""
    table = np.full((len(seeds), max(array.shape[0] for array in arrays)), np.nan)
    for row, seed, array in zip(table, seeds, arrays, strict=True):
        stored = _coordinates(tree, seed, "t")
        if stored is None or stored.size not in (array.shape[0], array.shape[0] + 1):
            if statement.time_step is not None:
                return None
            raise UserError(
                f"{tree.path}: /{seed}/grid/t has {stored.size if stored else 'no'} entries for {array.shape[0]} "
                f"frames of {array.name}; state data.time_step to count the frames as evenly spaced"
            )
        row[: array.shape[0]] = numbers(tree, stored.path).ravel()[: array.shape[0]]
    longest = table[int(np.argmax([array.shape[0] for array in arrays]))]
    agree = same_rows(np.where(np.isnan(table), longest, table))
    return longest if agree else table


def _parameters(configs: Sequence[Mapping[str, Any]], notes: list[str]) -> dict[str, np.ndarray]:
    """The physical numbers that every seed states."""
    names = dict.fromkeys(name for config in configs for name, value in config.items() if _number(value) is not None)
    parameters = {}
    for name in names:
        if name in _NOT_PHYSICS:
            continue
        values = [_number(config.get(name)) for config in configs]
        if None in values:
            notes.append(f"the parameter {name} is missing in {values.count(None)} of {len(values)} seeds and not read")
        else:
            parameters[name] = np.array(values, dtype=np.float64)
    return parameters


def _number(value: Any) -> float | None:
    """A finite number, also where YAML 1.1 takes it for text (5E-4 has no point)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
