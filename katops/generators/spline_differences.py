"""The scheme of the published Darcy files: a spline to the nodes, finite differences, and a spline back."""

import numpy as np
from scipy import fft
from scipy.interpolate import CubicSpline

from katops.generators.conjugate_gradients import Solution, conjugate_gradients
from katops.generators.finite_volume import FluxOperator


def solve_spline_differences(
    coefficient: np.ndarray, source: np.ndarray | float, tolerance: float = 1e-10, max_iterations: int = 500
) -> Solution:
    """Solve -div(a grad u) = f on (0, 1)^2, u = 0 on the boundary, for a batch of coefficients.

    The coefficient, and f with it, is carried from the K x K cell centres to the K x K nodes 0, ..., 1 by a not-a-knot
    cubic spline along each axis, which extrapolates by half a cell and overshoots at jumps. There the equation is
    solved with five-point differences, whose coefficient between two nodes is their arithmetic mean, and the solution
    is brought back to the cell centres by the same spline. Second order for a smooth coefficient.

    Where the overshoot makes the matrix indefinite, conjugate gradients may fail; the residual tells.

    Args:
        coefficient: a, (n, K, K), positive, at the cell centres.
        source: f at the cell centres, (n, K, K), or a constant.
        tolerance: where a sample stops, as ||A u - f|| / ||f|| at the nodes.
        max_iterations: where a sample is given up.

    Returns:
        The solution at the cell centres; ``residual`` is that of the nodal system.

    Source: the MATLAB script ``data_generation/darcy/solve_gwf.m`` of Li et al., ICLR 2021.
    """
    size = coefficient.shape[1]
    centres, nodes = (np.arange(size) + 0.5) / size, np.linspace(0.0, 1.0, size)
    nodal = np.stack([_spline(one, centres, nodes) for one in coefficient])
    x_faces = (nodal[:, :-1, 1:-1] + nodal[:, 1:, 1:-1]) / 2
    y_faces = (nodal[:, 1:-1, :-1] + nodal[:, 1:-1, 1:]) / 2
    if np.ndim(source):
        source = np.stack([_spline(one, centres, nodes)[1:-1, 1:-1] for one in source])
    right_hand_side = np.broadcast_to(source, (len(coefficient), size - 2, size - 2)) / (size - 1) ** 2
    one_axis = 4 * np.sin(np.pi * np.arange(1, size - 1) / (2 * (size - 1))) ** 2
    eigenvalues = one_axis[:, None] + one_axis

    def precondition(values: np.ndarray) -> np.ndarray:
        spectrum = fft.dstn(values, type=1, norm="ortho", axes=(1, 2))
        spectrum /= eigenvalues
        return fft.idstn(spectrum, type=1, norm="ortho", axes=(1, 2), overwrite_x=True)

    operator = FluxOperator(x_faces, y_faces)
    solution = conjugate_gradients(operator, right_hand_side, precondition, tolerance, max_iterations)
    finite = np.nan_to_num(solution.u, nan=0.0, posinf=0.0, neginf=0.0)  # the spline refuses anything else
    framed = np.pad(finite, ((0, 0), (1, 1), (1, 1)))
    return Solution(np.stack([_spline(one, nodes, centres) for one in framed]), *solution[1:])


def _spline(values: np.ndarray, points: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Values on the grid ``points`` x ``points`` interpolated to ``targets`` x ``targets``."""
    along_x = CubicSpline(points, values, axis=0, bc_type="not-a-knot")(targets)
    return CubicSpline(points, along_x, axis=1, bc_type="not-a-knot")(targets)
