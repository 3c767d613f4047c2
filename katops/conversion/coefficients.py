"""The rational function that takes the place of an activation, fitted to the inputs that it will see."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from torch.nn import functional

from katops.conversion.activations import Activation, scalar_function
from katops.errors import UserError
from katops.ops.rational_shapes import SHAPES, Shape, evaluate, shape_of_activation
from katops.rational_fit import ACTIVATIONS, fit_rational

ScalarFunction = Callable[[np.ndarray], np.ndarray]

_INNER, _OUTER = (-3.0, 3.0), (-10.0, 10.0)
_STANDARD_DEVIATIONS = (0.25, 0.5, 1.0, 2.0, 4.0)
_SHARE_OF_UNSEEN = 0.1
_BINS = 1000


@dataclass(frozen=True)
class Replacement:
    """The rational function for one activation, and how well it does.

    Attributes:
        shape: its coefficients.
        interval: where ``max_error`` was taken.
        max_error: largest |activation - rational| there.
        typical_error: root mean square of it over the sample's inputs; None without a sample.
        input_range: smallest and largest input of the activation in the sample; None without a sample.
    """

    shape: Shape
    interval: tuple[float, float]
    max_error: float
    typical_error: float | None = None
    input_range: tuple[float, float] | None = None


def fit_without_inputs(activation: Activation) -> Replacement:
    """The rational function for an activation f whose inputs x nobody knows: small relative error at every scale.

        min_{a, b >= 0}  sum_s  E[(f(x) - P(x)/Q(x))^2] / E[f(x)^2],   x ~ N(0, s^2),   s = 1/4, 1/2, 1, 2, 4

    Inputs of a network at its start have s of about 0.4, where the error of the best uniform approximation, though
    small, is large beside the values: for GELU 0.8 % there, and 0.2 % to 0.3 % for s from 0.4 to 3 with this fit.
    """
    name = _name_in_table(activation)
    return _fit_unseen(scalar_function(activation), name) if name is None else _fit_known(name)


def fit_to_inputs(activation: Activation, values: np.ndarray) -> Replacement:
    """The rational function with the smallest mean square error over the inputs that a sample gave the activation.

        min_{a, b >= 0}  sum_k w_k (f(x_k) - P(x_k)/Q(x_k))^2

    on a grid over [-10, 10] and the range of the inputs, whichever reaches further. w is the share of the inputs near
    x_k, mixed with 10 % of the weight of :func:`fit_without_inputs` for what the sample does not show.

    Args:
        activation: f.
        values: inputs of the activation.

    Raises:
        UserError: an input is infinite or NaN.
    """
    if not np.isfinite(values).all():
        raise UserError(
            "convert: on the given sample an activation receives inputs that are infinite or NaN; "
            "give a sample on which the model works"
        )
    function = scalar_function(activation)
    bounds = float(values.min()), float(values.max())
    edges = _edges(bounds)
    seen = np.histogram(values, edges)[0] / len(values)
    weight = (1 - _SHARE_OF_UNSEEN) * seen + _SHARE_OF_UNSEEN * _weight_of_unseen(function, edges)
    shape = _fitted_shape(_name_in_table(activation), function, edges, weight)
    interval = min(bounds[0], _INNER[0]), max(bounds[1], _INNER[1])
    typical = np.sqrt(np.mean((function(values) - evaluate(values, shape.numerator, shape.denominator)) ** 2))
    return Replacement(shape, interval, _max_error(function, shape, interval), float(typical), bounds)


def _name_in_table(activation: Activation) -> str | None:
    """Of the activation's shape; functions of ``torch.nn.functional`` have the names and the defaults of the table."""
    name = shape_of_activation(activation)
    if name is None and getattr(functional, getattr(activation, "__name__", ""), None) is activation:
        name = activation.__name__
    return name if name in ACTIVATIONS else None


@functools.cache
def _fit_known(name: str) -> Replacement:
    return _fit_unseen(ACTIVATIONS[name], name)


def _fit_unseen(function: ScalarFunction, name: str | None) -> Replacement:
    edges = _edges(_OUTER)
    shape = _fitted_shape(name, function, edges, _weight_of_unseen(function, edges))
    return Replacement(shape, _INNER, shape.max_error)


def _fitted_shape(name: str | None, function: ScalarFunction, edges: np.ndarray, weight: np.ndarray) -> Shape:
    if name == "identity":
        return SHAPES[name]  # exact, which a fit would miss by rounding
    start = SHAPES[name].denominator if name is not None else fit_rational(function).denominator
    return _weighted_fit(function, edges, weight, start)


def _edges(bounds: tuple[float, float]) -> np.ndarray:
    """Of bins over the bounds and [-10, 10], about evenly wide up to 1 and wider in proportion to |x| beyond."""
    lower, upper = min(bounds[0], _OUTER[0]), max(bounds[1], _OUTER[1])
    edges = np.sinh(np.linspace(np.arcsinh(lower), np.arcsinh(upper), _BINS + 1))
    edges[[0, -1]] = lower, upper
    return edges


def _weight_of_unseen(function: ScalarFunction, edges: np.ndarray) -> np.ndarray:
    """sum_s N(x; 0, s^2) / E_s[f^2] for each bin, of sum 1."""
    x, width = _centres(edges), np.diff(edges)
    weight = np.zeros_like(x)
    for deviation in _STANDARD_DEVIATIONS:
        normal = np.exp(-((x / deviation) ** 2) / 2) * width
        weight += normal / max(normal @ function(x) ** 2, np.finfo(float).tiny)
    return weight / weight.sum()


def _weighted_fit(
    function: ScalarFunction, edges: np.ndarray, weight: np.ndarray, first_guess: Sequence[float], degree: int = 5
) -> Shape:
    """Weighted least squares on the centres of bins, searched over b alone: given b, the best a is a linear problem."""
    x = _centres(edges)
    values, root, scale = function(x), np.sqrt(weight), np.abs(x).max()
    start = np.array(first_guess)
    powers = np.vander(x / scale, degree + 1, increasing=True)
    magnitudes = np.vander(np.abs(x) / scale, len(start) + 1, increasing=True)[:, 1:]

    def solve(b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        basis = root[:, None] * powers / (1 + magnitudes @ b)[:, None]
        a = np.linalg.lstsq(basis, root * values, rcond=None)[0]
        return a, basis @ a - root * values

    b_scales = scale ** np.arange(1, len(start) + 1)
    b = least_squares(lambda b: solve(b)[1], start * b_scales, bounds=(0, np.inf), x_scale="jac").x
    numerator = tuple(map(float, solve(b)[0] / scale ** np.arange(degree + 1)))
    shape = Shape(numerator, tuple(map(float, b / b_scales)), max_error=0.0, outside_error=0.0)
    inner, outer = (_max_error(function, shape, interval) for interval in (_INNER, _OUTER))
    return Shape(shape.numerator, shape.denominator, inner, outer)


def _centres(edges: np.ndarray) -> np.ndarray:
    return (edges[:-1] + edges[1:]) / 2


def _max_error(function: ScalarFunction, shape: Shape, interval: tuple[float, float]) -> float:
    x = np.linspace(*interval, 20001)
    return float(np.abs(function(x) - evaluate(x, shape.numerator, shape.denominator)).max())
