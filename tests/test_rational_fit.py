"""The fit finds the best rational function there is: known optima, exact recovery, symmetries, the printed table."""

import math
import runpy
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops import rational_fit
from katops.errors import UserError
from katops.ops.rational_shapes import SHAPES, Shape, evaluate
from katops.rational_fit import ACTIVATIONS, fit_rational


@pytest.fixture(scope="module")
def refitted() -> dict[str, Shape]:
    """What ``python -m katops.rational_fit`` prints, read as the Python source that it is."""
    with redirect_stdout(StringIO()) as printed:
        runpy.run_path(rational_fit.__file__, run_name="__main__")
    return eval("{" + printed.getvalue() + "}", {"Shape": Shape})


def test_the_command_prints_every_fitted_shape(refitted: dict[str, Shape]) -> None:
    fitted = {name for name in SHAPES if not name.startswith("published_")}
    assert set(refitted) == fitted - {"swish", "geglu"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_new_fit_is_as_good_as_the_stored_coefficients(refitted: dict[str, Shape], name: str) -> None:
    def objective(shape: Shape) -> float:
        return max(shape.max_error, 0.1 * shape.outside_error)

    assert objective(refitted[name]) == pytest.approx(objective(SHAPES[name]), rel=0.02, abs=1e-12)
    assert SHAPES[name].max_error <= 1.1 * refitted[name].max_error + 1e-12


def test_relu_reaches_the_best_uniform_error_of_the_absolute_value() -> None:
    """relu = (x + |x|) / 2, and |x| has the best error 8.501484e-3 on [-1, 1] in degrees (4, 4).

    Varga, Ruttan & Carpenter 1991, Numerical results on best uniform rational approximation of |x| on [-1, 1].
    """
    fit = fit_rational(ACTIVATIONS["relu"], interval=(-1.0, 1.0), outside_weight=0)
    assert fit.max_error == pytest.approx(8.501484e-3 / 2, rel=1e-3)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_without_a_denominator_the_error_of_a_power_is_that_of_the_chebyshev_polynomial(degree: int) -> None:
    fit = fit_rational(lambda x: x ** (degree + 1), (degree, 0), (-1.0, 1.0), outside_weight=0)
    assert fit.denominator == ()
    assert fit.max_error == pytest.approx(2.0**-degree, rel=1e-3)


def test_the_error_of_a_smooth_fit_oscillates_as_often_as_the_alternation_theorem_asks() -> None:
    """A best approximation with k free coefficients has at least k + 1 extrema of equal size and alternating sign.

    On x >= 0 the sign condition is no restriction for exp(-x), whose best denominators have positive coefficients.
    """
    fit = fit_rational(lambda x: np.exp(-x), (2, 2), (0.0, 2.0), outside_weight=0)
    x = np.linspace(0, 2, 20001)
    error = evaluate(x, fit.numerator, fit.denominator) - np.exp(-x)
    extreme = np.sign(error[np.abs(error) > 0.995 * fit.max_error])
    assert min(fit.denominator) > 0
    assert 1 + np.count_nonzero(np.diff(extreme)) == 6


@settings(max_examples=10, deadline=None)
@given(
    numerator=st.lists(st.floats(-2, 2).map(lambda value: round(value, 2)), min_size=1, max_size=6),
    denominator=st.lists(st.floats(0, 2).map(lambda value: round(value, 2)), max_size=4),
)
def test_a_rational_function_is_recovered(numerator: list[float], denominator: list[float]) -> None:
    fit = fit_rational(lambda x: evaluate(x, numerator, denominator), (len(numerator) - 1, len(denominator)))
    size = np.abs(evaluate(np.linspace(-10, 10, 2001), numerator, denominator)).max()
    assert fit.max_error <= 1e-6 * size
    assert fit.outside_error <= 1e-5 * size


@pytest.mark.parametrize("name", ["gelu", "silu", "tanh"])
def test_weight_outside_trades_the_inner_error_for_the_outer_one(name: str) -> None:
    fits = [fit_rational(ACTIVATIONS[name], outside_weight=weight) for weight in (0, 0.01, 0.1, 1)]
    assert [fit.max_error for fit in fits] == sorted(fit.max_error for fit in fits)
    assert [fit.outside_error for fit in fits] == sorted((fit.outside_error for fit in fits), reverse=True)
    assert fits[-1].outside_error == pytest.approx(fits[-1].max_error, rel=0.05)


def test_errors_and_slope_are_those_of_the_returned_coefficients() -> None:
    fit = fit_rational(ACTIVATIONS["gelu"], interval=(-2.0, 4.0), outside=(-5.0, 8.0))
    for bounds, reported in (((-2, 4), fit.max_error), ((-5, 8), fit.outside_error)):
        x = np.linspace(*bounds, 7777)
        measured = np.abs(evaluate(x, fit.numerator, fit.denominator) - ACTIVATIONS["gelu"](x)).max()
        assert measured == pytest.approx(reported, rel=1e-2)
    far = np.array([-1e9, 1e9])
    np.testing.assert_allclose(evaluate(far, fit.numerator, fit.denominator) / far, fit.slope, rtol=1e-5)


def test_fitting_a_multiple_gives_the_multiple_and_a_stretched_function_the_stretched_fit() -> None:
    fit = fit_rational(np.tanh)
    tripled = fit_rational(lambda x: 1e4 * np.tanh(x))
    stretched = fit_rational(lambda x: np.tanh(x / 50), interval=(-150.0, 150.0), outside=(-500.0, 500.0))
    assert tripled.max_error == pytest.approx(1e4 * fit.max_error, rel=1e-4)
    assert stretched.max_error == pytest.approx(fit.max_error, rel=1e-4)
    assert stretched.denominator[3] * 50**4 == pytest.approx(fit.denominator[3], rel=1e-3)


def test_the_identity_is_found_exactly() -> None:
    fit = fit_rational(ACTIVATIONS["identity"])
    assert (fit.numerator, fit.denominator) == ((0, 1, 0, 0, 0, 0), (0, 0, 0, 0))
    assert (fit.max_error, fit.outside_error, fit.slope) == (0, 0, 1)


def test_the_zero_function_is_found_exactly() -> None:
    fit = fit_rational(np.zeros_like)
    assert (set(fit.numerator), fit.max_error, fit.slope) == ({0.0}, 0, 0)


def test_the_same_arguments_give_the_same_coefficients() -> None:
    assert fit_rational(ACTIVATIONS["elu"]) == fit_rational(ACTIVATIONS["elu"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"degrees": (5, -1)}, r"degrees must be two integers >= 0.*\(5, -1\)"),
        ({"degrees": (5,)}, "degrees must be two integers"),
        ({"interval": (3.0, -3.0)}, r"interval must be \(lower, upper\).*\(3.0, -3.0\)"),
        ({"outside": (-math.inf, 0.0)}, "outside must be"),
        ({"outside_weight": 2.0}, r"outside_weight must be in \[0, 1\]; given: 2.0"),
        (
            {"function": lambda x: np.where(x > 9, np.nan, x)},
            r"finite values of the same shape.*[1-9]\d* of the values not finite",
        ),
        ({"function": lambda x: 1.0}, r"it returned \(\)"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit_rational(**{"function": np.tanh, **arguments})
