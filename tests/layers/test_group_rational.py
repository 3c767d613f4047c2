"""The layers around the rational function: initial weights, layouts, slots."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from katops.errors import UserError
from katops.layers.group_rational import GroupRational, GroupRationalKAN, GroupRationalLinear
from katops.models import build_model, create_layer
from katops.ops.rational_shapes import Shape, second_moment


def test_channels_that_the_groups_do_not_divide_are_told_with_both_numbers():
    with pytest.raises(UserError, match="8 groups do not divide 255 channels"):
        GroupRational(255)
    with pytest.raises(UserError, match="expected 16 channels at axis -1, got \\(2, 24\\)"):
        GroupRational(16)(torch.randn(2, 24))


@pytest.mark.parametrize("shape", ["identity", "gelu", "silu", "relu", "tanh", "sigmoid"])
def test_fresh_activation_is_the_named_shape(shape):
    functions = {"identity": lambda x: x, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
    function = functions.get(shape) or getattr(torch.nn.functional, shape)
    layer = GroupRational(16, shape=shape)
    x = torch.linspace(-3, 3, 1601).repeat(16, 1).T
    assert (layer(x) - function(x)).abs().max() <= 1.01 * layer.shape.max_error + 1e-6


@pytest.mark.parametrize("shape", ["identity", "gelu", "silu", "relu", "tanh"])
@torch.no_grad()
def test_initial_weights_keep_the_variance(shape):
    torch.manual_seed(0)
    layer = GroupRationalLinear(512, 512, shape=shape)
    y = layer(torch.randn(4096, 512))
    assert y.square().mean() == pytest.approx(1.0, rel=0.03)


@torch.no_grad()
def test_weight_variance_is_computed_from_the_coefficients():
    torch.manual_seed(0)
    cubic = Shape(numerator=(0.0, 0.0, 0.0, 1.0), denominator=(), max_error=0.0, outside_error=0.0)
    layer = GroupRationalLinear(400, 400, shape=cubic)
    assert layer.fc.weight.var() == pytest.approx(1 / (400 * 15), rel=0.02)  # E[z^6] = 15
    assert second_moment(cubic.numerator, cubic.denominator) == pytest.approx(15.0)


@torch.no_grad()
def test_kan_keeps_the_variance_through_both_layers():
    torch.manual_seed(0)
    layer = GroupRationalKAN(256, 1024)
    y = layer(torch.randn(4096, 256))
    assert y.square().mean() == pytest.approx(1.0, rel=0.05)


def test_fresh_kan_is_the_mlp_with_the_same_weights():
    layer = GroupRationalKAN(16, 32, 8)
    mlp = nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 8))
    mlp[0].load_state_dict(layer.fc1.state_dict())
    mlp[2].load_state_dict(layer.fc2.state_dict())
    x = torch.randn(64, 16)
    assert (layer(x) - mlp(x)).norm() < 0.01 * mlp(x).norm()


def test_convolutions_of_size_one_are_the_linear_layer_on_every_pixel():
    torch.manual_seed(0)
    linear = GroupRationalKAN(16, 24, 8, shape="silu")
    conv = GroupRationalKAN(16, 24, 8, shape="silu", use_conv=True)
    conv.load_state_dict(
        {name: value.reshape(conv.state_dict()[name].shape) for name, value in linear.state_dict().items()}
    )
    x = torch.randn(2, 16, 5, 7)
    torch.testing.assert_close(conv(x), linear(x.movedim(1, -1)).movedim(-1, 1))


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    width=st.integers(1, 3),
    space=st.lists(st.integers(0, 3), max_size=3),
    shared=st.booleans(),
)
def test_channels_first_equals_channels_last(groups, width, space, shared):
    channels = groups * width
    last = GroupRational(channels, groups, shared_numerator=shared)
    first = GroupRational(channels, groups, shared_numerator=shared, channel_dim=1)
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.add_(torch.rand_like(parameter))
    first.load_state_dict(last.state_dict())
    x = torch.randn(2, channels, *space)
    torch.testing.assert_close(first(x), last(x.movedim(1, -1)).movedim(-1, 1))


def test_norm_and_dropout_sit_where_timm_puts_them():
    layer = GroupRationalKAN(16, 32, norm_layer=nn.LayerNorm, drop=1.0)
    assert isinstance(layer.norm, nn.LayerNorm)
    x = torch.randn(4, 16)
    torch.testing.assert_close(layer.train()(x), layer.fc2.bias.expand(4, 16))
    assert layer.eval()(x).abs().sum() > 0


def test_rational_is_created_by_name():
    layer = create_layer("rational", channels=768)
    assert isinstance(layer, GroupRational)
    assert layer(torch.randn(2, 768)).shape == (2, 768)
    with pytest.raises(UserError, match="layer 'rational' needs channels"):
        create_layer("rational")


def test_operator_takes_a_rational_activation_and_learns_its_coefficients():
    model = build_model("mgno_tiny", act_layer="rational", hidden_channels=16, n_layers=2)
    (model(torch.randn(2, 1, 32, 32)) ** 2).mean().backward()
    gradients = [p.grad for name, p in model.named_parameters() if "weight_denominator" in name]
    assert len(gradients) == 2
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert model.recipe["arguments"]["act_layer"] == "rational"


def test_operator_takes_a_group_rational_channel_mixer():
    mixer = {"name": "group_rational_linear", "groups": 1}
    model = build_model("mgno_tiny", mlp_layer=mixer, hidden_channels=16, n_layers=2)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 1, 32, 32)


@pytest.mark.parametrize("make", [lambda: GroupRationalKAN(16, 32), lambda: GroupRationalLinear(16, 8)])
def test_under_autocast_the_linear_map_gets_what_it_would_have_rounded_itself(make):
    """Rounded once, in the rational function: the same bits as float32 there and autocast's rounding behind it."""
    layer, x = make(), torch.randn(5, 16)
    act = layer.act1 if isinstance(layer, GroupRationalKAN) else layer.act
    types = []
    act.register_forward_hook(lambda module, arguments, y: types.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        given = layer(x)
        act.forward = lambda x, dtype=None: GroupRational.forward(act, x)
        expected = layer(x)
    assert types == [torch.bfloat16, torch.float32]
    assert torch.equal(given, expected)


def test_under_autocast_dropout_scales_before_the_rounding():
    layer = GroupRationalKAN(16, drop=0.3)
    types = []
    layer.act1.register_forward_hook(lambda module, arguments, y: types.append(y.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        layer.train()(torch.randn(5, 16))
        layer.eval()(torch.randn(5, 16))
    assert types == [torch.float32, torch.bfloat16]
