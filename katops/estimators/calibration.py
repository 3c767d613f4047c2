"""Whether probabilities mean what they say, and one number that makes them say it."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.utils.validation import check_is_fitted

from katops.estimators.fit_rows import FitRows, as_array, fit_parameters

LARGEST_LOG = 4.0
"""Temperatures are looked for between exp(-4) and exp(4)."""


class TemperatureScaling(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """A classifier whose probabilities are p_k^(1/T) / sum_j p_j^(1/T), with T fitted on rows outside of the training.

    T minimises the log loss of the probabilities that each row gets from the fit without its fold (Guo et al. 2017,
    arXiv 1706.04599, section 4.2); above 1 the classifier was too sure. The most probable class stays the same.

    Args:
        estimator: unfitted classifier with ``predict_proba``.
        folds: number of folds, stratified.
        random_state: seed of the folds.

    Attributes:
        temperature_: T.
        estimator_: fitted on all rows.
        classes_: the labels.
    """

    def __init__(self, estimator: Any, *, folds: int = 5, random_state: Any = 0) -> None:
        self.estimator = estimator
        self.folds = folds
        self.random_state = random_state

    def fit(self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None) -> Self:
        """Fit in folds for T, then on all rows; rows of one of ``groups`` are in one fold.

        ``sample_weight`` (rows,) is of the fits; in the log loss that T minimises all rows count alike.
        """
        rows = FitRows.of(X, y, groups, sample_weight)
        folds = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
            self.folds, shuffle=True, random_state=self.random_state
        )
        # Estimators that hold rows out themselves have to know which belong together.
        known = fit_parameters(self.estimator, rows.groups, rows.sample_weight)
        unseen = cross_val_predict(
            clone(self.estimator), rows.X, rows.y, groups=rows.groups, cv=folds, method="predict_proba", params=known
        )
        self.estimator_ = clone(self.estimator).fit(rows.X, rows.y, **known)
        self.classes_ = self.estimator_.classes_
        self.temperature_ = best_temperature(unseen, rows.y, self.classes_)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Calibrated probabilities (rows, classes)."""
        check_is_fitted(self)
        return tempered(self.estimator_.predict_proba(as_array(X)), self.temperature_)

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each row."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """p_k^(1/T) / sum_j p_j^(1/T) of probabilities (rows, classes)."""
    logs = np.log(np.clip(probabilities, np.finfo(np.float64).tiny, 1)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def best_temperature(probabilities: np.ndarray, y: Any, classes: Any) -> float:
    """The temperature of the least log loss on rows that were not trained on."""

    def loss(logarithm: float) -> float:
        return log_loss(y, tempered(probabilities, np.exp(logarithm)), labels=classes)

    return float(np.exp(minimize_scalar(loss, bounds=(-LARGEST_LOG, LARGEST_LOG), method="bounded").x))


@dataclass(frozen=True)
class Calibration:
    """How probabilities compare with what happened.

    Attributes:
        log_loss: -mean log p(true class).
        brier: mean over rows of sum_k (p_k - [k true])^2 (Brier 1950).
        error: expected calibration error, sum over bins of share |accuracy - confidence|, of the most probable class.
        confidence, accuracy, share: of each bin that holds rows, (bins,); a reliability diagram.
    """

    log_loss: float
    brier: float
    error: float
    confidence: np.ndarray
    accuracy: np.ndarray
    share: np.ndarray


def calibration_report(probabilities: np.ndarray, y: Any, classes: Any, bins: int = 10) -> Calibration:
    """Compare probabilities (rows, classes) with the true classes (rows,) of rows that were not trained on."""
    classes = np.asarray(classes)
    truth = np.asarray(y)[:, None] == classes
    confidence, correct = probabilities.max(axis=1), truth[np.arange(len(truth)), probabilities.argmax(axis=1)]
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    used = np.unique(place)
    means = np.array([(confidence[place == b].mean(), correct[place == b].mean(), (place == b).mean()) for b in used])
    return Calibration(
        log_loss=float(log_loss(y, probabilities, labels=classes)),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        error=float((means[:, 2] * np.abs(means[:, 1] - means[:, 0])).sum()),
        confidence=means[:, 0],
        accuracy=means[:, 1],
        share=means[:, 2],
    )
