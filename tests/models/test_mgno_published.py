"""Published weights: the reference's outputs and gradients, and what is refused."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from katops.errors import UserError
from katops.models.build import build_model
from katops.models.mgno import from_published

CASES = ("dirichlet", "dirichlet_odd_grid", "periodic")


@pytest.fixture
def golden(shared):
    def load(case):
        path = shared / "golden" / f"mgno_{case}.safetensors"
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
        tensors = load_file(path)
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
        return tensors, state, config

    return load


@pytest.mark.parametrize("case", CASES)
def test_published_weights_give_the_reference_output_and_input_gradient(golden, case):
    tensors, state, config = golden(case)
    model = from_published(state, config)
    x = tensors["input"].requires_grad_()
    output = model(x)
    (gradient,) = torch.autograd.grad((output * tensors["grad_weight"]).sum(), x)
    torch.testing.assert_close(output, tensors["output"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, tensors["grad_input"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_recipe_of_a_published_model_rebuilds_it(golden, case):
    tensors, state, config = golden(case)
    model = from_published(state, config)
    recipe = json.loads(json.dumps(model.recipe))
    again = build_model(recipe["name"], **recipe["arguments"])
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again(tensors["input"]), model(tensors["input"]), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "folder"])
def test_published_weights_are_read_from_files(golden, tmp_path, kind):
    tensors, state, config = golden("dirichlet")
    if kind == "pth":
        source = tmp_path / "weights.pth"
        torch.save(state, source)
        model = from_published(source, config)
    elif kind == "safetensors":
        source = tmp_path / "weights.safetensors"
        save_file(state, source, metadata={"config": json.dumps(config)})
        model = from_published(source)
    else:
        save_file(state, tmp_path / "weights.safetensors")
        (tmp_path / "config.json").write_text(json.dumps(config))
        model = from_published(tmp_path)
    torch.testing.assert_close(model(tensors["input"]), tensors["output"], rtol=1e-4, atol=1e-5)


def test_pickled_file_with_more_than_tensors_is_refused(golden, tmp_path):
    _, state, config = golden("dirichlet")
    path = tmp_path / "weights.pth"
    torch.save({"model": state, "callback": print}, path)
    with pytest.raises(UserError, match="holds more than tensors"):
        from_published(path, config)


def test_layer_norm_of_the_published_periodic_net_fixes_the_grid(golden):
    _, state, config = golden("periodic")
    with pytest.raises(UserError, match=r"level norm is for the grid \(32, 32\), got \(16, 16\)"):
        from_published(state, config)(torch.randn(1, 1, 32, 32))


def test_net_without_norms_takes_another_grid_of_the_same_parities(golden):
    _, state, config = golden("dirichlet")
    assert from_published(state, config)(torch.randn(1, 1, 64, 48)).shape == (1, 1, 64, 48)


def test_changes_replace_what_the_configuration_says(golden):
    tensors, state, config = golden("dirichlet")
    changed = from_published(state, config, act_layer="relu")
    assert not torch.allclose(changed(tensors["input"]), tensors["output"], rtol=1e-2)


@pytest.mark.parametrize("padding", [{}, {"padding_mode": "zeros"}])
def test_published_periodic_net_is_periodic_whatever_its_configuration_says(golden, padding):
    """The published class hands "circular" to its convolutions and leaves its own argument unused."""
    tensors, state, config = golden("periodic")
    del config["padding_mode"]
    model = from_published(state, config | padding)
    torch.testing.assert_close(model(tensors["input"]), tensors["output"], rtol=1e-4, atol=1e-5)


def test_normaliser_among_the_weights_is_named(golden):
    _, state, config = golden("dirichlet")
    with pytest.raises(UserError, match=r"drop the entries normalizer\.mean and normalizer\.std"):
        from_published({**state, "normalizer.mean": torch.zeros(32, 32)}, config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "MgNO_DB"}, "unknown published model 'MgNO_DB'; did you mean 'MgNO_DC'"),
        ({"padding_mode": "reflect"}, "padding_mode 'reflect' is not supported"),
        ({"num_channel_u": 7}, "do not fit the configuration: 'mixers.0.prolong.0.weight' has shape"),
        ({"num_layer": 3}, "entries have no counterpart, beginning with 'mixers.2"),
        ({"num_iteration": [[1, 0]] * 4}, "weights lack 'conv_list.0.RTlayers.2.weight'"),
        ({"use_res": True}, "entries have no counterpart, beginning with 'mixers.0.residual.0.weight'"),
    ],
)
def test_configuration_that_is_not_that_of_the_weights_is_refused(golden, change, message):
    _, state, config = golden("dirichlet")
    with pytest.raises(UserError, match=message):
        from_published(state, {**config, **change})


def test_weights_without_configuration_are_refused(golden, tmp_path):
    _, state, _ = golden("dirichlet")
    with pytest.raises(UserError, match="come without their configuration"):
        from_published(state)
    with pytest.raises(UserError, match="holds 0 weight files"):
        from_published(tmp_path)
    with pytest.raises(UserError, match="there is no file or folder"):
        from_published(tmp_path / "absent.pth")
