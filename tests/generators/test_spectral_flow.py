"""The flow solver against exact solutions, its conserved quantities and its orders of convergence."""

import numpy as np
import pytest
import torch

from katops.generators.flow_stepping import CrankNicolsonEuler, IntegratingFactorRK4, StrongStabilityRK3
from katops.generators.fourier_field import fourier_field
from katops.generators.random_stream import random_stream
from katops.generators.spectral_flow import SpectralFlow, wave_numbers

POINTS, WAVES = 32, 10
X = np.arange(POINTS) / POINTS
CPU = torch.device("cpu")


def viscous(viscosity, force=None):
    k1, k2 = wave_numbers(WAVES, POINTS)
    return SpectralFlow(WAVES, POINTS, viscosity * 4 * np.pi**2 * (k1**2 + k2**2), force, CPU)


@pytest.fixture
def field():
    """A random vorticity, (1, 1, n, n), ten times as strong as the published one."""
    return 10 * fourier_field(random_stream("test", 0, 0), POINTS, 2.5, 7.0)[None, None]


def fixed(step):
    return IntegratingFactorRK4(courant=1e6, largest_courant=1e6, longest_step=step)


@pytest.mark.parametrize(
    ("advance", "error"),
    [(fixed(0.05), 1e-13), (StrongStabilityRK3(0.5, POINTS), 1e-4), (CrankNicolsonEuler(0.001), 1e-6)],
)
def test_a_taylor_green_vortex_decays_exactly(advance, error):
    flow = viscous(1e-2)
    vortex = np.sin(2 * np.pi * X)[:, None] * np.sin(2 * np.pi * X)
    state, _ = advance(flow, flow.from_grid(vortex[None, None]), None, 0.5)
    expected = vortex * np.exp(-8 * np.pi**2 * 1e-2 * 0.5)
    assert np.abs(flow.to_grid(state, POINTS)[0, 0].numpy() - expected).max() < error


def test_a_mean_flow_carries_a_taylor_green_vortex_and_its_tracer():
    flow = viscous(0.0)
    mean = np.array([0.25, -0.5])
    shape = lambda time: (  # noqa: E731
        np.sin(2 * np.pi * (X - mean[0] * time))[:, None] * np.sin(2 * np.pi * (X - mean[1] * time))
    )
    start = flow.from_grid(np.stack((shape(0), 3 * shape(0)))[:, None])
    state, _ = fixed(0.005)(flow, start, torch.tensor(mean[:, None], dtype=torch.complex128), 0.8)
    found = flow.to_grid(state, POINTS)[:, 0].numpy()
    np.testing.assert_allclose(found[0], shape(0.8), atol=1e-7)
    np.testing.assert_allclose(found[1], 3 * shape(0.8), atol=3e-7)


def test_the_forced_shear_flow_is_stationary():
    force = np.zeros((POINTS, WAVES + 1), dtype=complex)
    force[1, 1] = 0.1 * (1 - 1j) / 2
    flow = viscous(1e-2, force)
    steady = flow.to_grid(torch.as_tensor(force)[None, None] / (8 * np.pi**2 * 1e-2), POINTS)
    t = 2 * np.pi * (X[:, None] + X)
    np.testing.assert_allclose(8 * np.pi**2 * 1e-2 * steady[0, 0], 0.1 * (np.sin(t) + np.cos(t)), atol=1e-15)
    start = flow.from_grid(steady.numpy())
    rate = flow.rate(start, None) - flow.damping * start
    assert rate.abs().max() < 1e-15


def test_the_rate_of_change_is_the_advection_of_a_resolved_field(field):
    """u . grad w formed from its definition on a grid that resolves all products."""
    flow, fine = viscous(0.0), 64
    start = flow.from_grid(field)
    w = np.fft.fft2(flow.to_grid(start, fine)[0, 0].numpy())
    k = 2 * np.pi * np.fft.fftfreq(fine, 1 / fine)
    kx, ky = k[:, None], k[None, :]
    square = np.where(kx**2 + ky**2 == 0, 1, kx**2 + ky**2)
    u, v, wx, wy = (np.fft.ifft2(1j * f * w).real for f in (ky / square, -kx / square, kx, ky))
    expected = flow.from_grid((-u * wx - v * wy)[None, None])
    found = flow.rate(start, None)
    assert (found - expected).abs().max() < 1e-13 * expected.abs().max()


def test_truncated_inviscid_flow_conserves_energy_and_enstrophy_to_round_off_in_space(field):
    flow = viscous(0.0)
    w = flow.from_grid(field)
    rate = flow.rate(w, None)
    k1, k2 = wave_numbers(WAVES, POINTS)
    twice = torch.as_tensor(np.where(k2 == 0, 1.0, 2.0))
    square = torch.as_tensor(np.where(k1**2 + k2**2 == 0, 1.0, 4 * np.pi**2 * (k1**2 + k2**2)))
    for weight in (twice, twice / square):
        terms = weight * (w.conj() * rate).real
        assert terms.sum().abs() < 1e-14 * terms.abs().sum()
    assert rate[..., 0, 0].abs() < 1e-15


@pytest.mark.parametrize(
    ("scheme", "steps", "order"),
    [(fixed, (0.02, 0.01, 0.005), 4), (CrankNicolsonEuler, (0.002, 0.001, 0.0005), 1)],
)
def test_the_order_in_time_is_the_stated_one(field, scheme, steps, order):
    flow = viscous(1e-3)
    start = flow.from_grid(field)
    exact, _ = fixed(0.00125)(flow, start, None, 0.4)
    errors = [(scheme(step)(flow, start, None, 0.4)[0] - exact).norm().item() for step in steps]
    observed = np.log2([errors[0] / errors[1], errors[1] / errors[2]])
    assert abs(observed[-1] - order) < 0.2


def test_the_published_runge_kutta_scheme_has_order_three(field):
    flow = viscous(1e-3)
    start = flow.from_grid(field)
    exact, _ = fixed(0.003125)(flow, start, None, 0.4)
    errors = [
        (StrongStabilityRK3(courant, POINTS)(flow, start, None, 0.4)[0] - exact).norm().item()
        for courant in (0.4, 0.2, 0.1)
    ]
    assert abs(np.log2(errors[1] / errors[2]) - 3) < 0.25


def test_flow_turns_and_moves_with_its_initial_state(field):
    flow = viscous(1e-3)

    def later(values):
        state, _ = fixed(0.05)(flow, flow.from_grid(np.ascontiguousarray(values)), None, 0.5)
        return flow.to_grid(state, POINTS).numpy()

    usual = later(field)
    np.testing.assert_allclose(later(np.roll(field, (3, -5), (2, 3))), np.roll(usual, (3, -5), (2, 3)), atol=1e-12)
    turned = lambda values: np.rot90(np.roll(values, 0, 2), axes=(2, 3))  # noqa: E731
    about = np.roll(turned(usual), 1, 2)  # a turn about the node (0, 0)
    np.testing.assert_allclose(later(np.roll(turned(field), 1, 2)), about, atol=1e-12)


def test_the_velocity_is_free_of_divergence(field):
    flow = viscous(0.0)
    u, v = flow.velocity_waves(flow.from_grid(field)[0], None)
    k1, k2 = (torch.as_tensor(k) for k in wave_numbers(WAVES, POINTS))
    assert (k1 * u + k2 * v).abs().max() < 1e-15 * (k1 * u).abs().max() + 1e-16


def test_a_sample_that_gets_too_fast_goes_back_and_takes_more_steps(field):
    """A force speeds up a flow that was almost at rest; the step chosen at its beginning would be too long."""
    force = np.zeros((POINTS, WAVES + 1), dtype=complex)
    force[1, 1] = 20.0
    flow = viscous(1e-2, force)
    advance = IntegratingFactorRK4(courant=1.8, largest_courant=2.5, longest_step=1.0)
    state, courant = advance(flow, flow.from_grid(1e-3 * field), None, 1.0)
    assert courant.item() <= 2.5
    assert torch.isfinite(torch.view_as_real(state)).all()


def test_points_that_alias_are_refused():
    with pytest.raises(ValueError, match="alias"):
        SpectralFlow(11, 33, np.zeros((33, 12)), None, CPU)
