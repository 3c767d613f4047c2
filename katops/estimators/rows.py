"""Training rows in a form that does not depend on their order or repetition, and the rows each member holds out."""

from dataclasses import dataclass

import numpy as np

MIN_VALIDATION_GROUPS = 10
"""With fewer groups of rows than this, none are held out: the error on one or two rows would decide the fit."""


@dataclass(frozen=True)
class Rows:
    """Distinct training rows, sorted.

    Two tables with the same rows in another order, or in which a row of weight 2 stands for two equal rows, give the
    same object to the last bit, and so the same fit.

    Attributes:
        inputs: scaled (n, I).
        targets: (n, J).
        weight: (n,), above zero, with mean 1.
        groups: whole numbers (n,); rows of one group are trained on or held out together.
    """

    inputs: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.weight)


def distinct(inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray, groups: np.ndarray | None) -> Rows:
    """Merge equal rows and drop those without weight.

    Args:
        inputs: scaled (N, I), without NaN.
        targets: (N, J).
        weight: (N,), not negative.
        groups: labels (N,); where there are none, rows with equal inputs are one group.
    """
    kept = weight > 0
    inputs, targets, weight = inputs[kept], targets[kept], weight[kept]
    labels = np.zeros(len(weight)) if groups is None else np.unique(groups[kept], return_inverse=True)[1]
    table = np.column_stack([inputs, targets, labels]) + 0.0  # -0.0 and 0.0 are the same row
    table, places = np.unique(table, axis=0, return_inverse=True)
    total = np.bincount(places.reshape(-1), weights=weight)
    width = inputs.shape[1]
    inputs, targets, labels = table[:, :width], table[:, width:-1], table[:, -1]
    if groups is None:
        labels = np.unique(inputs, axis=0, return_inverse=True)[1].reshape(-1)
    total = total * (len(total) / total.sum())
    return Rows(np.ascontiguousarray(inputs), np.ascontiguousarray(targets), total, labels.astype(np.int64))


def joined(training: Rows, others: Rows, members: int) -> tuple[Rows, np.ndarray]:
    """Training rows and rows to validate on as one, and which of them all members hold out, (n, members)."""
    parts = zip(vars(training).values(), vars(others).values(), strict=True)
    rows = Rows(*(np.concatenate(pair) for pair in parts))
    out = np.repeat(np.arange(len(rows)) >= len(training), members).reshape(len(rows), members)
    return rows, out


def held_out(
    rows: Rows, members: int, fraction: float, generator: np.random.Generator, classes: np.ndarray | None = None
) -> np.ndarray:
    """The rows that each member of an ensemble is validated on, (n, members), bool.

    The groups are dealt into round(1 / fraction) parts, and member after member holds out the next part, so that the
    members of an ensemble see different rows; they are dealt anew when all parts have been used.

    Args:
        rows: the training rows.
        members: their number.
        fraction: share of the groups to hold out, 0 to hold out none.
        generator: of the order of the groups.
        classes: class of each row (n,); every class has its share in each part, and one that occurs in a single group
            is always trained on.
    """
    names, place = np.unique(rows.groups, return_inverse=True)
    parts = max(2, round(1 / fraction)) if fraction > 0 else 0
    out = np.zeros((len(rows), members), dtype=bool)
    if not parts or len(names) < max(MIN_VALIDATION_GROUPS, parts):
        return out
    strata = None if classes is None else _first_class(place, classes, len(names))
    for member in range(members):
        if member % parts == 0:
            part = _deal(len(names), parts, strata, generator)
        out[:, member] = part[place] == member % parts
    if classes is not None:
        for single in np.unique(classes):
            of_class = classes == single
            lost = ~(of_class[:, None] & ~out).any(axis=0)
            out[np.ix_(of_class, lost)] = False
    return out


def _first_class(place: np.ndarray, classes: np.ndarray, groups: int) -> np.ndarray:
    first = np.full(groups, -1)
    first[place[::-1]] = classes[::-1]
    return first


def _deal(groups: int, parts: int, strata: np.ndarray | None, generator: np.random.Generator) -> np.ndarray:
    """The part (groups,) that each group falls into."""
    order = generator.permutation(groups)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    part = np.empty(groups, dtype=np.int64)
    part[order] = np.arange(groups) % parts
    return part
