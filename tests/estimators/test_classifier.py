"""What a fitted classifier is."""

import pickle

import numpy as np
import pytest
from sklearn.metrics import log_loss
from sklearn.model_selection import RepeatedStratifiedKFold

import katops
from katops import KANClassifier
from katops.errors import UserError

SHORT = {"hidden": (3,), "epochs": 60, "ensemble": 2, "random_state": 0}


@pytest.fixture(scope="module")
def rings() -> tuple[np.ndarray, np.ndarray]:
    """Three classes by the distance from the origin, which no linear map separates."""
    x = np.random.default_rng(0).normal(size=(240, 2))
    return x, np.array(["core", "mantle", "crust"])[np.digitize(np.hypot(*x.T), [0.8, 1.5])]


@pytest.fixture(scope="module")
def fitted(rings) -> KANClassifier:
    return KANClassifier(**SHORT).fit(*rings)


def test_classes_that_are_not_linear_are_told_apart(fitted):
    x = np.random.default_rng(1).normal(size=(300, 2))
    y = np.array(["core", "mantle", "crust"])[np.digitize(np.hypot(*x.T), [0.8, 1.5])]
    assert fitted.score(x, y) > 0.9
    assert fitted.predict_proba(x).sum(axis=1) == pytest.approx(1)


def test_two_classes_have_one_output_and_two_probabilities(rings):
    x, y = rings
    model = KANClassifier(**SHORT).fit(x, y == "core")
    assert model.models_[0].out_features == 1
    assert model.predict_proba(x).shape == (240, 2)
    assert model.score(x, y == "core") > 0.9
    assert model.predict(x).dtype == bool


def test_pickle_model_file_and_restored_estimator_predict_the_same_bits(fitted, rings, tmp_path):
    x = rings[0]
    path = fitted.save(tmp_path)
    loaded, restored = katops.load(path), KANClassifier.load(path)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).predict_proba(x), fitted.predict_proba(x))
    assert np.array_equal(loaded.predict(x), fitted.predict_proba(x))
    assert loaded.labels(x) == fitted.predict(x).tolist()
    assert np.array_equal(restored.predict(x), fitted.predict(x))
    assert restored.classes_.tolist() == ["core", "crust", "mantle"]


def test_balanced_weights_are_those_of_repeated_rows(rings):
    x, y = rings
    rare = np.flatnonzero((y != "core") | (np.arange(240) % 8 == 0))
    x, y = x[rare], (y[rare] == "core").astype(int)
    plain = KANClassifier(**SHORT).fit(x, y)
    balanced = KANClassifier(class_weight="balanced", **SHORT).fit(x, y)
    stated = KANClassifier(class_weight={0: 0.5 / np.mean(y == 0), 1: 0.5 / np.mean(y == 1)}, **SHORT).fit(x, y)
    assert balanced.predict_proba(x)[:, 1].mean() > plain.predict_proba(x)[:, 1].mean()
    np.testing.assert_allclose(balanced.predict_proba(x), stated.predict_proba(x), rtol=1e-6)


def test_balanced_weights_count_a_weight_of_two_as_two_rows(rings):
    x, y = rings[0][:80], rings[1][:80]
    weight = np.random.default_rng(0).integers(0, 3, size=80)
    settings = {**SHORT, "epochs": 5, "class_weight": "balanced"}
    weighted = KANClassifier(**settings).fit(x, y, sample_weight=weight)
    repeated = KANClassifier(**settings).fit(x.repeat(weight, 0), y.repeat(weight))
    np.testing.assert_allclose(weighted.predict_proba(x), repeated.predict_proba(x), rtol=1e-9)


def test_weights_by_class_survive_the_file(rings, tmp_path):
    x, y = rings
    model = KANClassifier(class_weight={0: 1.0, 1: 3.0}, **{**SHORT, "epochs": 2}).fit(x, (y == "core").astype(int))
    assert KANClassifier.load(model.save(tmp_path)).class_weight == {0: 1.0, 1: 3.0}


def test_heavy_tails_do_not_keep_a_network_from_learning():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 3))
    y = (x[:, 0] + x[:, 1] ** 2 > 0.5).astype(int)
    tails = np.column_stack([x[:, 0], x[:, 1], np.tan(np.pi * (random.uniform(size=300) - 0.5)) ** 3])
    model = KANClassifier((4,), epochs=60, ensemble=2, random_state=0).fit(tails, y)
    assert model.score(tails, y) > 0.9


def test_one_class_is_refused_by_name():
    with pytest.raises(UserError, match="one class, 'yes'"):
        KANClassifier().fit(np.arange(3.0)[:, None], ["yes"] * 3)


@pytest.fixture(scope="module")
def carbides(shared) -> tuple[np.ndarray, np.ndarray]:
    """53 carbides by their descriptors: a single phase, or several."""
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(shared / "data" / "materials" / "hecc_phase_zhang2022.csv")
    y = table.pop("multi_phase").to_numpy()
    return table.select_dtypes("number").to_numpy(), y


def test_small_sets_with_rare_classes_are_fitted(carbides):
    model = KANClassifier(hidden=(2,), epochs=40, ensemble=2, random_state=0).fit(*carbides)
    assert model.score(*carbides) > 0.85


def test_53_rows_give_probabilities_on_each_of_25_folds(carbides):
    x, y = carbides
    folds = RepeatedStratifiedKFold(n_splits=5, n_repeats=5, random_state=0)
    losses = []
    for train, test in folds.split(x, y):
        model = KANClassifier(hidden=(2,), epochs=20, ensemble=1, weight_decay=0.1, random_state=0)
        probabilities = model.fit(x[train], y[train]).predict_proba(x[test])
        assert np.isfinite(probabilities).all()
        losses.append(log_loss(y[test], probabilities))
    shares = log_loss(y, np.tile([np.mean(y == 0), np.mean(y == 1)], (len(y), 1)))
    assert len(losses) == 25
    assert np.mean(losses) < shares
