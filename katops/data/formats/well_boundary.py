"""Boundary conditions in files of The Well: a type, the axes it belongs to and a mask over them, per condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from katops.data.formats.well_scalars import words
from katops.data.storage import StoredTree
from katops.fields import BOUNDARIES, Side

_GROUP = "/boundary_conditions"
# Where several conditions meet on one side, the one that is named first holds; a wall must cover the whole side.
_PRECEDENCE = ("periodic", "open", "wall", "dirichlet", "neumann", "none")


def boundaries(tree: StoredTree, dims: Sequence[str], notes: list[str]) -> dict[str, tuple[Side, Side]]:
    """(lower, upper) condition of each axis; "open" where the file says nothing, as the_well itself assumes.

    A mask without a True at either end applies to the whole axis (published PERIODIC masks may be all False), unless
    it marks something inside, which is an obstacle.

    Args:
        tree: the file.
        dims: names of the spatial axes.
        notes: what was assumed is appended.
    """
    found: dict[str, tuple[list[Side], list[Side]]] = {name: ([], []) for name in dims}
    for name in tree.subgroups(_GROUP):
        attributes = tree.groups[f"{_GROUP}/{name}"]
        kind = _kind(name, str(attributes.get("bc_type", "")), notes)
        dims_here = words(attributes.get("associated_dims"))
        mask = _mask(tree, name, len(dims_here), notes)
        for place, dim in enumerate(dims_here):
            if dim not in found:
                notes.append(f"the boundary condition {name} belongs to an axis {dim!r} that does not exist")
                continue
            for side, applies in zip(found[dim], _sides(mask, place, kind, name, dim, notes), strict=True):
                side.extend([kind] if applies else [])
    return {dim: _settled(dim, lower, upper, notes) for dim, (lower, upper) in found.items()}


def _kind(name: str, stored: str, notes: list[str]) -> Side:
    kind = stored.strip().lower()
    if kind in BOUNDARIES:
        return kind
    notes.append(f"the boundary condition {name} has an unknown type {stored!r}, which counts as none")
    return "none"


def _mask(tree: StoredTree, name: str, rank: int, notes: list[str]) -> np.ndarray | None:
    """The mask over the associated axes; of the first sample and frame where it changes with them."""
    stored = tree.find(f"{_GROUP}/{name}/mask")
    if stored is None or len(stored.shape) < rank or not stored.size:
        return None
    mask = np.asarray(tree.values(stored.path)).astype(bool)
    if mask.ndim > rank:
        notes.append(f"the mask of the boundary condition {name} changes; that of the first sample and frame is used")
        mask = mask[(0,) * (mask.ndim - rank)]
    return mask


def _sides(mask: np.ndarray | None, place: int, kind: Side, name: str, dim: str, notes: list[str]) -> tuple[bool, bool]:
    """Whether a condition applies to the lower and to the upper side of an axis."""
    if mask is None:
        return True, True
    covers = np.all if kind == "wall" else np.any
    lower, upper = (bool(covers(np.take(mask, end, axis=place))) for end in (0, -1))
    if kind == "periodic" and lower != upper:
        return True, True
    if lower or upper:
        return lower, upper
    if mask.any():
        # It may lie on the sides of another axis; on none at all it is an obstacle.
        if not any(np.take(mask, end, axis=axis).any() for axis in range(mask.ndim) for end in (0, -1)):
            notes.append(
                f"the boundary condition {name} ({kind}) marks points inside the domain; they are not described"
            )
        return False, False
    notes.append(f"the mask of the boundary condition {name} is empty; {kind} is taken to hold on both sides of {dim}")
    return True, True


def _settled(dim: str, lower: list[Side], upper: list[Side], notes: list[str]) -> tuple[Side, Side]:
    if not lower and not upper:
        notes.append(f"the file does not say what holds at the ends of {dim}; taken for open")
    sides = []
    for kinds in (lower, upper):
        if len(set(kinds)) > 1:
            notes.append(f"several conditions hold at one end of {dim} ({', '.join(sorted(set(kinds)))})")
        sides.append(min(kinds, key=_PRECEDENCE.index, default="open"))
    return ("periodic", "periodic") if "periodic" in sides else (sides[0], sides[1])
