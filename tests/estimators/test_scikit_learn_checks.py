"""Both estimators keep the contract of scikit-learn, by its own checks."""

import pytest

pytest.importorskip("sklearn")

from sklearn.utils.estimator_checks import parametrize_with_checks

from katops.estimators import KANClassifier, KANRegressor

SHORT = {"hidden": (2,), "intervals": 2, "epochs": 12, "ensemble": 2}


@parametrize_with_checks([KANRegressor(**SHORT), KANClassifier(**SHORT)])
def test_the_contract_of_scikit_learn_holds(estimator, check):
    check(estimator)
