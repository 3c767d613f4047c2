"""The random initial states: their ranges, their statistics, their independence of the grid."""

import numpy as np
import pytest

from katops.generators.euler import VARIANTS, Euler
from katops.generators.euler_initial_states import Patches, ShearLayers, StateRange, Vortices


@pytest.fixture(scope="module")
def drawn():
    """Function: (samples, 4, n, n) initial states of a variant."""

    def draw(variant, samples, n=32):
        problem = Euler(resolution=n, variant=variant)
        return np.stack([problem.initial_state(3, index) for index in range(samples)])

    return draw


def test_a_riemann_problem_has_four_quadrants_with_the_published_ranges(drawn):
    states = drawn("riemann", 200, 16)
    quadrants = states.reshape(200, 4, 2, 8, 2, 8)
    np.testing.assert_array_equal(quadrants, np.broadcast_to(quadrants[:, :, :, :1, :, :1], quadrants.shape))
    density, velocity, pressure = states[:, 0], states[:, 1:3], states[:, 3]
    for values in (density, pressure):
        assert 0.1 <= values.min() < 0.12
        assert 0.98 < values.max() <= 1.0
        assert abs(values.mean() - 0.55) < 4 * 0.9 / np.sqrt(12 * 800)
    assert -1 <= velocity.min() < -0.98
    assert abs(velocity.mean()) < 4 * 2 / np.sqrt(12 * 1600)


def test_the_patches_of_a_curved_riemann_problem_are_those_of_the_printed_formula():
    rng = np.random.default_rng(5)
    states = rng.uniform([[[0.1]], [[-1.0]], [[-1.0]], [[0.1]]], 1.0, (4, 3, 3))
    coefficients = [(rng.uniform(-0.1, 0.1, (2, 2)), rng.uniform(0, 1, (2, 2))) for _ in range(2)]
    found = Patches(StateRange(), patches=3, modes=2, amplitude=0.1)(np.random.default_rng(5), 16)
    for row, column in np.ndindex(16, 16):
        point = (row + 0.5) / 16, (column + 0.5) / 16
        cell = []
        for coordinate, (a, b) in zip(point, coefficients, strict=True):
            shift = sum(
                a[i - 1, j - 1] * np.sin(2 * np.pi * i * point[0] + j * point[1] + b[i - 1, j - 1])
                for i in (1, 2)
                for j in (1, 2)
            )
            position = coordinate + shift + 1
            cell.append(int(3 * (position - np.floor(position))))
        np.testing.assert_allclose(found[:, row, column], states[:, cell[0], cell[1]], rtol=1e-15)


def test_the_interfaces_of_shear_layers_stay_near_their_places(drawn):
    """The weighted mean of cosines is at most 1: the interface moves by 0.05 at most."""
    states = drawn("kelvin_helmholtz", 20, 64)
    distance = np.abs((np.arange(64) + 0.5) / 64 - 0.5)
    np.testing.assert_array_equal(states[:, 0][..., distance < 0.2], 2.0)
    np.testing.assert_array_equal(states[:, 0][..., distance > 0.3], 1.0)
    np.testing.assert_array_equal(states[:, 1], np.where(states[:, 0] == 1, 0.5, -0.5))
    assert (states[:, 2] == 0).all()
    assert (states[:, 3] == 1).all()
    assert len(np.unique(states[0, 0].sum(axis=1))) > 1


def test_printed_and_released_shear_layers_differ_in_pressure_alone():
    released = ShearLayers(pressure=1.0)(np.random.default_rng(0), 32)
    printed = ShearLayers(pressure=2.5)(np.random.default_rng(0), 32)
    np.testing.assert_array_equal(released[:3], printed[:3])
    assert (printed[3] == 2.5).all()


def test_an_explosion_has_the_published_areas(drawn):
    states = drawn("richtmyer_meshkov", 10, 256)
    assert states[:, 3].mean() == pytest.approx(1 + 19 * np.pi * 0.01, abs=0.02)
    assert states[:, 0].mean() == pytest.approx(1.1964, abs=0.001)
    assert not states[:, 1:3].any()


def test_uncertain_interfaces_have_the_printed_ranges(drawn):
    states = drawn("riemann_uncertain_interfaces", 60)
    for values, lower, upper in zip(states.swapaxes(0, 1), (1, -10, -10, 5), (3, 10, 10, 7), strict=True):
        assert lower <= values.min() < lower + 0.02 * (upper - lower)
        assert upper - 0.02 * (upper - lower) < values.max() <= upper


def test_the_velocity_of_vortices_is_free_of_divergence_and_of_mean():
    u, v = Vortices()(np.random.default_rng(0), 48)[1:3]
    modes = np.fft.fftfreq(48, 1 / 48)
    divergence = modes[:, None] * np.fft.fft2(u) + modes[None, :] * np.fft.fft2(v)
    assert np.abs(divergence).max() < 1e-10 * np.abs(np.fft.fft2(u)).max()
    assert abs(u.mean()) < 1e-14


def test_the_energy_of_vortices_matches_its_closed_form():
    """E|w_k|^2 = 100 E[a^2] E[(2 pi s)^2 exp(-4 pi^2 s^2 |k|^2)], and |u_k| = |w_k| / (2 pi |k|)."""
    rng = np.random.default_rng(2)
    energy = np.array([(Vortices()(rng, 32)[1:3] ** 2).mean() * 2 for _ in range(300)])
    width = np.linspace(0.01, 0.1, 4001)
    modes = np.arange(-15, 16)
    squared = (modes[:, None] ** 2 + modes[None, :] ** 2).ravel()
    squared = squared[squared > 0]
    spectrum = (2 * np.pi * width) ** 2 * np.exp(-4 * np.pi**2 * width**2 * squared[:, None])
    expected = (100 / 3 * np.trapezoid(spectrum, width, axis=1) / 0.09 / (4 * np.pi**2 * squared)).sum()
    assert abs(energy.mean() - expected) < 4 * energy.std() / np.sqrt(300)


def test_vortices_are_where_they_were_drawn():
    """The vorticity of the velocity, against the sum over the nearest images."""
    rng = np.random.default_rng(4)
    amplitude, width, centre = rng.uniform(-1, 1, 100), rng.uniform(0.01, 0.1, 100), rng.uniform(0, 1, (2, 100))
    n = 300
    u, v = Vortices()(np.random.default_rng(4), n)[1:3]
    modes = np.fft.fftfreq(n, 1 / n)
    found = np.fft.ifft2(2j * np.pi * (modes[:, None] * np.fft.fft2(v) - modes[None, :] * np.fft.fft2(u))).real
    points = (np.arange(n) + 0.5) / n
    expected = np.zeros((n, n))
    for a, s, x, y in zip(amplitude, width, *centre, strict=True):
        images = [[np.exp(-((points - c + shift) ** 2) / (2 * s * s)) for shift in (-1, 0, 1)] for c in (x, y)]
        expected += a / s * np.outer(sum(images[0]), sum(images[1]))
    np.testing.assert_allclose(found, expected - expected.mean(), atol=1e-9 * np.abs(expected).max())


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "gaussian"])
def test_a_sample_is_the_same_function_on_every_grid(drawn, variant):
    """The centre of every cell is the centre of one of three times as many; rounding may flip one on an interface."""
    coarse, fine = drawn(variant, 3, 32), drawn(variant, 3, 96)
    assert (coarse == fine[..., 1::3, 1::3]).mean() > 0.999


def test_vortices_are_the_same_function_on_every_grid_that_carries_them():
    coarse, fine = (Vortices()(np.random.default_rng(1), n) for n in (258, 774))
    np.testing.assert_allclose(coarse, fine[..., 1::3, 1::3], atol=1e-12)
