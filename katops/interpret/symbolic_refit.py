"""Joint least-squares fit of all numbers of a symbolic network, and the score by which two networks are compared."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from katops.interpret.least_squares import levenberg_marquardt
from katops.interpret.symbolic_network import SymbolicNetwork

# Residuals far below the height of the data are rounding; differences there say nothing about the form.
SMALLEST = 1e-12


@dataclass(frozen=True)
class Refitted:
    """A network after the fit.

    Attributes:
        network: with the best numbers found.
        rss: sum of squared residuals, each output in units of its standard deviation; infinite where the network
            cannot be evaluated on the rows.
        score: n log(RSS / n) + (rank + complexity) log n, the lower the better. The rank of the derivatives counts the
            numbers that can be told apart, whatever the form in which they are written.
        errors: standard error of every free parameter; infinite where the data do not fix it.
    """

    network: SymbolicNetwork
    rss: float
    score: float
    errors: np.ndarray


def refit(
    network: SymbolicNetwork, x: np.ndarray, y: np.ndarray, *, steps: int = 60, tolerance: float = 1e-9
) -> Refitted:
    """The network with all its free parameters fitted to (x, y) by the method of Levenberg and Marquardt.

    Args:
        network: where the search begins; it is left as it is.
        x: (N, inputs).
        y: (N, outputs).
        steps, tolerance: see :func:`katops.interpret.least_squares.levenberg_marquardt`.

    The published remedy is LBFGS; for sums of squares with so few unknowns a Gauss-Newton method needs a tenth of its
    steps. Steps that leave the domain of a function are refused.
    """
    scale = _scale(y)

    def residual(values: np.ndarray) -> np.ndarray:
        said = network.with_parameters(values).checked(x)
        return np.full(y.size, np.inf) if said is None else ((said - y) / scale).ravel()

    def jacobian(values: np.ndarray) -> np.ndarray:
        _, slopes = network.with_parameters(values).value_and_jacobian(x)
        return np.nan_to_num((slopes / scale[:, None]).reshape(y.size, -1))

    with np.errstate(all="ignore"):
        found = levenberg_marquardt(residual, jacobian, network.parameters(), steps=steps, tolerance=tolerance)
    return assess(network.with_parameters(found), x, y)


def _scale(y: np.ndarray) -> np.ndarray:
    deviation = y.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)


def assess(network: SymbolicNetwork, x: np.ndarray, y: np.ndarray) -> Refitted:
    """The network as it is, with its score and the standard errors of its parameters on these rows."""
    scale = _scale(y)
    count = len(network.parameters())
    if not network.inside(x):
        return Refitted(network, math.inf, math.inf, np.full(count, math.inf))
    with np.errstate(all="ignore"):
        value, slopes = network.value_and_jacobian(x)
        rss = float((((value - y) / scale) ** 2).sum())
        if not math.isfinite(rss):
            return Refitted(network, math.inf, math.inf, np.full(count, math.inf))
        rank, errors = _errors((slopes / scale[:, None]).reshape(y.size, -1), rss)
    n = y.size
    score = n * math.log(max(rss / n, SMALLEST)) + (rank + network.complexity) * math.log(n)
    return Refitted(network, rss, score, errors)


def _errors(jacobian: np.ndarray, rss: float) -> tuple[int, np.ndarray]:
    """Rank of the derivatives, and the standard errors sigma sqrt(diag((J^T J)^-1))."""
    n, count = jacobian.shape
    if not count:
        return 0, np.zeros(0)
    if not np.isfinite(jacobian).all():
        return count, np.full(count, np.inf)
    lengths = np.linalg.norm(jacobian, axis=0)
    lengths = np.where(lengths > 0, lengths, 1.0)
    _, singular, directions = np.linalg.svd(jacobian / lengths, full_matrices=False)
    seen = singular > 1e-7 * singular[0]
    rank = int(seen.sum())
    inverse = np.where(seen, 1 / np.where(seen, singular, 1.0) ** 2, 0.0)
    variance = (directions**2 * inverse[:, None]).sum(axis=0)
    unseen = (directions[~seen] ** 2).sum(axis=0) > 1e-6
    sigma = math.sqrt(rss / max(n - rank, 1))
    return rank, np.where(unseen | ~np.isfinite(variance), np.inf, sigma * np.sqrt(variance) / lengths)
