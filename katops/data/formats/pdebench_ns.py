"""PDEBench, incompressible Navier-Stokes with a force: velocity, particles and force in batches, no coordinates.

``velocity`` (B, T, X, Y, 2), ``particles`` (B, T, X, Y, 1), ``force`` (B, X, Y, 2), ``t`` (B, T); attributes ``config``
(YAML) and ``latestIndex``, the last frame that was written. Source of the data: https://doi.org/10.18419/darus-2986.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from katops.data.formats.assembling import Draft, components, finish
from katops.data.formats.coordinates import numbers, same_rows
from katops.data.layout import ChannelArray, FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis

FORMAT = "pdebench_ns"


def recognise(tree: StoredTree) -> bool:
    """Whether the root holds ``velocity`` and ``particles``, batches of frames with components last."""
    velocity, particles = tree.find("velocity"), tree.find("particles")
    if velocity is None or particles is None or len(velocity.shape) not in (5, 6):
        return False
    return velocity.shape[:-1] == particles.shape[:-1] and velocity.shape[-1] == len(velocity.shape) - 3


def describe(tree: StoredTree, statement: Statement) -> FileLayout:
    """Channels, times and viscosity; the box is the generator's, 0 to n with a grid spacing of 1."""
    velocity, particles = tree.array("velocity"), tree.array("particles")
    samples, stored_frames, *space = velocity.shape[:-1]
    notes = [
        "no coordinates are stored: the grid is the generator's, cell centres of spacing 1",
        "boundary: velocity is zero at the walls, smoke has no gradient there",
    ]
    frames = _frames(tree, stored_frames, notes)
    names = tuple("xyz"[: len(space)])
    channels = [_smoke(particles, names), *_vector(velocity, "velocity", ("sample", "time", *names))]
    if (force := tree.find("force")) is not None:
        channels += _force(tree, force, (samples, *space), names)
    draft = Draft(
        format=FORMAT,
        name=f"pdebench_{len(space)}d_incompressible_navier_stokes",
        channels=channels,
        axes=[
            Axis(n, "cell_centres", 0.0, float(size), ("wall", "wall")) for n, size in zip(names, space, strict=True)
        ],
        space=tuple(space),
        frames=np.full(samples, frames),
        times=_times(tree, samples, frames),
        parameters=_viscosity(tree.attributes),
        notes=notes,
    )
    return finish(tree, statement, draft)


def _frames(tree: StoredTree, stored: int, notes: list[str]) -> int:
    latest = tree.attributes.get("latestIndex", stored - 1)
    if not isinstance(latest, int) or not -1 <= latest < stored:
        raise UserError(
            f"{tree.path}: the attribute latestIndex is {latest!r}, but velocity has {stored} frames; download the "
            f"file again"
        )
    if latest == -1:
        raise UserError(f"{tree.path}: latestIndex is -1: the run was aborted before its first frame was written")
    if latest < stored - 1:
        notes.append(
            f"the run was aborted: frames 0 to {latest} of {stored} were written (latestIndex), the others are left out"
        )
    return latest + 1


def _smoke(particles: StoredArray, names: tuple[str, ...]) -> ChannelArray:
    axes = ("sample", "time", *names, "channel")
    return ChannelArray("smoke", (particles.path,), particles.dtype, axes, particles.shape, (0,))


def _vector(array: StoredArray, quantity: str, axes: tuple[str, ...]) -> list[ChannelArray]:
    return components(
        quantity,
        axes[-(array.shape[-1]) :],
        array.shape[-1],
        datasets=(array.path,),
        dtype=array.dtype,
        axes=(*axes, "channel"),
        shape=array.shape,
    )


def _force(tree: StoredTree, force: StoredArray, sizes: tuple[int, ...], names: tuple[str, ...]) -> list[ChannelArray]:
    if force.shape != (*sizes, len(names)):
        raise UserError(f"{tree.path}: force has shape {force.shape}; velocity asks for {(*sizes, len(names))}")
    return _vector(force, "force", ("sample", *names))


def _times(tree: StoredTree, samples: int, frames: int) -> np.ndarray | None:
    """(T,) where all samples agree, as published; else (N, T)."""
    stored = tree.find("t")
    if stored is None:
        return None
    times = np.atleast_2d(numbers(tree, "t"))
    if times.shape[0] not in (1, samples) or times.shape[1] < frames:
        raise UserError(f"{tree.path}: t has shape {stored.shape}; ({samples}, {frames}) or more frames are needed")
    times = times[:, :frames]
    return times[0] if same_rows(times) else times


def _viscosity(attributes: Mapping[str, Any]) -> dict[str, float]:
    """NU of the ``config``; the other numbers there describe the run and the random initial state."""
    try:
        config = yaml.load(str(attributes.get("config", "")), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return {"NU": float(config["NU"])}
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return {}
