"""The model kan: published weights and golden outputs, grids of several layers, what is kept in its recipe."""

import json

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import katops
from katops.errors import UserError
from katops.models import build_model
from katops.models.kan import from_published

EDGES = {
    "knots": "grid",
    "coefficients": "coef",
    "base_scale": "scale_base",
    "spline_scale": "scale_sp",
    "mask": "mask",
}


@pytest.fixture(scope="module")
def golden(shared):
    return load_file(shared / "golden/kan_bspline.safetensors")


@pytest.fixture(scope="module")
def config(shared):
    with safe_open(shared / "golden/kan_bspline.safetensors", "pt") as file:
        return json.loads(file.metadata()["config"])


@pytest.fixture
def state(golden):
    """The golden weights under pykan's own names."""
    weights = {}
    for layer in (0, 1):
        weights |= {f"act_fun.{layer}.{theirs}": golden[f"layer{layer}.{ours}"] for ours, theirs in EDGES.items()}
        for name in ("subnode_scale", "subnode_bias", "node_scale", "node_bias"):
            weights[f"{name}_{layer}"] = golden[f"layer{layer}.{name}"]
    return weights


def test_published_weights_give_the_published_outputs_and_gradients(state, golden, config):
    model = from_published(state, config)
    x = golden["input"].requires_grad_()
    y = model(x)
    torch.testing.assert_close(y, golden["output"], rtol=1e-4, atol=1e-5)
    (gradient,) = torch.autograd.grad((y * golden["grad_weight"]).sum(), x)
    torch.testing.assert_close(gradient, golden["grad_input"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model(golden["input_outside"]), golden["output_outside"], rtol=1e-4, atol=1e-5)


def test_moved_and_refined_grids_stay_at_least_as_near_to_the_function_as_the_reference(state, golden, config):
    x, expected = golden["input"].double(), golden["output"].double()
    moved, refined = (from_published(state, config).double() for _ in range(2))
    moved.update_grid(x)
    for layer in (0, 1):
        knots = golden[f"after_update.layer{layer}.knots"].double()
        torch.testing.assert_close(moved.layers[layer].basis.knots, knots, rtol=1e-4, atol=1e-4)
    refined.refine(config["refined_grid"], x)
    # A thousandth for the rounding of the stored numbers.
    for model, name in ((moved, "output_after_grid_update"), (refined, "output_after_refine")):
        assert (model(x) - expected).norm() <= 1.001 * (golden[name] - expected).norm()


@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_published_weights_are_read_from_files(kind, state, golden, tmp_path):
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_file({key: value.contiguous() for key, value in state.items()}, path)
    else:
        torch.save(state, path)
    model = from_published(path, basis_layer={"extrapolation": "linear"})
    torch.testing.assert_close(model(golden["input"])[:, 0].isfinite(), torch.ones(64, dtype=torch.bool))
    assert model.layers[0].basis.extrapolation == "linear"


def test_published_product_nodes_multiply_scaled_and_shifted_sums():
    torch.manual_seed(1)
    state = {
        "act_fun.0.grid": torch.linspace(-1, 1, 10).expand(2, -1).clone(),
        "act_fun.0.coef": torch.randn(2, 3, 6),
        "act_fun.0.scale_base": torch.randn(2, 3),
        "act_fun.0.scale_sp": torch.randn(2, 3),
        "act_fun.0.mask": torch.ones(2, 3),
        "subnode_scale_0": torch.randn(3),
        "subnode_bias_0": torch.randn(3),
        "node_scale_0": torch.randn(2),
        "node_bias_0": torch.tensor([0.7, 0.0]),
    }
    plain = {
        **state,
        "subnode_scale_0": torch.ones(3),
        "subnode_bias_0": torch.zeros(3),
        "node_scale_0": torch.ones(3),
        "node_bias_0": torch.zeros(3),
    }
    x = torch.rand(7, 2) - 0.5
    sums = from_published(plain)(x) * state["subnode_scale_0"] + state["subnode_bias_0"]
    nodes = torch.stack([sums[:, 0], sums[:, 1] * sums[:, 2]], 1)
    model = from_published(state, {"width": [2, [1, 1]]})
    torch.testing.assert_close(model(x), nodes * state["node_scale_0"] + state["node_bias_0"], rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="product nodes; give config"):
        from_published(state)
    with pytest.raises(UserError, match="bias behind a product"):
        from_published({**state, "node_bias_0": torch.ones(2)}, {"width": [2, [1, 1]]})


def test_damaged_published_weights_are_told_by_name(state):
    with pytest.raises(UserError, match=r"act_fun\.0\.coef"):
        from_published({})
    with pytest.raises(UserError, match="lack node_bias_1"):
        from_published({key: value for key, value in state.items() if key != "node_bias_1"})
    with pytest.raises(UserError, match="symbolic edges"):
        from_published({**state, "symbolic_fun.1.mask": torch.ones(2, 4)})
    with pytest.raises(UserError, match="width"):
        from_published(state, {"width": [3, 5, 2]})
    for change in ({"bias": False}, {"basis_layer": "fourier"}):
        with pytest.raises(UserError, match="B-spline edges and a bias"):
            from_published(state, **change)


def test_recipe_follows_a_refined_grid_and_rebuilds_the_model():
    model = timm.create_model("kan", in_features=3, hidden=[4], basis_layer={"name": "bspline", "degree": 2})
    model.update_grid(torch.randn(50, 3))
    model.refine(10)
    recipe = json.loads(json.dumps(model.recipe))
    again = build_model(recipe["name"], **recipe["arguments"])
    again.load_state_dict(model.state_dict())
    x = torch.randn(20, 3)
    assert torch.equal(again(x), model(x))
    assert again.layers[0].basis.degree == 2


def test_only_used_inputs_matter_and_values_outside_of_the_grid_are_counted_by_column():
    model = build_model("kan", in_features=4, hidden=[3], used_inputs=[2, 0])
    x = torch.rand(10, 4) - 0.5
    other = x.clone()
    other[:, [1, 3]] += 5
    assert torch.equal(model(other), model(x))
    x[:3, 2] = 9
    assert model.outside(x).tolist() == [0, 0, 3, 0]


def test_deep_grids_are_moved_layer_by_layer_and_the_function_is_kept():
    model = build_model("kan", in_features=3, out_features=2, hidden=[4, 4]).double()
    x = torch.randn(300, 3, dtype=torch.float64)
    model.update_grid(x)
    before = model(x)
    model.refine(10)
    torch.testing.assert_close(model(x), before, rtol=1e-8, atol=1e-8)
    change = model.update_grid(x)
    assert change == pytest.approx((model(x) - before).abs().max().item())
    assert (model(x) - before).norm() < 0.05 * (before - before.mean(0)).norm()
    for layer, z in zip(model.layers, model.inputs_of_layers(x), strict=True):
        assert not layer.outside(z).any()


def test_half_precision_weights_and_autocast_compute_the_basis_in_single_precision():
    model = build_model("kan", in_features=3, hidden=[4])
    x = torch.rand(20, 3) - 0.5
    expected = model(x)
    half = model.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs in_features"),
        ({"in_features": 3, "used_inputs": [0, 3]}, "columns from 0 to 2"),
        ({"in_features": 3, "products": [1]}, "each of the 2 layers"),
        ({"in_features": 3, "hiden": [2]}, "hidden"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(options, message):
    with pytest.raises(UserError, match=message):
        katops.create_model("kan", **options)


@pytest.mark.parametrize("rows", [1, 20])
def test_penalty_has_finite_gradients_where_a_node_is_constant(rows):
    model = build_model("kan", in_features=3, hidden=[2])
    model.layers[0].mask[0] = 0
    model.penalty(torch.randn(rows, 3)).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
