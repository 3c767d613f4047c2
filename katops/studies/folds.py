"""The folds of a study as positions of rows; how they are dealt out is in :mod:`katops.materials.folds`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from katops.errors import UserError
from katops.materials.folds import Folds, Split


@dataclass(frozen=True)
class Fold:
    """Positions of the rows of one training.

    Attributes:
        name: such as "repeat 0, fold 3" or "without Al".
        train, test: positions, in ascending order.
    """

    name: str
    train: np.ndarray
    test: np.ndarray


def positions(folds: Folds) -> list[Fold]:
    """Every split as positions of rows."""
    return [Fold(part.name, *rows) for part, rows in zip(folds.splits, folds.split(), strict=True)]


def without_each(
    members: dict[str, np.ndarray], keys: Sequence[str], smallest: int, largest_share: float, kind: str, seed: int
) -> Folds:
    """A split for each name: the rows that have it are held out.

    Args:
        members: name -> (n,) whether a row has it.
        keys: what the rows are.
        smallest: names of fewer rows than this get no split.
        largest_share: names of more than this share of the rows get none.
        kind, seed: of the folds, for the record.

    Raises:
        UserError: no name is left.
    """
    chosen = {name: has for name, has in members.items() if smallest <= has.sum() <= largest_share * len(has)}
    if not chosen:
        raise UserError(
            f"folds.schemes: no {kind} is in at least {smallest} rows and at most {100 * largest_share:.0f} % of them, "
            f"so none can be held out"
        )
    splits = [
        Split(f"without {name}", frozenset(np.asarray(keys, dtype=object)[has].tolist()))
        for name, has in sorted(chosen.items())
    ]
    return Folds(kind, seed, tuple(splits), tuple(keys))
