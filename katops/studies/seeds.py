"""The mean of several copies of a model that differ in their seed, so that ensembles are compared with ensembles."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone, is_regressor


class MeanOfSeeds(BaseEstimator):
    """Fits ``members`` copies with the seeds random_state, random_state + 1, ... and takes the mean of what they say.

    Args:
        estimator: with a parameter ``random_state``.
        members: number of copies.
        random_state: of the first.
    """

    def __init__(self, estimator: BaseEstimator, members: int = 1, random_state: int = 0) -> None:
        self.estimator = estimator
        self.members = members
        self.random_state = random_state

    @staticmethod
    def of(estimator: BaseEstimator, seed: int) -> "MeanOfSeeds":
        """The kind that fits the estimator."""
        kind = MeanOfRegressors if is_regressor(estimator) else MeanOfClassifiers
        return kind(estimator, random_state=seed)

    def fit(self, rows: Any, target: Any) -> "MeanOfSeeds":
        """Fit every copy to all rows."""
        seeds = range(self.random_state, self.random_state + self.members)
        self.models_ = [clone(self.estimator).set_params(random_state=seed).fit(rows, target) for seed in seeds]
        return self


class MeanOfRegressors(RegressorMixin, MeanOfSeeds):
    """The mean of numbers."""

    def predict(self, rows: Any) -> np.ndarray:
        """(n,) or (n, targets)."""
        return np.mean([model.predict(rows) for model in self.models_], axis=0)


class MeanOfClassifiers(ClassifierMixin, MeanOfSeeds):
    """The mean of probabilities."""

    def fit(self, rows: Any, target: Any) -> "MeanOfClassifiers":
        """See :meth:`MeanOfSeeds.fit`."""
        super().fit(rows, target)
        self.classes_ = self.models_[0].classes_
        return self

    def predict_proba(self, rows: Any) -> np.ndarray:
        """(n, classes)."""
        return np.mean([model.predict_proba(rows) for model in self.models_], axis=0)

    def predict(self, rows: Any) -> np.ndarray:
        """The most probable class."""
        return self.classes_[self.predict_proba(rows).argmax(1)]
