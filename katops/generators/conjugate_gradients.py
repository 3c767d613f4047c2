"""Preconditioned conjugate gradients for a batch of independent symmetric positive definite systems."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Operator = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``operator(u, out)`` writes A u into ``out`` and returns it."""


class Solution(NamedTuple):
    """Solutions of a batch of problems.

    Attributes:
        u: (n, s, s).
        residual: (n,), ||A u - f|| / ||f|| computed from u, not the recursive estimate; NaN where the solution is not
            finite.
        iterations: (n,), conjugate gradient steps.
    """

    u: np.ndarray
    residual: np.ndarray
    iterations: np.ndarray


def conjugate_gradients(
    operator: Operator,
    right_hand_side: np.ndarray,
    precondition: Callable[[np.ndarray], np.ndarray],
    tolerance: float,
    max_iterations: int,
) -> Solution:
    """Solve A u = f for every sample of a batch.

    A sample that has converged is frozen, so that its solution does not depend on the rest of the batch.

    Args:
        operator: applies A to all samples.
        right_hand_side: f, (n, s, s).
        precondition: applies an approximate inverse of A to all samples.
        tolerance: where a sample stops, as ||A u - f|| / ||f||.
        max_iterations: where a sample is given up; its residual tells.

    Source: Hestenes, Stiefel, "Methods of conjugate gradients for solving linear systems", 1952.
    """
    n = len(right_hand_side)
    scratch = np.empty(right_hand_side.shape)

    def dot(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        # Not BLAS and not einsum: their order of summation may change with the batch and the number of threads.
        return np.multiply(left, right, out=scratch).reshape(n, -1).sum(axis=1)

    def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
        return np.divide(numerator, denominator, out=np.zeros(n), where=active)[:, None, None]

    target = tolerance**2 * dot(right_hand_side, right_hand_side)
    u = np.zeros(right_hand_side.shape)
    residual = right_hand_side.copy()
    image = np.empty(right_hand_side.shape)
    direction = precondition(residual)
    energy = dot(residual, direction)
    active = dot(residual, residual) > target
    iterations = np.zeros(n, dtype=np.int64)
    with np.errstate(all="ignore"):  # a sample that breaks down becomes NaN, which its residual reports
        while active.any() and iterations.max() < max_iterations:
            iterations += active
            operator(direction, image)
            step = divide(energy, dot(direction, image))
            u += np.multiply(step, direction, out=scratch)
            residual -= np.multiply(step, image, out=scratch)
            active &= dot(residual, residual) > target
            if not active.any():
                break
            preconditioned = precondition(residual)
            previous, energy = energy, dot(residual, preconditioned)
            direction *= divide(energy, previous)
            direction += preconditioned
        operator(u, image)
        image -= right_hand_side
        norm = np.sqrt(dot(right_hand_side, right_hand_side))
        error = np.sqrt(dot(image, image))
        relative = np.divide(error, norm, out=error.copy(), where=norm > 0)
    return Solution(u, relative, iterations)
