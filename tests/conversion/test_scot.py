"""scOT becomes a net of group-rational KAN layers with its weights and its function kept."""

import pytest
import torch

from katops.conversion import convert
from katops.errors import UserError
from katops.layers.group_rational import GroupRational
from katops.models import build_model

SMALL = {
    "in_channels": 2,
    "out_channels": 2,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "skip_connections": [1, 0],
}


@pytest.fixture
def model():
    return build_model("scot", **SMALL).eval()


@pytest.fixture
def batch():
    return torch.randn(3, 2, 16, 12), torch.rand(3)


def test_every_mlp_gets_rational_functions_and_keeps_its_weights(model, batch):
    converted = convert(model, sample=batch)
    new = converted.state_dict()
    for key, value in model.state_dict().items():
        torch.testing.assert_close(new[key], value, rtol=0, atol=0)
    # two for each of four layers and one ConvNeXt block
    assert sum(isinstance(module, GroupRational) for module in converted.modules()) == 10
    assert {row.kind for row in converted.conversion.activations} == {"transformer layer", "ConvNeXt block"}


@pytest.mark.parametrize("how", ["tuple", "mapping"])
def test_converted_model_computes_nearly_the_same_at_every_time(model, batch, how):
    x, time = batch
    converted = convert(model, sample=(x, time) if how == "tuple" else {"x": x, "time": time})
    assert converted.conversion.difference.relative < 0.01
    with torch.no_grad():
        for other in (torch.zeros(3), torch.full((3,), 0.7)):
            assert (converted(x, other) - model(x, other)).norm() < 0.02 * model(x, other).norm()


def test_maps_of_positions_are_left_alone(model, batch):
    report = convert(model, sample=batch).conversion
    assert {entry.path.rsplit(".", 1)[-1] for entry in report.left_alone} == {"continuous_position_bias_mlp"}


def test_converted_model_trains(model, batch):
    converted = convert(model, sample=batch).train()
    converted(*batch).square().sum().backward()
    coefficients = [p for m in converted.modules() if isinstance(m, GroupRational) for p in m.parameters()]
    assert all(parameter.grad.abs().sum() > 0 for parameter in coefficients)


def test_sample_that_is_no_input_is_told(model):
    with pytest.raises(UserError, match=r"its arguments by name; given: list"):
        convert(model, sample=[torch.randn(1, 2, 8, 8)])
    with pytest.raises(UserError, match="cannot be run on the given sample"):
        convert(model, sample={"x": torch.randn(1, 2, 8, 8), "times": torch.ones(1)})
