"""Conversion of existing models: what becomes rational, what stays, and how far the outputs move."""

import copy
import pickle
import warnings
from collections.abc import Callable

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import DropPath, GatedMlp, GlobalResponseNormMlp, GluMlp, Mlp, SwiGLU
from timm.models.metaformer import StarReLU
from timm.models.mlp_mixer import MlpMixer, SpatialGatingBlock
from torch import Tensor, nn

from katops.conversion import Conversion, convert
from katops.conversion.converter import largest_divisor
from katops.errors import UserError
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


def rationals_of(model: nn.Module) -> list[GroupRational]:
    return [module for module in model.modules() if isinstance(module, GroupRational)]


def relative_difference(new: Tensor, old: Tensor) -> float:
    return ((new - old).norm() / old.norm()).item()


# every family


def test_every_mlp_block_of_a_family_is_converted(family: tuple) -> None:
    _, converted, _, blocks, rationals = family
    assert converted.conversion.blocks == blocks
    assert len(rationals_of(converted)) == blocks * rationals


def test_logits_of_every_family_differ_by_less_than_one_percent(family: tuple) -> None:
    model, converted, x, _, _ = family
    with torch.no_grad():
        assert relative_difference(converted(x), model(x)) < 0.01


def test_old_state_is_part_of_the_new_one_with_the_same_values(family: tuple) -> None:
    model, converted, _, _, _ = family
    new = converted.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(new[name], value)


def test_all_further_parameters_belong_to_rationals_and_get_a_gradient(family: tuple) -> None:
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


# the blocks


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
def test_activation_inside_or_outside_the_table_is_fitted(activation: type[nn.Module]) -> None:
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


def test_dropout_draws_the_same_masks_in_training_mode() -> None:
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


def test_deep_sequential_gets_a_rational_for_each_activation_between_linear_maps() -> None:
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


# torch's transformer layers


@pytest.fixture
def encoder() -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=False)
    return nn.TransformerEncoder(layer, 2).eval()


def test_encoder_layers_compute_with_the_rational_on_the_fast_path_too(encoder: nn.TransformerEncoder) -> None:
    x = torch.randn(3, 5, 16)
    converted = convert(encoder, sample=x)
    assert all(row.input_range is not None for row in converted.conversion.activations)
    with torch.no_grad():
        assert relative_difference(converted(x), encoder(x)) < 0.01
        for rational in rationals_of(converted):
            rational.weight_numerator.mul_(2)
        assert relative_difference(converted(x), encoder(x)) > 0.1


def test_encoder_with_padding_agrees_where_there_is_no_padding(encoder: nn.TransformerEncoder) -> None:
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


def test_decoder_layers_are_converted() -> None:
    layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True).eval()
    target, memory = torch.randn(2, 4, 16), torch.randn(2, 6, 16)
    converted = convert(layer, sample=(target, memory))
    with torch.no_grad():
        assert relative_difference(converted(target, memory), layer(target, memory)) < 0.02


# vit_small


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


def test_sample_keeps_the_logits_when_activations_see_inputs_beyond_ten() -> None:
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
def test_sample_brings_the_activation_closer_than_the_fit_without(scale: float, shift: float, gain: float) -> None:
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


# groups


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


# which blocks


def test_include_and_exclude_choose_blocks_by_path() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, **{**SMALL, "depth": 4})
    converted = convert(model, include="blocks.[0-2].mlp", exclude=["blocks.1.*"])
    assert [row.path for row in converted.conversion.activations] == ["blocks.0.mlp.act", "blocks.2.mlp.act"]
    assert {entry.path for entry in converted.conversion.left_alone} == {"blocks.1.mlp", "blocks.3.mlp"}


def test_pattern_that_fits_nothing_is_refused_with_the_nearest_path() -> None:
    with pytest.raises(UserError, match=r"include='blocks\.0\.mpl' fits no MLP block; did you mean 'blocks\.0\.mlp'"):
        convert(FAMILIES["vit"][0](), include="blocks.0.mpl")


def test_position_bias_of_swin_v2_is_left_alone_unless_named() -> None:
    model = FAMILIES["swin v2"][0]()
    left = {entry.path: entry.reason for entry in convert(model).conversion.left_alone}
    assert "positions" in left["layers.0.blocks.0.attn.cpb_mlp"]
    converted = convert(model, include="*.cpb_mlp")
    assert converted.conversion.activations[0].first_groups == 2


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
def test_blocks_that_are_not_understood_are_listed_and_left_alone(odd: nn.Module, reason: str) -> None:
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


# what is kept


def test_original_is_not_modified_unless_in_place() -> None:
    model = FAMILIES["vit"][0]()
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


def test_frozen_parameters_stay_frozen_and_rationals_learn() -> None:
    model = FAMILIES["vit"][0]()
    for parameter in model.blocks.parameters():
        parameter.requires_grad = False
    converted = convert(model)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name for name, parameter in converted.named_parameters() if not parameter.requires_grad} == frozen


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_type_is_kept(dtype: torch.dtype) -> None:
    model = FAMILIES["vit"][0]().to(dtype)
    converted = convert(model, sample=torch.randn(2, 3, 32, 32))
    assert {parameter.dtype for parameter in converted.parameters()} == {dtype}
    assert converted(torch.randn(1, 3, 32, 32, dtype=dtype)).dtype is dtype


def test_device_is_kept() -> None:
    model = FAMILIES["vit"][0]().to("meta")
    converted = convert(model)
    assert all(parameter.is_meta for parameter in converted.parameters())
    assert converted.conversion.difference is None


@pytest.mark.parametrize("sampled", [False, True])
def test_training_mode_and_random_state_are_kept(sampled: bool) -> None:
    model = FAMILIES["vit"][0]().train()
    model.blocks[0].eval()
    state = torch.get_rng_state()
    converted = convert(model, sample=torch.ones(1, 3, 32, 32) if sampled else None)
    assert torch.equal(torch.get_rng_state(), state)
    assert converted.training
    assert not any(module.training for module in converted.blocks[0].modules())
    assert all(module.training for module in converted.blocks[1].modules())


def test_recipe_that_would_rebuild_the_unconverted_model_is_dropped() -> None:
    mlp = Mlp(16, 32)
    mlp.recipe = {"name": "mlp", "arguments": {}}
    assert convert(mlp).recipe is None
    assert mlp.recipe is not None


# timm's features


@pytest.fixture
def converted_vit() -> nn.Module:
    return convert(FAMILIES["vit"][0]())


def test_head_can_be_replaced_and_features_taken(converted_vit: nn.Module) -> None:
    x = torch.randn(1, 3, 32, 32)
    assert converted_vit.forward_features(x).shape == (1, 5, 48)
    assert len(converted_vit.forward_intermediates(x)[1]) == 2
    converted_vit.reset_classifier(3)
    assert converted_vit(x).shape == (1, 3)


def test_gradient_checkpointing_changes_no_gradient(converted_vit: nn.Module) -> None:
    x = torch.randn(2, 3, 32, 32)
    gradients = []
    for enabled in (False, True):
        converted_vit.set_grad_checkpointing(enabled)
        converted_vit.zero_grad()
        converted_vit.train()(x).square().sum().backward()
        gradients.append(rationals_of(converted_vit)[0].weight_numerator.grad.clone())
    torch.testing.assert_close(*gradients)


def test_layer_decay_puts_rationals_into_the_group_of_their_block(converted_vit: nn.Module) -> None:
    from timm.optim import param_groups_layer_decay

    groups = param_groups_layer_decay(converted_vit, weight_decay=0.05, layer_decay=0.5)
    scale = {id(parameter): group["lr_scale"] for group in groups for parameter in group["params"]}
    for block in converted_vit.blocks:
        expected = scale[id(block.mlp.fc1.weight)]
        for rational in rationals_of(block):
            assert {scale[id(parameter)] for parameter in rational.parameters()} == {expected}
    assert len(scale) == len(list(converted_vit.parameters()))


def test_backbone_with_features_only_is_converted() -> None:
    backbone = timm.create_model(
        "vit_tiny_patch16_224", img_size=32, features_only=True, out_indices=(0, 1), **SMALL
    ).eval()
    converted = convert(backbone)
    assert converted.conversion.difference.relative < 0.01
    assert len(converted(torch.randn(1, 3, 32, 32))) == len(backbone(torch.randn(1, 3, 32, 32)))


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (Mlp(16, 32, use_conv=True), (2, 16, 4, 4)),
        (timm.create_model("vit_tiny_patch16_224", img_size=32, **{**SMALL, "depth": 1}), (2, 3, 32, 32)),
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


# the report


def test_report_counts_blocks_and_parameters() -> None:
    model = FAMILIES["vit"][0]()
    report = convert(model).conversion
    assert report.parameters_before == sum(parameter.numel() for parameter in model.parameters())
    # two rationals in each of two blocks, with 6 coefficients for all groups and 4 for each of 8
    assert report.parameters_after - report.parameters_before == 2 * 2 * (6 + 8 * 4)


def test_reported_difference_is_that_of_the_outputs() -> None:
    model, x = FAMILIES["vit"][0]().eval(), torch.randn(3, 3, 32, 32)
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


def test_report_prints_every_activation_and_turns_into_plain_values() -> None:
    import json

    report = convert(FAMILIES["vit"][0](), sample=torch.randn(1, 3, 32, 32)).conversion
    assert isinstance(report, Conversion)
    for row in report.activations:
        assert row.path in str(report)
    assert "2 blocks converted" in str(report)
    assert "% relative" in str(report)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["activations"][1]["path"] == "blocks.1.mlp.act"
    assert plain["difference"]["relative"] == report.difference.relative


def test_noise_has_the_channels_and_the_size_that_the_model_was_built_for() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=48, in_chans=1, **SMALL)
    assert convert(model).conversion.difference.measured_on == "one image of noise (1, 48, 48)"


def test_outputs_are_not_compared_where_the_input_is_not_known() -> None:
    report = convert(Mlp(16, 32)).conversion
    assert report.difference is None
    assert "give a sample" in str(report)
