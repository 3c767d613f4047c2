"""The multiscale Darcy variant: its coefficient, its finite elements and its grid."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from katops.errors import UserError
from katops.generators import Darcy
from katops.generators.darcy import VARIANTS
from katops.generators.linear_elements import solve_linear_elements
from katops.generators.random_stream import random_stream


def small(**options):
    return Darcy(**{"resolution": 16, "variant": "multiscale", "native_resolution": 64, **options})


def frequencies(seed, index):
    return VARIANTS["multiscale"].coefficient.frequencies(random_stream("darcy/multiscale", seed, index))


def test_a_manufactured_solution_is_approached_with_order_two():
    pi, errors = np.pi, []

    def coefficient(x, y):
        return 2 + np.sin(2 * pi * x) * np.cos(pi * y)

    for intervals in (16, 32, 64):
        points = -1 + 2 * np.arange(1, intervals) / intervals
        x, y = np.meshgrid(points, points, indexing="ij")
        u = np.sin(pi * x) * np.sin(2 * pi * y)
        gradient_a = (2 * pi * np.cos(2 * pi * x) * np.cos(pi * y), -pi * np.sin(2 * pi * x) * np.sin(pi * y))
        gradient_u = (pi * np.cos(pi * x) * np.sin(2 * pi * y), 2 * pi * np.sin(pi * x) * np.cos(2 * pi * y))
        f = 5 * pi**2 * coefficient(x, y) * u - gradient_a[0] * gradient_u[0] - gradient_a[1] * gradient_u[1]
        solution = solve_linear_elements(coefficient, f, intervals, -1.0, 1.0)
        errors.append(np.linalg.norm(solution.u - u) / np.linalg.norm(u))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert orders.min() > 1.9
    assert orders.max() < 2.1


def test_torsion_of_a_square_of_side_two_has_its_known_value():
    """u scales with the square of the side: u(0, 0) = 4 * 0.0736713532814."""
    u = solve_linear_elements(lambda x, y: np.ones(np.broadcast(x, y).shape), 1.0, 96, -1.0, 1.0).u
    assert abs(u[47, 47] - 4 * 0.0736713532814) < 1.2 / 96**2


def test_transposing_the_coefficient_transposes_the_solution():
    draw, numbers = VARIANTS["multiscale"].coefficient, frequencies(0, 0)
    u = solve_linear_elements(lambda x, y: draw.evaluate(numbers, x, y), 1.0, 40, -1.0, 1.0).u
    transposed = solve_linear_elements(lambda x, y: draw.evaluate(numbers, y, x), 1.0, 40, -1.0, 1.0).u
    np.testing.assert_allclose(transposed, u.T, rtol=1e-8)


def test_the_coefficient_is_the_published_product():
    numbers = frequencies(3, 1)
    bounds = 2.0 ** np.arange(6)
    assert (numbers >= bounds).all()
    assert (numbers <= 1.5 * bounds).all()
    stored = small().samples(3, [1]).fields["coefficient"][0]
    x, y = -1 + 2 * 5.5 / 16, -1 + 2 * 11.5 / 16
    factors = [(1 + 0.5 * np.cos(a * np.pi * (x + y))) * (1 + 0.5 * np.sin(a * np.pi * (y - 3 * x))) for a in numbers]
    np.testing.assert_allclose(stored[5, 11], np.prod(factors), rtol=1e-6)


def test_the_frequencies_are_uniform_on_their_intervals():
    scaled = np.stack([frequencies(0, i) for i in range(500)]) / 2.0 ** np.arange(6)
    np.testing.assert_allclose(scaled.mean(axis=0), 1.25, atol=4 * 0.5 / np.sqrt(12 * 500))
    assert np.abs(np.corrcoef(scaled.T) - np.eye(6)).max() < 4 / np.sqrt(500)


def test_contrast_and_scale_are_those_of_the_published_recipe():
    """max / min is about 2e4, max u about 0.67."""
    samples = Darcy(128, "multiscale", native_resolution=256).samples(0, [0])
    coefficient, pressure = samples.fields["coefficient"], samples.fields["pressure"]
    assert 3e3 < coefficient.max() / coefficient.min() < 1e5
    assert 0.5 < pressure.max() < 0.8
    assert pressure.min() > 0
    assert samples.quality["residual"][0] < 1e-9


def test_the_stored_points_are_the_centres_of_the_stored_cells():
    """At the coordinates of the meta data the pressure of all nodes is interpolated, where they are nodes exactly."""
    problem = small(native_resolution=128)
    numbers = frequencies(0, 0)
    fine = solve_linear_elements(lambda x, y: problem.draw.evaluate(numbers, x, y), 1.0, 128, -1.0, 1.0).u
    nodes = np.linspace(-1, 1, 129)[1:-1]
    points = problem.meta.axes[0].coordinates(16)
    at_points = RegularGridInterpolator((nodes, nodes), fine)(np.stack(np.meshgrid(points, points, indexing="ij"), -1))
    np.testing.assert_allclose(problem.samples(0, [0]).fields["pressure"][0], at_points, rtol=1e-6)


def test_the_coefficient_does_not_depend_on_the_grid_that_is_solved():
    coarse, fine = (small(native_resolution=n).samples(0, range(2)) for n in (64, 128))
    np.testing.assert_array_equal(coarse.fields["coefficient"], fine.fields["coefficient"])
    assert not np.array_equal(coarse.fields["pressure"], fine.fields["pressure"])


def test_doubling_the_grid_brings_the_pressure_closer_to_that_of_a_fine_grid():
    coarse, middle, fine = (small(native_resolution=n).samples(0, [0]).fields["pressure"] for n in (128, 256, 512))
    scale = np.linalg.norm(fine)
    assert np.linalg.norm(middle - fine) < 0.06 * scale
    assert np.linalg.norm(middle - fine) < 0.5 * np.linalg.norm(coarse - fine)


def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread():
    problem = small()
    many = problem.samples(1, range(6)).fields["pressure"]
    np.testing.assert_array_equal(problem.samples(1, [5, 0, 2]).fields["pressure"], many[[5, 0, 2]])
    with ThreadPoolExecutor(2) as threads:
        parts = list(threads.map(lambda i: problem.samples(1, [i]).fields["pressure"][0], range(6)))
    np.testing.assert_array_equal(parts, many)


def test_the_recipe_tells_domain_grid_and_stride():
    recipe = small().recipe
    assert recipe["domain"] == "(-1, 1)^2"
    assert recipe["native_resolution"] == 64
    assert recipe["downsampling"] == "stride"
    assert Darcy(256, "multiscale").native_resolution == 1024


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 100}, "native_resolution 64 of variant multiscale is no even multiple of resolution 100"),
        ({"resolution": 64}, "no even multiple of resolution 64"),
        ({"native_resolution": 4096}, "native_resolution 4096 is out of range; allowed: 8 to 2048"),
        ({"variant": "smooth"}, "native_resolution 64 of variant smooth is no odd multiple of resolution 16"),
        ({"scheme": "arithmetic"}, "unknown scheme 'arithmetic'.*Allowed: linear_elements"),
        ({"source": 0}, "source 0 is out of range"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        small(**options)
