"""Relative coordinates, and when the bias is computed anew."""

import copy
import pickle

import pytest
import torch

from katops.layers import position_bias
from katops.layers.position_bias import PositionBias, relative_coordinates


def test_published_coordinates():
    coordinates = relative_coordinates((16, 16))
    assert coordinates.shape == (31, 31, 2)
    expected = torch.tensor([-1.0566, -1.0273, -0.9960, -0.9625])
    torch.testing.assert_close(coordinates[:4, 0, 0], expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(coordinates[0, :4, 1], expected, rtol=0, atol=1e-4)
    assert coordinates[15, 15].abs().max() == 0


def test_window_of_one_token_has_the_coordinate_zero():
    assert relative_coordinates((1, 1)).tolist() == [[[0.0, 0.0]]]


@pytest.fixture
def count(monkeypatch):
    """How often the net was evaluated."""
    calls = []
    evaluate = PositionBias._evaluated
    monkeypatch.setattr(PositionBias, "_evaluated", lambda self, window: calls.append(window) or evaluate(self, window))
    return calls


def test_in_evaluation_it_is_evaluated_once(count):
    layer = PositionBias(2).eval()
    with torch.no_grad():
        first, second = layer((4, 4)), layer((4, 4))
    assert first is second
    assert len(count) == 1


def change_in_place(layer):
    with torch.no_grad():
        layer[0].bias.add_(1)


def load(layer):
    layer.load_state_dict({key: value + 1 for key, value in layer.state_dict().items()})


def replace(layer):
    layer[2].weight = torch.nn.Parameter(layer[2].weight.detach() + 1)


def train_a_step(layer):
    layer.train()
    optimiser = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer((4, 4)).sum().backward()
    optimiser.step()
    layer.eval()


def change_data_and_train(layer):
    layer.train()
    layer[0].weight.data.add_(1)
    layer((4, 4))
    layer.eval()


@pytest.mark.parametrize("change", [change_in_place, load, replace, train_a_step, change_data_and_train])
def test_change_of_weights_shows(change):
    layer = PositionBias(2).eval()
    with torch.no_grad():
        before = layer((4, 4)).clone()
    change(layer)
    with torch.no_grad():
        after = layer((4, 4))
        assert not torch.allclose(before, after)
        torch.testing.assert_close(after, PositionBias._evaluated(layer, (4, 4)))


def test_other_window_precision_and_functional_parameters_show(count):
    layer = PositionBias(2).eval()
    with torch.no_grad():
        assert layer((4, 4)).shape == (2, 7, 7)
        assert layer((4, 2)).shape == (2, 7, 3)
        assert layer.double()((4, 2)).dtype == torch.float64
        other = {key: value + 1 for key, value in layer.state_dict().items()}
        changed = torch.func.functional_call(layer, other, ((4, 2),))
        assert not torch.allclose(changed, layer((4, 2)))


def test_gradients_are_never_those_of_a_kept_bias():
    layer = PositionBias(2).eval()
    with torch.no_grad():
        layer((4, 4))
    for _ in range(2):
        layer.zero_grad()
        layer((4, 4)).sum().backward()
        assert layer[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_do_not_hold_the_bias_and_compute_the_same(copied, count):
    layer = PositionBias(2).eval()
    with torch.no_grad():
        kept = layer((4, 4))
        clone = copied(layer)
        assert clone._kept is None
        torch.testing.assert_close(clone((4, 4)), kept, rtol=0, atol=0)


def test_bias_from_inference_mode_does_not_meet_autograd():
    layer = PositionBias(2).eval().requires_grad_(False)
    with torch.inference_mode():
        layer((2, 2))
    x = torch.randn(2, 3, 3, requires_grad=True)
    (layer((2, 2)) * x).sum().backward()
    assert x.grad is not None


def test_meta_parameters_need_no_values():
    with torch.device("meta"):
        layer = PositionBias(2)
    assert layer((3, 3)).shape == (2, 5, 5)


def test_other_parts_are_called():
    layer = PositionBias(2)
    layer[1] = torch.nn.Tanh()
    rows = relative_coordinates((3, 3)).flatten(0, 1)
    expected = position_bias.HIGHEST * layer[2](torch.tanh(layer[0](rows))).sigmoid()
    torch.testing.assert_close(layer((3, 3)).flatten(1).t(), expected)
