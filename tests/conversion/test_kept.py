"""What a conversion does not change."""

import copy
from collections.abc import Callable

import pytest
import torch
from timm.layers import Mlp
from torch import nn

from katops.conversion import convert
from katops.layers.group_rational import GroupRational


def test_original_is_not_modified_unless_in_place(
    build_vit: Callable[..., nn.Module], rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    model = build_vit()
    before = copy.deepcopy(model.state_dict())
    converted = convert(model)
    assert converted is not model
    assert not rationals_of(model)
    assert not hasattr(model, "conversion")
    assert list(model.state_dict()) == list(before)
    weights = list(model.parameters())
    assert convert(model, in_place=True) is model
    assert {id(parameter) for parameter in weights} <= {id(parameter) for parameter in model.parameters()}


def test_block_used_twice_stays_one_block() -> None:
    mlp = Mlp(16, 32)
    converted = convert(nn.Sequential(mlp, nn.LayerNorm(16), mlp))
    assert converted[0] is converted[2]
    assert converted.conversion.blocks == 1


def test_map_of_two_blocks_stays_one_map_and_a_common_activation_becomes_two() -> None:
    linear, activation = nn.Linear(16, 32), nn.GELU()
    branches = [nn.Sequential(linear, activation, nn.Linear(32, 4)) for _ in range(2)]
    first, second = convert(nn.ModuleList(branches))
    assert first[0] is second[0]
    assert first[1] is not second[1]


def test_tied_weights_stay_tied() -> None:
    first, second = Mlp(16, 32), Mlp(16, 32)
    second.fc1.weight = first.fc1.weight
    converted = convert(nn.ModuleList([first, second]))
    assert converted[0].fc1.weight is converted[1].fc1.weight


def test_frozen_parameters_stay_frozen_and_rationals_learn(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit()
    for parameter in model.blocks.parameters():
        parameter.requires_grad = False
    converted = convert(model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name for name, parameter in converted.named_parameters() if not parameter.requires_grad} == frozen


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_type_of_weights_and_outputs_is_kept(dtype: torch.dtype, build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit().to(dtype)
    converted = convert(model, sample=torch.randn(2, 3, 32, 32))
    new = converted.state_dict()
    assert {new[name].dtype for name in model.state_dict()} == {dtype}
    assert converted(torch.randn(1, 3, 32, 32, dtype=dtype)).dtype is dtype


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float64, torch.float64), (torch.bfloat16, torch.float32), (torch.half, torch.float32)],
)
def test_coefficients_have_single_precision_at_least_so_that_the_reported_error_holds(
    dtype: torch.dtype, expected: torch.dtype, rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    converted = convert(Mlp(16, 32).to(dtype))
    assert {parameter.dtype for module in rationals_of(converted) for parameter in module.parameters()} == {expected}
    (row,) = converted.conversion.activations
    x = torch.linspace(*row.interval, 3001)[:, None].expand(-1, 32)
    with torch.no_grad():
        error = (converted.act(x) - nn.functional.gelu(x)).abs().max().item()
    assert error <= 1.001 * row.max_error + 1e-6


def test_device_is_kept(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit().to("meta")
    converted = convert(model)
    assert all(parameter.is_meta for parameter in converted.parameters())
    assert converted.conversion.difference is None


@pytest.mark.parametrize("sampled", [False, True])
def test_training_mode_and_random_state_are_kept(sampled: bool, build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit().train()
    model.blocks[0].eval()
    state = torch.get_rng_state()
    converted = convert(model, sample=torch.ones(1, 3, 32, 32) if sampled else None)
    assert torch.equal(torch.get_rng_state(), state)
    assert converted.training
    assert not any(module.training for module in converted.blocks[0].modules())
    assert all(module.training for module in converted.blocks[1].modules())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"groups": 8, "include": None, "exclude": []}),
        (
            {"groups": 4, "include": ("blocks.*",), "exclude": "blocks.0.mlp"},
            {"groups": 4, "include": ["blocks.*"], "exclude": ["blocks.0.mlp"]},
        ),
    ],
)
def test_recipe_is_kept_with_the_conversion(options: dict, expected: dict, build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit()
    recipe = {"name": "vit_tiny_patch16_224", "arguments": {"img_size": 32}}
    model.recipe = dict(recipe)
    assert convert(model, **options).recipe == {**recipe, "convert": expected}
    assert model.recipe == recipe


@pytest.mark.parametrize(
    "recipe",
    [None, {"name": "mgno", "arguments": {}}, {"name": "vit_tiny_patch16_224", "arguments": {}, "convert": {}}],
    ids=["none", "operator", "converted before"],
)
def test_recipe_from_which_nothing_could_build_the_converted_model_is_dropped(recipe: dict | None) -> None:
    mlp = Mlp(16, 32)
    mlp.recipe = recipe
    assert convert(mlp).recipe is None
