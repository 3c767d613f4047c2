"""Which axis counts samples, read off square grids: two equal sizes are those of space."""

from __future__ import annotations

from collections.abc import Mapping

from katops.data.formats.plain_axes import SPACE
from katops.data.storage import StoredArray

Axes = tuple[str, ...]
REASON = "two sizes are equal, so the other one counts the samples"


def odd_axis(shape: tuple[int, ...]) -> int | None:
    """The first or the last of three axes, if its size is not that of the two others, which are equal."""
    if len(shape) != 3:
        return None
    if shape[1] == shape[2] != shape[0]:
        return 0
    return 2 if shape[0] == shape[1] != shape[2] else None


def samples_last(fields: Mapping[str, StoredArray]) -> dict[str, Axes] | None:
    """The axes of arrays (n, n, N), and of those with time beside them; ``None`` where the samples do not lie last.

    Arrays belong together that have the largest such shape, or that shape with one more axis. The largest array must
    be among them, and there must be two: an array alone is no map between fields.
    """
    shapes = [array.logical_shape for array in fields.values() if odd_axis(array.logical_shape) == 2]
    if not shapes:
        return None
    steady = max(shapes, key=lambda shape: shape[0] * shape[1] * shape[2])
    found = {name: _axes(array.logical_shape, steady) for name, array in fields.items()}
    together = {name: axes for name, axes in found.items() if axes is not None}
    largest = max(fields, key=lambda name: fields[name].size)
    return together if len(together) > 1 and largest in together else None


def _axes(shape: tuple[int, ...], steady: tuple[int, ...]) -> Axes | None:
    axes = (*SPACE[:2], "sample")
    if shape == steady:
        return axes
    for place in (2, 0, 3):
        if len(shape) == 4 and shape[:place] + shape[place + 1 :] == steady:
            return (*axes[:place], "time", *axes[place:])
    return None
