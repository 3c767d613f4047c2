"""Folds that a score can be trusted on: grouped, balanced, the same on every machine, and stored with a digest."""

import hashlib
import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from katops.errors import UserError
from katops.files import write_text
from katops.materials.typed_table import MaterialsTable

FORMAT = "katops folds 1"
KINDS = ("random", "composition", "system", "reference", "element")


@dataclass(frozen=True)
class Split:
    """One division into training and test rows.

    Attributes:
        name: for example ``repeat 0, fold 3`` or ``without Al``.
        test: keys of the test rows; every other row is for training.
    """

    name: str
    test: frozenset[str]


@dataclass(frozen=True)
class Folds:
    """Splits of a table, told by the keys of its rows, so that they do not depend on the order of the rows.

    An object of this class is what scikit-learn calls ``cv``: ``cross_val_score(model, X, y, cv=folds)``.

    Attributes:
        kind: random, composition, system, reference or element.
        seed: of the assignment.
        splits: in order.
        keys: the key of each row of the table at hand.
    """

    kind: str
    seed: int
    splits: tuple[Split, ...]
    keys: tuple[str, ...] = field(repr=False)

    def split(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Row numbers for training and for testing, one pair a split.

        Raises:
            UserError: ``X`` has another number of rows than the table that the folds are of.
        """
        if X is not None and len(X) != len(self.keys):
            raise UserError(f"the folds are of {len(self.keys)} rows, X has {len(X)}; make them of the same table")
        for part in self.splits:
            test = np.array([key in part.test for key in self.keys])
            yield np.flatnonzero(~test), np.flatnonzero(test)

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """How many splits there are."""
        return len(self.splits)

    @property
    def digest(self) -> str:
        """SHA-256 of kind, seed, keys and splits in canonical JSON; independent of the order of the rows."""
        return hashlib.sha256(_canonical(self._content()).encode()).hexdigest()

    def check(self, digest: str) -> None:
        """Refuse folds other than those that a result was made with.

        Raises:
            UserError: the digests differ.
        """
        if digest != self.digest:
            raise UserError(
                f"these folds ({self.kind}, seed {self.seed}) have the digest {self.digest[:12]}..., expected "
                f"{digest[:12]}...: rows, seed or kind differ, so that scores cannot be compared"
            )

    def save(self, path: str | Path) -> None:
        """Write the splits and their digest as JSON, atomically."""
        write_text(path, json.dumps({**self._content(), "digest": self.digest}, ensure_ascii=False, indent=1) + "\n")

    def _content(self) -> dict[str, Any]:
        splits = [{"name": part.name, "test": sorted(part.test)} for part in self.splits]
        return {
            "format": FORMAT,
            "kind": self.kind,
            "seed": self.seed,
            "rows": len(self.keys),
            "keys": sorted(set(self.keys)),
            "splits": splits,
        }


def make_folds(
    table: MaterialsTable,
    kind: str = "composition",
    folds: int = 5,
    *,
    repeats: int = 1,
    seed: int = 0,
    stratify: str | None = None,
    min_rows: int = 5,
) -> Folds:
    """Folds of a data set. Rows with the same inputs are in the same fold, whatever the kind.

    Args:
        table: the rows, already narrowed to those with a target.
        kind: "random" (by inputs), "composition", "system", "reference", or "element": each split tests on all alloys
            that hold one element, trained on those without it.
        folds: number of folds (not for "element").
        repeats: how often, each time assigned anew.
        seed: another seed, other folds; the same seed, the same folds on every machine and for every order of rows.
        stratify: a column of classes whose shares every fold should have; default: the target of a classification.
        min_rows: for "element", how many rows must hold it and how many must not.

    Raises:
        UserError: the kind is unknown, or there are fewer groups than folds.
    """
    if kind not in KINDS:
        raise UserError(f"unknown kind of folds {kind!r}; allowed: {', '.join(KINDS)}")
    inputs = table.keys("inputs")
    if kind == "element":
        return _leave_element_out(table, inputs, seed, min_rows)
    if stratify is None and table.card.task == "classification":
        stratify = table.targets[0]
    if stratify is not None and stratify not in table.frame:
        raise UserError(f"data set {table.card.name!r} has no column {stratify!r} to stratify by")
    labels = None if stratify is None else table.frame[stratify].astype(str).tolist()
    groups = inputs if kind == "random" else table.keys(kind)
    return grouped_folds(inputs, groups, folds, repeats=repeats, seed=seed, labels=labels, kind=kind)


def grouped_folds(
    keys: Sequence[str],
    groups: Sequence[Hashable] | None = None,
    folds: int = 5,
    *,
    repeats: int = 1,
    seed: int = 0,
    labels: Sequence[Hashable] | None = None,
    kind: str = "random",
) -> Folds:
    """Folds of any rows that have keys.

    Large groups are taken first (those of similar size in an order that only seed, repeat and their keys decide), each
    put into the fold that keeps the numbers of each class, or of rows, most even. Groups that share a key are one.

    Args:
        keys: what the rows are; rows with the same key share a fold.
        groups: rows with the same group share a fold, too; default: the keys.
        folds: number of folds.
        repeats: how often.
        seed: of the order.
        labels: classes that every fold should hold evenly.
        kind: kept as a name.

    Raises:
        UserError: fewer than 2 folds, or fewer groups than folds.
    """
    if folds < 2 or repeats < 1:
        raise UserError(f"folds must be at least 2 and repeats at least 1, got {folds} and {repeats}")
    members = _joined_groups(keys, keys if groups is None else groups)
    if len(members) < folds:
        raise UserError(
            f"{len(members)} groups ({kind}) cannot fill {folds} folds; use fewer folds, or group by something finer"
        )
    counts = _class_counts(members, keys, labels)
    splits = [
        Split(f"repeat {repeat}, fold {number}", frozenset(test))
        for repeat in range(repeats)
        for number, test in enumerate(_assign(members, counts, folds, f"{seed}/{repeat}"))
    ]
    return Folds(kind, seed, tuple(splits), tuple(keys))


def load_folds(path: str | Path, table: MaterialsTable | Sequence[str]) -> Folds:
    """Read folds that were saved, for the table (or the keys) that they were made of.

    Raises:
        UserError: the file cannot be read, was changed, or belongs to other rows.
    """
    keys = tuple(table.keys("inputs") if isinstance(table, MaterialsTable) else table)
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        splits = tuple(Split(part["name"], frozenset(part["test"])) for part in content["splits"])
        kind, seed, digest, stored = content["kind"], content["seed"], content["digest"], content["keys"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{str(path)!r} cannot be read as folds: {error}") from error
    found, expected = set(keys), set(stored)
    if found != expected or len(keys) != content["rows"]:
        raise UserError(
            f"the folds of {str(path)!r} are of other rows: {len(found - expected)} here are not among theirs, "
            f"{len(expected - found)} of theirs are missing here, {len(keys)} rows against {content['rows']}"
        )
    folds = Folds(kind, seed, splits, keys)
    folds.check(digest)
    return folds


def _joined_groups(keys: Sequence[str], groups: Sequence[Hashable]) -> list[list[str]]:
    """The keys of each group, groups with a common key joined; sorted."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if len(keys) != len(groups):
        raise UserError(f"there are {len(keys)} keys but {len(groups)} groups; both need one entry a row")
    names = sorted(set(keys))
    key_number = {key: number for number, key in enumerate(names)}
    group_number = {group: len(names) + number for number, group in enumerate(dict.fromkeys(groups))}
    ends = [key_number[key] for key in keys], [group_number[group] for group in groups]
    size = len(names) + len(group_number)
    graph = coo_array((np.ones(len(keys)), ends), shape=(size, size))
    _, component = connected_components(graph, directed=False)
    members: dict[int, list[str]] = {}
    for number, key in enumerate(names):
        members.setdefault(int(component[number]), []).append(key)
    return sorted(members.values())


def _class_counts(
    members: Sequence[Sequence[str]], keys: Sequence[str], labels: Sequence[Hashable] | None
) -> np.ndarray:
    """Rows of each group and class ``(groups, classes)``."""
    labels = [""] * len(keys) if labels is None else [str(label) for label in labels]
    classes = {label: number for number, label in enumerate(sorted(set(labels)))}
    group_of = {key: number for number, group in enumerate(members) for key in group}
    counts = np.zeros((len(members), len(classes)), dtype=int)
    for key, label in zip(keys, labels, strict=True):
        counts[group_of[key], classes[label]] += 1
    return counts


def _assign(members: Sequence[Sequence[str]], counts: np.ndarray, folds: int, salt: str) -> list[list[str]]:
    """The keys of each fold."""

    def order(number: int) -> tuple[int, str]:
        size = int(counts[number].sum()).bit_length()  # sizes within a factor of 2 are mixed, so that repeats differ
        return -size, hashlib.sha256(f"{salt}/{members[number][0]}".encode()).hexdigest()

    filled = np.zeros((folds, counts.shape[1]))
    totals = counts.sum(axis=0)
    tests: list[list[str]] = [[] for _ in range(folds)]
    for number in sorted(range(len(members)), key=order):
        # growth of Σ_classes (share in the fold)²; of equal folds the one with the fewest rows, then the first
        growth = ((2 * filled + counts[number]) * counts[number] / totals**2).sum(axis=1)
        fold = min(range(folds), key=lambda index: (round(growth[index], 12), filled[index].sum(), index))
        filled[fold] += counts[number]
        tests[fold].extend(members[number])
    return tests


def _leave_element_out(table: MaterialsTable, inputs: Sequence[str], seed: int, min_rows: int) -> Folds:
    splits = []
    for symbol in sorted(table.elements):
        holds = (table.frame[symbol] > 0).to_numpy()
        if min(holds.sum(), (~holds).sum()) >= min_rows:
            test = frozenset(key for key, there in zip(inputs, holds, strict=True) if there)
            splits.append(Split(f"without {symbol}", test))
    if not splits:
        raise UserError(f"no element of {table.card.name!r} is in at least {min_rows} rows and absent from as many")
    return Folds("element", seed, tuple(splits), tuple(inputs))


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
