"""The published Darcy scheme: order, limits, and its distance from finite volumes."""

import numpy as np
import pytest
import scipy.sparse.linalg
from scipy.interpolate import make_interp_spline

from katops.errors import UserError
from katops.generators import Darcy
from katops.generators.linear_elements import five_point_matrix
from katops.generators.spline_differences import solve_spline_differences


def centres(size):
    points = (np.arange(size) + 0.5) / size
    return np.meshgrid(points, points, indexing="ij")


def test_a_manufactured_solution_is_approached_with_order_two():
    pi, errors = np.pi, []
    for size in (33, 65, 129):
        x, y = centres(size)
        a = 2 + np.sin(2 * pi * x) * np.cos(pi * y)
        u = np.sin(pi * x) * np.sin(2 * pi * y)
        gradient_a = (2 * pi * np.cos(2 * pi * x) * np.cos(pi * y), -pi * np.sin(2 * pi * x) * np.sin(pi * y))
        gradient_u = (pi * np.cos(pi * x) * np.sin(2 * pi * y), 2 * pi * np.sin(pi * x) * np.cos(2 * pi * y))
        f = 5 * pi**2 * a * u - gradient_a[0] * gradient_u[0] - gradient_a[1] * gradient_u[1]
        solution = solve_spline_differences(a[None], f[None]).u[0]
        errors.append(np.linalg.norm(solution - u) / np.linalg.norm(u))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 1.9
    assert orders.max() < 2.1
    assert abs(errors[0] - 2.65e-3) < 0.3e-3


def test_torsion_of_the_square_has_its_known_values():
    """a = f = 1: u(1/2, 1/2) = 0.0736713532814, mean 0.0351442539; an odd grid has a cell centre in the middle."""
    size = 129
    u = solve_spline_differences(np.ones((1, size, size)), 1.0).u[0]
    assert abs(u[size // 2, size // 2] - 0.0736713532814) < 0.3 / size**2
    assert abs(u.mean() - 0.0351442539) < 0.3 / size**2


def test_the_frame_of_the_solution_is_small_but_not_zero():
    """The solution is stored at cell centres, half a cell inside the boundary, where its values are zero."""
    u = Darcy(64, scheme="matlab_spline").samples(0, range(4)).fields["pressure"]
    frame = np.concatenate([u[:, 0], u[:, -1], u[:, :, 0], u[:, :, -1]], axis=1)
    assert np.abs(frame).min() > 0
    assert np.abs(frame).max() < 0.15 * u.max()


def test_transposing_the_coefficient_transposes_the_solution():
    a = np.stack([Darcy(33).coefficient(0, i) for i in range(3)])
    u = solve_spline_differences(a, 1.0, tolerance=1e-13).u
    transposed = solve_spline_differences(a.swapaxes(1, 2), 1.0, tolerance=1e-13).u
    np.testing.assert_allclose(transposed, u.swapaxes(1, 2), rtol=1e-9, atol=1e-14)


def test_the_solution_is_that_of_a_direct_solver_at_the_nodes():
    """Also for the overshooting nodal coefficients of two phases, where conjugate gradients have no guarantee."""
    size = 32
    points, nodes = (np.arange(size) + 0.5) / size, np.linspace(0, 1, size)
    a = Darcy(size, "rough").coefficient(0, 0)
    nodal = make_interp_spline(points, make_interp_spline(points, a, axis=0)(nodes), axis=1)(nodes)
    matrix = five_point_matrix((nodal[:-1, 1:-1] + nodal[1:, 1:-1]) / 2, (nodal[1:-1, :-1] + nodal[1:-1, 1:]) / 2)
    u = np.zeros((size, size))
    direct = scipy.sparse.linalg.spsolve(matrix, np.full((size - 2) ** 2, 1 / (size - 1) ** 2))
    u[1:-1, 1:-1] = direct.reshape(size - 2, size - 2)
    expected = make_interp_spline(nodes, make_interp_spline(nodes, u, axis=0)(points), axis=1)(points)
    solution = solve_spline_differences(a[None], 1.0)
    assert solution.residual[0] <= 1e-10
    assert np.linalg.norm(solution.u[0] - expected) < 1e-8 * np.linalg.norm(expected)


@pytest.mark.parametrize("variant", ["smooth", "rough"])
def test_arithmetic_finite_volumes_agree_with_it_better_than_harmonic_ones(variant):
    reference, arithmetic, harmonic = (
        Darcy(128, variant, scheme).samples(0, range(2)).fields["pressure"].astype(np.float64)
        for scheme in ("matlab_spline", "arithmetic", "harmonic")
    )
    scale = np.linalg.norm(reference)
    assert np.linalg.norm(arithmetic - reference) < 4e-3 * scale
    assert np.linalg.norm(harmonic - reference) > 1.5 * np.linalg.norm(arithmetic - reference)


def test_a_sample_is_the_same_bits_in_any_batch_and_order():
    problem = Darcy(24, "rough", "matlab_spline")
    many = problem.samples(5, range(6)).fields["pressure"]
    shuffled = problem.samples(5, [4, 1, 3]).fields["pressure"]
    np.testing.assert_array_equal(shuffled, many[[4, 1, 3]])
    np.testing.assert_array_equal(problem.samples(5, [2]).fields["pressure"][0], many[2])


def test_a_coefficient_that_breaks_the_solver_is_told_by_the_residual():
    a = np.ones((1, 16, 16))
    a[0, ::2] = -1.0
    solution = solve_spline_differences(a, 1.0, max_iterations=50)
    assert not solution.residual[0] <= 1e-9


def test_multiscale_has_no_such_scheme():
    with pytest.raises(UserError, match=r"unknown scheme 'matlab_spline'.*Allowed: linear_elements"):
        Darcy(variant="multiscale", scheme="matlab_spline")
