"""The tabulated shapes are what they say: errors, limits, moments, names."""

import math

import numpy as np
import pytest
import timm.layers
import torch
from torch import nn

from katops.errors import UserError
from katops.ops.rational_shapes import (
    SHAPES,
    Shape,
    evaluate,
    second_moment,
    shape,
    shape_of_activation,
    slope_at_infinity,
)
from katops.rational_fit import ACTIVATIONS

FUNCTIONS = {
    **ACTIVATIONS,
    "swish": ACTIVATIONS["silu"],
    "geglu": ACTIVATIONS["gelu"],
    "gelu_old": ACTIVATIONS["gelu"],
    "leaky_relu_0.1": lambda x: np.maximum(x, 0.1 * x),
}


def largest_error(name: str, bound: float) -> float:
    x = np.linspace(-bound, bound, 30001)
    target = FUNCTIONS[name.removeprefix("published_")](x)
    return np.abs(evaluate(x, SHAPES[name].numerator, SHAPES[name].denominator) - target).max()


@pytest.mark.parametrize("name", SHAPES)
def test_tabulated_errors_are_the_measured_ones(name: str) -> None:
    assert largest_error(name, 3) == pytest.approx(SHAPES[name].max_error, rel=6e-3, abs=1e-15)
    assert largest_error(name, 10) == pytest.approx(SHAPES[name].outside_error, rel=6e-3, abs=1e-15)


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_has_the_published_degrees(name: str) -> None:
    assert (len(SHAPES[name].numerator), len(SHAPES[name].denominator)) == (6, 4)


@pytest.mark.parametrize(
    ("name", "inside", "outside"),
    [
        ("identity", 0, 0),
        ("gelu", 2.5e-3, 2.5e-2),
        ("gelu_tanh", 2.5e-3, 2.5e-2),
        ("quick_gelu", 2.5e-3, 2.5e-2),
        ("silu", 3.5e-4, 3.5e-3),
        ("mish", 3e-3, 3e-2),
        ("hardswish", 4e-2, 0.4),
        ("relu", 2.5e-2, 0.25),
        ("leaky_relu", 2.5e-2, 0.25),
        ("elu", 2e-3, 2e-2),
        ("softplus", 3.5e-4, 3.5e-3),
        ("tanh", 2e-4, 2e-3),
        ("sigmoid", 5e-6, 5e-5),
    ],
)
def test_fitted_shapes_are_close_inside_and_tame_outside(name: str, inside: float, outside: float) -> None:
    assert largest_error(name, 3) <= inside
    assert largest_error(name, 10) <= outside


@pytest.mark.parametrize("name", [name for name in SHAPES if not name.startswith("published_")])
def test_fitted_shapes_grow_at_most_linearly(name: str) -> None:
    far = np.array([1e6, -1e6])
    values = evaluate(far, SHAPES[name].numerator, SHAPES[name].denominator)
    np.testing.assert_allclose(values / far, SHAPES[name].slope, atol=1e-3)
    assert 0 <= SHAPES[name].slope < 1.3


def test_published_gelu_belongs_to_another_denominator() -> None:
    x = np.linspace(-3, 3, 20001)
    published = SHAPES["published_gelu"]
    signed = np.polynomial.polynomial.polyval(x, (0.0, *published.denominator))
    intended = np.polynomial.polynomial.polyval(x, published.numerator) / (1 + np.abs(signed))
    assert np.abs(intended - ACTIVATIONS["gelu"](x)).max() < 3e-3
    assert largest_error("published_gelu", 3) == pytest.approx(1.465, abs=1e-3)


def test_published_swish_is_good_where_it_was_fitted() -> None:
    assert largest_error("published_swish", 3) == pytest.approx(1.2e-6, rel=0.01)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "leaky_relu_0.1", "tanh", "sigmoid", "gelu_old"])
def test_the_other_published_shapes_belong_to_our_denominator(name: str) -> None:
    assert largest_error(f"published_{name}", 3) <= (0.03 if "relu" in name else 5e-3)


def test_other_names_are_the_same_shapes() -> None:
    assert shape("swish") is shape("silu")
    assert shape("geglu") is shape("gelu")


def test_the_table_is_read_only() -> None:
    with pytest.raises(TypeError):
        SHAPES["mine"] = SHAPES["gelu"]
    with pytest.raises(AttributeError):
        SHAPES["gelu"].max_error = 0.0


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UserError, match=r"unknown rational shape 'gleu'; did you mean 'gelu'\? Known: identity, gelu"):
        shape("gleu")


@pytest.mark.parametrize("degree", range(6))
def test_second_moment_of_a_power_is_the_double_factorial(degree: int) -> None:
    expected = math.prod(range(1, 2 * degree, 2))
    assert second_moment([0.0] * degree + [1.0], []) == pytest.approx(expected, rel=1e-12)


def test_second_moment_of_a_kinked_quotient_matches_its_closed_form() -> None:
    """E[1 / (1 + |z|)²] = sqrt(2 / pi) * integral of exp(-t²/2) / (1 + t)² over t > 0, by the trapezoidal rule."""
    t = np.linspace(0, 12, 1_200_001)
    reference = math.sqrt(2 / math.pi) * np.trapezoid(np.exp(-(t**2) / 2) / (1 + t) ** 2, t)
    assert second_moment([1.0], [-1.0]) == pytest.approx(reference, rel=1e-10)


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("identity", 1.0),
        ("relu", 0.5),
        ("leaky_relu", (1 + 0.01**2) / 2),
        # E[(z Φ(z))²] = 1/3 + 1/(2π√3), by Stein's lemma
        ("gelu", 1 / 3 + 1 / (2 * math.pi * math.sqrt(3))),
    ],
)
def test_second_moments_are_those_of_the_exact_functions_up_to_the_fit(name: str, exact: float) -> None:
    """|E[F²] - E[f²]| <= e (2 E|f| + e) where e bounds the error and E|f| <= 1."""
    error = SHAPES[name].max_error
    moment = second_moment(SHAPES[name].numerator, SHAPES[name].denominator)
    assert abs(moment - exact) <= error * (2 + error) + 1e-12


@pytest.mark.parametrize("name", ["gelu", "elu", "published_gelu"])
def test_second_moment_agrees_with_sampling(name: str) -> None:
    z = np.random.default_rng(0).standard_normal(1_000_000)
    squares = evaluate(z, SHAPES[name].numerator, SHAPES[name].denominator) ** 2
    tolerance = 4 * squares.std() / 1000
    assert abs(squares.mean() - second_moment(SHAPES[name].numerator, SHAPES[name].denominator)) < tolerance


def test_the_gain_computed_from_it_keeps_the_variance_of_a_layer() -> None:
    generator = np.random.default_rng(0)
    gelu = SHAPES["gelu"]
    x = generator.standard_normal((2000, 256))
    gain = 1 / second_moment(gelu.numerator, gelu.denominator)
    weight = generator.standard_normal((256, 256)) * math.sqrt(gain / 256)
    assert (evaluate(x, gelu.numerator, gelu.denominator) @ weight).var() == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize(
    ("numerator", "denominator", "slope"),
    [
        ([0, 0, 6], [0, -3], 0.0),
        ([0, 0, 0, 6], [0, -3], 2.0),
        ([0, 0, 0, -6, 0], [0, -3, 0], -2.0),
        ([1, 2, -3], [0.0], -math.inf),
        ([0, 5], [], 5.0),
        ([0.0], [1.0], 0.0),
    ],
)
def test_the_slope_is_the_ratio_of_the_leading_coefficients(
    numerator: list[float], denominator: list[float], slope: float
) -> None:
    assert slope_at_infinity(numerator, denominator) == slope


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Identity(), "identity"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
        (nn.SiLU(), "silu"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.LeakyReLU(), "leaky_relu"),
        (nn.Tanh(), "tanh"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.Softplus(), "softplus"),
        (nn.Mish(), "mish"),
        (nn.ELU(), "elu"),
        (nn.Hardswish(), "hardswish"),
        *((timm.layers.create_act_layer(name), name) for name in ("gelu", "gelu_tanh", "quick_gelu", "silu", "mish")),
        (timm.layers.activations.Swish(), "silu"),
        (timm.layers.activations.HardSwish(), "hardswish"),
        (timm.layers.create_act_layer("sigmoid"), "sigmoid"),
        (timm.layers.create_act_layer("tanh"), "tanh"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__module__ + "." + type(value).__name__,
)
def test_activation_modules_map_to_shapes_that_compute_the_same(module: nn.Module, name: str) -> None:
    assert shape_of_activation(module) == name
    x = np.linspace(-3, 3, 2001)
    expected = module(torch.from_numpy(x.copy())).numpy()
    fitted: Shape = SHAPES[name]
    assert np.abs(evaluate(x, fitted.numerator, fitted.denominator) - expected).max() <= fitted.max_error * 1.01


class _MyGELU(nn.GELU):
    """A subclass may compute something else."""


@pytest.mark.parametrize(
    "module",
    [
        nn.LeakyReLU(0.2),
        nn.ELU(alpha=2.0),
        nn.Softplus(beta=3.0),
        nn.PReLU(),
        nn.Linear(1, 1),
        _MyGELU(),
        torch.nn.functional.gelu,
    ],
    ids=repr,
)
def test_what_is_not_in_the_table_maps_to_none(module: object) -> None:
    assert shape_of_activation(module) is None
