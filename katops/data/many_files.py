"""Several files as one data set: that they belong together, and numbers per frame for samples of all of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from katops.data.layout import FileLayout
from katops.errors import DataWarning, UserError
from katops.fields import Axis, Channel

# Coordinates that differ by less than this part of a spacing are the same: files store them rounded.
_SAME_POINT = 1e-3


class FrameTable:
    """Numbers per frame (times, scalars) of the samples of several files, looked up for a whole batch at once.

    Args:
        tables: of each file (rows, T, \\*numbers); one row that holds for every sample, or a row for each.
    """

    def __init__(self, tables: Sequence[np.ndarray]) -> None:
        rows = [table.shape[0] for table in tables]
        lengths = [table.shape[1] for table in tables]
        self._values = np.concatenate([table.reshape(-1, *table.shape[2:]) for table in tables])
        self._first = np.concatenate([[0], np.cumsum(np.multiply(rows, lengths))])[:-1]
        self._per_sample = np.where(np.asarray(rows) > 1, lengths, 0)

    def at(self, files: np.ndarray, samples: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """(b, steps, \\*numbers) for files (b,), samples in their files (b,) and frames (b, steps)."""
        rows = self._first[files] + samples * self._per_sample[files]
        return self._values[rows[:, None] + frames]


def times_table(layouts: Sequence[FileLayout]) -> FrameTable | None:
    """Times of the frames of every sample; ``None`` where the files do not tell them."""
    if layouts[0].times is None or not layouts[0].time_dependent:
        return None
    return FrameTable([layout.times if layout.times.ndim == 2 else layout.times[None] for layout in layouts])


def scalars_table(layouts: Sequence[FileLayout]) -> FrameTable | None:
    """Scalars of the frames of every sample; ``None`` where there are none."""
    return None if layouts[0].scalars is None else FrameTable([layout.scalars for layout in layouts])


def time_steps(layouts: Sequence[FileLayout]) -> np.ndarray:
    """(files,) time between neighbouring frames; NaN where it is uneven, not told, or there is no time."""
    steps = [layout.meta.time_step if layout.time_dependent else None for layout in layouts]
    return np.array([np.nan if step is None else step for step in steps])


def check_alike(layouts: Sequence[FileLayout]) -> None:
    """Refuse files whose samples cannot be stacked.

    Raises:
        UserError: two files differ in channels, parameters, scalars, axes, or in what changes in time; the message
            names both and what differs.
    """
    first = layouts[0]
    for layout in layouts[1:]:
        for what, described in _FACTS.items():
            ours, theirs = described(first), described(layout)
            if ours != theirs:
                raise UserError(
                    f"{layout.path} and {first.path} cannot be read as one data set: {what} {theirs} in the former and "
                    f"{ours} in the latter; select channels that all files have, or use files of one kind only"
                )
        axes = zip(first.meta.axes, layout.meta.axes, first.space, strict=True)
        for position, (ours, theirs, size) in enumerate(axes):
            # Where the spacing is a parameter of each sample, the length of the axis is that of the first one only.
            length_varies = f"d{ours.name}" in [channel.name for channel in first.meta.parameters]
            if not _same_axis(ours, theirs, None if length_varies else size):
                raise UserError(
                    f"{layout.path} and {first.path} cannot be read as one data set: axis {position} is {theirs} in "
                    f"the former and {ours} in the latter; use files with the same grid and boundary conditions"
                )


def check_shards(layouts: Sequence[FileLayout]) -> None:
    """Warn where files that ``katops generate --shard`` made are not all there, or hold the same samples.

    Warns:
        DataWarning: samples of the generated set are missing, or in two files.
    """
    sets: dict[tuple[str, str], list[FileLayout]] = {}
    for layout in layouts:
        if "recipe_hash" in layout.attributes and "seed" in layout.attributes:
            key = (str(layout.attributes["recipe_hash"]), str(layout.attributes["seed"]))
            sets.setdefault(key, []).append(layout)
    for parts in sets.values():
        parts = sorted(parts, key=lambda part: int(part.attributes.get("first_sample", 0)))
        _check_parts(parts)


def _check_parts(parts: Sequence[FileLayout]) -> None:
    """Warn about gaps and overlaps of files of one generated set, which are sorted."""
    end, missing = 0, []
    for before, part in zip((None, *parts), parts, strict=False):
        first = int(part.attributes.get("first_sample", 0))
        if first < end:
            warnings.warn(
                f"{before.path} and {part.path} both hold samples {first} to {end - 1} of the same generated set; a "
                f"split may then test on what was trained on, so leave one of the files out",
                DataWarning,
                stacklevel=3,
            )
        missing += [(end, first - 1)] if first > end else []
        end = max(end, first + part.n_samples)
    total = int(parts[0].attributes.get("set_samples", end))
    missing += [(end, total - 1)] if total > end else []
    if missing and "set_samples" in parts[0].attributes and not _every_shard_is_there(parts[0].path):
        listed = ", ".join(f"{first} to {last}" for first, last in missing)
        warnings.warn(
            f"samples {listed} of the {total} to be generated are missing: {parts[0].path} is one of several shards; "
            f"make the others with katops generate --shard",
            DataWarning,
            stacklevel=3,
        )


def _every_shard_is_there(path: Path) -> bool:
    """Whether all shards of a set lie in one folder; who then names some of them leaves the others out on purpose."""
    name = re.fullmatch(r"(.+)-\d+-of-(\d+)(\.[^.]+)", path.name)
    if name is None:
        return False
    stem, count, ending = name.groups()
    return all((path.parent / f"{stem}-{number}-of-{count}{ending}").exists() for number in range(1, int(count) + 1))


def check_finite_numbers(layouts: Sequence[FileLayout], included: np.ndarray) -> None:
    """Refuse parameters, times and scalars that are not finite.

    Args:
        layouts: the files.
        included: (samples of all files,) bool, those that are read.

    Raises:
        UserError: a number of a sample that is read is not finite; the message names file, sample and number.
    """
    first = 0
    for layout in layouts:
        mask = included[first : first + layout.n_samples]
        first += layout.n_samples
        # Trajectories may be shorter than the table of times, whose rest means nothing.
        beyond = np.arange(layout.frames.max()) >= layout.frames[:, None]
        _check(layout, mask, layout.parameters, [channel.name for channel in layout.meta.parameters])
        if layout.time_dependent and layout.times is not None:
            times = np.broadcast_to(layout.times[..., : beyond.shape[1]], beyond.shape)
            _check(layout, mask, np.where(beyond, 0.0, times), ["time"])
        if layout.scalars is not None:
            values = np.where(beyond[..., None], 0.0, layout.scalars[:, : beyond.shape[1]])
            _check(layout, mask, values, [channel.name for channel in layout.meta.scalars])


def _check(layout: FileLayout, included: np.ndarray, values: np.ndarray, names: Sequence[str]) -> None:
    bad = np.argwhere(~np.isfinite(values) & included.reshape(-1, *(1,) * (values.ndim - 1)))
    if len(bad):
        name = names[bad[0][-1]] if len(names) > 1 else names[0]
        raise UserError(
            f"{layout.path}: {name!r} of sample {bad[0][0]} is {values[tuple(bad[0])]}; repair it, leave the sample "
            f"out, or allow such values"
        )


def _names(channels: Sequence[Channel]) -> str:
    told = (f"{channel.name} [{channel.unit}]" if channel.unit else channel.name for channel in channels)
    return f"({', '.join(told)})"


_FACTS: dict[str, Callable[[FileLayout], str]] = {
    "the inputs are": lambda layout: _names(layout.meta.inputs),
    "the outputs are": lambda layout: _names(layout.meta.outputs),
    "the constants are": lambda layout: _names(layout.meta.constants),
    "the parameters are": lambda layout: _names(layout.meta.parameters),
    "the scalars are": lambda layout: _names(layout.meta.scalars),
    "the points are": lambda layout: " x ".join(map(str, layout.space)),
    "what changes in time is": lambda layout: _names([array.channel for array in _moving(layout)]),
    "the times are": lambda layout: "not told" if layout.times is None else f"told in {layout.meta.time_unit or '1'}",
}


def _moving(layout: FileLayout) -> list:
    return [array for array in (*layout.inputs, *layout.outputs) if array.has_time]


def _same_axis(ours: Axis, theirs: Axis, size: int | None) -> bool:
    """Whether two axes agree; in the kind only, not the coordinates of the points, where ``size`` is ``None``."""
    facts = [(axis.name, axis.grid, axis.boundary, axis.unit) for axis in (ours, theirs)]
    if facts[0] != facts[1]:
        return False
    if size is None:
        return True
    points, others = ours.coordinates(size), theirs.coordinates(size)
    return bool(np.abs(points - others).max() <= _SAME_POINT * np.abs(np.diff(points)).min())
