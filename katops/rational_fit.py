r"""Fits of functions by the group rational function; ``python -m katops.rational_fit`` prints the table of shapes.

.. math:: \min_{a, b \ge 0} \max_x\, w(x) \Bigl|f(x) - \frac{P(x)}{Q(x)}\Bigr|, \qquad
          P = \sum_{i=0}^m a_i x^i, \quad Q = 1 + \sum_{j=1}^n b_j |x|^j

with w = 1 on the interval of interest and a small weight outside. An error of at most δ means
:math:`w |f Q - P| \le \delta Q`, which is linear in (a, b): the sets of coefficients that reach an error are convex, so
there are no local minima, and the differential correction algorithm finds the best fit by a few linear programs from
any start (Barrodale, Powell & Roberts 1972, SIAM J. Numer. Anal. 9, 493-504; convergence is quadratic). The sign
condition on b costs nothing, since the function only reads \|b\|.
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from scipy.optimize import linprog
from scipy.special import erf, expit

from katops.errors import UserError
from katops.ops.rational_shapes import evaluate, slope_at_infinity

ScalarFunction = Callable[[np.ndarray], np.ndarray]

ACTIVATIONS: Mapping[str, ScalarFunction] = MappingProxyType(
    {
        "identity": lambda x: x,
        "gelu": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
        "gelu_tanh": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
        "quick_gelu": lambda x: x * expit(1.702 * x),
        "silu": lambda x: x * expit(x),
        "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
        "hardswish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
        "relu": lambda x: np.maximum(x, 0),
        "leaky_relu": lambda x: np.maximum(x, 0.01 * x),
        "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        "softplus": lambda x: np.logaddexp(0, x),
        "tanh": np.tanh,
        "sigmoid": expit,
    }
)
"""The functions behind :data:`katops.ops.rational_shapes.SHAPES`, with the defaults of their torch modules."""

_MAX_PROGRAMS = 50  # 8 to 13 are usual
_SMALLEST_CONSTANT = 1e-6  # of Q, relative to the sum of its coefficients: sharper kinks than that are not resolved
_ROUNDING = 1e-13  # relative size, at the end of the interval, of a term that should have been 0


@dataclass(frozen=True)
class RationalFit:
    """The best coefficients and how good they are.

    Attributes:
        numerator: a_0 .. a_m.
        denominator: b_1 .. b_n, none negative.
        max_error: largest \\|f - P/Q\\| on the interval, over 20001 points.
        outside_error: the same on the outer interval.
        slope: limit of P(x)/Q(x)/x for x to infinity, ``inf`` where P/Q grows faster than x.
    """

    numerator: tuple[float, ...]
    denominator: tuple[float, ...]
    max_error: float
    outside_error: float
    slope: float


def fit_rational(
    function: ScalarFunction,
    degrees: tuple[int, int] = (5, 4),
    interval: tuple[float, float] = (-3.0, 3.0),
    outside: tuple[float, float] = (-10.0, 10.0),
    outside_weight: float = 0.1,
) -> RationalFit:
    r"""The rational function with the smallest maximal error, weighted 1 on ``interval`` and less up to ``outside``.

    Why errors outside count: with degrees (5, 4) the two ends of P/Q have the same slope :math:`a_5 / b_4`, so that
    beyond all data a function such as GELU is missed by about \|x\|/2 whatever the coefficients are; fitted on [-3, 3]
    alone, that begins at once. A weight of 0.1 lets the error grow to ten times the inner one by \|x\| = 10, where
    trained transformers still have inputs. Largest errors on [-3, 3] and on [-10, 10]:

    ==============  ==================  ==================  ==================  ==================
    outside_weight  gelu                silu                tanh                relu
    ==============  ==================  ==================  ==================  ==================
    0               1.3e-3, 0.66        4.6e-7, 0.16        9.6e-7, 0.068       1.3e-2, 2.4
    0.01            1.3e-3, 0.13        8.7e-5, 8.7e-3      4.8e-5, 4.8e-3      1.7e-2, 1.7
    0.1             2.4e-3, 0.024       3.3e-4, 3.3e-3      1.6e-4, 1.6e-3      2.4e-2, 0.24
    1               6.7e-3, 6.7e-3      1.7e-3, 1.7e-3      6.8e-4, 6.8e-4      4.3e-2, 4.3e-2
    ==============  ==================  ==================  ==================  ==================

    Args:
        function: f, from a float64 array to the array of its values; continuous.
        degrees: (m, n), both >= 0; n = 0 fits a polynomial.
        interval: where the error counts in full.
        outside: where it still counts, with ``outside_weight``; the part beyond ``interval`` matters.
        outside_weight: in [0, 1]; 0 ignores what happens outside.

    Returns:
        the fit; the same arguments give the same coefficients.

    Raises:
        UserError: an interval is empty or not finite, a degree is negative, the weight is not in [0, 1], or the
            function does not return finite values.
    """
    _check_arguments(degrees, interval, outside, outside_weight)
    x, weight = _grid(interval, outside, outside_weight)
    values = _values(function, x)
    scale = np.abs(interval).max()
    unit = np.abs(values).max() or 1.0
    a, q = _differential_correction(x / scale, values / unit, weight, degrees)
    numerator, denominator = _tidy(unit * a / q[0], scale), _tidy(q / q[0], scale)[1:]
    inner, outer = (
        float(np.abs(evaluate(points, numerator, denominator) - _values(function, points)).max())
        for points in (np.linspace(*interval, 20001), np.linspace(*outside, 20001))
    )
    return RationalFit(numerator, denominator, inner, outer, slope_at_infinity(numerator, denominator))


def _check_arguments(
    degrees: tuple[int, int], interval: tuple[float, float], outside: tuple[float, float], outside_weight: float
) -> None:
    if len(degrees) != 2 or min(degrees) < 0 or not all(isinstance(degree, int) for degree in degrees):
        raise UserError(f"fit_rational: degrees must be two integers >= 0, such as (5, 4); given: {degrees!r}")
    for name, bounds in (("interval", interval), ("outside", outside)):
        if len(bounds) != 2 or not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
            raise UserError(f"fit_rational: {name} must be (lower, upper) with lower < upper; given: {bounds!r}")
    if not 0 <= outside_weight <= 1:
        raise UserError(f"fit_rational: outside_weight must be in [0, 1]; given: {outside_weight!r}")


def _grid(
    interval: tuple[float, float], outside: tuple[float, float], outside_weight: float
) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights: dense at the ends of each part and at 0, where \\|x\\| gives the fit its only kink."""
    lower, upper = interval
    cosine = (1 - np.cos(np.linspace(0, math.pi, 401))) / 2
    near_zero = np.geomspace(1e-4, 1e-1, 100) * max(abs(lower), abs(upper))
    inner = np.concatenate([lower + (upper - lower) * cosine, near_zero, -near_zero])
    inner = inner[(inner >= lower) & (inner <= upper)]
    outer = np.empty(0)
    if outside_weight > 0:
        left, right = min(outside[0], lower), max(outside[1], upper)
        outer = np.concatenate([lower + (left - lower) * cosine[1::2], upper + (right - upper) * cosine[1::2]])
        outer = outer[(outer < lower) | (outer > upper)]
    return np.concatenate([inner, outer]), np.repeat([1.0, outside_weight], [len(inner), len(outer)])


def _values(function: ScalarFunction, x: np.ndarray) -> np.ndarray:
    values = np.asarray(function(x), dtype=np.float64)
    if values.shape != x.shape or not np.isfinite(values).all():
        raise UserError(
            f"fit_rational: the function must map an array to finite values of the same shape on "
            f"[{x.min():g}, {x.max():g}]; given shape {x.shape} it returned {values.shape}, "
            f"{np.count_nonzero(~np.isfinite(values))} of the values not finite"
        )
    return values


def _differential_correction(
    x: np.ndarray, values: np.ndarray, weight: np.ndarray, degrees: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of P and of Q (with its constant, sum of all = 1) from repeated linear programs.

    Starts from the least-squares polynomial. Each program lowers the largest of (w \\|f Q - P\\| - δ Q) / Q_previous,
    where δ is the error reached so far; when that is no longer possible, δ is the smallest error there is.
    """
    m, n = degrees
    powers = np.vander(x, m + 1, increasing=True)
    magnitudes = np.vander(np.abs(x), n + 1, increasing=True)

    def error(a: np.ndarray, q: np.ndarray) -> float:
        return float((weight * np.abs(values - powers @ a / (magnitudes @ q))).max())

    a, q = np.linalg.lstsq(powers, values, rcond=None)[0], np.eye(n + 1)[0]
    reached = error(a, q)
    for _ in range(_MAX_PROGRAMS):
        if reached < 1e-13:
            break  # f is a polynomial
        new_a, new_q = _linear_program(powers, magnitudes, values, weight, reached, magnitudes @ q)
        new_error = error(new_a, new_q)
        if new_error < reached:
            a, q = new_a, new_q
        if new_error > reached * (1 - 1e-6):
            break
        reached = new_error
    return a, q


def _linear_program(
    powers: np.ndarray,
    magnitudes: np.ndarray,
    values: np.ndarray,
    weight: np.ndarray,
    reached: float,
    previous: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """The (a, q) that minimise the largest (w \\|f Q - P\\| - reached Q) / previous; q >= 0, sum q = 1."""
    n_a, n_q = powers.shape[1], magnitudes.shape[1]
    rows = [
        np.column_stack(
            [
                (-sign * weight / previous)[:, None] * powers,
                ((sign * weight * values - reached) / previous)[:, None] * magnitudes,
                -np.ones(len(values)),
            ]
        )
        for sign in (1.0, -1.0)
    ]
    solution = linprog(
        np.eye(n_a + n_q + 1)[-1],
        A_ub=np.concatenate(rows),
        b_ub=np.zeros(2 * len(values)),
        A_eq=np.repeat([0.0, 1.0, 0.0], [n_a, n_q, 1])[None],
        b_eq=[1.0],
        bounds=[(None, None)] * n_a + [(_SMALLEST_CONSTANT, None)] + [(0.0, None)] * (n_q - 1) + [(None, None)],
        method="highs-ds",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if solution.x is None:
        raise RuntimeError(f"the linear program of the rational fit failed: {solution.message}")
    return solution.x[:n_a], solution.x[n_a : n_a + n_q]


def _tidy(coefficients: np.ndarray, scale: float) -> tuple[float, ...]:
    """Coefficients of powers of x from those of x / scale, to 12 digits; what is only rounding becomes 0."""
    kept = np.where(np.abs(coefficients) > _ROUNDING * np.abs(coefficients).max(), coefficients, 0.0)
    return tuple(float(f"{value:.12g}") for value in kept / scale ** np.arange(len(kept)))


def table() -> str:
    """The fitted part of :mod:`katops.ops.rational_shapes`, as Python source."""
    return "".join(
        inspect.cleandoc(f"""
            "{name}": Shape(
                numerator={fit.numerator},
                denominator={fit.denominator},
                max_error={fit.max_error:.3g},
                outside_error={fit.outside_error:.3g},
            ),
        """)
        + "\n"
        for name, fit in ((name, fit_rational(function)) for name, function in ACTIVATIONS.items())
    )


if __name__ == "__main__":
    sys.stdout.write(table())
