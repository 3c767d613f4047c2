"""The cross-validated score of a way to find a formula, beside that of the network that it is read off."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from katops.errors import UserError
from katops.interpret.iterative_pruning import folds_of, rows_of
from katops.interpret.symbolic_result import SymbolicResult, worst_r2


@dataclass(frozen=True)
class FormulaScores:
    """Scores on the rows of each fold, by a network and a formula that were fitted without them, (folds,) each.

    R2 of the worst target, or accuracy of classifiers; minus infinity where a fold gave no formula.
    """

    formula: np.ndarray
    network: np.ndarray

    def __str__(self) -> str:
        parts = [f"{name} {score.mean():.4g} ± {score.std(ddof=1):.2g}" for name, score in vars(self).items()]
        return f"cross-validated ({len(self.formula)} folds): {', '.join(parts)}"


def formula_scores(
    estimator: Any,
    X: Any,
    y: Any,
    find: Callable[[Any, Any, Any], SymbolicResult],
    *,
    folds: int,
    groups: Any,
    random_state: int,
) -> FormulaScores:
    """Fit clones of the estimator in folds, read a formula off each, and score both on the rows left out.

    Args:
        estimator: also a pipeline or a search.
        X, y: rows and targets.
        find: from a fitted clone and its rows and targets to a formula.
        folds: their number, at least 2.
        groups: a label per row; rows of one group are never divided.
        random_state: of the folds.

    Raises:
        UserError: there are no targets, or fewer than 2 folds.
    """
    from sklearn.base import clone

    from katops.estimators.fit_rows import fit_parameters

    if y is None or folds < 2:
        raise UserError(f"symbolic: cross-validation needs targets and at least 2 folds, got folds={folds}")
    estimator = getattr(estimator, "best_estimator_", estimator)
    scores = []
    for train, test in folds_of(estimator, X, y, groups, folds, random_state):
        known = fit_parameters(estimator, None if groups is None else np.asarray(groups)[train], None)
        fitted = clone(estimator).fit(rows_of(X, train), rows_of(y, train), **known)
        found = find(fitted, rows_of(X, train), rows_of(y, train))
        scores.append(
            (
                _score(fitted, found, rows_of(X, test), rows_of(y, test)),
                fitted.score(rows_of(X, test), rows_of(y, test)),
            )
        )
    return FormulaScores(*np.array(scores).T)


def _score(fitted: Any, found: SymbolicResult, X: Any, y: Any) -> float:
    if not found.attempts:
        return -np.inf
    said = np.asarray(found.attempts[0].formula(X)).reshape(len(X), -1)
    if not hasattr(fitted, "classes_"):
        return worst_r2(y, said)
    logits = np.nan_to_num(said)
    places = (logits[:, 0] > 0).astype(int) if logits.shape[1] == 1 else logits.argmax(axis=1)
    return float((fitted.classes_[places] == np.asarray(y).ravel()).mean())
