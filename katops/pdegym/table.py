"""All data sets of PDEgym by name."""

from __future__ import annotations

from katops.errors import UserError, did_you_mean
from katops.pdegym.fluids import FLUIDS
from katops.pdegym.others import OTHERS
from katops.pdegym.published_set import PublishedSet

SETS: dict[str, PublishedSet] = {entry.name: entry for entry in (*FLUIDS, *OTHERS)}
"""By the name of the repository on the Hub."""
_CODES = {alias: entry for entry in SETS.values() for alias in entry.aliases}


def find_set(name: str) -> PublishedSet:
    """The data set of that name, or of that identifier in the published code.

    Raises:
        UserError: there is none; the message suggests the nearest name and lists all.
    """
    found = SETS.get(name) or _CODES.get(name)
    if found is None:
        raise UserError(
            f"unknown data set {name!r}{did_you_mean(name, [*SETS, *_CODES])} Published sets: {', '.join(SETS)}."
        )
    return found
