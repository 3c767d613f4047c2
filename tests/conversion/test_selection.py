"""Which blocks are converted, which are left alone, and what is refused."""

from collections.abc import Callable

import pytest
import timm
import torch
from timm.layers import Mlp
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_small, vgg11

from katops.conversion import convert
from katops.errors import UserError
from katops.layers.group_rational import GroupRational


def test_include_and_exclude_choose_blocks_by_path(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit(depth=4)
    converted = convert(model, include="blocks.[0-2].mlp", exclude=["blocks.1.*"])
    assert [row.path for row in converted.conversion.activations] == ["blocks.0.mlp.act", "blocks.2.mlp.act"]
    assert {entry.path for entry in converted.conversion.left_alone} == {"blocks.1.mlp", "blocks.3.mlp"}


def test_pattern_that_fits_nothing_is_refused_with_the_nearest_path(build_vit: Callable[..., nn.Module]) -> None:
    with pytest.raises(UserError, match=r"include='blocks\.0\.mpl' fits no MLP block; did you mean 'blocks\.0\.mlp'"):
        convert(build_vit(), include="blocks.0.mpl")


class OddMlp(nn.Module):
    """A block with parts of our choice."""

    def __init__(self, act: nn.Module, fc1: nn.Module | None = None, fc2: nn.Module | None = None) -> None:
        super().__init__()
        self.fc1, self.act, self.fc2 = fc1 or nn.Linear(16, 32), act, fc2 or nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class GatingMlp(nn.Module):
    """Parts with names of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.value, self.gate, self.out = nn.Linear(16, 32), nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.value(x) * self.gate(x).sigmoid())


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (OddMlp(nn.Softmax(-1)), "not a function of each element alone"),
        (OddMlp(nn.PReLU(32)), "not a function of each element alone"),
        (OddMlp(nn.GELU(), nn.utils.parametrizations.weight_norm(nn.Linear(16, 32))), "ParametrizedLinear"),
        (OddMlp(nn.GELU(), nn.Linear(16, 64)), "from 64 to 32"),
        (OddMlp(nn.GELU(), None, nn.Bilinear(32, 32, 16)), "its last map is Bilinear"),
        (GatingMlp(), "not named as in any known MLP"),
    ],
)
def test_blocks_that_are_not_understood_are_listed_and_left_alone(
    odd: nn.Module, reason: str, rationals_of: Callable[[nn.Module], list[GroupRational]]
) -> None:
    model = nn.ModuleDict({"plain": Mlp(16, 32), "odd": odd})
    converted = convert(model)
    assert [row.path for row in converted.conversion.activations] == ["plain.act"]
    (entry,) = converted.conversion.left_alone
    assert entry.path == "odd"
    assert reason in entry.reason
    assert reason in str(converted.conversion)
    assert not rationals_of(converted["odd"])


def test_classification_head_is_left_alone() -> None:
    model = timm.create_model("inception_next_atto", num_classes=10)
    converted = convert(model)
    assert "classification head" in {entry.path: entry.reason for entry in converted.conversion.left_alone}["head"]


@pytest.mark.parametrize("build", [vgg11, mobilenet_v3_small])
def test_classification_head_that_is_a_sequential_is_left_alone_unless_named(build: Callable[[], nn.Module]) -> None:
    with torch.device("meta"):
        model = build()
    with pytest.raises(UserError, match="classifier was left alone: by its name it is a classification head"):
        convert(model)
    assert convert(model, include="classifier").conversion.activations[0].path.startswith("classifier.")


def test_new_head_of_several_layers_is_left_alone_and_reported(build_vit: Callable[..., nn.Module]) -> None:
    model = build_vit()
    model.head = nn.Sequential(nn.Linear(48, 32), nn.GELU(), nn.Linear(32, 10))
    report = convert(model).conversion
    assert [entry.path for entry in report.left_alone] == ["head"]
    assert report.blocks == 2


class ReadingMlp(Mlp):
    """Reads the weights of its first map instead of calling it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(nn.functional.linear(x, self.fc1.weight, self.fc1.bias)))


class FusedMlp(Mlp):
    """Computes its activation itself."""

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


@pytest.mark.parametrize(("odd", "unused"), [(ReadingMlp, "fc1"), (FusedMlp, "act")])
@pytest.mark.parametrize("sampled", [False, True])
def test_block_that_does_not_call_its_parts_is_left_as_it_is(
    odd: type[Mlp], unused: str, sampled: bool, build_vit: Callable[..., nn.Module]
) -> None:
    model = build_vit()
    model.blocks[1].mlp = odd(48, 192)
    model.recipe = {"name": "vit_tiny_patch16_224", "arguments": {}}
    converted = convert(model, sample=torch.randn(2, 3, 32, 32) if sampled else None)
    assert [row.path for row in converted.conversion.activations] == ["blocks.0.mlp.act"]
    (entry,) = converted.conversion.left_alone
    assert entry.path == "blocks.1.mlp"
    assert f"does not call {unused}" in entry.reason
    assert type(converted.blocks[1].mlp.fc1) is nn.Linear
    assert isinstance(converted.blocks[1].mlp.act, nn.GELU)
    assert converted.recipe["convert"]["exclude"] == ["blocks.1.mlp"]


def test_model_whose_only_block_does_not_call_its_parts_is_refused_and_stays() -> None:
    mlp = ReadingMlp(16, 32)
    with pytest.raises(UserError, match="does not call fc1"):
        convert(mlp, sample=torch.randn(2, 16), in_place=True)
    assert type(mlp.fc1) is nn.Linear
    assert isinstance(mlp.act, nn.GELU)
    assert not mlp.fc1._forward_pre_hooks
    assert not hasattr(mlp, "conversion")


def test_nothing_to_convert_is_refused_with_what_was_looked_for() -> None:
    with pytest.raises(UserError, match=r"no MLP block in this Linear; looked for .*nn\.TransformerEncoderLayer"):
        convert(nn.Linear(3, 3))
    with pytest.raises(UserError, match="the model was left alone: its activation Softmax"):
        convert(OddMlp(nn.Softmax(-1)))
    with pytest.raises(UserError, match="has rational functions already"):
        convert(convert(Mlp(16, 32)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": 0}, "groups must be a positive integer"),
        ({"groups": True}, "groups must be a positive integer"),
        ({"groups": 2.0}, "groups must be a positive integer"),
        ({"sample": "image"}, "sample must be a batch"),
        ({"sample": torch.full((2, 16), float("nan"))}, "infinite or NaN"),
        ({"exclude": "*"}, "no MLP block"),
    ],
)
def test_wrong_arguments_are_refused_and_the_model_stays(arguments: dict, message: str) -> None:
    mlp = nn.ModuleDict({"mlp": Mlp(16, 32)})
    mlp.forward = mlp["mlp"].forward
    with pytest.raises(UserError, match=message):
        convert(mlp, in_place=True, **arguments)
    assert isinstance(mlp["mlp"].act, nn.GELU)
    assert type(mlp["mlp"].fc1) is nn.Linear


def test_compiled_and_foreign_objects_are_refused() -> None:
    with pytest.raises(UserError, match="convert first, then compile"):
        convert(torch.compile(Mlp(16, 32)))
    with pytest.raises(UserError, match=r"expected a torch model .*given: str"):
        convert("vit_small_patch16_224")
