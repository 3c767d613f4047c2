"""Conversion of torch's own transformer layers."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from katops.conversion import convert
from katops.errors import UserError
from katops.layers.group_rational import GroupRational


@pytest.fixture
def encoder() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=False)
    return nn.TransformerEncoder(layer, 2).eval()


def test_encoder_layers_compute_with_the_rational_on_the_fast_path_too(
    encoder: nn.TransformerEncoder,
    rationals_of: Callable[[nn.Module], list[GroupRational]],
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    x = torch.randn(3, 5, 16)
    converted = convert(encoder, sample=x)
    assert all(row.input_range is not None for row in converted.conversion.activations)
    with torch.no_grad():
        assert relative_difference(converted(x), encoder(x)) < 0.01
        for rational in rationals_of(converted):
            rational.weight_numerator.mul_(2)
        assert relative_difference(converted(x), encoder(x)) > 0.1


def test_encoder_with_padding_agrees_where_there_is_no_padding(
    encoder: nn.TransformerEncoder, relative_difference: Callable[[Tensor, Tensor], float]
) -> None:
    x, padding = torch.randn(2, 5, 16), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    converted = convert(encoder)
    with torch.no_grad():
        new = converted(x, src_key_padding_mask=padding)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of nested tensors, which the original uses
            old = encoder(x, src_key_padding_mask=padding)
    assert relative_difference(new[~padding], old[~padding]) < 0.01


def test_functional_activation_is_back_after_a_sample_that_does_not_fit(encoder: nn.TransformerEncoder) -> None:
    with pytest.raises(UserError, match="cannot be run on the given sample"):
        convert(encoder, sample=torch.randn(3, 5, 17), in_place=True)
    assert encoder.layers[0].activation is nn.functional.gelu
    assert not hasattr(encoder, "conversion")


def test_decoder_layers_are_converted(relative_difference: Callable[[Tensor, Tensor], float]) -> None:
    layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True).eval()
    target, memory = torch.randn(2, 4, 16), torch.randn(2, 6, 16)
    converted = convert(layer, sample=(target, memory))
    with torch.no_grad():
        assert relative_difference(converted(target, memory), layer(target, memory)) < 0.02
