"""Normalisation and the net of positions against torch's own operations."""

import torch

from katops.ops.normalise import normalise
from katops.ops.position_net import position_net


def test_normalise_is_torchs_layer_norm_with_its_gradients():
    x = torch.randn(3, 5, 7, dtype=torch.float64, requires_grad=True)
    y, expected = normalise(x, 1e-5), torch.nn.functional.layer_norm(x, (7,), eps=1e-5)
    weight = torch.randn_like(y)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, x, weight)[0] for each in (y, expected)))


def test_normalise_has_second_derivatives():
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: normalise(x, 1e-3), (x,))


def test_normalise_keeps_its_result_alone():
    x = (torch.randn(4, 6, requires_grad=True) * 2).exp()
    y = normalise(x, 1e-5)
    kept = y.grad_fn.saved_tensors
    assert y.data_ptr() in [tensor.data_ptr() for tensor in kept]
    assert x.data_ptr() not in [tensor.data_ptr() for tensor in kept]


def test_position_net_in_blocks_is_the_net_with_first_and_second_derivatives():
    x = torch.randn(1030, 2, dtype=torch.float64)
    parameters = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 2), (6,), (3, 6))]
    y = position_net(x, *parameters)
    expected = torch.relu(x @ parameters[0].T + parameters[1]) @ parameters[2].T
    weight = torch.randn_like(y)
    torch.testing.assert_close(y, expected)
    found = [torch.autograd.grad(each, parameters, weight, create_graph=True) for each in (y, expected)]
    fast = torch.autograd.grad(position_net(x, *parameters), parameters, weight)
    for one, other, without_graph in zip(*found, fast, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(without_graph, other)
    second = [torch.autograd.grad(sum(g.square().sum() for g in each), parameters) for each in found]
    for one, other in zip(*second, strict=True):
        torch.testing.assert_close(one, other)
