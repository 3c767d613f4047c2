"""Fits of one curve by y = c f(a x + b) + d, for many curves and functions at once.

Variable projection (Golub & Pereyra 1973): for given a and b the best c and d are a linear regression, so that only
a and b are searched: over a coarse grid at first, then by a damped Gauss-Newton method from its best points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from katops.errors import UserError
from katops.interpret.symbolic_library import SymbolicFunction, SymbolicLibrary

POINTS = 256  # of a curve; more change nothing in a fit of four numbers
COARSE_POINTS = 48
REFINED_STARTS = 4
STEPS = 30
PYKAN_WEIGHT = 0.8
# A learned curve follows a function to about 1e-3 of its height; what is closer is not told apart.
SHARPEST = 1e-6

_SCALES = np.array([0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2, 3.2, 4.5, 6.5, 9.0, 13.0, 18.0])
_BEYOND = np.array([0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0])
_SHIFTS = np.concatenate([np.linspace(-0.9, 0.9, 10), 1 + _BEYOND, -1 - _BEYOND])


@dataclass(frozen=True)
class CurveFit:
    """One function fitted to one curve.

    Attributes:
        function: f.
        a, b, c, d: of y = c f(a x + b) + d.
        r2: on the points of the fit.
        held_out_r2: on the quarter of the points that the fit has not seen.
        score: n log(RSS / n) + (complexity + parameters) log n, the lower the better.
        pykan_score: 0.8 complexity + 0.2 log2(1 + 1e-5 - R2), as pykan ranks functions.
    """

    function: SymbolicFunction
    a: float
    b: float
    c: float
    d: float
    r2: float
    held_out_r2: float
    score: float
    pykan_score: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The fitted curve at any points; NaN outside the domain."""
        with np.errstate(all="ignore"):
            return self.c * self.function.value(self.a * np.asarray(x, dtype=float) + self.b) + self.d


def fit_curves(
    x: np.ndarray, y: np.ndarray, library: SymbolicLibrary | None = None, *, points: int = POINTS
) -> list[list[CurveFit]]:
    """For every curve all functions of the library that can follow it, the best score first.

    Args:
        x, y: (curves, points), or (points,) for a single curve.
        library: the standard one by default.
        points: how many of each curve are used, spread evenly over the sorted ones.

    Returns:
        One list per curve. A function of which no member of the family is smooth over the whole range of x is missing.

    Raises:
        UserError: the shapes differ, a value is not finite, or there are fewer than 8 points.
    """
    x, y = _checked(x, y)
    curves = _Curves.of(x, y, points)
    found: list[list[CurveFit]] = [[] for _ in x]
    with np.errstate(all="ignore"):
        for function in library or SymbolicLibrary():
            for curve, fit in _fit_function(function, curves):
                found[curve].append(fit)
    return [sorted(fits, key=lambda fit: fit.score) for fits in found]


def _checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.atleast_2d(np.asarray(x, dtype=float)), np.atleast_2d(np.asarray(y, dtype=float))
    if x.shape != y.shape or x.ndim != 2:
        raise UserError(f"fit_curves: x {x.shape} and y {y.shape} must both be (curves, points)")
    if x.shape[1] < 8:
        raise UserError(f"fit_curves: a curve needs at least 8 points, got {x.shape[1]}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("fit_curves: x and y must be finite numbers, got NaN or infinity")
    return x, y


@dataclass(frozen=True)
class _Curves:
    """Curves over t = (x - middle) / half in [-1, 1], sorted, in two parts."""

    fit_t: np.ndarray
    fit_y: np.ndarray
    held_t: np.ndarray
    held_y: np.ndarray
    middle: np.ndarray
    half: np.ndarray

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray, points: int) -> _Curves:
        order = np.argsort(x, axis=1, kind="stable")
        chosen = order[:, np.unique(np.linspace(0, x.shape[1] - 1, min(points, x.shape[1])).round().astype(int))]
        x, y = np.take_along_axis(x, chosen, axis=1), np.take_along_axis(y, chosen, axis=1)
        low, high = x[:, :1], x[:, -1:]
        half = np.where(high > low, (high - low) / 2, 1.0)
        middle = (high + low) / 2
        t = (x - middle) / half
        held = np.arange(t.shape[1]) % 4 == 2
        return cls(t[:, ~held], y[:, ~held], t[:, held], y[:, held], middle[:, 0], half[:, 0])


def _fit_function(function: SymbolicFunction, curves: _Curves) -> list[tuple[int, CurveFit]]:
    """The function fitted to every curve that it can follow, with the number of the curve."""
    chosen, alpha, beta = _starts(function, curves)
    if not len(chosen):
        return []
    alpha, beta = _refine(function, curves.fit_t[chosen], curves.fit_y[chosen], alpha, beta)
    fits: dict[int, CurveFit] = {}
    for curve, scale, shift in zip(chosen, alpha, beta, strict=True):
        fit = _finish(function, curves, int(curve), scale, shift)
        if fit is not None and (curve not in fits or fit.score < fits[curve].score):
            fits[int(curve)] = fit
    return list(fits.items())


def _starts(function: SymbolicFunction, curves: _Curves) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best points of the grid: number of the curve, slope and shift of u = alpha t + beta."""
    scales = _SCALES if function.scale else np.ones(1)
    scales = np.concatenate([scales, -scales]) if function.sign else scales
    shifts = np.tile(_SHIFTS if function.shift else np.zeros(1), (len(curves.middle), 1))
    if function.shift:
        # x = 0 is where laws of nature have their poles and vertices
        origin = np.clip(-curves.middle / curves.half, -50, 50)
        shifts = np.concatenate([origin[:, None], shifts], axis=1)
    alpha = np.tile(np.repeat(scales, shifts.shape[1]), (len(shifts), 1))
    beta = -alpha * np.tile(shifts, (1, len(scales)))
    # Whether a point is inside of the domain depends on the ends of the range too, and these are among the coarse ones.
    coarse = np.unique(np.linspace(0, curves.fit_t.shape[1] - 1, COARSE_POINTS).round().astype(int))
    t, y = curves.fit_t[:, coarse], curves.fit_y[:, coarse]
    u = alpha[..., None] * t[:, None] + beta[..., None]
    _, _, rss = _project(function.value(u), y[:, None])
    rss = np.where(function.inside(u) & np.isfinite(rss), rss, np.inf)
    best = np.argsort(rss, axis=1, kind="stable")[:, :REFINED_STARTS]
    rows, columns = np.nonzero(np.isfinite(np.take_along_axis(rss, best, axis=1)))
    places = best[rows, columns]
    return rows, alpha[rows, places], beta[rows, places]


def _project(f: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The linear regression y = c f + d over the last axis: c, d and the sum of squared residuals."""
    f_mean, y_mean = f.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    f_centred, y_centred = f - f_mean, y - y_mean
    variance = (f_centred**2).sum(axis=-1)
    flat = variance <= 1e-24 * np.maximum(1, (f**2).sum(axis=-1))
    c = np.where(flat, 0.0, (f_centred * y_centred).sum(axis=-1) / np.where(flat, 1.0, variance))
    rss = ((y_centred - c[..., None] * f_centred) ** 2).sum(axis=-1)
    return c, y_mean[..., 0] - c * f_mean[..., 0], rss


def _refine(
    function: SymbolicFunction, t: np.ndarray, y: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Damped Gauss-Newton steps on (alpha, beta) with c and d projected out (Kaufman 1975), all curves in one go."""
    damping = np.full(len(alpha), 1e-3)
    rss = _residual(function, t, y, alpha, beta)
    for _ in range(STEPS if function.scale or function.shift else 0):
        step = _step(function, t, y, alpha, beta, damping)
        trial = _residual(function, t, y, alpha + step[0], beta + step[1])
        better = trial < rss
        slow = trial > (1 - 1e-6) * rss
        alpha, beta = np.where(better, alpha + step[0], alpha), np.where(better, beta + step[1], beta)
        rss = np.where(better, trial, rss)
        damping = np.where(better, damping / 4, damping * 5)
        if (slow & (better | (damping > 1e6))).all():
            break
    return alpha, beta


def _step(
    function: SymbolicFunction, t: np.ndarray, y: np.ndarray, alpha: np.ndarray, beta: np.ndarray, damping: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    u = alpha[:, None] * t + beta[:, None]
    f = function.value(u)
    f = f - f.mean(axis=1, keepdims=True)
    squares = np.maximum((f * f).sum(axis=1), 1e-300)
    c = (f * y).sum(axis=1) / squares
    residual = y - y.mean(axis=1, keepdims=True) - c[:, None] * f
    by_beta = c[:, None] * function.slope(u)
    columns = []
    for column in (by_beta * t, by_beta):
        # without what c and d make up for
        column = column - column.mean(axis=1, keepdims=True)
        columns.append(column - ((column * f).sum(axis=1) / squares)[:, None] * f)
    first, second = columns
    aa, ab, bb = (first * first).sum(axis=1), (first * second).sum(axis=1), (second * second).sum(axis=1)
    ga, gb = (first * residual).sum(axis=1), (second * residual).sum(axis=1)
    floor = 1e-14 * (aa + bb) + 1e-300
    if not function.shift:
        return np.nan_to_num(ga / (aa * (1 + damping) + floor)), np.zeros_like(ga)
    if not function.scale:
        return np.zeros_like(gb), np.nan_to_num(gb / (bb * (1 + damping) + floor))
    aa, bb = aa * (1 + damping) + floor, bb * (1 + damping) + floor
    determinant = aa * bb - ab * ab
    return np.nan_to_num((ga * bb - gb * ab) / determinant), np.nan_to_num((gb * aa - ga * ab) / determinant)


def _residual(
    function: SymbolicFunction, t: np.ndarray, y: np.ndarray, alpha: np.ndarray, beta: np.ndarray
) -> np.ndarray:
    u = alpha[:, None] * t + beta[:, None]
    _, _, rss = _project(function.value(u), y)
    return np.where(function.inside(u) & np.isfinite(rss), rss, np.inf)


def _finish(function: SymbolicFunction, curves: _Curves, curve: int, alpha: float, beta: float) -> CurveFit | None:
    t, y = curves.fit_t[curve], curves.fit_y[curve]
    held_t, held_y = curves.held_t[curve], curves.held_y[curve]
    everything = np.concatenate([t, held_t])
    if not function.inside(alpha * everything + beta):
        return None
    c, d, rss = _project(function.value(alpha * t + beta), y)
    total = ((y - y.mean()) ** 2).sum()
    held_rss = ((held_y - c * function.value(alpha * held_t + beta) - d) ** 2).sum()
    held_total = ((held_y - held_y.mean()) ** 2).sum()
    r2, held_r2 = r_squared(rss, total), r_squared(held_rss, held_total)
    n, parameters = len(t), 2 + function.scale + function.shift
    relative = max(rss / total if total > 0 else 0.0, SHARPEST)
    score = n * math.log(relative) + (function.complexity + parameters) * math.log(n)
    pykan = PYKAN_WEIGHT * function.complexity + (1 - PYKAN_WEIGHT) * math.log2(max(1 + 1e-5 - r2, 1e-12))
    half, middle = curves.half[curve], curves.middle[curve]
    a, b = alpha / half, beta - alpha * middle / half
    return CurveFit(function, float(a), float(b), float(c), float(d), r2, held_r2, float(score), float(pykan))


def r_squared(rss: float, total: float) -> float:
    """1 - RSS / TSS; 1 for a constant that is met exactly, -inf for one that is not or where RSS is not finite."""
    if not math.isfinite(rss):
        return -math.inf
    if total <= 0:
        return 1.0 if rss <= 1e-20 else -math.inf
    return float(1 - rss / total)


def suggestion_table(fits: Sequence[CurveFit], topk: int = 5):
    """A pandas table of the best fits of one curve: one row per function with its scores and its four numbers."""
    import pandas

    columns = ["r2", "held_out_r2", "score", "pykan_score", "a", "b", "c", "d"]
    rows = [
        {"function": fit.function.name, "complexity": fit.function.complexity}
        | {name: getattr(fit, name) for name in columns}
        for fit in fits[:topk]
    ]
    return pandas.DataFrame(rows, columns=["function", "complexity", *columns])
