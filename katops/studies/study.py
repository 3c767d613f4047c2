"""A study before anything is fitted: rows, features, targets, the rows that every fold holds out; and all checks."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from katops.config.tables import COMPOSITION, ELEMENT, FORMULA_SCHEMES, RANDOM, SYSTEM, TableRunConfig
from katops.errors import UserError, did_you_mean
from katops.materials.folds import Folds, grouped_folds
from katops.studies.compositions import composition_keys, element_members, system_keys
from katops.studies.features import Design, design
from katops.studies.folds import Fold, positions, without_each
from katops.studies.models import CLASSIFICATION, REGRESSION, Candidate, Setting, candidates
from katops.studies.table import Table, labels_of, open_table, require

MOST_CLASSES_OF_NUMBERS = 10
"""Whole numbers with at most this many different values are taken for classes where the configuration does not say."""
SMALLEST_ELEMENT, LARGEST_ELEMENT = 10, 0.7
"""An element is held out on its own if so many rows have it, and at most this share of all."""


@dataclass(frozen=True)
class Study:
    """Everything that the fits need.

    Attributes:
        config: of the run.
        table: the rows with a target.
        design: what models are given of them.
        problem: "regression" or "classification".
        target: (n, J) numbers, or (n,) numbers of classes.
        classes: names of the classes, in order; empty for a regression.
        positive: number of the class that F1 is of, for two classes.
    """

    config: TableRunConfig
    table: Table
    design: Design
    problem: str
    target: np.ndarray
    classes: tuple = ()
    positive: int | None = None

    @cached_property
    def keys(self) -> list[str]:
        """(n,) what goes into the features of each row, as text: equal inputs have equal keys."""
        columns = [composition_keys(self.table)] if self.table.formula or self.table.composition else []
        columns += [self.table.frame[name].astype(object).tolist() for name in self.design.plain]
        return [json.dumps([None if pd.isna(value) else value for value in row]) for row in zip(*columns, strict=True)]

    @cached_property
    def dealt(self) -> dict[str, Folds]:
        """The folds of every scheme, by keys, as they are written to files."""
        return {scheme: self._folds(scheme) for scheme in self.config.folds.schemes}

    @cached_property
    def folds(self) -> dict[str, list[Fold]]:
        """The folds of every scheme, by positions."""
        return {scheme: positions(folds) for scheme, folds in self.dealt.items()}

    @cached_property
    def digests(self) -> dict[str, str]:
        """The digest of the folds of every scheme."""
        return {scheme: folds.digest for scheme, folds in self.dealt.items()}

    @property
    def candidates(self) -> list[Candidate]:
        """The KAN and what it is compared with."""
        return candidates(self.config.model, self.config.compare)

    @property
    def row_names(self) -> list[str]:
        """What a row is called in lists: its formula, or its place in the source."""
        if self.table.formula:
            return self.table.frame[self.table.formula].astype(str).tolist()
        return [f"row {index}" for index in self.table.frame.index]

    @property
    def targets(self) -> list[str]:
        """Names of the targets."""
        return list(self.config.data.target)

    def setting(self, kan_parameters: int | None = None) -> Setting:
        """What the factories of models need."""
        outputs = len(self.targets) if self.problem == REGRESSION else len(self.classes) if len(self.classes) > 2 else 1
        return Setting(self.problem, self.design.frame.shape[1], outputs, self.config.seed, kan_parameters)

    def groups(self, scheme: str) -> np.ndarray:
        """(n,) labels of the rows that a scheme keeps together."""
        if scheme in (RANDOM, ELEMENT):
            return np.array(self.keys, dtype=object)
        if scheme in FORMULA_SCHEMES:
            return np.array({COMPOSITION: composition_keys, SYSTEM: system_keys}[scheme](self.table), dtype=object)
        values = self.table.frame[scheme].tolist()
        # A row without a value belongs to nothing but itself.
        alone = [f"row {row}" if pd.isna(value) else f"= {value}" for row, value in enumerate(values)]
        return np.array(alone, dtype=object)

    def target_of(self, rows: np.ndarray, named: bool = False) -> np.ndarray | pd.DataFrame | pd.Series:
        """What an estimator is fitted to: (n,) for one target, (n, J) for several, or the number of each row's class.

        Args:
            rows: positions.
            named: with the names of targets and classes.
        """
        if named:
            frame = self.table.frame[self.targets].iloc[rows]
            return frame if len(self.targets) > 1 else frame[self.targets[0]]
        target = self.target[rows]
        return target[:, 0] if target.ndim == 2 and target.shape[1] == 1 else target

    def identity(self) -> str:
        """Digest of rows, features and targets: results of another table are not taken for those of this one."""
        described = [
            self.table.fingerprint,
            list(self.design.frame.columns),
            self.targets,
            list(map(str, self.classes)),
        ]
        values = pd.util.hash_pandas_object(self.design.frame, index=False).to_numpy().tobytes()
        return hashlib.sha256(json.dumps(described).encode() + values).hexdigest()

    def _folds(self, scheme: str) -> Folds:
        folds = self.config.folds
        if scheme == ELEMENT:
            members = element_members(self.table)
            return without_each(members, self.keys, SMALLEST_ELEMENT, LARGEST_ELEMENT, ELEMENT, folds.seed)
        labels = self.target.tolist() if self.problem == CLASSIFICATION else None
        return grouped_folds(
            self.keys,
            self.groups(scheme).tolist(),
            folds.splits,
            repeats=folds.repeats,
            seed=folds.seed,
            labels=labels,
            kind=scheme,
        )


def open_study(config: TableRunConfig) -> Study:
    """Read the table, make the features and the folds, and build every model once, so that nothing fails later.

    Raises:
        UserError: something of the configuration does not fit the table; the message names the key.
    """
    table = open_table(config.data)
    _check_schemes(config, table)
    columns = [scheme for scheme in config.folds.schemes if scheme not in (RANDOM, *FORMULA_SCHEMES)]
    made = design(table, config.data, frozenset(columns))
    problem = _problem(table, config)
    classes, positive = (), None
    if problem == CLASSIFICATION:
        classes, positive, target = _classes(table, config)
    else:
        target = _numbers(table, config)
    study = Study(config, table, made, problem, target, classes, positive)
    for candidate in study.candidates:
        candidate.build(study.setting())
    for scheme, folds in study.folds.items():
        _check_classes(study, scheme, folds)
    return study


def _check_schemes(config: TableRunConfig, table: Table) -> None:
    known = [RANDOM, *FORMULA_SCHEMES]
    for scheme in config.folds.schemes:
        if scheme in FORMULA_SCHEMES and not (table.formula or table.composition):
            raise UserError(
                f"folds.schemes: {scheme!r} needs to know what a row is made of; say in data.formula which column "
                f"holds formulas, or in data.composition which columns hold amounts of elements"
            )
        if scheme not in known and scheme not in table.frame.columns:
            names = [*known, *map(str, table.frame.columns)]
            raise UserError(
                f"folds.schemes: {scheme!r} should be {', '.join(known)} or a column of the table"
                f"{did_you_mean(scheme, names)}"
            )


def _problem(table: Table, config: TableRunConfig) -> str:
    data = config.data
    if data.problem != "auto":
        return data.problem
    columns = [table.frame[name] for name in data.target]
    if len(columns) > 1:
        return REGRESSION
    column = columns[0]
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return CLASSIFICATION
    whole = bool((column == column.round()).all())
    few = column.nunique() <= MOST_CLASSES_OF_NUMBERS
    return CLASSIFICATION if data.positive is not None or (whole and few) else REGRESSION


def _numbers(table: Table, config: TableRunConfig) -> np.ndarray:
    for name in config.data.target:
        if not pd.api.types.is_numeric_dtype(table.frame[name]):
            raise UserError(
                f"data.target: {name!r} holds text, which is no target of a regression; for classes set data.problem: "
                f"classification"
            )
    target = table.frame[config.data.target].to_numpy(float)
    if not np.isfinite(target).all():
        raise UserError(f"data.target: {' and '.join(config.data.target)} hold values that are not finite")
    return target


def _classes(table: Table, config: TableRunConfig) -> tuple[tuple, int | None, np.ndarray]:
    """The classes in order, the number of the positive one, and the class of each row."""
    data = config.data
    if len(data.target) > 1:
        raise UserError(f"data.target: a classification has one target; given: {', '.join(data.target)}")
    require(table.frame, data.target, "data.target")
    codes, levels = pd.factorize(labels_of(table.frame[data.target[0]]), sort=True)
    classes = tuple(value.item() if hasattr(value, "item") else value for value in levels)
    if len(classes) < 2:
        raise UserError(f"data.target: {data.target[0]!r} has one class only, {classes[0]!r}")
    positive = None
    if data.positive is not None and data.positive not in classes:
        listed = ", ".join(map(repr, classes))
        raise UserError(f"data.positive: {data.positive!r} is no class of {data.target[0]!r}; it has {listed}")
    if len(classes) == 2:
        positive = 1 if data.positive is None else classes.index(data.positive)
    return classes, positive, codes


def _check_classes(study: Study, scheme: str, folds: list[Fold]) -> None:
    """Refuse folds that leave a training without a class."""
    if study.problem != CLASSIFICATION:
        return
    for fold in folds:
        absent = np.setdiff1d(np.arange(len(study.classes)), study.target[fold.train])
        if len(absent):
            raise UserError(
                f"folds.schemes: {scheme!r} leaves no row of the class {study.classes[absent[0]]!r} to train on in "
                f"one of the folds; use fewer folds.splits, or leave the class out with data.filter"
            )
