"""The solver of -div(a grad u) = f against analytic solutions, a direct solver and the identities of the equation."""

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.generators.finite_volume import SCHEMES, DiffusionOperator, solve_diffusion


def centres(size):
    points = (np.arange(size) + 0.5) / size
    return np.meshgrid(points, points, indexing="ij")


def two_phase(size, n=3, contrast=6.0, seed=0):
    """Rough coefficients: every cell is one of two phases, with blocks of 4 cells so that there are interfaces."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 2, (n, -(-size // 4), -(-size // 4)))
    return np.where(np.kron(blocks, np.ones((4, 4)))[:, :size, :size] > 0, 2.0 * contrast, 2.0)


def face_mean(scheme, left, right):
    return (left + right) / 2 if scheme == "arithmetic" else 2 / (1 / left + 1 / right)


def assembled(a, scheme):
    """The matrix of -div(a grad .) cell by cell, for one coefficient (s, s)."""
    size = len(a)
    matrix = scipy.sparse.lil_matrix((size**2, size**2))
    for i, j in np.ndindex(size, size):
        for neighbour in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
            row = i * size + j
            if min(neighbour) < 0 or max(neighbour) >= size:
                matrix[row, row] += 2 * a[i, j] * size**2
            else:
                face = face_mean(scheme, a[i, j], a[neighbour]) * size**2
                matrix[row, row] += face
                matrix[row, neighbour[0] * size + neighbour[1]] -= face
    return matrix.tocsc()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_manufactured_solution_is_approached_with_order_two(scheme):
    pi, errors = np.pi, []
    for size in (32, 64, 128):
        x, y = centres(size)
        a = 2 + np.sin(2 * pi * x) * np.cos(pi * y)
        u = np.sin(pi * x) * np.sin(2 * pi * y)
        gradient_a = (2 * pi * np.cos(2 * pi * x) * np.cos(pi * y), -pi * np.sin(2 * pi * x) * np.sin(pi * y))
        gradient_u = (pi * np.cos(pi * x) * np.sin(2 * pi * y), 2 * pi * np.sin(pi * x) * np.cos(2 * pi * y))
        f = 5 * pi**2 * a * u - gradient_a[0] * gradient_u[0] - gradient_a[1] * gradient_u[1]
        solution = solve_diffusion(a[None], f[None], scheme).u[0]
        errors.append(np.linalg.norm(solution - u) / np.linalg.norm(u))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 1.9
    assert orders.max() < 2.1


def test_torsion_of_the_square_has_its_known_values():
    """a = f = 1: u(1/2, 1/2) = 0.0736713532814, mean 0.0351442539; an odd grid has a cell centre in the middle."""
    size = 129
    u = solve_diffusion(np.ones((1, size, size)), 1.0).u[0]
    assert abs(u[size // 2, size // 2] - 0.0736713532814) < 0.3 / size**2
    assert abs(u.mean() - 0.0351442539) < 0.3 / size**2


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [5, 8, 12])
def test_the_solution_is_that_of_a_direct_solver(scheme, size):
    a = two_phase(size)
    f = np.random.default_rng(1).standard_normal(a.shape)
    solution = solve_diffusion(a, f, scheme, tolerance=1e-12)
    for one_a, one_f, one_u in zip(a, f, solution.u, strict=True):
        direct = scipy.sparse.linalg.spsolve(assembled(one_a, scheme), one_f.ravel()).reshape(size, size)
        assert np.linalg.norm(one_u - direct) < 1e-9 * np.linalg.norm(direct)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_reported_residual_is_that_of_the_assembled_matrix(scheme):
    a = two_phase(12, n=1)
    solution = solve_diffusion(a, 1.0, scheme, tolerance=1e-3)
    residual = assembled(a[0], scheme) @ solution.u[0].ravel() - 1
    assert solution.residual[0] < 1e-3
    np.testing.assert_allclose(solution.residual[0], np.linalg.norm(residual) / 12, rtol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [4, 5, 7, 8, 9, 16])
def test_the_operator_is_the_assembled_matrix(scheme, size):
    rng = np.random.default_rng(size)
    a, u = rng.uniform(0.5, 5, (3, size, size)), rng.standard_normal((3, size, size))
    image = DiffusionOperator(a, scheme)(u, np.empty_like(u))
    expected = [assembled(one_a, scheme) @ one_u.ravel() / size**2 for one_a, one_u in zip(a, u, strict=True)]
    np.testing.assert_allclose(image.reshape(3, -1), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(4, 20), st.integers(0, 100), st.sampled_from(SCHEMES))
@settings(max_examples=25, deadline=None)
def test_the_operator_is_symmetric_and_positive(size, seed, scheme):
    rng = np.random.default_rng(seed)
    operator = DiffusionOperator(rng.uniform(0.5, 5, (1, size, size)), scheme)
    u, v = rng.standard_normal((2, 1, size, size))
    image_u, image_v = operator(u, np.empty_like(u)), operator(v, np.empty_like(v))
    np.testing.assert_allclose(np.sum(image_u * v), np.sum(u * image_v), rtol=1e-10, atol=1e-10)
    assert np.sum(image_u * u) > 0


@given(st.floats(0.01, 100), st.integers(4, 24))
@settings(max_examples=20, deadline=None)
def test_a_constant_coefficient_divides_the_solution(constant, size):
    one = solve_diffusion(np.ones((1, size, size)), 1.0)
    scaled = solve_diffusion(np.full((1, size, size), constant), 1.0)
    np.testing.assert_allclose(scaled.u * constant, one.u, rtol=1e-11)
    assert scaled.residual.max() < 1e-12
    assert scaled.iterations.max() == 1  # the preconditioner is the exact inverse


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [16, 21])
def test_transposing_the_coefficient_transposes_the_solution(scheme, size):
    a = two_phase(size)
    u = solve_diffusion(a, 1.0, scheme, tolerance=1e-13).u
    transposed = solve_diffusion(a.swapaxes(1, 2), 1.0, scheme, tolerance=1e-13).u
    np.testing.assert_allclose(transposed, u.swapaxes(1, 2), rtol=1e-11)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_solution_is_positive_and_has_its_maximum_inside(scheme):
    u = solve_diffusion(two_phase(32), 1.0, scheme).u
    assert u.min() > 0
    frame = np.ones((32, 32), dtype=bool)
    frame[1:-1, 1:-1] = False
    assert (u[:, frame].max(axis=1) < u.max(axis=(1, 2))).all()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_dissipated_energy_is_the_work_of_the_source(scheme):
    """int a |grad u|^2 = int f u, with the left side summed face by face."""
    size, a = 24, two_phase(24, n=1)[0]
    u = solve_diffusion(a[None], 1.0, scheme, tolerance=1e-12).u[0]
    energy = 0.0
    for a_axis, u_axis in ((a, u), (a.T, u.T)):
        energy += np.sum(face_mean(scheme, a_axis[1:], a_axis[:-1]) * np.diff(u_axis, axis=0) ** 2)
        energy += np.sum(2 * a_axis[0] * u_axis[0] ** 2 + 2 * a_axis[-1] * u_axis[-1] ** 2)
    np.testing.assert_allclose(energy, np.sum(u) / size**2, rtol=1e-10)


def test_harmonic_faces_carry_the_exact_flux_through_layers():
    """Layers a(x): u with the slope 1 / a(x) has the same flux everywhere, so its divergence vanishes cell by cell."""
    size = 12
    a = np.random.default_rng(0).uniform(0.1, 10, size)
    u = np.cumsum(1 / a) - 0.5 / a  # at the centres, from the integral of 1 / a up to the faces
    layers, values = (np.repeat(line[None, :, None], size, axis=2) for line in (a, u))
    image = DiffusionOperator(layers, "harmonic")(values, np.empty_like(values))
    np.testing.assert_allclose(image[0, 1:-1, 1:-1], 0, atol=1e-12)


def test_the_number_of_steps_does_not_grow_with_the_grid():
    steps = [solve_diffusion(two_phase(size), 1.0).iterations.max() for size in (16, 32, 64, 128)]
    assert max(steps) < 45
    assert steps[-1] < 1.4 * steps[0] + 4


@given(st.integers(4, 33), st.lists(st.integers(0, 8), min_size=1, max_size=9, unique=True), st.sampled_from(SCHEMES))
@settings(max_examples=30, deadline=None)
def test_a_solution_does_not_depend_on_the_rest_of_the_batch(size, chosen, scheme):
    a = two_phase(size, n=9)
    a[4] = 1.0  # converges at once and is frozen while the others go on
    together, apart = solve_diffusion(a, 1.0, scheme), solve_diffusion(a[chosen], 1.0, scheme)
    np.testing.assert_array_equal(apart.u, together.u[chosen])
    np.testing.assert_array_equal(apart.residual, together.residual[chosen])


def test_a_sample_that_breaks_down_says_so_and_leaves_the_others_alone():
    a = two_phase(16)
    good = solve_diffusion(a, 1.0)
    a[1, 3, 4] = np.nan
    broken = solve_diffusion(a, 1.0)
    assert np.isnan(broken.residual[1])
    np.testing.assert_array_equal(broken.u[[0, 2]], good.u[[0, 2]])


def test_a_sample_that_is_given_up_reports_its_residual():
    solution = solve_diffusion(two_phase(32), 1.0, max_iterations=3)
    assert (solution.iterations == 3).all()
    assert (solution.residual > 1e-4).all()


def test_no_source_means_no_pressure():
    solution = solve_diffusion(two_phase(8), 0.0)
    assert not solution.u.any()
    assert not solution.residual.any()
