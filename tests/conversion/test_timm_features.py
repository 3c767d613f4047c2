"""What timm does with a model still works on a converted one."""

import copy
import pickle
from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import Mlp
from timm.optim import create_optimizer_v2
from torch import nn

from katops.conversion import convert
from katops.layers.group_rational import GroupRational


@pytest.fixture
def converted_vit(build_vit: Callable[..., nn.Module]) -> nn.Module:
    return convert(build_vit())


def test_head_can_be_replaced_and_features_taken(converted_vit: nn.Module) -> None:
    x = torch.randn(1, 3, 32, 32)
    assert converted_vit.forward_features(x).shape == (1, 5, 48)
    assert len(converted_vit.forward_intermediates(x)[1]) == 2
    converted_vit.reset_classifier(3)
    assert converted_vit(x).shape == (1, 3)


def test_gradient_checkpointing_changes_no_gradient(
    converted_vit: nn.Module, rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    x = torch.randn(2, 3, 32, 32)
    gradients = []
    for enabled in (False, True):
        converted_vit.set_grad_checkpointing(enabled)
        converted_vit.zero_grad()
        converted_vit.train()(x).square().sum().backward()
        gradients.append(rationals_of(converted_vit)[0].weight_numerator.grad.clone())
    torch.testing.assert_close(*gradients)


def test_layer_decay_puts_rationals_into_the_group_of_their_block(
    converted_vit: nn.Module, rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(converted_vit, weight_decay=0.05, layer_decay=0.5)
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    for block in converted_vit.blocks:
        expected = scale[id(block.mlp.fc1.weight)]
        for rational in rationals_of(block):
            assert {scale[id(parameter)] for parameter in rational.parameters()} == {expected}
    assert len(scale) == len(list(converted_vit.parameters()))


def test_backbone_with_features_only_is_converted(build_vit: Callable[..., nn.Module]) -> None:
    backbone = build_vit(features_only=True, out_indices=(0, 1)).eval()
    converted = convert(backbone)
    assert converted.conversion.difference.relative < 0.01
    assert len(converted(torch.randn(1, 3, 32, 32))) == len(backbone(torch.randn(1, 3, 32, 32)))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Mlp(16, 32, use_conv=True), (2, 16, 4, 4)),
        (timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=48, depth=1, num_heads=3), (2, 3, 32, 32)),
    ],
    ids=["convolutions", "vit"],
)
def test_converted_model_compiles_into_one_graph(model: nn.Module, shape: tuple[int, ...]) -> None:
    converted = convert(model)
    x = torch.randn(shape)
    torch._dynamo.reset()
    compiled = torch.compile(converted, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), converted(x))


@pytest.mark.parametrize("again", [lambda model: model, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
@pytest.mark.parametrize("layer_decay", [None, 0.5])
def test_optimisers_of_timm_decay_no_coefficient(
    converted_vit: nn.Module,
    again: Callable[[nn.Module], nn.Module],
    layer_decay: float | None,
    rationals_of: Callable[[nn.Module], list[GroupRational]],
) -> None:
    model = again(converted_vit)
    optimizer = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=layer_decay)
    decay = {id(parameter): group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    assert {decay[id(parameter)] for module in rationals_of(model) for parameter in module.parameters()} == {0}
    assert decay[id(model.pos_embed)] == 0
    assert decay[id(model.blocks[0].mlp.fc1.weight)] == 0.05


def test_unconverted_models_of_the_class_exempt_what_they_did(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit()
    before = model.no_weight_decay()
    convert(model)
    assert model.no_weight_decay() == build_vit().no_weight_decay() == before
