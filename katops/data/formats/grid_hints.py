"""Grid and domain of a file that does not describe itself, read off arrays that look like coordinates of its axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isclose
from typing import Any

import numpy as np

from katops.data.formats.coordinates import axis_from_points
from katops.data.formats.plain_axes import SPACE
from katops.data.layout import FileLayout, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis


@dataclass(frozen=True)
class GridHint:
    """What coordinates say.

    Attributes:
        statement: ``grid`` and ``domain``; empty where an axis has no coordinates or they cannot be stated.
        source: the arrays, for people.
        warnings: sentences about what does not fit.
    """

    statement: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    warnings: tuple[str, ...] = ()


def coordinates_of(tree: StoredTree, axis: str) -> StoredArray | None:
    """The array with one axis that is called like an axis of space: x, grid/x, x-coordinate, coord_x, ..."""
    names = {axis, f"{axis}-coordinate", f"{axis}_coordinate", f"{axis}-coordinates", f"{axis}_coordinates"}
    names |= {f"{axis}_coord", f"{axis}_coords", f"coord_{axis}", f"{axis}coord", f"grid_{axis}", f"{axis}_grid"}
    for array in tree.arrays.values():
        row = sum(size > 1 for size in array.shape) == 1
        if array.is_real and row and array.name.rsplit("/", 1)[-1].lower() in names:
            return array
    return None


def renamed(tree: StoredTree, layout: FileLayout) -> dict[str, str]:
    """Other names for the axes of space, where the coordinates of every axis fit in that order and no other."""
    sizes = {name: array.size for name in SPACE[: len(layout.space)] if (array := coordinates_of(tree, name))}
    names = [axis.name for axis in layout.meta.axes]
    if len(sizes) < len(names) or len(set(sizes.values())) < len(sizes) or sorted(sizes) != sorted(names):
        return {}
    by_size = {size: name for name, size in sizes.items()}
    if any(size not in by_size for size in layout.space):
        return {}
    return {name: by_size[size] for name, size in zip(names, layout.space, strict=True) if by_size[size] != name}


def grid_hint(tree: StoredTree, layout: FileLayout, statement: Statement) -> GridHint:
    """Grid and domain that the coordinates in a file mean, and whether they contradict what is stated."""
    axes: list[Axis | None] = []
    sources, warnings = [], []
    for axis, size in zip(layout.meta.axes, layout.space, strict=True):
        array = coordinates_of(tree, axis.name)
        found = None if array is None else _axis(tree, array, axis, size, warnings)
        axes.append(found)
        if array is not None:
            sources.append(array.name)
        if found is not None:
            warnings += _contradictions(array.name, axis, found, statement)
    if None in axes:
        return GridHint(warnings=tuple(warnings))
    said = {"grid": _one_or_each([axis.grid for axis in axes]), "domain": [[axis.lower, axis.upper] for axis in axes]}
    return GridHint(said, f"from the coordinates in {' and '.join(sources)}", tuple(warnings))


def _axis(tree: StoredTree, array: StoredArray, axis: Axis, size: int, warnings: list[str]) -> Axis | None:
    if array.size != size:
        warnings.append(
            f"array {array.name!r} has {array.size} points, but the axis {axis.name} has {size}; the axes may be in "
            f"another order, see data.axes"
        )
        return None
    try:
        points = np.asarray(tree.values(array.path), np.float64).ravel()
        found, note = axis_from_points(axis.name, points, axis.boundary, path=tree.path)
    except UserError:
        return None
    if found.grid == "uneven":
        warnings.append(
            f"the coordinates in {array.name!r} are not evenly spaced, and the axis {axis.name} is taken for an evenly "
            f"spaced one"
        )
        return None
    warnings += [note] if note else []
    return found


def _contradictions(source: str, ours: Axis, found: Axis, statement: Statement) -> list[str]:
    spacing = 1e-3 * (found.upper - found.lower)
    same = all(isclose(a, b, abs_tol=spacing) for a, b in ((ours.lower, found.lower), (ours.upper, found.upper)))
    facts = []
    if statement.grid is not None and ours.grid != found.grid:
        facts.append(f"{found.grid}, not {ours.grid}")
    if statement.domain is not None and not same:
        facts.append(f"the domain [{found.lower:g}, {found.upper:g}], not [{ours.lower:g}, {ours.upper:g}]")
    return [f"the coordinates in {source!r} mean {fact} along {ours.name}" for fact in facts]


def _one_or_each(grids: Sequence[str]) -> str | list[str]:
    return grids[0] if len(set(grids)) == 1 else list(grids)
