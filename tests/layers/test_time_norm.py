"""Time-conditioned layer norm."""

import pytest
import torch

from katops.errors import UserError
from katops.layers.normalisation import GroupNorm
from katops.layers.time_norm import TimeLayerNorm, TokenNorm


def test_gain_and_shift_are_affine_in_time():
    norm = TimeLayerNorm(4, channel_dim=-1)
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    x, time = torch.randn(2, 3, 5, 4), torch.tensor([0.0, 0.4])
    z = torch.nn.functional.layer_norm(x, (4,))
    for sample, t in enumerate(time):
        gain = norm.weight.weight[:, 0] * t + norm.weight.bias
        shift = norm.bias.weight[:, 0] * t + norm.bias.bias
        torch.testing.assert_close(norm(x, time)[sample], gain * z[sample] + shift)


@pytest.mark.parametrize("training", [True, False])
def test_large_offset_leaves_the_variance_right(training):
    norm = TimeLayerNorm(256, channel_dim=-1, eps=0.0)
    norm.reset_parameters()
    deviations = 0.01 * torch.randn(2, 8, 256, dtype=torch.float64)
    x = (300 + deviations).float()
    with torch.set_grad_enabled(training):
        y = norm(x, torch.zeros(2)).detach()
    expected = torch.nn.functional.layer_norm(x.double(), (256,), eps=0.0)
    assert y.isfinite().all()
    assert (y - expected).norm() < 1e-2 * expected.norm()


def test_published_parameter_names():
    shapes = {name: tuple(parameter.shape) for name, parameter in TimeLayerNorm(6).named_parameters()}
    assert shapes == {"weight.weight": (6, 1), "weight.bias": (6,), "bias.weight": (6, 1), "bias.bias": (6,)}


def test_field_and_token_layouts_agree():
    fields, tokens = TimeLayerNorm(4), TimeLayerNorm(4, channel_dim=-1)
    tokens.load_state_dict(fields.state_dict())
    x, time = torch.randn(2, 4, 5, 6), torch.rand(2)
    torch.testing.assert_close(fields(x, time).movedim(1, -1), tokens(x.movedim(1, -1), time))


@pytest.mark.parametrize("shape", [(1,), (), (3,), (2, 1)])
def test_anything_but_one_time_per_sample_is_refused(shape):
    with pytest.raises(UserError, match=r"time must have one value per sample, shape \(2,\), got"):
        TimeLayerNorm(4)(torch.randn(2, 4, 5), torch.ones(shape))


def test_without_time_it_is_one():
    norm, x = TimeLayerNorm(4), torch.randn(2, 4, 5)
    torch.testing.assert_close(norm(x), norm(x, torch.ones(2)), rtol=0, atol=0)


def test_any_registered_norm_works_on_tokens():
    x = torch.randn(2, 5, 6, 4)
    group, timed = TokenNorm(GroupNorm, 4), TokenNorm(TimeLayerNorm, 4)
    torch.testing.assert_close(group(x, torch.rand(2)), group.norm(x.movedim(-1, 1)).movedim(1, -1))
    assert not torch.equal(timed(x, torch.zeros(2)), timed(x, torch.ones(2)))
