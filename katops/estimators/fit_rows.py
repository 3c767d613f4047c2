"""Rows with their groups and weights on the way to fits that other objects make: pipelines, folds, MAPIE."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import has_fit_parameter

from katops.data.table_reading import is_frame
from katops.errors import UserError

GROUPS = "groups of rows"
"""Name of the column that carries them; a table of the user has no such one."""


def as_array(value: Any) -> Any:
    """A tensor as an array in the memory of the CPU; anything else as it is."""
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def fit_parameters(estimator: Any, groups: Any, sample_weight: Any) -> dict[str, Any]:
    """Groups and weights under the names that ``fit`` of an estimator, or of the last step of a pipeline, has for them.

    Groups are left out where the estimator has no use for them: they matter to those that hold rows out themselves.

    Raises:
        UserError: there are weights, and the estimator takes none.
    """
    found = {}
    for name, values in (("groups", groups), ("sample_weight", sample_weight)):
        parameter = _parameter(estimator, name)
        if values is not None and parameter:
            found[parameter] = values
        elif values is not None and name == "sample_weight":
            raise UserError(f"{type(estimator).__name__} takes no sample_weight; leave it out")
    return found


def _parameter(estimator: Any, name: str) -> str | None:
    if hasattr(estimator, "steps"):
        step, last = estimator.steps[-1]
        inner = _parameter(last, name)
        return inner and f"{step}__{inner}"
    return name if has_fit_parameter(estimator, name) else None


@dataclass(frozen=True)
class FitRows:
    """Rows that count, in the memory of the CPU.

    Attributes:
        X: table.
        y: (rows,).
        groups: (rows,), or nothing.
        sample_weight: (rows,) above zero, or nothing.
    """

    X: Any
    y: np.ndarray
    groups: np.ndarray | None
    sample_weight: np.ndarray | None

    @classmethod
    def of(cls, X: Any, y: Any, groups: Any, sample_weight: Any) -> Self:
        """Without rows of no weight.

        Raises:
            UserError: groups or weights are not as many as rows.
        """
        X, y = as_array(X), np.asarray(as_array(y))
        X = X if is_frame(X) or isinstance(X, np.ndarray) else np.asarray(X)
        groups, weight = (None if part is None else np.asarray(as_array(part)) for part in (groups, sample_weight))
        for name, part in (("groups", groups), ("sample_weight", weight)):
            if part is not None and part.shape != (len(y),):
                raise UserError(f"{name} must hold one value for each of {len(y)} rows, got shape {part.shape}")
        if weight is None or (weight > 0).all():
            return cls(X, y, groups, weight)
        counts = np.flatnonzero(weight > 0)
        groups = None if groups is None else groups[counts]
        return cls(_safe_indexing(X, counts), y[counts], groups, weight[counts])

    def fitted(self, estimator: Any, places: np.ndarray) -> "Fitted":
        """A clone of the estimator, fitted to some of the rows."""
        parts = (None if part is None else part[places] for part in (self.groups, self.sample_weight))
        known = fit_parameters(estimator, *parts)
        return Fitted(clone(estimator).fit(_safe_indexing(self.X, places), self.y[places], **known))

    def carried(self, estimator: Any) -> tuple[Any, Any, dict[str, Any]]:
        """Estimator, table and parameters of ``fit`` for those who divide the rows and know of weights only."""
        weights = {} if self.sample_weight is None else {"sample_weight": self.sample_weight}
        fit_parameters(estimator, None, self.sample_weight)
        if self.groups is None or not fit_parameters(estimator, self.groups, None):
            return clone(estimator), self.X, weights
        return GroupsInside(estimator), with_groups(self.X, self.groups), weights


def with_groups(X: Any, groups: np.ndarray | None) -> Any:
    """The table with a last column that holds the numbers of the groups; 0 where there are none."""
    numbers = np.zeros(len(X)) if groups is None else np.unique(groups, return_inverse=True)[1].astype(float)
    if not is_frame(X):
        return np.column_stack([X, numbers])
    table = X.copy()
    table.insert(table.shape[1], GROUPS, numbers)
    return table


class _Around(MetaEstimatorMixin, BaseEstimator):
    """An object that MAPIE takes for an estimator, around the one that predicts, ``estimator_``.

    Args:
        estimator: see the subclasses.
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    @property
    def classes_(self) -> np.ndarray:
        """The labels, of a classifier."""
        return self.estimator_.classes_

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of the estimator inside."""
        return self.estimator_.predict(self._table(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the estimator inside."""
        return self.estimator_.predict_proba(self._table(X))

    def _table(self, X: Any) -> Any:
        return X

    def __sklearn_tags__(self) -> Any:
        return self.estimator.__sklearn_tags__()


class GroupsInside(_Around):
    """An estimator that is told the groups of its rows from the last column of the table, which it does not see.

    Args:
        estimator: unfitted, with ``groups`` among the parameters of its ``fit``.
    """

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a clone; the last column of X holds the groups."""
        table, groups = _divided(X)
        known = fit_parameters(self.estimator, groups, sample_weight)
        self.estimator_ = clone(self.estimator).fit(table, y, **known)
        return self

    def _table(self, X: Any) -> Any:
        return _divided(X)[0]


class Fitted(_Around):
    """A fitted estimator that is not tried out: MAPIE would give it a row of zeros, which has no names and no levels.

    Args:
        estimator: fitted.
    """

    fitted_ = True

    def fit(self, X: Any, y: Any) -> Self:
        """Nothing is left to do."""
        return self

    @property
    def estimator_(self) -> Any:
        """The estimator itself."""
        return self.estimator


def _divided(X: Any) -> tuple[Any, np.ndarray]:
    if is_frame(X):
        return X.iloc[:, :-1], X.iloc[:, -1].to_numpy()
    return X[:, :-1], X[:, -1]
