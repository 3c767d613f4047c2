"""The report of a conversion."""

import json
from collections.abc import Callable

import pytest
import torch
from timm.layers import Mlp
from torch import Tensor, nn

from katops.conversion import Conversion, convert


def test_report_counts_blocks_and_parameters(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit()
    report = convert(model).conversion
    assert report.parameters_before == sum(parameter.numel() for parameter in model.parameters())
    # two rationals in each of two blocks, with 6 coefficients for all groups and 4 for each of 8
    assert report.parameters_after - report.parameters_before == 2 * 2 * (6 + 8 * 4)


def test_reported_difference_is_that_of_the_outputs(
    build_vit: Callable[..., nn.Module], relative_difference: Callable[[Tensor, Tensor], float]
) -> None:
    model, x = build_vit().eval(), torch.randn(3, 3, 32, 32)
    converted = convert(model, sample=x)
    with torch.no_grad():
        change = converted(x) - model(x)
        relative = relative_difference(converted(x), model(x))
    assert converted.conversion.difference.absolute == pytest.approx(change.abs().max().item(), rel=1e-4)
    assert converted.conversion.difference.relative == pytest.approx(relative, rel=1e-4)
    assert converted.conversion.difference.measured_on == "the sample"


def test_reported_error_is_that_of_the_rational() -> None:
    converted = convert(Mlp(16, 32))
    (row,) = converted.conversion.activations
    x = torch.linspace(*row.interval, 3001)[:, None].expand(-1, 32)
    with torch.no_grad():
        error = (converted.act(x) - nn.functional.gelu(x)).abs().max().item()
    assert row.max_error == pytest.approx(error, rel=1e-2)


def test_report_prints_every_activation_and_turns_into_plain_values(build_vit: Callable[..., nn.Module]) -> None:
    report = convert(build_vit(), sample=torch.randn(1, 3, 32, 32)).conversion
    assert isinstance(report, Conversion)
    for row in report.activations:
        assert row.path in str(report)
    assert "2 blocks converted" in str(report)
    assert "% relative" in str(report)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["activations"][1]["path"] == "blocks.1.mlp.act"
    assert plain["difference"]["relative"] == report.difference.relative


def test_noise_has_the_channels_and_the_size_that_the_model_was_built_for(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit(img_size=48, in_chans=1)
    assert convert(model).conversion.difference.measured_on == "one image of noise (1, 48, 48)"


def test_outputs_are_not_compared_where_the_input_is_not_known() -> None:
    report = convert(Mlp(16, 32)).conversion
    assert report.difference is None
    assert "give a sample" in str(report)


def test_report_without_a_sample_says_that_noise_shows_little(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit()
    without, sampled = convert(model).conversion, convert(model, sample=torch.randn(2, 3, 32, 32)).conversion
    assert not without.sampled
    assert "Noise says little about real images" in str(without)
    assert "sample=images" in str(without)
    assert sampled.sampled
    assert "Noise" not in str(sampled)
