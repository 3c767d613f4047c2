"""The method of Levenberg and Marquardt for a few hundred unknowns, with steps that may be refused.

SciPy's methods form a singular value decomposition in every step and forget the scale of penalties between steps; here
one Cholesky decomposition serves, and the penalty may change with the solution, as sparsity needs it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve

Residual = Callable[[np.ndarray], np.ndarray]
Jacobian = Callable[[np.ndarray], np.ndarray]
Penalty = Callable[[np.ndarray], np.ndarray]

LARGEST_DAMPING = 1e12


def levenberg_marquardt(
    residual: Residual,
    jacobian: Jacobian,
    start: np.ndarray,
    *,
    steps: int = 60,
    tolerance: float = 1e-9,
    penalty: Penalty | None = None,
) -> np.ndarray:
    """The unknowns p that minimise sum r(p)^2 + sum w p^2 near ``start`` (Marquardt 1963).

    Args:
        residual: r of p, (n,); not finite where p is not allowed, such a step is made shorter.
        jacobian: dr/dp of p, (n, P).
        start: (P,), where the residual is finite.
        steps: at most.
        tolerance: the search ends when a step lowers the sum by less than this part of it.
        penalty: of p, the weights w (P,) of the next step; none by default.
    """
    values, damping = np.asarray(start, dtype=float), 1e-3
    present = residual(values)
    if not len(values) or not np.isfinite(present).all():
        return values
    for _ in range(steps):
        weights = penalty(values) if penalty is not None else np.zeros(len(values))
        slopes = jacobian(values)
        normal = slopes.T @ slopes + np.diag(weights)
        gradient = slopes.T @ present + weights * values
        diagonal = np.diag(normal)
        diagonal = np.maximum(diagonal, 1e-12 * diagonal.max(initial=1e-300))
        cost = float(present @ present + weights @ values**2)
        while True:
            step = _solved(normal, damping * diagonal, gradient)
            trial = values - step
            changed = residual(trial)
            drop = cost - float(changed @ changed + weights @ trial**2)
            if np.isfinite(drop) and drop >= 0:
                break
            damping *= 6
            if damping > LARGEST_DAMPING:
                return values
        values, present = trial, changed
        damping = max(damping / 5, 1e-12)
        if drop <= tolerance * cost:
            break
    return values


def _solved(normal: np.ndarray, damping: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    try:
        return cho_solve(cho_factor(normal + np.diag(damping), check_finite=False), gradient, check_finite=False)
    except LinAlgError:
        return np.full(len(gradient), np.nan)
