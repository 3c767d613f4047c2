"""KAT: sizes, golden outputs, published checkpoints through timm's machinery, and what timm users do with a model."""

import json
import pickle

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torchvision.models.feature_extraction import create_feature_extractor

from katops.errors import UserError
from katops.layers.group_rational import GroupRational, GroupRationalKAN
from katops.models import build_model
from katops.models.kat import KAT, from_published

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
IMAGE = (2, 3, 32, 32)


def small(name="kat_tiny", **options):
    return timm.create_model(name, **{**SMALL, "num_classes": 10, **options})


@pytest.fixture
def checkpoint(tmp_path):
    """A file in the published layout, of a small size with 1000 classes."""
    torch.manual_seed(7)
    path = tmp_path / "published.safetensors"
    save_file(small(num_classes=1000).state_dict(), path)
    return path


@pytest.fixture(scope="session")
def golden(shared):
    path = shared / "golden" / "kat_vit.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    return tensors, state, config


def test_golden_features_logits_and_gradients_are_reproduced(golden):
    tensors, state, config = golden
    model = from_published(state, config)
    x = tensors["input"].requires_grad_()
    torch.testing.assert_close(model.forward_features(x), tensors["features"], rtol=1e-4, atol=1e-5)
    logits = model(x)
    torch.testing.assert_close(logits, tensors["output"], rtol=1e-4, atol=1e-5)
    (logits * tensors["grad_weight"]).sum().backward()
    parameters = dict(model.named_parameters())
    found = {"grad_input": x.grad}
    found |= {key: parameters[key.removeprefix("grad.")].grad for key in tensors if key.startswith("grad.")}
    assert len(found) == 5
    for key, gradient in found.items():
        torch.testing.assert_close(gradient, tensors[key], rtol=1e-4, atol=1e-4 * float(tensors[key].abs().max()))


def test_golden_state_dict_has_exactly_our_keys_and_shapes(golden):
    _, state, config = golden
    ours = from_published(state, config).state_dict()
    assert {key: tuple(value.shape) for key, value in ours.items()} == {
        key: tuple(value.shape) for key, value in state.items()
    }


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("kat_tiny", 5_718_328),  # the authors' figure for kat_tiny_patch16_224
        ("kat_small", 22_051_576),
        ("kat_base", 86_568_568),
        ("kat_tiny_patch16_224", 5_718_328),
        ("kat_small_patch16_224", 22_051_576),
        ("kat_base_patch16_224", 86_568_568),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = timm.create_model(name)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    rationals = [module for module in model.modules() if isinstance(module, GroupRational)]
    assert len(rationals) == 24


def test_published_names_and_tags_are_listed_by_timm():
    names = [f"kat_{size}{end}" for size in ("base", "small", "tiny") for end in ("", "_patch16_224")]
    assert set(timm.list_models("kat*")) == set(names)
    assert set(timm.list_models("kat*", pretrained=True)) == {name + tag for name in names for tag in ("", ".vitft")}
    model = small("kat_small.vitft")
    assert model.pretrained_cfg["hf_hub_id"] == "adamdad/kat_small_patch16_224.vitft"


@pytest.mark.parametrize("layout", ["safetensors", "pth", "training checkpoint", "data parallel"])
def test_pretrained_loads_a_local_file_through_timm(checkpoint, tmp_path, layout):
    state, file = load_file(checkpoint), checkpoint
    if layout != "safetensors":
        file = tmp_path / "published.pth"
        wrapped = {"pth": state, "training checkpoint": {"epoch": 3, "state_dict": {}, "state_dict_ema": state}}
        torch.save(wrapped.get(layout, {f"module.{key}": value for key, value in state.items()}), file)
    model = small(num_classes=1000, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def test_pretrained_weights_adapt_to_classes_channels_and_image_size(checkpoint):
    state = load_file(checkpoint)
    model = small(
        num_classes=3, in_chans=1, img_size=64, pretrained=True, pretrained_cfg_overlay={"file": str(checkpoint)}
    )
    assert model(torch.randn(2, 1, 64, 64)).shape == (2, 3)
    torch.testing.assert_close(model.blocks[0].attn.qkv.weight, state["blocks.0.attn.qkv.weight"], rtol=0, atol=0)
    red_green_blue = state["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.patch_embed.proj.weight, red_green_blue)
    assert model.pos_embed.shape[1] == 65


def test_head_of_a_fine_tuned_file_is_kept_where_the_classes_agree(tmp_path):
    original = small(num_classes=10)
    save_file(original.state_dict(), tmp_path / "tuned.safetensors")
    overlay = {"file": str(tmp_path / "tuned.safetensors")}
    model = small(num_classes=10, pretrained=True, pretrained_cfg_overlay=overlay)
    torch.testing.assert_close(model.head.weight, original.head.weight, rtol=0, atol=0)
    with pytest.raises(UserError, match="read with pretrained=True only"):
        small(num_classes=10, pretrained_cfg_overlay=overlay)


def test_checkpoint_path_loads_a_local_file(checkpoint):
    model = small(num_classes=1000, checkpoint_path=str(checkpoint))
    torch.testing.assert_close(model.cls_token, load_file(checkpoint)["cls_token"], rtol=0, atol=0)


def test_local_directory_is_a_pretrained_source(checkpoint, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    checkpoint.rename(folder / "model.safetensors")
    config = {"architecture": "kat_tiny", "num_classes": 1000, "model_args": SMALL, "pretrained_cfg": {}}
    (folder / "config.json").write_text(json.dumps(config))
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    expected = load_file(folder / "model.safetensors")["norm.weight"]
    torch.testing.assert_close(model.norm.weight, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.pop("blocks.1.mlp.act2.weight_numerator"), "1 weights of the model are missing, begin"),
        (lambda state: state.update(extra=torch.zeros(1)), "1 have no place in it, beginning with 'extra'"),
        (lambda state: state.update({"norm.weight": torch.zeros(5)}), "size mismatch for norm.weight"),
    ],
)
@pytest.mark.parametrize("num_classes", [1000, 3])  # with another head timm alone would not look at the keys
def test_wrong_keys_and_shapes_are_refused(checkpoint, damage, message, num_classes):
    state = load_file(checkpoint)
    damage(state)
    save_file(state, checkpoint)
    with pytest.raises(UserError, match=message):
        small(num_classes=num_classes, pretrained=True, pretrained_cfg_overlay={"file": str(checkpoint)})


class Bomb:
    """Unpickling this would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", ["zip", "plain pickle"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickled_code_is_never_run(tmp_path, protocol):
    file, trace = tmp_path / "weights.pth", tmp_path / "exploded"
    if protocol == "zip":
        torch.save({"state_dict": {"norm.weight": Bomb(trace)}}, file)
    else:
        file.write_bytes(pickle.dumps({"norm.weight": Bomb(trace)}))
    with pytest.raises(UserError, match="pickled code is never run"):
        small(pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    with pytest.raises(UserError, match="pickled code is never run"):
        from_published(file)
    assert not trace.exists()


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"pretrained_cfg_overlay\.file: there is no file .*nothing\.pth"):
        small(pretrained=True, pretrained_cfg_overlay={"file": str(tmp_path / "nothing.pth")})


def test_from_published_reads_the_sizes_off_the_weights(tmp_path):
    original = timm.create_model("kat_tiny", img_size=48, patch_size=16, depth=2, num_classes=7, in_chans=1)
    path = tmp_path / "weights.safetensors"
    save_file(original.state_dict(), path)
    model = from_published(path)
    x = torch.randn(1, 1, 48, 48)
    torch.testing.assert_close(model(x), original(x), rtol=0, atol=0)
    assert from_published(path, num_classes=2)(x).shape == (1, 2)
    recipe = model.recipe
    assert build_model(recipe["name"], **recipe["arguments"])(x).shape == (1, 7)
    assert "state_dict" not in model.pretrained_cfg


def test_from_published_of_narrow_heads_asks_for_their_number(checkpoint):
    with pytest.raises(UserError, match="number of attention heads cannot be read off weights of width 32"):
        from_published(checkpoint)


def test_from_published_reads_what_timm_pushes_to_the_hub(tmp_path):
    model = small(num_classes=10)
    save_for_hf(model, tmp_path, model_args=dict(SMALL))
    x = torch.randn(IMAGE)
    torch.testing.assert_close(from_published(tmp_path)(x), model(x), rtol=0, atol=0)


def test_weights_of_another_size_are_refused_by_the_name_of_their_file(checkpoint):
    with pytest.raises(UserError, match=rf"{checkpoint.name}: .*size mismatch for cls_token"):
        from_published(checkpoint, {"num_heads": 2, "embed_dim": 64, "num_classes": 1000})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"global_pool": "avg"}, "give fc_norm=False"),
        ({"reg_tokens": 4}, "are class_token and reg_tokens those of the weights"),
        ({"img_size": 64, "class_token": False, "global_pool": "avg"}, "17 position embeddings, which are no square"),
    ],
)
def test_options_that_contradict_the_weights_are_named(checkpoint, options, message):
    with pytest.raises(UserError, match=message):
        small(num_classes=1000, pretrained=True, pretrained_cfg_overlay={"file": str(checkpoint)}, **options)


def test_average_pooling_takes_published_weights_with_the_norm_where_it_was(checkpoint):
    overlay = {"file": str(checkpoint)}
    model = small(num_classes=1000, pretrained=True, pretrained_cfg_overlay=overlay, global_pool="avg", fc_norm=False)
    assert "state_dict" not in model.pretrained_cfg
    assert model(torch.randn(IMAGE)).shape == (2, 1000)


def test_no_loader_of_timm_opens_a_local_file(checkpoint, monkeypatch):
    """Versions of timm before 1.0.26 unpickle such a file."""
    monkeypatch.setattr("timm.models._builder.load_state_dict", pytest.fail)
    small(num_classes=1000, pretrained=True, pretrained_cfg_overlay={"file": str(checkpoint)})
    small(num_classes=1000, pretrained=True, pretrained_cfg={"file": str(checkpoint), "num_classes": 1000})


@pytest.mark.parametrize("change", [lambda m: m.set_input_size((64, 64)), lambda m: m.reset_classifier(4)])
def test_recipe_follows_changes_of_the_model(change):
    model = small()
    change(model)
    build_model(model.recipe["name"], **model.recipe["arguments"]).load_state_dict(model.state_dict())


def test_symbolic_tracing_keeps_the_rational_function_whole():
    model = small(depth=1).eval()
    extractor = create_feature_extractor(model, ["blocks.0.mlp.act2"])
    x = torch.randn(IMAGE)
    with torch.no_grad():
        assert extractor(x)["blocks.0.mlp.act2"].shape == (2, 17, 128)
    features = small(features_only=True, feature_cls="fx", out_indices=(0, 1))(x)
    assert [tuple(tokens.shape) for tokens in features] == [(2, 17, 32)] * 2


@pytest.mark.parametrize("wrong", [torch.randn(2, 1, 32, 32), torch.randn(3, 32, 32)])
def test_intermediate_features_of_a_wrong_input_name_the_axes(wrong):
    with pytest.raises(UserError, match=r"expected \(batch, channel=3, height, width\)"):
        small().forward_intermediates(wrong)


def test_logits_follow_num_classes_and_zero_classes_give_features():
    assert small(num_classes=0)(torch.randn(IMAGE)).shape == (2, 32)
    model = small()
    model.reset_classifier(4, "avg")
    assert model(torch.randn(IMAGE)).shape == (2, 4)
    assert model.recipe["arguments"]["num_classes"] == 4


def test_dynamic_image_size_takes_rectangles():
    model = small(dynamic_img_size=True)
    assert model(torch.randn(1, 3, 40, 64)).shape == (1, 10)


def test_features_only_gives_maps_of_the_chosen_blocks():
    model = small(features_only=True, out_indices=(0, 1))
    assert [tuple(map_.shape) for map_ in model(torch.randn(IMAGE))] == [(2, 32, 4, 4)] * 2


def test_forward_intermediates_end_in_the_features():
    model = small().eval()
    x = torch.randn(IMAGE)
    final, maps = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    assert [tuple(map_.shape) for map_ in maps] == [(2, 32, 4, 4)] * 2


def test_gradient_checkpointing_changes_no_gradient():
    model, x = small(), torch.randn(IMAGE)

    def gradients():
        model.zero_grad()
        model(x).square().sum().backward()
        return [parameter.grad.clone() for parameter in model.parameters()]

    plain = gradients()
    model.set_grad_checkpointing()
    for expected, found in zip(plain, gradients(), strict=True):
        torch.testing.assert_close(found, expected)


def test_drop_path_rises_from_zero_to_the_given_rate():
    model = small(drop_path_rate=0.2)
    assert isinstance(model.blocks[0].drop_path2, torch.nn.Identity)
    assert model.blocks[1].drop_path2.drop_prob == pytest.approx(0.2)


def test_layer_decay_groups_give_each_block_its_own_scale():
    model = small()
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(scale) == len(parameters)
    first, second = (scale[id(parameters[f"blocks.{i}.mlp.act1.weight_denominator"])] for i in (0, 1))
    assert (first, second) == (0.25, 0.5)
    assert scale[id(parameters["head.weight"])] == 1.0


def test_rational_coefficients_take_no_weight_decay():
    model = small()
    groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    decayed = {id(parameter) for group in groups if group["weight_decay"] for parameter in group["params"]}
    names = {name for name, parameter in model.named_parameters() if id(parameter) in decayed}
    assert "blocks.0.mlp.fc1.weight" in names
    assert not [name for name in names if "act" in name]


@pytest.mark.parametrize(("options", "activation"), [({}, "silu"), ({"shape": "gelu"}, "gelu")])
def test_first_rational_of_a_new_block_is_the_identity_and_the_second_the_chosen_shape(options, activation):
    block = small(**options).blocks[0].mlp
    x = torch.linspace(-3, 3, 32 * 8).reshape(8, 32)
    torch.testing.assert_close(block.act1(x), x, rtol=0, atol=0)
    hidden = torch.linspace(-3, 3, 128 * 8).reshape(8, 128)
    expected = getattr(torch.nn.functional, activation)(hidden)
    assert (block.act2(hidden) - expected).abs().max() < 5e-3


@torch.no_grad()
def test_mimetic_values_and_projection_multiply_to_a_nearly_negative_diagonal():
    torch.manual_seed(0)
    attention = small(embed_dim=96, num_heads=3, weight_init="mimetic").blocks[0].attn
    product = attention.proj.weight @ attention.qkv.weight.chunk(3)[2]
    assert product.diagonal().mean() == pytest.approx(-0.4, abs=0.05)
    assert (product - torch.diag(product.diagonal())).std() == pytest.approx(0.4 / 96**0.5, rel=0.05)
    query, key, _ = attention.qkv.weight.chunk(3)
    for head in range(3):
        rows = slice(32 * head, 32 * head + 32)
        assert (query[rows].T @ key[rows]).diagonal().mean() > 0.1
        assert torch.linalg.matrix_rank(query[rows].T @ key[rows]) == 32


def test_numerators_are_shared_by_the_groups_unless_asked_otherwise():
    assert small().blocks[0].mlp.act1.weight_numerator.shape == (1, 6)
    assert small(shared_numerator=False, groups=4).blocks[0].mlp.act1.weight_numerator.shape == (4, 6)


@pytest.mark.parametrize("mlp_layer", ["mlp", {"name": "group_rational_kan", "groups": 4, "shape": "tanh"}])
def test_mlp_slot_takes_registered_names_with_options(mlp_layer):
    model = small(mlp_layer=mlp_layer)
    assert model(torch.randn(IMAGE)).shape == (2, 10)
    assert model.recipe["arguments"]["mlp_layer"] == mlp_layer
    if mlp_layer != "mlp":
        assert isinstance(model.blocks[0].mlp, GroupRationalKAN)
        assert model.blocks[0].mlp.act2.groups == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 4}, "unknown option 'group' of model 'kat_tiny'; did you mean 'groups'"),
        ({"groups": 5}, "5 groups do not divide 32 channels"),
        ({"shape": "geluu"}, "did you mean 'gelu'"),
        ({"act_layer": "silu"}, "give its initial shape as shape="),
        ({"groups": "eight"}, "option 'groups' of model 'kat_tiny' must be an integer"),
        ({"weight_init": "mimetik"}, "unknown weight_init 'mimetik'; did you mean 'mimetic'"),
        ({"features_only": True, "output_fmt": "NHWC"}, "unknown option 'output_fmt'"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(options, message):
    with pytest.raises(UserError, match=message):
        small(**options)


def test_build_model_and_timm_build_the_same():
    torch.manual_seed(1)
    ours = build_model("kat_small", **SMALL)
    torch.manual_seed(1)
    theirs = timm.create_model("kat_small", **SMALL)
    assert isinstance(ours, KAT)
    x = torch.randn(IMAGE)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
