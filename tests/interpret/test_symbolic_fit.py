"""Fits of single curves."""

import numpy as np
import pytest

from katops.errors import UserError
from katops.interpret import SymbolicLibrary, fit_curves, suggestion_table

LIBRARY = SymbolicLibrary()
CURVES = {
    "exp": lambda x: 3 * np.exp(-0.7 * x) + 1,
    "log": lambda x: np.log(2 * x - 1),
    "sin": lambda x: 2 * np.sin(3 * x + 1),
    "1/x^2": lambda x: 1 / x**2,
    "sqrt": lambda x: np.sqrt(x - 0.9),
    "x^3": lambda x: (x - 0.35) ** 3,
    "gaussian": lambda x: np.exp(-((1.3 * x - 2) ** 2)),
    "1/x": lambda x: 1 / (1 - x / 3.5),
    "tanh": lambda x: np.tanh(2 * x - 4),
    "arcsin": lambda x: np.arcsin(x / 3),
    "x": lambda x: 2 - 5 * x,
}


def test_the_function_behind_a_curve_is_found_with_its_numbers():
    generator = np.random.default_rng(0)
    x = generator.uniform(1, 3, (len(CURVES), 200))
    y = np.stack([curve(row) for curve, row in zip(CURVES.values(), x, strict=True)])
    y += 1e-3 * y.std(axis=1, keepdims=True) * generator.standard_normal(y.shape)
    for name, fits, row in zip(CURVES, fit_curves(x, y), x, strict=True):
        best = fits[0]
        # cos and arccos are sin and arcsin with another shift and sign
        twins = {"cos": "sin", "arccos": "arcsin"}
        assert twins.get(best.function.name, best.function.name) == name
        assert best.held_out_r2 > 0.99999
        np.testing.assert_allclose(best(row), CURVES[name](row), atol=0.01 * np.ptp(CURVES[name](row)))


def test_a_quarter_of_the_points_is_held_out():
    x = np.linspace(0, 1, 40)
    y = x.copy()
    y[2::4] += 10  # what is held out cannot be fitted
    fit = fit_curves(x, y, LIBRARY.only("x"))[0][0]
    assert fit.r2 == pytest.approx(1)
    assert fit.held_out_r2 < 0


def test_no_fit_has_a_pole_within_the_range():
    x = np.linspace(-1, 1, 100)
    for fit in fit_curves(x, np.tan(1.3 * x))[0]:
        u = fit.a * np.linspace(-1, 1, 1001) + fit.b
        assert fit.function.inside(u) or fit.function.name == "sgn"


def test_noise_is_fitted_by_nothing():
    generator = np.random.default_rng(1)
    fits = fit_curves(generator.uniform(-1, 1, 256), generator.standard_normal(256))[0]
    assert max(fit.held_out_r2 for fit in fits[:5]) < 0.3


def test_a_constant_curve_is_zero_and_a_constant():
    best = fit_curves(np.linspace(0, 1, 20), np.full(20, 3.0))[0][0]
    assert best.c * best.function.value(best.b) + best.d == pytest.approx(3)
    assert best.r2 == 1


def test_the_table_of_suggestions_has_the_scores():
    x = np.linspace(1, 2, 60)
    table = suggestion_table(fit_curves(x, np.log(x))[0], topk=3)
    assert table["function"].iloc[0] == "log"
    assert len(table) == 3
    assert table["score"].is_monotonic_increasing
    assert {"complexity", "r2", "held_out_r2", "pykan_score", "a", "b", "c", "d"} <= set(table.columns)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros(9), np.zeros(8), "both be"),
        (np.arange(5.0), np.arange(5.0), "at least 8"),
        (np.full(9, np.nan), np.zeros(9), "finite"),
    ],
)
def test_curves_that_cannot_be_fitted_are_refused(x, y, message):
    with pytest.raises(UserError, match=message):
        fit_curves(x, y)
