"""Every family of models: all MLP blocks become rational, weights and logits stay."""

import copy
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import GatedMlp, GluMlp
from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock
from torch import Tensor, nn

from katops.conversion import convert
from katops.layers.group_rational import GroupRational

SMALL = {"embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 10}
SMALL_SWIN = {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2), "num_classes": 10}
SMALL_CONVNEXT = {"depths": (1, 1, 1, 1), "dims": (16, 16, 32, 32), "num_classes": 10}


def mixer(**options: object) -> nn.Module:
    # 16 patches: 7 would not divide them, and the hidden width of the token mixing is 15 with this ratio.
    return MlpMixer(img_size=32, patch_size=8, num_blocks=2, embed_dim=48, num_classes=10, **options)


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(32, 8, num_layers=2, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=10, dropout=0.1)


def torchvision_swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 24, [1, 1], [2, 2], [4, 4], num_classes=10)


# name: (builder, number of converted blocks, rationals in each)
FAMILIES: dict[str, tuple[Callable[[], nn.Module], int, int]] = {
    "vit": (lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, **SMALL), 2, 2),
    "deit3": (lambda: timm.create_model("deit3_small_patch16_224", img_size=32, **SMALL), 2, 2),
    "beit": (lambda: timm.create_model("beit_base_patch16_224", img_size=32, **SMALL), 2, 2),
    "cait": (lambda: timm.create_model("cait_xxs24_224", img_size=32, **SMALL), 4, 2),
    "eva": (lambda: timm.create_model("eva_giant_patch14_224", img_size=28, **SMALL), 2, 2),
    "eva02, packed": (lambda: timm.create_model("eva02_tiny_patch14_224", img_size=28, **SMALL), 2, 2),
    "eva02, norm": (lambda: timm.create_model("eva02_base_patch14_224", img_size=28, **SMALL), 2, 3),
    "swin": (lambda: timm.create_model("swin_tiny_patch4_window7_224", img_size=56, **SMALL_SWIN), 2, 2),
    "swin v2": (lambda: timm.create_model("swinv2_tiny_window8_256", img_size=64, **SMALL_SWIN), 2, 2),
    "mixer": (lambda: mixer(mlp_ratio=(0.32, 2.0)), 4, 2),
    "gmixer": (lambda: mixer(mlp_ratio=(1.0, 4.0), mlp_layer=GluMlp, act_layer=nn.SiLU), 4, 2),
    "gmlp": (lambda: mixer(mlp_ratio=4, block_layer=SpatialGatingBlock, mlp_layer=GatedMlp), 2, 2),
    "convnext, convolutions": (lambda: timm.create_model("convnext_atto", **SMALL_CONVNEXT), 4, 2),
    "convnext": (lambda: timm.create_model("convnext_tiny", **SMALL_CONVNEXT), 4, 2),
    "convnext v2": (lambda: timm.create_model("convnextv2_tiny", **SMALL_CONVNEXT), 4, 2),
    "parallel": (lambda: timm.create_model("vit_small_patch16_36x1_224", img_size=32, **SMALL), 2, 2),
    "torchvision vit": (torchvision_vit, 2, 2),
    "torchvision swin": (torchvision_swin, 2, 2),
}


def without_zeros(model: nn.Module) -> nn.Module:
    """Heads, gates and layer scales start at or near zero, where they would hide what the blocks do."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() < 1e-3:
                parameter.normal_(0, 0.1 if parameter.ndim > 1 else 0.3)
    return model


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, Tensor, int, int]:
    """A model in evaluation mode, the same converted, an input, and how much there is to convert."""
    torch.manual_seed(0)
    build, blocks, rationals = FAMILIES[request.param]
    model = without_zeros(build()).eval()
    size = {"eva": 28, "eva02, packed": 28, "eva02, norm": 28, "swin": 56, "swin v2": 64}.get(request.param, 32)
    return model, convert(model), torch.randn(2, 3, size, size), blocks, rationals


def test_every_mlp_block_of_a_family_is_converted(
    family: tuple, rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    _, converted, _, blocks, rationals = family
    assert converted.conversion.blocks == blocks
    assert len(rationals_of(converted)) == blocks * rationals


def test_logits_of_every_family_differ_by_less_than_one_percent(
    family: tuple, relative_difference: Callable[[Tensor, Tensor], float]
) -> None:
    model, converted, x, _, _ = family
    with torch.no_grad():
        assert relative_difference(converted(x), model(x)) < 0.01


def test_old_state_is_part_of_the_new_one_with_the_same_values(family: tuple) -> None:
    model, converted, _, _, _ = family
    new = converted.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(new[name], value)


def test_all_further_parameters_belong_to_rationals_and_get_a_gradient(
    family: tuple, rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    model, converted, x, _, _ = family
    old = {name for name, _ in model.named_parameters()}
    converted = copy.deepcopy(converted)
    converted(x).square().sum().backward()
    added = {name: parameter for name, parameter in converted.named_parameters() if name not in old}
    assert len(added) == 2 * len(rationals_of(converted))
    for name, parameter in added.items():
        assert name.endswith(("weight_numerator", "weight_denominator"))
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_state_loads_into_another_converted_copy(family: tuple) -> None:
    model, converted, x, _, _ = family
    trained = copy.deepcopy(converted)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.01)
    other = convert(model)
    other.load_state_dict(trained.state_dict())
    with torch.no_grad():
        assert torch.equal(other(x), trained(x))


def test_deepcopy_and_pickle_keep_function_and_report(family: tuple) -> None:
    _, converted, x, _, _ = family
    with torch.no_grad():
        for copied in (copy.deepcopy(converted), pickle.loads(pickle.dumps(converted))):
            assert torch.equal(copied(x), converted(x))
            assert copied.conversion == converted.conversion


def test_position_bias_of_swin_v2_is_left_alone_unless_named() -> None:
    model = FAMILIES["swin v2"][0]()
    left = {entry.path: entry.reason for entry in convert(model).conversion.left_alone}
    assert "positions" in left["layers.0.blocks.0.attn.cpb_mlp"]
    converted = convert(model, include="*.cpb_mlp")
    assert converted.conversion.activations[0].first_groups == 2
