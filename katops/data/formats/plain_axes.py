"""Which axes the arrays of a plain file have: stated, or implied where only one reading is possible."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from katops.data.formats.netcdf_conventions import roles_of
from katops.data.layout import ChannelArray, Statement
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError, did_you_mean

SPACE = ("x", "y", "z")
ROLES = ("sample", "time", "channel")


def axes_of(tree: StoredTree, arrays: Sequence[StoredArray], statement: Statement) -> dict[str, tuple[str, ...]]:
    """The axes of each array by its path, in the order in which its author counts them.

    Raises:
        UserError: the statement is missing where there is more than one reading, or does not fit an array.
    """
    if isinstance(statement.axes, Mapping):
        return _mapped(tree, arrays, statement.axes)
    if statement.axes is not None:
        _check(tree, statement.axes)
        return _listed(tree, arrays, statement.axes)
    named = {array.path: roles_of(array) for array in arrays}
    if all(named.values()):
        _check_space(tree, named)
        return named
    ranks = sorted({len(array.shape) for array in arrays})
    if ranks == [2]:
        return {array.path: ("sample", "x") for array in arrays}
    raise UserError(_unclear(tree, arrays, ranks))


def space_of(axes: Iterable[Sequence[str]], channels: Sequence[ChannelArray]) -> dict[str, int]:
    """Names and sizes of the spatial axes, in the order of the array that has most of them.

    Args:
        axes: of each array, as its author counts them.
        channels: of these arrays.
    """
    fullest = max(axes, key=lambda entry: sum(axis not in ROLES for axis in entry))
    names = [axis for axis in fullest if axis not in ROLES]
    return {name: next(channel.size(name) for channel in channels if name in channel.axes) for name in names}


def possible_statements(ranks: Sequence[int]) -> list[tuple[str, ...]]:
    """The lists that arrays of these ranks could have, sample first."""
    lowest, highest = min(ranks), max(ranks)
    timed = ("sample", "time", *SPACE[: highest - 2])
    steady = ("sample", *SPACE[: highest - 1])
    guesses = [timed] if 3 <= highest <= 5 and lowest >= highest - 1 else []
    return guesses + ([steady] if lowest == highest and 2 <= highest <= 4 else [])


def said(arrays: Sequence[StoredArray]) -> str:
    """Names and shapes, for messages."""
    return ", ".join(f"{array.name} {array.logical_shape}" for array in arrays)


def _unclear(tree: StoredTree, arrays: Sequence[StoredArray], ranks: Sequence[int]) -> str:
    guesses = possible_statements(ranks)
    if not guesses:
        return f"{tree.path}: arrays must be (sample, *space) or (sample, time, *space); given: {said(arrays)}"
    if any(array.column_major for array in arrays):
        # MATLAB's users put time last.
        last = [(*(name for name in guess if name != "time"), "time") for guess in guesses if "time" in guess]
        guesses = [*guesses[:1], *last, *guesses[1:]]
    statements = " or ".join(f"data.axes: [{', '.join(guess)}]" for guess in guesses)
    return (
        f"{tree.path}: it is not clear which axes the arrays have ({said(arrays)}); state them in the configuration: "
        f"{statements}"
    )


def _check(tree: StoredTree, axes: Sequence[str], array: str = "") -> None:
    """That a stated list can be meant."""
    space = [name for name in axes if name not in ROLES]
    if len(set(axes)) != len(axes) or not 1 <= len(space) <= 3:
        where = f"data.axes: {{{array}: [{', '.join(axes)}]}}" if array else f"data.axes: [{', '.join(axes)}]"
        raise UserError(
            f"{tree.path}: {where} cannot be read; allowed are sample, time, channel and 1 to 3 spatial axes, each "
            f"once, in the order of the array, e.g. [sample, time, x, y]"
        )


def _mapped(
    tree: StoredTree, arrays: Sequence[StoredArray], stated: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    by_path = {"/" + name.strip("/"): tuple(axes) for name, axes in stated.items()}
    for name in stated:
        tree.array(name)
    axes = {}
    for array in arrays:
        if array.path not in by_path:
            raise UserError(
                f"{tree.path}: data.axes says nothing about the array {array.name!r} of shape {array.logical_shape}"
                f"{did_you_mean(array.name, stated)} Add {array.name}: [...] to it."
            )
        _check(tree, by_path[array.path], array.name)
        if len(by_path[array.path]) != len(array.shape):
            raise UserError(_misfit(tree, array, by_path[array.path]))
        axes[array.path] = by_path[array.path]
    _check_space(tree, axes)
    return axes


def _check_space(tree: StoredTree, axes: Mapping[str, tuple[str, ...]]) -> None:
    """That one array has all spatial axes: a misspelt one would otherwise be a second direction."""
    names = [{name for name in entry if name not in ROLES} for entry in axes.values()]
    every = set().union(*names)
    if every not in names:
        stated = "; ".join(f"{path.strip('/')}: [{', '.join(entry)}]" for path, entry in axes.items())
        raise UserError(
            f"{tree.path}: data.axes names the spatial axes {', '.join(sorted(every))}, but no array has all of them "
            f"({stated})"
        )


def _listed(tree: StoredTree, arrays: Sequence[StoredArray], stated: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """One list for all arrays: those with fewer axes lack one that the sizes of the others allow them to lack."""
    full = [array for array in arrays if len(array.shape) == len(stated)]
    if not full and "time" in stated:
        raise UserError(
            f"{tree.path}: data.axes: [{', '.join(stated)}] states time, but no array has {len(stated)} axes: "
            f"{said(arrays)}"
        )
    if not full:
        raise UserError(_misfit(tree, arrays[0], stated))
    sizes = dict(zip(stated, full[0].logical_shape, strict=True))
    return {array.path: _lacking(tree, array, stated, sizes) for array in arrays}


def _lacking(
    tree: StoredTree, array: StoredArray, stated: tuple[str, ...], sizes: Mapping[str, int]
) -> tuple[str, ...]:
    droppable = [name for name in ("time", "channel", "sample") if name in stated]
    readings = [
        tuple(name for name in stated if name not in missing)
        for missing in combinations(droppable, _gap(array, stated))
    ]
    if not readings:
        raise UserError(_misfit(tree, array, stated))
    # Arrays may differ in their number of components, so that this size decides only where all others are equal.
    exact = [reading for reading in readings if _fits(array, reading, sizes)]
    if len({"channel" in reading for reading in exact}) > 1:
        offers = " or ".join(f"[{', '.join(reading)}]" for reading in exact)
        raise UserError(
            f"{tree.path}: array {array.name!r} of shape {array.logical_shape} may have the axes {offers}; state "
            f"data.axes for each array, e.g. axes: {{{array.name}: [{', '.join(exact[0])}], ...}}"
        )
    loose = [reading for reading in readings if _fits(array, reading, {**sizes, "channel": None})]
    # Where no reading fits, the first one says what disagrees.
    return (exact or loose or readings)[0]


def _fits(array: StoredArray, reading: Sequence[str], sizes: Mapping[str, int | None]) -> bool:
    """Whether the sizes along the axes are those given; ``None`` allows any."""
    return all(sizes[name] in (None, size) for name, size in zip(reading, array.logical_shape, strict=True))


def _gap(array: StoredArray, stated: Sequence[str]) -> int:
    missing = len(stated) - len(array.shape)
    return missing if missing >= 0 else len(stated) + 1


def _misfit(tree: StoredTree, array: StoredArray, axes: Sequence[str]) -> str:
    return (
        f"{tree.path}: array {array.name!r} has shape {array.logical_shape}, which does not fit data.axes: "
        f"[{', '.join(axes)}]"
    )
