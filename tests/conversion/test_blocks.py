"""What becomes of one block, and of its number of groups."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath, GlobalResponseNormMlp, GluMlp, Mlp, SwiGLU
from timm.models.metaformer import StarReLU
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

from katops.conversion import convert
from katops.conversion.converter import largest_divisor


def hidden_range(mlp: nn.Module, x: Tensor) -> float:
    seen = []
    with mlp.act.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0])), torch.no_grad():
        mlp(x)
    return seen[0].abs().max().item()


def test_output_of_a_block_is_within_the_fit_error_times_the_last_map() -> None:
    mlp, x = Mlp(32, 64), torch.randn(5, 7, 32)
    assert hidden_range(mlp, x) < 3
    converted = convert(mlp)
    (row,) = converted.conversion.activations
    bound = row.max_error * mlp.fc2.weight.abs().sum(1)
    with torch.no_grad():
        assert ((converted(x) - mlp(x)).abs() <= bound + 1e-6).all()


def test_first_rational_is_the_identity() -> None:
    mlp, x = Mlp(32, 64), 1e3 * torch.randn(5, 32)
    converted = convert(mlp)
    with torch.no_grad():
        assert torch.equal(converted.fc1(x), mlp.fc1(x))


def test_linear_block_with_identity_activation_is_kept_exactly() -> None:
    mlp, x = Mlp(32, 64, act_layer=nn.Identity), torch.randn(5, 32)
    with torch.no_grad():
        for converted in (convert(mlp), convert(mlp, sample=x)):
            assert torch.equal(converted(x), mlp(x))


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.ReLU, nn.Tanh, nn.Softplus, nn.CELU, nn.PReLU, StarReLU])
def test_activation_inside_or_outside_the_table_is_fitted(
    activation: type[nn.Module], relative_difference: Callable[[Tensor, Tensor], float]
) -> None:
    block = nn.Sequential(nn.Linear(16, 32), activation(), nn.Linear(32, 8))
    x = torch.randn(64, 16)
    converted = convert(block, sample=x)
    with torch.no_grad():
        assert relative_difference(converted(x), block(x)) < 0.05
    (row,) = converted.conversion.activations
    assert row.activation == activation.__name__
    assert row.typical_error < 0.02


def test_normalisation_dropout_and_response_normalisation_stay_the_same_modules() -> None:
    mlp = Mlp(32, 64, norm_layer=nn.LayerNorm, drop=0.25)
    convert(mlp, in_place=True)
    assert isinstance(mlp.norm, nn.LayerNorm)
    assert mlp.drop1.p == mlp.drop2.p == 0.25
    mlp = GlobalResponseNormMlp(32, 64)
    response = mlp.grn
    convert(mlp, in_place=True)
    assert mlp.grn is response


def test_dropout_draws_the_same_masks_in_training_mode(relative_difference: Callable[[Tensor, Tensor], float]) -> None:
    mlp, x = Mlp(32, 64, drop=0.5).train(), torch.randn(8, 32)
    converted = convert(mlp)
    outputs = []
    for module in (mlp, converted):
        torch.manual_seed(3)
        outputs.append(module(x))
    assert relative_difference(outputs[1], outputs[0]) < 0.02


def test_gate_activation_of_gated_blocks_becomes_rational_on_the_width_of_the_gate() -> None:
    packed = convert(GluMlp(32, 96, act_layer=nn.SiLU, gate_last=False))
    assert packed.act.channels == 48
    split = convert(SwiGLU(32, 96))
    assert split.act.channels == 96
    assert split.fc1_g.rational is not split.fc1_x.rational


def test_deep_sequential_gets_a_rational_for_each_activation_between_linear_maps(
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    layers = [nn.Linear(16, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 64), nn.LayerNorm(64), nn.SiLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 8), nn.Tanh()).eval()
    converted = convert(model)
    assert [row.path for row in converted.conversion.activations] == ["1", "5"]
    assert isinstance(converted[7], nn.Tanh)
    x = torch.randn(9, 16)
    with torch.no_grad():
        assert relative_difference(converted(x), model(x)) < 0.01


def test_stochastic_depth_and_other_dropout_in_a_sequential_is_not_taken_for_an_activation() -> None:
    drops = [DropPath(0.3), nn.AlphaDropout(0.1)]
    converted = convert(nn.Sequential(nn.Linear(16, 32), *drops, nn.GELU(), nn.Linear(32, 8)).eval())
    assert [row.path for row in converted.conversion.activations] == ["3"]


@pytest.mark.parametrize("names", [("fc1", "activation_fn", "fc2"), ("lin1", "act", "lin2")])
def test_blocks_of_other_libraries_are_recognised_by_the_names_of_their_parts(names: tuple[str, str, str]) -> None:
    class OtherMLP(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in zip(names, (nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)), strict=True):
                setattr(self, name, part)

    converted = convert(OtherMLP())
    assert [row.path for row in converted.conversion.activations] == [names[1]]


@given(st.integers(1, 400), st.integers(1, 64))
@settings(max_examples=50, deadline=None)
def test_number_of_groups_divides_the_channels_and_no_larger_one_does(channels: int, limit: int) -> None:
    groups = largest_divisor(channels, limit)
    assert channels % groups == 0
    assert not [other for other in range(groups + 1, min(channels, limit) + 1) if channels % other == 0]


def test_groups_that_do_not_divide_the_tokens_of_a_mixer_are_reduced_and_reported() -> None:
    converted = convert(MlpMixer(img_size=56, patch_size=8, num_blocks=1, embed_dim=48, num_classes=2))
    tokens, channels = converted.conversion.activations
    assert (tokens.first_channels, tokens.first_groups) == (49, 7)
    assert (tokens.channels, tokens.groups) == (24, 8)
    assert (channels.first_groups, channels.groups) == (8, 8)
    assert "7, 8" in str(converted.conversion)
