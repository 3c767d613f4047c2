"""Exponential time differencing: exactness of the linear part, order of the rest."""

import numpy as np
import pytest
import torch

from katops.generators.etdrk4 import ETDRK4


def test_a_linear_equation_is_solved_exactly():
    linear = torch.tensor([0.0, -1.0, -1e3], dtype=torch.float64)
    v = ETDRK4(linear, 0.1)(torch.ones(3, dtype=torch.float64), torch.zeros_like)
    np.testing.assert_allclose(v, np.exp(0.1 * linear.numpy()), rtol=1e-15)


def test_a_constant_force_is_integrated_exactly_also_where_the_coefficients_cancel():
    """v' = L v + 1 from 0: v = (e^(L h) - 1) / L."""
    linear = torch.tensor([0.0, -1e-9, -1e-3, -1.0, -30.0, -1e4], dtype=torch.float64)
    v = ETDRK4(linear, 1.0)(torch.zeros(6, dtype=torch.float64), torch.ones_like)
    z = linear.numpy()
    exact = np.divide(np.expm1(z), z, out=np.ones_like(z), where=z != 0)
    np.testing.assert_allclose(v, exact, rtol=1e-12)


@pytest.mark.parametrize("rate", [0.5, 5.0])
def test_the_order_is_four_on_the_logistic_equation(rate):
    """v' = rate (v - v^2) from 1/10, linear part exact."""
    errors = []
    for steps in (20, 40, 80):
        stepper = ETDRK4(torch.tensor([rate], dtype=torch.float64), 1 / steps)
        v = torch.tensor([0.1], dtype=torch.float64)
        for _ in range(steps):
            v = stepper(v, lambda v: -rate * v * v)
        errors.append(abs(float(v) - 1 / (1 + 9 * np.exp(-rate))))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (np.abs(orders - 4) < 0.25).all(), orders
