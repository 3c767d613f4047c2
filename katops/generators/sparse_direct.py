"""Sparse direct solves whose result does not depend on the number of threads."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu


class DirectSolution(NamedTuple):
    """The solution of one system.

    Attributes:
        u: (n,).
        residual: ||A u - f|| / ||f||; NaN where the matrix is singular.
    """

    u: np.ndarray
    residual: float


def solve_direct(matrix: sparse.csc_matrix, right_hand_side: np.ndarray, pivot_threshold: float) -> DirectSolution:
    """Solve A u = f with SuperLU and one step of iterative refinement.

    The columns are ordered by minimum degree on A + A^T, which suits matrices with a symmetric pattern.

    Args:
        matrix: A, (n, n).
        right_hand_side: f, (n,).
        pivot_threshold: the diagonal entry is the pivot unless another one of its column is larger by more than one
            over this; 0 keeps the pivots on the diagonal, which is safe for positive definite matrices only.

    Source: Li, "An overview of SuperLU: algorithms, implementation, and user interface", ACM TOMS 2005.
    """
    try:
        factors = splu(
            matrix,
            permc_spec="MMD_AT_PLUS_A",
            diag_pivot_thresh=pivot_threshold,
            options={"SymmetricMode": True},
        )
    except RuntimeError:  # "Factor is exactly singular"
        return DirectSolution(np.full(len(right_hand_side), np.nan), np.nan)
    u = factors.solve(right_hand_side)
    u += factors.solve(right_hand_side - matrix @ u)
    residual = matrix @ u - right_hand_side
    # Elementwise and not BLAS, whose order of summation may change with the number of threads.
    return DirectSolution(u, float(np.sqrt((residual**2).sum() / (right_hand_side**2).sum())))
