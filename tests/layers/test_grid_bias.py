"""A bias that is a function: interpolation facts."""

import pytest
import torch

from katops.errors import UserError
from katops.fields import normalise_boundary
from katops.layers.grid_bias import GridBias


def test_bias_begins_at_zero_and_gets_a_gradient():
    bias = GridBias(2, (4, 5), normalise_boundary("dirichlet", 2))
    v = torch.randn(3, 2, 16, 9)
    torch.testing.assert_close(bias(v), v, rtol=0, atol=0)
    bias(v).square().sum().backward()
    assert (bias.weight.grad != 0).all()


def test_linear_function_is_represented_exactly_on_every_grid():
    bias = GridBias(1, (5, 3), normalise_boundary("neumann", 2))
    x, y = torch.linspace(0, 1, 5)[:, None], torch.linspace(0, 1, 3)[None]
    bias.weight.data[0] = 2 * x - 3 * y + 1
    for n, m in ((7, 12), (64, 65)):
        points = [((torch.arange(size) + 0.5) / size) for size in (n, m)]
        expected = 2 * points[0][:, None] - 3 * points[1][None] + 1
        torch.testing.assert_close(bias(torch.zeros(1, 1, n, m))[0, 0], expected)


def test_periodic_bias_is_continuous_across_the_end_and_sums_its_hats_to_one():
    bias = GridBias(1, (4,), normalise_boundary("periodic", 1))
    bias.weight.data[:] = torch.tensor([1.0, 0, 0, 0])
    values = bias(torch.zeros(1, 1, 64))[0, 0]
    torch.testing.assert_close(values[:16], values.flip(0)[:16])
    assert (values[0] - values[-1]).abs() < 1e-6
    bias.weight.data[:] = 3.0
    torch.testing.assert_close(bias(torch.zeros(1, 1, 50)), torch.full((1, 1, 50), 3.0))


def test_bias_of_one_and_three_axes():
    for nodes, boundary in (((3,), ["periodic"]), ((2, 3, 4), ["periodic", "dirichlet", ["dirichlet", "neumann"]])):
        bias = GridBias(2, nodes, normalise_boundary(boundary, len(nodes)))
        assert bias(torch.zeros(1, 2, *(7,) * len(nodes))).shape == (1, 2, *(7,) * len(nodes))


def test_wrong_nodes_are_refused():
    with pytest.raises(UserError, match=r"bias_nodes \[4\]: give at least 2 nodes for each of the 2 axes"):
        GridBias(1, (4,), normalise_boundary("periodic", 2))
    with pytest.raises(UserError, match=r"bias_nodes \[1, 4\]"):
        GridBias(1, (1, 4), normalise_boundary("periodic", 2))
