"""The Poisson recipe and its solver: order, eigenvectors, known values, distribution, independence of the batch."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from katops.errors import UserError
from katops.generators import Poisson, poisson
from katops.generators.sine_poisson import SCHEMES, solve_poisson
from katops.registry import PROBLEMS


def nodes(size):
    points = np.linspace(0, 1, size)
    return np.meshgrid(points, points, indexing="ij")


def test_poisson_is_registered():
    assert PROBLEMS["poisson"].factory is Poisson


@pytest.mark.parametrize(("scheme", "order"), [("compact", 4), ("five_point", 2)])
def test_a_solution_whose_source_does_not_vanish_on_the_boundary_is_approached_with_the_order(scheme, order):
    """u = x (1 - x) y (1 - y) exp(x + y)."""
    errors = []
    for size in (17, 33, 65):
        x, y = nodes(size)
        e = np.exp(x + y)
        u = x * (1 - x) * y * (1 - y) * e
        f = (x * (x + 3) * y * (1 - y) + y * (y + 3) * x * (1 - x)) * e
        solution = solve_poisson(f[None], scheme).u[0]
        errors.append(np.linalg.norm(solution - u) / np.linalg.norm(u))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert abs(orders - order).max() < 0.1


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_sine_is_an_exact_eigenvector(scheme):
    x, y = nodes(33)
    f = 2 * np.pi**2 * np.sin(np.pi * x) * np.sin(np.pi * y)
    u = solve_poisson(f[None], scheme).u[0]
    ratio = u[1:-1, 1:-1] / (np.sin(np.pi * x) * np.sin(np.pi * y))[1:-1, 1:-1]
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-12)
    assert abs(ratio[0, 0] - 1) < (1e-6 if scheme == "compact" else 1e-3)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_torsion_of_the_square_has_its_known_value(scheme):
    u = solve_poisson(np.ones((1, 129, 129)), scheme).u[0]
    assert abs(u[64, 64] - 0.0736713532814) < (1e-8 if scheme == "compact" else 0.3 / 128**2)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_discrete_equations_hold_to_round_off(scheme):
    f = np.random.default_rng(0).standard_normal((3, 20, 20))
    solution = solve_poisson(f, scheme)
    assert solution.residual.max() < 1e-12
    assert not solution.u[:, 0].any()
    assert not solution.u[:, :, -1].any()


def test_five_points_are_the_assembled_laplacian():
    size = 9
    second = (2 * np.eye(size - 2) - np.eye(size - 2, k=1) - np.eye(size - 2, k=-1)) * (size - 1) ** 2
    laplacian = np.kron(second, np.eye(size - 2)) + np.kron(np.eye(size - 2), second)
    f = np.random.default_rng(1).standard_normal((1, size, size))
    expected = np.linalg.solve(laplacian, f[0, 1:-1, 1:-1].ravel()).reshape(size - 2, size - 2)
    np.testing.assert_allclose(solve_poisson(f, "five_point").u[0, 1:-1, 1:-1], expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize(
    ("variant", "deviation_of_source", "deviation_of_solution"), [("mass", 4.92, 0.052), ("literal", 0.179, 0.0034)]
)
def test_the_statistics_are_those_of_the_recipe(variant, deviation_of_source, deviation_of_solution):
    """Computed once with 20000 samples; the deviations of 500 samples scatter by a few per cent."""
    fields = Poisson(64, variant).samples(0, range(500)).fields
    assert abs(fields["source"].std() / deviation_of_source - 1) < 0.12
    assert abs(fields["solution"].std() / deviation_of_solution - 1) < 0.15


def test_literal_sources_and_solutions_are_positive():
    fields = Poisson(33, "literal").samples(0, range(20)).fields
    assert fields["source"].min() >= 0
    assert fields["solution"][:, 1:-1, 1:-1].min() > 0


def test_the_number_of_bumps_is_geometric():
    """P(n = 1) = 0.4, where the integral of a literal source over the plane is one bump's, 2 pi s^2 <= 0.063."""
    problem = Poisson(33, "literal")
    sizes = [problem.source(0, i).mean() for i in range(400)]
    assert 0.4 - 4 * np.sqrt(0.24 / 400) < np.mean(np.array(sizes) < 2 * np.pi * 0.1**2) < 0.85
    assert max(sizes) > 3 * 2 * np.pi * 0.1**2 / 4


def test_a_finer_grid_shows_the_same_source_and_almost_the_same_solution():
    coarse, fine = (Poisson(n).samples(2, range(6)).fields for n in (65, 129))
    np.testing.assert_allclose(fine["source"][:, ::2, ::2], coarse["source"], rtol=1e-5, atol=1e-5)
    difference = np.linalg.norm(fine["solution"][:, ::2, ::2] - coarse["solution"])
    assert difference < 2e-4 * np.linalg.norm(coarse["solution"])


def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(monkeypatch):
    problem = Poisson(32)
    many = problem.samples(1, range(9)).fields
    for name in many:
        np.testing.assert_array_equal(problem.samples(1, [7, 2, 4]).fields[name], many[name][[7, 2, 4]])
        with ThreadPoolExecutor(2) as threads:
            parts = list(threads.map(lambda i, name=name: problem.samples(1, [i]).fields[name][0], range(9)))
        np.testing.assert_array_equal(parts, many[name])
        monkeypatch.setattr(poisson, "POINTS_PER_BLOCK", 2000)
        np.testing.assert_array_equal(problem.samples(1, range(9)).fields[name], many[name])


def test_a_failed_sample_is_drawn_again_and_counted(monkeypatch):
    problem = Poisson(16)
    bad, solve = problem.source(0, 1), poisson.solve_poisson

    def fails_on_one_source(source, scheme):
        solution = solve(source, scheme)
        solution.residual[[np.array_equal(f, bad) for f in source]] = np.nan
        return solution

    monkeypatch.setattr(poisson, "solve_poisson", fails_on_one_source)
    samples = problem.samples(0, range(3))
    np.testing.assert_array_equal(samples.quality["rejected"], [0, 1, 0])
    np.testing.assert_array_equal(samples.fields["source"][1], problem.source(0, 1, 1).astype(np.float32))


def test_the_description_survives_json():
    recipe = Poisson(32).recipe
    assert json.loads(json.dumps(recipe)) == recipe
    assert recipe["variant"] == "mass"
    assert "inferred" in recipe["notes"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 4}, "poisson: resolution 4 is out of range; allowed: 5 to 8193"),
        ({"variant": "printed"}, "poisson: unknown variant 'printed'.*Allowed: mass, literal"),
        ({"scheme": "spectral"}, "poisson: unknown scheme 'spectral'.*Allowed: compact, five_point"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Poisson(**options)
