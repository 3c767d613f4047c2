"""Bilinear finite elements for the Helmholtz equation on the unit square with a given normal derivative."""

from collections.abc import Callable

import numpy as np
from scipy import sparse

from katops.generators.sparse_direct import DirectSolution, solve_direct

GAUSS_POINTS = 3


def helmholtz_matrix(squared_wave_number: Callable[[np.ndarray, np.ndarray], np.ndarray], n: int) -> sparse.csc_matrix:
    """The matrix of int grad u . grad v - k^2 u v on n x n square elements.

    The integral with k^2 is taken with 3 x 3 Gauss points, at which k^2 is evaluated; the mass matrix is not lumped.

    Args:
        squared_wave_number: k^2(x, y) at all pairs of the 1-D arrays x and y, (len(x), len(y)).
        n: number of elements along each axis.

    Returns:
        ((n + 1)^2, (n + 1)^2); node (i, j) at (i / n, j / n) has number i (n + 1) + j.
    """
    gauss, weights = np.polynomial.legendre.leggauss(GAUSS_POINTS)
    gauss, weights = (gauss + 1) / 2, weights / 2
    points = ((np.arange(n)[:, None] + gauss) / n).ravel()
    values = squared_wave_number(points, points).reshape(n, GAUSS_POINTS, n, GAUSS_POINTS)
    hats = np.stack([1 - gauss, gauss])  # of the two ends of an element, at the Gauss points
    slopes = np.array([[1.0, -1.0], [-1.0, 1.0]])
    masses = np.array([[2.0, 1.0], [1.0, 2.0]]) / 6
    first = np.arange(n)[:, None] * (n + 1) + np.arange(n)
    corners = [(0, 0), (0, 1), (1, 0), (1, 1)]
    rows, columns, entries = [], [], []
    for a, b in corners:
        for c, d in corners:
            entry = np.full((n, n), slopes[a, c] * masses[b, d] + masses[a, c] * slopes[b, d])
            for p in range(GAUSS_POINTS):
                for q in range(GAUSS_POINTS):
                    shape = hats[a, p] * hats[c, p] * hats[b, q] * hats[d, q]
                    entry -= weights[p] * weights[q] * shape / n**2 * values[:, p, :, q]
            rows.append((first + a * (n + 1) + b).ravel())
            columns.append((first + c * (n + 1) + d).ravel())
            entries.append(entry.ravel())
    positions = (np.concatenate(rows), np.concatenate(columns))
    return sparse.coo_array((np.concatenate(entries), positions)).tocsc()


def solve_helmholtz_neumann(
    squared_wave_number: Callable[[np.ndarray, np.ndarray], np.ndarray], n: int, flux: np.ndarray
) -> DirectSolution:
    """Solve -Laplace u - k^2 u = 0 on (0, 1)^2 with du/dn = g on the top, y = 1, and 0 on the other sides.

    Second order while k / n is small.

    Args:
        squared_wave_number: see :func:`helmholtz_matrix`.
        n: number of elements along each axis.
        flux: g, (n + 1,), at the nodes of the top, and linear in between.

    Returns:
        The values at the nodes, (n + 1, n + 1), x first, and the residual.

    Source: de Hoop, Huang, Qian, Stuart, "The cost-accuracy trade-off in operator learning with neural networks", 2022,
    section 4.2 and the code beside it.
    """
    load = np.zeros((n + 1, n + 1))
    load[:-1, -1] += (2 * flux[:-1] + flux[1:]) / (6 * n)
    load[1:, -1] += (flux[:-1] + 2 * flux[1:]) / (6 * n)
    solution = solve_direct(helmholtz_matrix(squared_wave_number, n), load.ravel(), pivot_threshold=0.1)
    return DirectSolution(solution.u.reshape(n + 1, n + 1), solution.residual)
