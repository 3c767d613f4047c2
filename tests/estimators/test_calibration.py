"""One temperature makes probabilities honest and changes no prediction."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression

from katops.estimators.calibration import TemperatureScaling, best_temperature, calibration_report, tempered


class TooSure(ClassifierMixin, BaseEstimator):
    """A logistic regression that takes its log odds four times."""

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_proba(self, X):
        return tempered(self.model_.predict_proba(X), 0.25)

    def predict(self, X):
        return self.model_.predict(X)


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(count, 2))
    return x, np.where(x[:, 0] + random.logistic(size=count) > 0, "yes", "no")


def test_the_temperature_of_a_classifier_that_is_four_times_too_sure_is_four():
    model = TemperatureScaling(TooSure()).fit(*rows(2000, 0))
    assert model.temperature_ == pytest.approx(4, rel=0.15)
    x, y = rows(4000, 1)
    plain, scaled = model.estimator_.predict_proba(x), model.predict_proba(x)
    before, after = (calibration_report(p, y, model.classes_) for p in (plain, scaled))
    assert after.error < 0.03 < 0.1 < before.error
    assert after.log_loss < before.log_loss
    assert np.array_equal(model.predict(x), model.classes_[plain.argmax(axis=1)])


def test_honest_probabilities_keep_their_temperature():
    x, y = rows(4000, 0)
    honest = 1 / (1 + np.exp(-x[:, 0]))
    assert best_temperature(np.column_stack([1 - honest, honest]), y, ["no", "yes"]) == pytest.approx(1, abs=0.1)


def test_a_report_counts_by_hand():
    probabilities = np.array([[0.75, 0.25], [0.75, 0.25], [0.05, 0.95]])
    report = calibration_report(probabilities, ["a", "b", "b"], ["a", "b"])
    assert report.confidence.tolist() == pytest.approx([0.75, 0.95])
    assert report.accuracy.tolist() == [0.5, 1.0]
    assert report.error == pytest.approx(2 / 3 * 0.25 + 1 / 3 * 0.05)
    assert report.brier == pytest.approx((2 * 0.0625 + 2 * 0.5625 + 2 * 0.0025) / 3)
    assert report.log_loss == pytest.approx(-np.log([0.75, 0.25, 0.95]).mean())
