"""The finite volumes for scalar conservation laws: order, bounds, conservation, shocks and per-sample steps."""

import numpy as np
import pytest
import torch

from katops.generators.conservation_law import solve_conservation_law
from katops.generators.muscl import burgers_roe_flux, limited_slopes, linear_upwind_flux, muscl_step


def centres(cells):
    return (torch.arange(cells, dtype=torch.float64) + 0.5) / cells


def largest(u):
    return u.abs().amax(-1)


def advect(u, speed, frames=2, interval=1.0):
    return solve_conservation_law(
        u, frames, interval, linear_upwind_flux(speed), lambda u: u.new_full((len(u),), abs(speed)), 0.4
    )


def burgers(u, viscosity=0.0, frames=2, interval=0.1, explicit=False):
    return solve_conservation_law(u, frames, interval, burgers_roe_flux, largest, 0.25, viscosity, explicit)


def test_a_straight_line_has_its_slope_and_an_extremum_none():
    u = torch.tensor([[0.0, 1, 2, 3, 9, 3]], dtype=torch.float64)
    np.testing.assert_array_equal(limited_slopes(u)[0, 1:5], [1, 1, 2, 0])


@pytest.mark.parametrize("speed", [1.0, -1.0])
def test_a_sine_returns_after_a_period_with_order_two(speed):
    errors = []
    for cells in (64, 128, 256):
        u = torch.sin(2 * torch.pi * centres(cells))[None]
        errors.append(float((advect(u, speed)[:, -1] - u).abs().mean()))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 2) < 0.15).all(), orders


def test_a_window_returns_with_an_order_below_one_and_within_its_bounds():
    errors = []
    for cells in (32, 64, 128):
        u = ((centres(cells) > 0.25) & (centres(cells) < 0.75)).to(torch.float64)[None]
        later = advect(u, 1.0)[:, -1]
        assert later.min() > -1e-12
        assert later.max() < 1 + 1e-12
        errors.append(float((later - u).abs().mean()))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 0.5).all(), orders
    assert (orders < 1.0).all(), orders


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("viscosity", [0.0, 1e-3])
def test_the_mean_is_conserved_to_round_off(viscosity, explicit):
    u = torch.randn(3, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frames = burgers(u, viscosity, 4, explicit=explicit)
    assert (frames.mean(-1) - u.mean(-1)[:, None]).abs().max() < 1e-14


def test_a_shock_moves_at_the_mean_of_its_sides_and_stays_sharp():
    """u = 1 on (0.25, 0.5) above 0: the shock at its right end has moved by t / 2 = 0.2 at t = 0.4."""
    cells = 200
    u = ((centres(cells) > 0.25) & (centres(cells) < 0.5)).to(torch.float64)[None]
    later = burgers(u, interval=0.4)[0, -1]
    behind, ahead = centres(cells) < 0.685, centres(cells) > 0.715
    assert later[ahead].abs().max() < 1e-3
    # Behind it the rarefaction (x - 0.25) / t reaches 0.65, then 1.
    plateau = behind & (centres(cells) > 0.67)
    assert (later[plateau] - 1).abs().max() < 2e-2
    fan = (centres(cells) > 0.3) & (centres(cells) < 0.6)
    assert (later[fan] - (centres(cells)[fan] - 0.25) / 0.4).abs().max() < 2e-2


@pytest.mark.parametrize("explicit", [False, True])
def test_a_viscous_wave_is_solved_with_order_two(explicit):
    """The Cole-Hopf solution u = 4 pi nu e sin / (c + e cos), e = exp(-4 pi^2 nu t); its speed is small, so that the
    viscous term counts."""
    viscosity, c, errors = 0.02, 1.25, []
    for cells in (32, 64, 128):
        angle = 2 * torch.pi * centres(cells)

        def exact(time, angle=angle):
            decay = np.exp(-4 * np.pi**2 * viscosity * time)
            return 4 * np.pi * viscosity * decay * torch.sin(angle) / (c + decay * torch.cos(angle))

        later = burgers(exact(0.0)[None], viscosity, explicit=explicit, interval=0.5)[0, -1]
        errors.append(float((later - exact(0.5)).abs().mean()))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 1.75).all(), orders
    assert (orders < 2.4).all(), orders


def test_samples_with_other_speeds_do_not_change_a_bit():
    u = torch.randn(4, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    u *= torch.tensor([[0.1], [3.0], [1.0], [0.0]])
    together = burgers(u, 1e-3, 3)
    for sample in range(4):
        torch.testing.assert_close(burgers(u[sample : sample + 1], 1e-3, 3)[0], together[sample], atol=0, rtol=0)


def test_the_argument_is_left_as_it_was():
    u = torch.randn(2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    before = u.clone()
    burgers(u)
    torch.testing.assert_close(u, before, atol=0, rtol=0)


def test_the_roe_flux_is_the_flux_where_both_sides_agree_and_upwind_at_one_sign():
    left, right = torch.tensor([1.0, 1.0, -2.0]), torch.tensor([1.0, 0.5, -1.0])
    np.testing.assert_allclose(burgers_roe_flux(left, right), [0.5, 0.5, 0.5])


def test_no_step_is_no_change():
    u = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    zero = torch.zeros(2, 1, dtype=torch.float64)
    torch.testing.assert_close(muscl_step(u, zero, burgers_roe_flux, zero), u, atol=0, rtol=0)
