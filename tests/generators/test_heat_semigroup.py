"""The discrete heat equation: eigenfunctions, bounds and sums."""

import numpy as np
import pytest
import torch

from katops.generators.heat_semigroup import HeatSemigroup


@pytest.mark.parametrize("wave", [0, 1, 3, 8])
def test_a_wave_decays_at_the_rate_of_the_central_differences(wave):
    x = torch.arange(16, dtype=torch.float64) / 8  # a period of 2
    u = torch.cos(torch.pi * wave * x)[None]
    heat = HeatSemigroup((16,), (1 / 8,))
    rate = (u.roll(-1, -1) - 2 * u + u.roll(1, -1)) * 64
    later = heat(u, heat.factors(0.01))
    expected = u * torch.exp(torch.tensor(-0.01 * (2 * np.sin(np.pi * wave / 16) * 8) ** 2))
    torch.testing.assert_close(rate, -((2 * np.sin(np.pi * wave / 16) * 8) ** 2) * u, atol=1e-12, rtol=0)
    torch.testing.assert_close(later, expected, atol=1e-14, rtol=0)


def test_a_point_spreads_to_positive_values_of_the_same_sum():
    u = torch.zeros(1, 12, 8, dtype=torch.float64)
    u[0, 3, 5] = 1
    heat = HeatSemigroup((12, 8), (0.1, 0.2))
    later = heat(u, heat.factors(0.01))
    assert later.min() > 0
    assert abs(later.sum() - 1) < 1e-14


def test_two_steps_are_one_of_twice_the_length():
    u = torch.randn(2, 10, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    heat = HeatSemigroup((10, 6), (0.1, 0.1))
    torch.testing.assert_close(
        heat(heat(u, heat.factors(0.003)), heat.factors(0.003)), heat(u, heat.factors(0.006)), atol=1e-14, rtol=0
    )


def test_every_sample_may_have_its_own_time():
    u = torch.randn(2, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    heat = HeatSemigroup((16,), (1 / 16,))
    together = heat(u, heat.factors(torch.tensor([[0.001], [0.01]], dtype=torch.float64)))
    for sample, time in enumerate((0.001, 0.01)):
        alone = heat(u[sample : sample + 1], heat.factors(time))
        torch.testing.assert_close(together[sample : sample + 1], alone, atol=1e-15, rtol=0)
