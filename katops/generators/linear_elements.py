"""Linear finite elements on right triangles for -div(a grad u) = f on a square, u = 0 on the boundary."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from katops.generators.sparse_direct import DirectSolution, solve_direct

Coefficient = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``coefficient(x, y)`` for arrays that broadcast."""


def solve_linear_elements(
    coefficient: Coefficient, source: np.ndarray | float, intervals: int, lower: float, upper: float
) -> DirectSolution:
    """Solve -div(a grad u) = f on (lower, upper)^2, u = 0 on the boundary; second order for a smooth coefficient.

    Every cell of a square grid is split by its diagonal from the lower left to the upper right. The coefficient is
    constant on a triangle, with its value at the centroid. The two sides of the diagonal do not interact, so that the
    matrix has five entries in a row: the coefficient of an edge is the mean of those of its two triangles.

    Args:
        coefficient: a, positive.
        source: f at the interior nodes, (intervals - 1, intervals - 1), or a constant.
        intervals: number of cells along each axis.
        lower, upper: the ends of the domain.

    Returns:
        The values at the interior nodes, (intervals - 1, intervals - 1), and the residual.

    Source: Braess, "Finite elements", 2007, section II.8.
    """
    step = (upper - lower) / intervals
    x_faces, y_faces = _edge_coefficients(coefficient, intervals, lower, step)
    size = intervals - 1
    load = np.broadcast_to(source, (size, size)).ravel() * step**2  # a third of six triangles of area h^2 / 2
    solution = solve_direct(five_point_matrix(x_faces, y_faces), load, pivot_threshold=0.0)
    return DirectSolution(solution.u.reshape(size, size), solution.residual)


def _edge_coefficients(
    coefficient: Coefficient, intervals: int, lower: float, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the edges along x, (s + 1, s), and along y, (s, s + 1), that touch the s x s interior nodes."""
    corners = lower + step * np.arange(intervals)
    near, far = corners + step / 3, corners + 2 * step / 3
    below, above = coefficient(far[:, None], near), coefficient(near[:, None], far)
    x_faces = (below[:, 1:] + above[:, :-1]) / 2
    y_faces = (above[1:, :] + below[:-1, :]) / 2
    return x_faces, y_faces


def five_point_matrix(x_faces: np.ndarray, y_faces: np.ndarray) -> sparse.csc_matrix:
    """The matrix of :class:`~katops.generators.finite_volume.FluxOperator` for one sample.

    Args:
        x_faces: (s + 1, s), coefficients of the faces along the first axis.
        y_faces: (s, s + 1), those of the faces along the second axis.
    """
    size = y_faces.shape[0]
    diagonal = x_faces[:-1] + x_faces[1:] + y_faces[:, :-1] + y_faces[:, 1:]
    x_links = 0 - x_faces[1:-1].ravel()
    y_links = np.zeros((size, size))
    y_links[:, :-1] = 0 - y_faces[:, 1:-1]
    y_links = y_links.ravel()[:-1]
    return sparse.diags_array(
        [diagonal.ravel(), x_links, x_links, y_links, y_links], offsets=[0, size, -size, 1, -1], format="csc"
    )
