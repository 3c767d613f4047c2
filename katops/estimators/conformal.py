"""Intervals and sets of stated coverage around the predictions of any estimator, by MAPIE, and their measured coverage.

A conformal interval of level 0.9 holds at least 90 % of new values where these are exchangeable with the rows that it
was made from: rows of one composition, paper or batch that lie on both sides of a split break that, so give ``groups``.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from mapie.classification import CrossConformalClassifier, SplitConformalClassifier
from mapie.regression import (
    ConformalizedQuantileRegressor,
    CrossConformalRegressor,
    JackknifeAfterBootstrapRegressor,
    SplitConformalRegressor,
)
from scipy.stats import binomtest
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    StratifiedKFold,
    StratifiedShuffleSplit,
)
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import check_is_fitted

from katops.errors import UserError, did_you_mean
from katops.estimators.fit_rows import FitRows, GroupsInside, as_array, with_groups

INTERVAL_METHODS = ("cv+", "jackknife+", "jackknife+ab", "split", "quantile")
SET_METHODS = ("cv", "split")


@dataclass(frozen=True)
class Intervals:
    """Predictions with intervals, each (rows,), in the unit of the target."""

    prediction: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    level: float


class ConformalRegressor(BaseEstimator):
    """Intervals around the predictions of a regressor with one target.

    Args:
        estimator: unfitted; any regressor of scikit-learn, or a pipeline that ends in one.
        method: "cv+": fits in folds, each row's residual being that of the fit without its fold (Barber et al. 2021,
            arXiv 1905.02928, section 3); "jackknife+": one fit per row (section 1.2); "jackknife+ab": ``folds``
            bootstrap samples (Kim et al. 2020, arXiv 2002.09025); "split": residuals on a quarter of the rows that are
            not trained on; "quantile": as "split", with estimators of quantiles (their argument ``quantile``), whose
            intervals are as wide as the noise is at each place (Romano et al. 2019, arXiv 1905.03222).
        level: share of new values that the intervals hold.
        folds: of "cv+", or bootstrap samples of "jackknife+ab".
        random_state: seed of the split.

    Attributes:
        mapie_: the fitted object of MAPIE.
    """

    def __init__(
        self, estimator: Any, *, method: str = "cv+", level: float = 0.9, folds: int = 5, random_state: Any = 0
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.level = level
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit the estimator as often as the method needs, and take its residuals.

        Args:
            X, y: table and targets.
            groups: label of each row; rows of a group stay together, also where the estimator holds rows out itself.
            sample_weight: (rows,), of the fits; all residuals count alike.

        Raises:
            UserError: there is no such method, the level is not between 0 and 1, there are several targets, or
                ``groups`` are given to a method that cannot keep them together.
        """
        _check(self.method, INTERVAL_METHODS, self.level)
        y = np.asarray(as_array(y), dtype=np.float64)
        if y.ndim != 1:
            raise UserError(f"conformal intervals are for one target at a time, got y of shape {y.shape}")
        rows = FitRows.of(X, y, groups, sample_weight)
        if groups is not None and self.method.startswith("jackknife"):
            raise UserError(f"method={self.method!r} leaves out single rows; use 'cv+' or 'split' with groups")
        if self.method in ("split", "quantile"):
            self.mapie_ = self._split(rows) if self.method == "split" else self._quantile(rows)
            return self
        estimator, table, parameters = rows.carried(self.estimator)
        self._carries_groups = isinstance(estimator, GroupsInside)
        if self.method == "jackknife+ab":
            seed = {"random_state": self.random_state}
            mapie = JackknifeAfterBootstrapRegressor(
                estimator, confidence_level=self.level, resampling=self.folds, **seed
            )
            self.mapie_ = mapie.fit_conformalize(table, rows.y, fit_params=parameters)
        else:
            mapie = CrossConformalRegressor(estimator, confidence_level=self.level, cv=self._cv(groups))
            self.mapie_ = mapie.fit_conformalize(table, rows.y, groups=rows.groups, fit_params=parameters)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions (rows,): the mean over the fits."""
        return self.intervals(X).prediction

    def intervals(self, X: Any) -> Intervals:
        """Predictions with intervals of the stated level."""
        check_is_fitted(self)
        prediction, bounds = self.mapie_.predict_interval(_as_fitted(self, X))
        return Intervals(np.asarray(prediction), bounds[:, 0, 0], bounds[:, 1, 0], self.level)

    def _cv(self, groups: Any) -> Any:
        if self.method == "jackknife+":
            return LeaveOneOut()
        return KFold(self.folds, shuffle=True, random_state=self.random_state) if groups is None else _groups(self)

    def _split(self, rows: FitRows) -> Any:
        train, rest = _quarter(rows, self.random_state)
        fitted = rows.fitted(self.estimator, train)
        mapie = SplitConformalRegressor(fitted, confidence_level=self.level, prefit=True)
        return mapie.conformalize(_safe_indexing(rows.X, rest), rows.y[rest])

    def _quantile(self, rows: FitRows) -> Any:
        train, rest = _quarter(rows, self.random_state)
        tail = (1 - self.level) / 2
        names = [name for name in self.estimator.get_params() if name.split("__")[-1] == "quantile"]
        if not names:
            raise UserError(f"method='quantile' needs an estimator with the argument quantile, not {self.estimator!r}")
        fitted = [
            rows.fitted(clone(self.estimator).set_params(**{names[-1]: quantile}), train)
            for quantile in (tail, 1 - tail, 0.5)
        ]
        mapie = ConformalizedQuantileRegressor(fitted, confidence_level=self.level, prefit=True)
        return mapie.conformalize(_safe_indexing(rows.X, rest), rows.y[rest])


class ConformalClassifier(BaseEstimator):
    """Sets of classes that hold the true one with a stated probability.

    Args:
        estimator: unfitted; any classifier of scikit-learn with probabilities.
        method: "cv": scores of each row from the fit without its fold; "split": from a quarter of the rows that are not
            trained on.
        level: share of new rows whose class is in the set.
        score: of a class, "lac" for the smallest sets (Sadinle et al. 2019, arXiv 1609.00451), which may be empty, or
            "aps" for adaptive ones (Romano et al. 2020, arXiv 2006.02544).
        folds: of "cv".
        random_state: seed of the split.

    Attributes:
        classes_: the labels.
        mapie_: the fitted object of MAPIE.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        method: str = "cv",
        level: float = 0.9,
        score: str = "lac",
        folds: int = 5,
        random_state: Any = 0,
    ) -> None:
        self.estimator = estimator
        self.method = method
        self.level = level
        self.score = score
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit the estimator as often as the method needs, and take its scores.

        Args:
            X, y, groups, sample_weight: see :meth:`ConformalRegressor.fit`.

        Raises:
            UserError: there is no such method, or the level is not between 0 and 1.
        """
        _check(self.method, SET_METHODS, self.level)
        rows = FitRows.of(X, y, groups, sample_weight)
        self.classes_ = np.unique(rows.y)
        options = {"confidence_level": self.level, "conformity_score": self.score, "random_state": self.random_state}
        if self.method == "split":
            train, rest = _quarter(rows, self.random_state, stratify=True)
            mapie = SplitConformalClassifier(rows.fitted(self.estimator, train), prefit=True, **options)
            self.mapie_ = mapie.conformalize(_safe_indexing(rows.X, rest), rows.y[rest])
            return self
        folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
            self.folds, shuffle=True, random_state=self.random_state
        )
        estimator, table, parameters = rows.carried(self.estimator)
        self._carries_groups = isinstance(estimator, GroupsInside)
        mapie = CrossConformalClassifier(estimator, cv=folds, **options)
        self.mapie_ = mapie.fit_conformalize(table, rows.y, groups=rows.groups, fit_params=parameters)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        check_is_fitted(self)
        return self.mapie_.predict_set(_as_fitted(self, X))[0]

    def sets(self, X: Any) -> np.ndarray:
        """Which classes are in the set of each row, (rows, classes), bool."""
        check_is_fitted(self)
        return self.mapie_.predict_set(_as_fitted(self, X))[1][:, :, 0]


@dataclass(frozen=True)
class Coverage:
    """How often intervals or sets held the truth.

    Attributes:
        level: stated share.
        measured: share found on ``rows`` rows.
        low, high: 95 % confidence interval of the share (Clopper and Pearson 1934, Biometrika 26).
        rows: their number.
        size: mean width of the intervals in the unit of the target, or mean number of classes in the sets.
    """

    level: float
    measured: float
    low: float
    high: float
    rows: int
    size: float

    def __str__(self) -> str:
        return (
            f"{self.measured:.1%} of {self.rows} rows inside (95 % interval {self.low:.1%} to {self.high:.1%}), "
            f"{self.level:.0%} stated; mean size {self.size:.4g}"
        )


def coverage_report(predicted: Intervals, y: Any) -> Coverage:
    """Measured coverage of intervals on rows with known targets, which must not be those of the fit."""
    y = np.asarray(as_array(y), dtype=np.float64)
    inside = (y >= predicted.lower) & (y <= predicted.upper)
    return _coverage(inside, predicted.level, float(np.mean(predicted.upper - predicted.lower)))


def set_coverage_report(classifier: ConformalClassifier, X: Any, y: Any) -> Coverage:
    """Measured coverage of the sets of a classifier on rows with known classes, which must not be those of the fit."""
    sets = classifier.sets(X)
    inside = sets & (np.asarray(as_array(y))[:, None] == classifier.classes_)
    return _coverage(inside.any(axis=1), classifier.level, float(sets.sum(axis=1).mean()))


def _coverage(inside: np.ndarray, level: float, size: float) -> Coverage:
    found = binomtest(int(inside.sum()), len(inside)).proportion_ci(0.95)
    return Coverage(level, float(inside.mean()), float(found.low), float(found.high), len(inside), size)


def _check(method: str, allowed: tuple[str, ...], level: float) -> None:
    if method not in allowed:
        raise UserError(f"method={method!r} is not known{did_you_mean(method, allowed)} Allowed: {', '.join(allowed)}.")
    if not 0 < level < 1:
        raise UserError(f"level={level!r} must lie between 0 and 1, such as 0.9")


def _groups(conformal: ConformalRegressor) -> GroupKFold:
    return GroupKFold(conformal.folds, shuffle=True, random_state=conformal.random_state)


def _quarter(rows: FitRows, random_state: Any, stratify: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Places of the rows to train on and of those to measure residuals on."""
    if rows.groups is not None:
        splitter = GroupShuffleSplit(1, test_size=0.25, random_state=random_state)
    else:
        splitter = (StratifiedShuffleSplit if stratify else ShuffleSplit)(1, test_size=0.25, random_state=random_state)
    return next(splitter.split(np.zeros(len(rows.y)), rows.y, rows.groups))


def _as_fitted(conformal: ConformalRegressor | ConformalClassifier, X: Any) -> Any:
    """The table as the fits took it: in the memory of the CPU, and with a column for groups where they had one."""
    X = as_array(X)
    return with_groups(X, None) if getattr(conformal, "_carries_groups", False) else X
