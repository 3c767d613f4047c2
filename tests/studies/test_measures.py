"""Scores, comparisons and intervals against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel
from sklearn import metrics as sk

from katops.studies.comparison import corrected_t_test
from katops.studies.intervals import quantile
from katops.studies.metrics import calibration_error, classification_scores, regression_scores
from katops.studies.models import equal_width


def test_regression_scores_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    truth = generator.normal(size=40) + 3
    predicted = truth + generator.normal(size=40)
    scores = regression_scores(truth, predicted)
    assert scores["r2"] == pytest.approx(sk.r2_score(truth, predicted))
    assert scores["mae"] == pytest.approx(sk.mean_absolute_error(truth, predicted))
    assert scores["rmse"] == pytest.approx(sk.root_mean_squared_error(truth, predicted))
    assert scores["mape"] == pytest.approx(sk.mean_absolute_percentage_error(truth, predicted))


def test_a_score_without_a_meaning_is_no_number() -> None:
    scores = regression_scores(np.ones(3), np.array([1.0, 2.0, 3.0]))
    assert np.isnan(scores["r2"])
    assert np.isnan(scores["spearman"])
    assert np.isnan(regression_scores(np.zeros(2), np.ones(2))["mape"])


@pytest.mark.parametrize("positive", [0, 1])
def test_scores_of_two_classes_are_those_of_scikit_learn(positive: int) -> None:
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 2, 60)
    second = np.clip(0.5 * truth + 0.5 * generator.uniform(size=60), 0.01, 0.99)
    probabilities = np.stack([1 - second, second], axis=1)
    scores = classification_scores(truth, probabilities, positive)
    label = probabilities.argmax(1)
    assert scores["f1"] == pytest.approx(sk.f1_score(truth, label, pos_label=positive))
    assert scores["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(truth, label))
    assert scores["roc_auc"] == pytest.approx(sk.roc_auc_score(truth == positive, probabilities[:, positive]))
    assert scores["brier"] == pytest.approx(sk.brier_score_loss(truth, second))
    assert scores["log_loss"] == pytest.approx(sk.log_loss(truth, probabilities))


def test_scores_of_several_classes_leave_out_classes_that_are_absent() -> None:
    truth = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.1, 0.8]])
    scores = classification_scores(truth, probabilities, None)
    assert scores["accuracy"] == 0.75
    assert scores["f1"] == scores["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["roc_auc"] == pytest.approx((1 + 0.625) / 2)


def test_probabilities_that_are_as_sure_as_right_have_no_calibration_error() -> None:
    probabilities = np.tile([[0.75, 0.25]], (4, 1))
    assert calibration_error(np.array([0, 0, 0, 1]), probabilities) == pytest.approx(0)
    assert calibration_error(np.array([0, 0, 1, 1]), probabilities) == pytest.approx(0.25)


def test_without_overlap_the_corrected_test_is_the_paired_t_test() -> None:
    generator = np.random.default_rng(2)
    first, second = generator.normal(size=(2, 12))
    found = corrected_t_test(first, second, ratio=0.0)
    assert found.p_value == pytest.approx(ttest_rel(first, second).pvalue)
    interval = ttest_rel(first, second).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12), st.floats(0.1, 1))
def test_overlap_of_the_trainings_never_makes_a_difference_surer(values: list[float], ratio: float) -> None:
    plain, corrected = (corrected_t_test(np.array(values), np.zeros(len(values)), one) for one in (0.0, ratio))
    assert corrected.p_value >= plain.p_value - 1e-12


def test_equal_models_are_no_different_and_verdicts_have_the_sign_of_the_score() -> None:
    same = np.array([0.5, 0.6, 0.7])
    assert corrected_t_test(same, same, 0.25).verdict(1) == "no different"
    better = corrected_t_test(same + np.array([0.2, 0.21, 0.19]), same, 0.25)
    assert better.verdict(1) == "better"
    assert better.verdict(-1) == "worse"


def test_an_interval_has_the_rank_that_conformal_prediction_asks_for() -> None:
    errors = np.arange(1, 20.0)[:, None]  # 19 errors: rank 18 of ceil(20 * 0.9)
    assert quantile(errors, np.ones(19), 0.9) == 18
    assert quantile(errors[:3], np.ones(3), 0.9) == 3


def test_errors_of_several_fits_of_a_row_have_one_rank_together() -> None:
    errors = np.repeat(np.arange(1, 20.0), 3)[::-1, None]
    assert quantile(errors, np.full(57, 1 / 3), 0.9) == 18


@settings(max_examples=20, deadline=None)
@given(st.integers(20, 2000), st.integers(1, 60), st.integers(1, 4))
def test_a_perceptron_of_equal_size_has_about_as_many_parameters(parameters: int, inputs: int, outputs: int) -> None:
    width = equal_width(parameters, inputs, outputs)
    count = width * (inputs + 1 + outputs) + outputs
    assert abs(count - parameters) <= (inputs + 1 + outputs) / 2 + 1 or width == 1
