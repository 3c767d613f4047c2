"""What can be asked of a fit: effects that rise, inputs that vanish, products, rows of one's own to validate on."""

import numpy as np
import pytest

from katops import KANClassifier, KANRegressor
from katops.errors import UserError
from katops.interpret import prune_estimator

SHORT = {"hidden": (3,), "ensemble": 2, "random_state": 0}


def wavy(rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Rises with x0 and falls with x1 on the whole, with waves that are to be smoothed away, and noise."""
    random = np.random.default_rng(0)
    x = random.uniform(-2, 2, (rows, 3))
    return x, 2 * x[:, 0] + np.sin(6 * x[:, 0]) - np.exp(x[:, 1]) + x[:, 2] ** 2 + 0.3 * random.normal(size=rows)


def along(column: int, points: int = 60) -> np.ndarray:
    """Lines through ten random rows along one column, also beyond the range of the rows, (10, points, 3)."""
    lines = np.repeat(np.random.default_rng(1).uniform(-2, 2, (10, 1, 3)), points, axis=1)
    lines[:, :, column] = np.linspace(-4, 4, points)
    return lines


@pytest.mark.parametrize(
    "options", [{}, {"optimiser": "adamw"}, {"hidden": (), "intervals": (3, 5)}, {"hidden": (2, 2)}]
)
def test_predictions_rise_and_fall_along_monotone_columns_whatever_the_other_columns_are(options):
    x, y = wavy()
    model = KANRegressor(**{**SHORT, "epochs": 80, **options}, monotone={"x0": 1, 1: -1}).fit(x, y)
    assert model.score(x, y) > 0.85
    for column, sign in ((0, 1), (1, -1)):
        lines = along(column)
        curves = model.predict(lines.reshape(-1, 3)).reshape(lines.shape[:2])
        assert (sign * np.diff(curves, axis=1)).min() > -1e-5
        assert (sign * (curves[:, -1] - curves[:, 0])).min() > 1
    free = KANRegressor(**{**SHORT, "epochs": 80, "intervals": 12, "hidden": ()}).fit(x, y)
    assert np.diff(free.predict(along(0)[0])).min() < 0


def test_the_probability_of_the_second_class_rises_and_several_classes_are_refused():
    x, y = wavy()
    model = KANClassifier(**SHORT, epochs=40, monotone=(1, 0, 0)).fit(x, y > 0)
    lines = along(0)
    curves = model.predict_proba(lines.reshape(-1, 3))[:, 1].reshape(lines.shape[:2])
    assert np.diff(curves, axis=1).min() >= -1e-12
    with pytest.raises(UserError, match="monotone is for two classes; there are 3"):
        KANClassifier(monotone={0: 1}).fit(x, np.digitize(y, [-2, 2]))


def test_what_must_rise_is_not_trained_on_without_that_by_pruning():
    x, y = wavy(60)
    model = KANRegressor(**SHORT, epochs=5, monotone={0: 1}).fit(x, y)
    with pytest.raises(UserError, match="monotone"):
        prune_estimator(model, x, y)


@pytest.mark.parametrize(
    "options",
    [
        {"hidden": (), "penalty": {"inputs": 0.02}},
        {"penalty": {"inputs": 0.1}},
        {"hidden": (), "penalty": {"inputs": 0.02}, "network": {"basis": "radial"}},
    ],
)
def test_inputs_without_effect_are_turned_off_by_their_penalty(options):
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (150, 4))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + 0.1 * random.normal(size=150)
    model = KANRegressor(**{**SHORT, "epochs": 100, **options}).fit(x, y)
    for member in model.models_:
        assert member.layers[0].mask.any(dim=0).tolist() == [True, True, False, False]
    changed = x.copy()
    changed[:, 2:] = random.uniform(-1, 1, (150, 2))
    assert np.array_equal(model.predict(changed), model.predict(x))
    assert model.score(x, y) > 0.9


def test_a_product_node_learns_a_product_that_no_sum_of_curves_is():
    random = np.random.default_rng(0)
    x = random.uniform(-1, 1, (200, 2))
    y = x[:, 0] * np.sin(2 * x[:, 1])
    options = {"epochs": 200, "ensemble": 1, "random_state": 0, "weight_decay": 1e-5}
    product = KANRegressor((1,), network={"products": (1, 0)}, **options).fit(x, y)
    assert product.score(x, y) > 0.995
    assert KANRegressor((), **options).fit(x, y).score(x, y) < 0.5
    low = product.models_[0].layers[0].basis.low
    assert low.tolist() == pytest.approx(product.preprocessor_.transform(x).min(axis=0))  # the grids have moved


def test_rows_of_ones_own_to_validate_on_end_the_fit_and_are_not_trained_on():
    x, y = wavy()
    train, rest = slice(0, 120), slice(120, 200)
    fits = [
        KANRegressor(**SHORT, epochs=60, optimiser={"patience": 3}).fit(x[train], y[train], eval_set=(x[rest], truth))
        for truth in (y[rest], 50 - 3 * y[rest])
    ]
    losses, watched = ([[record[key] for record in fit.history_] for fit in fits] for key in ("loss", "validation"))
    common = min(map(len, losses))
    assert losses[0][:common] == losses[1][:common]
    assert watched[0][0] != watched[1][0]
    standard = (y[rest] - fits[0].target_offset_) / fits[0].target_scale_
    each = fits[0].predictor.members(x[rest])[..., 0]
    errors = (((each - fits[0].target_offset_) / fits[0].target_scale_ - standard) ** 2 / 2).mean(axis=1)
    assert errors.mean() <= min(watched[0]) * 1.001


def test_what_an_eval_set_cannot_be_is_told():
    x, y = wavy(60)
    with pytest.raises(UserError, match=r"eval_set must be a pair"):
        KANRegressor(**SHORT).fit(x, y, eval_set=x)
    with pytest.raises(UserError, match="X has 60 rows, y has 59"):
        KANRegressor(**SHORT).fit(x, y, eval_set=(x, y[1:]))
    with pytest.raises(UserError, match="holds the class 'odd'"):
        KANClassifier(**SHORT).fit(x, np.where(y > 0, "a", "b"), eval_set=(x[:2], np.array(["a", "odd"])))
