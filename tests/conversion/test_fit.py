"""How close a converted model stays to its function, with and without a sample."""

import copy
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import Mlp
from torch import Tensor, nn

from katops.conversion import convert


@pytest.fixture(scope="module")
def vit_small() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224").eval()


def trained_scale(model: nn.Module) -> None:
    """Weights twice as large, and normalisations and biases that are not what they start as."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(2)
            elif "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1)


@pytest.mark.parametrize("scale", [None, trained_scale])
def test_vit_small_differs_by_less_than_one_percent_without_a_sample(
    vit_small: nn.Module, scale: Callable[[nn.Module], None] | None
) -> None:
    model = copy.deepcopy(vit_small)
    if scale is not None:
        scale(model)
    report = convert(model, in_place=True).conversion
    assert report.difference.relative < 0.01
    assert report.difference.measured_on == "one image of noise (3, 224, 224)"
    assert report.blocks == 12


def test_sample_keeps_the_logits_when_activations_see_inputs_beyond_ten(
    relative_difference: Callable[[Tensor, Tensor], float],
) -> None:
    model = timm.create_model("vit_small_patch16_224", depth=4).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc1.weight.mul_(6)
    image, unseen = torch.randn(2, 1, 3, 224, 224)
    fitted = convert(model, sample=image)
    assert max(row.input_range[1] for row in fitted.conversion.activations) > 10
    assert max(row.typical_error for row in fitted.conversion.activations) < 0.005
    with torch.no_grad():
        assert relative_difference(fitted(unseen), model(unseen)) < 0.005


@pytest.mark.parametrize(("scale", "shift", "gain"), [(20, 0, 5), (1, 2, 3), (1, -1, 2)])
def test_sample_brings_the_activation_closer_than_the_fit_without(
    scale: float, shift: float, gain: float, relative_difference: Callable[[Tensor, Tensor], float]
) -> None:
    block = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 8))
    x = torch.randn(500, 16)
    with torch.no_grad():
        block[0].weight.mul_(scale)
        block[0].bias.fill_(shift)
        fitted, general = (relative_difference(convert(block, sample=s)(x), block(x)) for s in (x, None))
    assert gain * fitted < general


def test_fit_to_a_narrow_sample_stays_near_the_activation_elsewhere() -> None:
    mlp = Mlp(16, 32)
    (row,) = convert(mlp, sample=0.1 * torch.randn(50, 16)).conversion.activations
    assert row.input_range[1] < 0.5
    assert row.interval == (-3, 3)
    assert row.max_error < 0.05


def test_recorded_range_is_that_of_the_activation_inputs() -> None:
    mlp, x = Mlp(32, 256), torch.randn(400, 32)
    with torch.no_grad():
        hidden = mlp.fc1(x)
    (row,) = convert(mlp, sample=x).conversion.activations
    assert row.input_range == pytest.approx((hidden.min().item(), hidden.max().item()), rel=1e-6)


def test_block_that_the_sample_never_reaches_is_fitted_without_it() -> None:
    model = nn.ModuleDict({"used": Mlp(16, 32), "unused": Mlp(16, 32)})
    model.forward = model["used"].forward
    rows = convert(model, sample=torch.randn(4, 16)).conversion.activations
    assert [row.input_range is None for row in rows] == [False, True]


def test_sample_keeps_the_function_of_a_vit_with_outlier_channels(
    build_vit: Callable[..., nn.Module], relative_difference: Callable[[Tensor, Tensor], float]
) -> None:
    """As trained ViTs have them: some hidden channels always see a large input, the others one of usual size."""
    model = build_vit(depth=4).eval()
    with torch.no_grad():
        for block in model.blocks:
            block.mlp.fc1.bias[::50] = 40
    images, unseen = torch.randn(2, 8, 3, 32, 32)
    with torch.no_grad():
        fitted, general = (
            relative_difference(convert(model, sample=sample)(unseen), model(unseen)) for sample in (images, None)
        )
    assert fitted < 0.005
    assert general > 3 * fitted
