"""From names to modules: what is filled in, what is refused, and the recipe."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.layers import GroupNorm
from katops.models import build_model, create_layer, create_model, list_layers, list_models

SMALL = {"hidden_channels": 4, "n_layers": 2, "schedule": [[1, 1], [1, 0]]}


@pytest.fixture
def meta():
    return FieldMeta(
        name="plume",
        inputs=(Channel("u"), Channel("v")),
        outputs=(Channel("u"),),
        axes=(Axis("x", boundary=("periodic", "periodic")), Axis("y", boundary=("dirichlet", "neumann"))),
        steps_in=3,
        time_step=0.1,
    )


def test_widths_and_boundary_come_from_the_description_of_the_data(meta):
    model = build_model("mgno_tiny", meta=meta, **SMALL)
    assert (model.in_channels, model.out_channels) == (6, 1)
    assert model.boundary == (("periodic", "periodic"), ("dirichlet", "neumann"))


def test_a_boundary_that_the_data_leave_open_may_be_stated_and_is_a_zero_derivative_otherwise(meta):
    axes = (Axis("x", boundary=("wall", "open")), Axis("y", boundary=("dirichlet", "neumann")))
    open_ends = replace(meta, axes=axes)
    assert build_model("mgno_tiny", meta=open_ends, **SMALL).boundary == (
        ("neumann", "neumann"),
        ("dirichlet", "neumann"),
    )
    stated = [["dirichlet", "neumann"], ["dirichlet", "neumann"]]
    assert build_model("mgno_tiny", meta=open_ends, **SMALL, boundary=stated).boundary[0] == ("dirichlet", "neumann")
    with pytest.raises(UserError, match="'boundary' of model 'mgno_tiny' is 'dirichlet', but the data"):
        build_model("mgno_tiny", meta=open_ends, **SMALL, boundary="dirichlet")


def test_option_that_repeats_the_data_is_accepted_and_one_that_contradicts_them_is_not(meta):
    build_model("mgno_tiny", meta=meta, **SMALL, in_channels=6, boundary=["periodic", ["dirichlet", "neumann"]])
    with pytest.raises(UserError, match="'in_channels' of model 'mgno_tiny' is 2, but the data 'plume' say 6"):
        build_model("mgno_tiny", meta=meta, **SMALL, in_channels=2)
    with pytest.raises(UserError, match="'boundary' of model 'mgno_tiny' is 'periodic'"):
        build_model("mgno_tiny", meta=meta, **SMALL, boundary="periodic")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden_channels": 8}, "unknown option 'hiden_channels' of model 'mgno_tiny'; did you mean 'hidden_channels'"),
        (
            {"norm_layer": "relu"},
            "norm_layer takes a layer of kind 'norm', 'relu' has kind 'activation'; allowed: group",
        ),
        ({"space_mixer": "multigrid"}, "schedule belong to the V-cycle and have no effect with another space_mixer"),
        ({"pointwise": False, "mlp_layer": "mlp"}, "mlp_layer has no effect with pointwise=False"),
        ({"n_layers": "4"}, "option 'n_layers' of model 'mgno_tiny' must be an integer, got '4'"),
        ({"n_layers": 2.5}, "must be an integer, got 2.5"),
        ({"bias": 1}, "option 'bias' of model 'mgno_tiny' must be true or false, got 1"),
        (
            {"schedule": 3},
            "option 'schedule' .* must be a list with entries that are a list with entries that are an integer",
        ),
        ({"act_layer": "gelo"}, "unknown layer 'gelo'; did you mean 'gelu'"),
        ({"act_layer": 3}, "option 'act_layer' .* must be the name of a layer or a callable, got 3"),
        ({"norm_layer": {"groups": 2}}, "norm_layer {'groups': 2} names no layer"),
        (
            {"norm_layer": {"name": "group_norm", "group": 2}},
            "unknown option 'group' of layer 'group_norm' in norm_layer",
        ),
        ({"norm_layer": {"name": "group_norm", "groups": 3}}, "3 groups do not divide 4 channels"),
        ({"boundary": "periodicc"}, "unknown boundary 'periodicc'; did you mean 'periodic'"),
    ],
)
def test_wrong_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        build_model("mgno_tiny", **{**SMALL, **options})


def test_timms_name_for_the_input_width_is_understood():
    assert timm.create_model("mgno_tiny", in_chans=3, **SMALL).in_channels == 3


def test_unknown_model_is_told_with_the_nearest_name():
    with pytest.raises(UserError, match="unknown model 'mgno_tny'; did you mean 'mgno_tiny'"):
        build_model("mgno_tny")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm_layer": {"name": "group_norm", "groups": 2}, "act_layer": "silu"},
        {"mlp_layer": {"name": "mlp", "hidden_features": 5, "act_layer": "tanh"}, "boundary": ("periodic", "neumann")},
        {"space_mixer": {"name": "multigrid", "schedule": [[1, 0]]}, "schedule": None},
        {"act_layer": nn.ReLU},
    ],
)
def test_recipe_is_json_from_which_the_same_model_is_built_again(options):
    model = build_model("mgno_tiny", **{**SMALL, **options})
    recipe = json.loads(json.dumps(model.recipe))
    again = build_model(recipe["name"], **recipe["arguments"])
    again.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 8, 9)
    torch.testing.assert_close(again(x), model(x), rtol=0, atol=0)


def test_there_is_no_recipe_for_a_callable_that_is_not_registered():
    model = build_model("mgno_tiny", **SMALL, act_layer=lambda: nn.Softplus())
    assert model.recipe is None


def test_mapping_in_a_slot_reaches_the_layer():
    model = build_model("mgno_tiny", **SMALL, norm_layer={"name": "group_norm", "groups": 2})
    assert {norm.num_groups for norm in model.modules() if isinstance(norm, GroupNorm)} == {2}


def test_models_are_timm_models():
    assert timm.list_models("mgno*") == list_models("mgno*")
    model = create_model("mgno_tiny", in_channels=2, boundary="periodic", pretrained=False, **SMALL)
    assert model.recipe["arguments"] == {"in_channels": 2, "boundary": "periodic", **SMALL}


@pytest.mark.parametrize("options", [{"pretrained": True}, {"pretrained_cfg": "in1k"}])
def test_weights_that_do_not_exist_are_refused(options):
    with pytest.raises(UserError, match="'mgno_tiny' has no published weights"):
        timm.create_model("mgno_tiny", **options)


@pytest.mark.parametrize("way", ["checkpoint_path", "pretrained_cfg_overlay"])
def test_own_checkpoint_is_loaded_by_timm(tmp_path, way):
    path = str(tmp_path / "weights.pth")
    model = timm.create_model("mgno_tiny", **SMALL)
    torch.save(model.state_dict(), path)
    how = {way: path} if way == "checkpoint_path" else {"pretrained": True, way: {"file": path}}
    again = timm.create_model("mgno_tiny", **SMALL, **how)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, rtol=0, atol=0)


def test_layers_are_created_by_name():
    assert "group_norm" in list_layers("*norm")
    assert create_layer("group_norm", channels=6, groups=3).num_groups == 3
    with pytest.raises(UserError, match="layer 'mlp' needs in_features, out_features"):
        create_layer("mlp")
    with pytest.raises(UserError, match="unknown option 'chanels' of layer 'group_norm'; did you mean 'channels'"):
        create_layer("group_norm", chanels=6)


def test_two_names_of_the_input_channels_that_disagree_are_refused():
    with pytest.raises(UserError, match="in_chans is 3, but in_channels is 2"):
        build_model("mgno_tiny", in_chans=3, in_channels=2)
