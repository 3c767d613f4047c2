"""The two Helmholtz recipes and their solvers: order, modes, media, resonance, independence of the batch."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest

from katops.errors import UserError
from katops.generators import Helmholtz
from katops.generators.bilinear_elements import helmholtz_matrix, solve_helmholtz_neumann
from katops.generators.helmholtz import solve_helmholtz_dirichlet
from katops.generators.helmholtz_media import BumpMedium, CosineMedium, smallest_modes
from katops.generators.random_stream import random_stream
from katops.registry import PROBLEMS


def stream(index, variant="poseidon"):
    return random_stream(f"helmholtz/{variant}", 0, index)


def orders(errors):
    return np.log2(np.array(errors[:-1]) / errors[1:])


def test_helmholtz_is_registered():
    assert PROBLEMS["helmholtz"].factory is Helmholtz


def test_differences_approach_a_constant_medium_with_order_two():
    """k constant, u = 1 on the boundary: u - 1 solves -Laplace v - k^2 v = k^2 with v = 0, a series of odd sines."""
    wave_number, errors = 3.0, []
    odd = np.arange(1, 400, 2)
    for size in (33, 65, 129):
        points = np.linspace(0, 1, size)
        sines = np.sin(np.pi * odd[:, None] * points)
        denominator = odd[:, None] * odd * (np.pi**2 * (odd[:, None] ** 2 + odd**2) - wave_number**2)
        exact = 1 + wave_number**2 * 16 / np.pi**2 * np.einsum("mi,nj,mn->ij", sines, sines, 1 / denominator)
        solution = solve_helmholtz_dirichlet(np.full((size, size), wave_number**2), 1.0)
        errors.append(np.linalg.norm(solution.u - exact) / size)
    assert orders(errors).min() > 1.9
    assert orders(errors).max() < 2.1


def test_elements_approach_a_manufactured_wave_with_order_two():
    """u = cos(pi x) cosh(q y), q^2 = pi^2 - k^2, has the flux q sinh(q) cos(pi x) through the top, else none."""
    wave_number, errors = 2.0, []
    rate = np.sqrt(np.pi**2 - wave_number**2)
    for n in (8, 16, 32):
        points = np.linspace(0, 1, n + 1)
        exact = np.cos(np.pi * points)[:, None] * np.cosh(rate * points)
        flux = rate * np.sinh(rate) * np.cos(np.pi * points)
        u = solve_helmholtz_neumann(lambda x, y: np.full((len(x), len(y)), wave_number**2), n, flux).u
        errors.append(np.linalg.norm(u - exact) / np.linalg.norm(exact))
    assert orders(errors).min() > 1.9
    assert orders(errors).max() < 2.1


def test_elements_with_a_varying_wave_number_converge_with_order_two():
    solutions = []
    for n in (16, 32, 64, 128):
        u = solve_helmholtz_neumann(lambda x, y: 20 + 10 * x[:, None] * y, n, np.ones(n + 1)).u
        solutions.append(u[:: n // 16, :: n // 16])
    errors = [np.linalg.norm(u - v) for u, v in pairwise(solutions)]
    assert abs(orders(errors) - 2).max() < 0.15


def test_the_matrix_of_the_elements_is_symmetric_and_holds_the_integrals_of_linear_functions():
    """u' K v for u = x and v = y^0, x and y: the integrals of bilinear functions are exact."""
    n = 5
    matrix = helmholtz_matrix(lambda x, y: np.full((len(x), len(y)), 7.0), n)
    assert abs(matrix - matrix.T).max() < 1e-14
    x, y = (values.ravel() for values in np.meshgrid(*[np.linspace(0, 1, n + 1)] * 2, indexing="ij"))
    one = np.ones_like(x)
    for left, right, stiffness, mass in (
        (one, one, 0, 1),
        (x, one, 0, 1 / 2),
        (x, x, 1, 1 / 3),
        (x, y, 0, 1 / 4),
        (x * y, x * y, 2 / 3, 1 / 9),
    ):
        np.testing.assert_allclose(left @ (matrix @ right), stiffness - 7 * mass, atol=1e-12)


def test_a_variable_wave_number_is_integrated_at_gauss_points():
    """int k^2 with k^2 = x^4 y^2 over the square is 1/15; three Gauss points are exact to degree five."""
    matrix = helmholtz_matrix(lambda x, y: x[:, None] ** 4 * y**2, 3)
    one = np.ones(16)
    np.testing.assert_allclose(one @ (matrix @ one), -1 / 15, rtol=1e-12)


def test_the_solution_is_linear_in_the_boundary_value():
    medium = BumpMedium(stream(0))
    squared = 20 * medium(np.linspace(0, 1, 24))
    one, third = solve_helmholtz_dirichlet(squared, 1.0), solve_helmholtz_dirichlet(squared, 1 / 3)
    np.testing.assert_allclose(3 * third.u, one.u, rtol=1e-14)


def test_the_frame_holds_the_boundary_value():
    samples = Helmholtz(24).samples(0, range(4))
    u, value = samples.fields["solution"], samples.parameters["boundary_value"]
    for frame in (u[:, 0], u[:, -1], u[:, :, 0], u[:, :, -1]):
        np.testing.assert_array_equal(frame, np.broadcast_to(value[:, None], frame.shape).astype(np.float32))
    assert value.min() >= 0.25
    assert value.max() <= 0.5


def test_the_bump_medium_lies_between_zero_and_one_and_reaches_both():
    a = np.stack([BumpMedium(stream(i))(np.linspace(0, 1, 128)) for i in range(20)])
    np.testing.assert_array_equal(a.min(axis=(1, 2)), 0)
    np.testing.assert_array_equal(a.max(axis=(1, 2)), 1)
    assert 0.85 < a.mean() < 0.95


def test_the_numbers_of_bumps_and_boundary_values_are_uniform():
    media = [BumpMedium(stream(i)) for i in range(600)]
    counts = np.bincount([len(medium._bumps[0]) for medium in media], minlength=8)[2:]
    assert abs(counts - 100).max() < 4 * np.sqrt(600 * 5 / 36)
    values = [medium.boundary_value for medium in media]
    assert abs(np.mean(values) - 0.375) < 4 * 0.25 / np.sqrt(12 * 600)


def test_the_modes_of_the_wave_speed_are_the_hundred_smallest():
    first, second = smallest_modes(100)
    squares = first**2 + second**2
    assert (np.diff(squares) >= 0).all()
    assert squares[0] == 1
    assert len(set(zip(first, second, strict=True))) == 100
    everything = sorted(i * i + j * j for i in range(40) for j in range(40))[1:101]
    np.testing.assert_array_equal(squares, everything)


def test_the_covariance_of_the_wave_speed_matches_its_spectrum():
    """c is monotone in the exponent, whose mean square over the domain is the sum of the eigenvalues."""
    first, second = smallest_modes(100)
    variances = (np.pi**2 * (first**2 + second**2) + 9.0) ** -2
    points = (np.arange(32) + 0.5) / 32
    squares = [np.mean(np.arctanh(CosineMedium(stream(i, "huang"))(points) - 20) ** 2) for i in range(500)]
    standard_error = np.sqrt(2 * (variances**2).sum() / 500)
    assert abs(np.mean(squares) - variances.sum()) < 4 * standard_error


@pytest.mark.parametrize("variant", ["poseidon", "huang"])
def test_a_finer_grid_shows_the_same_medium(variant):
    coarse, fine = (Helmholtz(n, variant, max_abs=1e12).samples(0, range(3)).fields for n in (17, 33))
    name = next(iter(coarse))
    np.testing.assert_allclose(fine[name][:, ::2, ::2], coarse[name], rtol=1e-5, atol=1e-6)


def test_doubling_the_resolution_changes_a_sample_by_little_away_from_resonance():
    coarse, fine = (Helmholtz(n).samples(0, range(4)) for n in (65, 129))
    u, v = coarse.fields["solution"], fine.fields["solution"][:, ::2, ::2]
    calm = fine.quality["peak"] < 2
    assert calm.sum() >= 2
    difference = np.linalg.norm(u - v, axis=(1, 2)) / np.linalg.norm(v, axis=(1, 2))
    assert difference[calm].max() < 0.03


def test_the_wave_of_the_window_is_symmetric_in_a_symmetric_medium():
    """With c = 20 the window around x = 1/2 gives a field that is even about it."""
    problem = Helmholtz(41, "huang")
    medium = CosineMedium(stream(0, "huang"))
    medium._coefficients[:] = 0
    u = problem.solve(medium).u
    np.testing.assert_allclose(u, u[::-1], rtol=1e-8, atol=1e-12)
    assert np.abs(u).max() > 1e-3


def test_samples_near_resonance_are_refused_and_counted():
    everything = Helmholtz(32, max_abs=1e12).samples(0, range(40))
    peaks = everything.quality["peak"]
    limit = float(np.sort(peaks)[-4:].min() * 0.999)
    samples = Helmholtz(32, max_abs=limit).samples(0, range(40))
    assert samples.quality["peak"].max() <= limit
    np.testing.assert_array_equal(samples.quality["rejected"] > 0, peaks > limit)
    kept = peaks <= limit
    np.testing.assert_array_equal(samples.fields["solution"][kept], everything.fields["solution"][kept])


@pytest.mark.parametrize("variant", ["poseidon", "huang"])
def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(variant):
    problem = Helmholtz(24, variant)
    many = problem.samples(1, range(6)).fields["solution"]
    np.testing.assert_array_equal(problem.samples(1, [5, 0, 2]).fields["solution"], many[[5, 0, 2]])
    with ThreadPoolExecutor(2) as threads:
        parts = list(threads.map(lambda i: problem.samples(1, [i]).fields["solution"][0], range(6)))
    np.testing.assert_array_equal(parts, many)


@pytest.mark.parametrize(("variant", "size"), [("poseidon", 128), ("huang", 101)])
def test_a_published_sample_passes_the_gate(variant, size):
    samples = Helmholtz(variant=variant).samples(0, [0])
    assert samples.fields["solution"].shape == (1, size, size)
    assert samples.quality["residual"][0] < 1e-9


def test_the_description_survives_json():
    for variant in ("poseidon", "huang"):
        recipe = Helmholtz(variant=variant).recipe
        assert json.loads(json.dumps(recipe)) == recipe


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 4}, "helmholtz: resolution 4 is out of range; allowed: 8 to 1025"),
        ({"variant": "mgno"}, "helmholtz: unknown variant 'mgno'.*Allowed: poseidon, huang"),
        ({"max_abs": "all"}, "helmholtz: max_abs must be a number; given: 'all'"),
        ({"max_abs": 0.1}, "helmholtz: max_abs 0.1 is out of range"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Helmholtz(**options)
