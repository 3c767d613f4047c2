"""That a file can be the published data set whose preset a configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from katops.data.containers.probe import probe
from katops.data.formats.netcdf_conventions import variables
from katops.data.formats.pdegym import kind_of
from katops.data.formats.provenance import NAME
from katops.data.sources import find_all
from katops.data.storage import StoredTree
from katops.errors import UserError
from katops.pdegym import SETS, PublishedSet, find_set


def check_preset(name: str, where: str | Path | Sequence[str | Path], axes: Sequence[str] | None = None) -> None:
    """Refuse files whose arrays are those of another data set; most sets of one equation look alike.

    Files in other formats (converted, generated) are as good as those of PDEgym if they hold the channels, which is
    seen when they are described.

    Args:
        name: of the data set, or its identifier in the published code.
        where: as in :func:`katops.data.sources.describe_all`; the first file is looked at.
        axes: as stated beside the preset, or by it.

    Raises:
        UserError: the arrays, or their number of channels, are those of other sets, or the axes are not those that the
            preset states.
    """
    entry = find_set(name)
    tree = probe(find_all(where)[0])
    kind = kind_of(tree)
    if kind is None:
        return
    if kind != entry.kind:
        raise UserError(_other(tree, name, entry, [other.name for other in SETS.values() if other.kind == kind]))
    if NAME in tree.attributes:
        if entry.axes is not None and tuple(axes or ()) == entry.axes:
            raise UserError(
                f"{tree.path} was written by katops generate, whose axes are (x, y) already; state data.axes: null "
                f"beside data.preset: {name}"
            )
        return
    [variable, shape], *_ = entry.variables.items()
    if len(shape) == 5 and tree.array(variable).shape[2] != shape[2]:
        count = tree.array(variable).shape[2]
        alike = [o.name for o in SETS.values() if o.kind == kind and next(iter(o.variables.values()))[2] == count]
        raise UserError(_other(tree, name, entry, alike))


def _other(tree: StoredTree, name: str, entry: PublishedSet, alike: Sequence[str]) -> str:
    there = list((variables(tree) or tree.arrays).values())
    arrays = ", ".join(f"{array.name} {array.shape}" for array in there[:3])
    wanted = ", ".join(f"{array} {shape}" for array, shape in entry.variables.items())
    return (
        f"data.preset is {name!r}, whose file has the arrays {wanted}, but {tree.path} holds {arrays} as "
        f"{_listed(alike)} {'do' if len(alike) > 1 else 'does'}; name that preset, or give the file of {entry.name}"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "no published set"
