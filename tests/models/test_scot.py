"""scOT: structure, any grid, time, options, and what is refused."""

import copy
import pickle

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from katops.errors import UserError
from katops.layers import windows
from katops.layers.group_rational import GroupRationalKAN
from katops.layers.time_norm import TimeLayerNorm
from katops.layers.windows import attention_mask
from katops.models import build_model, list_models
from katops.models.scot_stages import Stage

SMALL = {
    "in_channels": 2,
    "out_channels": 2,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 1],
    "num_heads": [2, 2],
    "window_size": 4,
    "skip_connections": [1, 0],
}


def small(name="scot", **changes):
    return build_model(name, **{**SMALL, **changes})


def batch(rows=16, columns=12, size=2, dtype=torch.float32):
    return torch.randn(size, 2, rows, columns, dtype=dtype), torch.rand(size, dtype=dtype)


def test_effective_windows_and_shifts_are_the_published_ones():
    with torch.device("meta"):
        model = timm.create_model("poseidon_tiny")
    for stages, shifted in ((model.encoder["layers"], [0, 8, 0, 8]), (model.decoder["layers"][::-1], [8, 0, 8, 0])):
        for level, (stage, grid, window) in enumerate(zip(stages, (32, 16, 8, 4), (16, 16, 8, 4), strict=True)):
            windows = stage.windows((grid, grid))
            assert [cut.size for cut in windows] == [(window, window)] * 4
            assert [cut.shift[0] for cut in windows] == (shifted if level == 0 else [0] * 4)


def test_odd_depths_are_shifted_as_published():
    model = small(depths=[3, 3])
    assert [cut.shift[0] for cut in model.encoder["layers"][0].windows((8, 8))] == [0, 2, 0]
    assert [cut.shift[0] for cut in model.decoder["layers"][1].windows((8, 8))] == [0, 2, 0]


def test_drop_path_grows_in_the_order_of_execution():
    model = small(depths=[2, 2, 3, 2], num_heads=[2] * 4, skip_connections=[0] * 4, drop_path_rate=0.3)
    stages = [*model.encoder["layers"], *model.decoder["layers"]]
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in stages for block in stage.blocks]
    assert rates == pytest.approx([0.3 * index / 17 for index in range(18)])
    assert model.decoder["layers"][0].blocks[0].drop_path.drop_prob == pytest.approx(0.15882, abs=1e-5)


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 23), columns=st.integers(1, 23), levels=st.integers(1, 3), wrap=st.booleans())
def test_any_grid_and_any_number_of_stages(rows, columns, levels, wrap):
    boundary = ["periodic", "neumann"] if wrap else "dirichlet"
    model = small(
        depths=[1, 2, 1][:levels],
        num_heads=[2] * levels,
        skip_connections=[1, 0, 0][:levels],
        boundary=boundary,
        wrap=wrap,
    )
    x, time = batch(rows, columns)
    y = model(x, time)
    assert y.shape == x.shape
    assert y.isfinite().all()


@settings(max_examples=10, deadline=None)
@given(space=st.tuples(st.integers(5, 20), st.integers(5, 20)), image=st.tuples(st.integers(8, 17), st.integers(8, 17)))
def test_native_grid_of_any_shape_takes_fields_on_any_other(space, image):
    x, time = batch(*space)
    assert small(image_size=list(image))(x, time).shape == x.shape


def test_field_on_the_native_grid_is_not_resampled():
    native, free = small(image_size=[16, 12]), small()
    native.load_state_dict(free.state_dict())
    x, time = batch()
    torch.testing.assert_close(native(x, time), free(x, time), rtol=0, atol=0)


def test_wrapping_model_commutes_with_shifts_of_periodic_fields():
    # By a whole window of the coarsest grid, so that every grid of tokens and windows falls on itself.
    model = small(boundary="periodic", wrap=True, window_size=2).eval()
    nn.init.ones_(model.residual_blocks[0][0].weight)
    x, time = batch(32, 16)
    shift = (8, 8)
    torch.testing.assert_close(
        model(torch.roll(x, shift, (2, 3)), time), torch.roll(model(x, time), shift, (2, 3)), rtol=1e-4, atol=1e-5
    )


def test_published_net_masks_windows_also_of_periodic_fields():
    plain, periodic = small(), small(boundary="periodic")
    periodic.load_state_dict(plain.state_dict())
    x, time = batch()
    torch.testing.assert_close(plain(x, time), periodic(x, time), rtol=0, atol=0)


def test_time_zero_returns_the_input_exactly_if_the_change_is_scaled():
    model = small(learn_residual=True, scale_by_time=True, image_size=8)
    x, _ = batch()
    assert torch.equal(model(x, torch.zeros(2)), x)
    assert not torch.allclose(model(x, torch.ones(2)), x, atol=1e-3)


def test_published_residual_is_added_unscaled():
    plain, residual = small(), small(learn_residual=True)
    residual.load_state_dict(plain.state_dict())
    x, time = batch()
    torch.testing.assert_close(residual(x, time), x + plain(x, time))


def test_prediction_is_smooth_in_time():
    """Differences over a step h are of order h, and their differences of order h^2, also where norms turn with time."""
    model = small(learn_residual=True, scale_by_time=True).double().eval()
    for module in model.modules():
        if isinstance(module, TimeLayerNorm):
            nn.init.normal_(module.weight.weight)
            nn.init.normal_(module.bias.weight)
    x = batch(size=1, dtype=torch.float64)[0]

    def slope_and_bend(step):
        y = [model(x, torch.full((1,), 0.5 + k * step, dtype=torch.float64)) for k in (-1, 0, 1)]
        return (y[2] - y[0]).norm() / step, (y[2] - 2 * y[1] + y[0]).norm() / step**2

    with torch.no_grad():
        (slope, bend), (slope_half, bend_half) = slope_and_bend(1e-3), slope_and_bend(5e-4)
    assert slope_half == pytest.approx(slope.item(), rel=0.01)
    assert bend_half == pytest.approx(bend.item(), rel=0.01)


@pytest.mark.parametrize("image_size", [None, [9, 14]])
def test_samples_do_not_mix_and_have_times_of_their_own(image_size):
    model = small(image_size=image_size).eval()
    x, time = batch()
    alone = torch.cat([model(x[i : i + 1], time[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(model(x, time), alone, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(model(x, time), model(x, time.flip(0)), atol=1e-3)


@pytest.mark.parametrize("time", [torch.ones(1), torch.tensor(1.0), torch.ones(2, 1), 0.5, [0.5, 0.5]])
def test_one_time_per_sample(time):
    with pytest.raises(UserError, match=r"ScOT: time must have one value per sample, shape \(2,\)"):
        small()(batch()[0], time)


@pytest.mark.parametrize("learning", [True, False])
def test_empty_batch_gives_an_empty_batch(learning):
    x, time = batch(17, 11)
    with torch.set_grad_enabled(learning):
        assert small()(x[:0], time[:0]).shape == (0, 2, 17, 11)


def test_without_a_time_it_is_one_as_for_steady_problems():
    model, x = small(), batch()[0]
    torch.testing.assert_close(model(x), model(x, torch.ones(2)), rtol=0, atol=0)


def test_unconditioned_model_does_not_know_the_time():
    model, (x, time) = small(time_conditioning=False), batch()
    torch.testing.assert_close(model(x, time), model(x, 5 * time), rtol=0, atol=0)


def test_published_initialisation_is_silent_at_time_zero_and_the_new_one_is_not():
    x, _ = batch()
    for init, silent in (("published", True), ("unit_gain", False)):
        embedded = small(init=init).embeddings(x, torch.zeros(2))
        assert (embedded.abs().max() == 0) == silent


def test_fresh_model_has_outputs_of_the_size_of_its_inputs():
    spread = build_model("scot_tiny", in_channels=3, out_channels=3)(torch.randn(1, 3, 32, 32), torch.rand(1)).std()
    assert 0.1 < spread < 10


def test_gradient_checkpointing_draws_the_same_random_numbers_again():
    model, inputs = small(depths=[2, 2], dropout=0.2, attention_dropout=0.2, drop_path_rate=0.4), batch()
    gradients = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        torch.manual_seed(5)
        gradients.append(torch.autograd.grad(model(*inputs).square().sum(), list(model.parameters())))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_keeps_less_and_gives_the_same_gradients():
    def kept(model):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            y = model(*batch_)
        return total, torch.autograd.grad(y.square().sum(), list(model.parameters()))

    model, batch_ = small(depths=[3, 3]), batch(32, 32)
    everything, expected = kept(model)
    model.set_grad_checkpointing()
    less, gradients = kept(model)
    assert less < 0.5 * everything
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option", [{"dropout": 0.5}, {"attention_dropout": 0.5}, {"drop_path_rate": 0.5}])
def test_rates_act_in_training_only(option):
    model, inputs = small(**option), batch()
    assert not torch.equal(model(*inputs), model(*inputs))
    model.eval()
    assert torch.equal(model(*inputs), model(*inputs))


@pytest.mark.parametrize("mlp_layer", ["group_rational_kan", "mlp", "group_rational_linear", "linear"])
def test_mlp_slot_takes_registered_layers_everywhere(mlp_layer):
    model = small(mlp_layer=mlp_layer)
    names = [name for name, _ in model.named_parameters()]
    assert not any("intermediate" in name or "pwconv" in name for name in names)
    assert sum(".mlp." in name for name in names) >= 7
    assert model(*batch()).isfinite().all()


def test_channel_mixers_keep_their_own_initial_weights():
    torch.manual_seed(0)
    model = small(mlp_layer="group_rational_kan")
    kan = next(module for module in model.modules() if isinstance(module, GroupRationalKAN))
    # N(0, 1 / in_features) for the identity in front, where the published initialisation has 0.02
    assert kan.fc1.weight.std() > 0.2


@pytest.mark.parametrize(
    "slots", [{"act_layer": "rational"}, {"norm_layer": "group_norm"}, {"norm_layer": "layer_norm"}]
)
def test_activation_and_norm_slots(slots):
    model = small(**slots)
    assert model(*batch()).isfinite().all()
    if "norm_layer" in slots:
        assert not any(isinstance(module, TimeLayerNorm) for module in model.modules())


def test_norm_that_takes_a_time_gets_it_in_the_slot():
    model = small(norm_layer="time_layer_norm")
    x, time = batch()
    assert not torch.allclose(model(x, time), model(x, time / 2), atol=1e-3)


def test_padded_tokens_are_no_keys_unless_asked_for():
    x, time = batch(10, 10)
    outputs = []
    for padded_keys in (False, True):
        torch.manual_seed(1)
        outputs.append(small(padded_keys=padded_keys)(x, time))
    assert not torch.allclose(*outputs, atol=1e-4)


def test_evaluation_follows_a_training_step():
    model, inputs = small().eval(), batch()
    with torch.no_grad():
        before = model(*inputs)
    model.train()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(*inputs).square().mean().backward()
    optimiser.step()
    model.eval()
    with torch.no_grad():
        after = model(*inputs)
    fresh = copy.deepcopy(model)
    torch.testing.assert_close(after, fresh(*inputs), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-4)


def test_evaluation_without_gradients_is_training_without_gradients():
    model, inputs = small(), batch()
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(*inputs), model.train()(*inputs), rtol=1e-4, atol=1e-5)


def test_second_derivatives_in_space_exist():
    model = small().double()
    x, time = batch(8, 8, size=1, dtype=torch.float64)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(model(x, time).square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.square().sum(), x)
    assert second.isfinite().all()
    assert second.abs().sum() > 0


def test_autocast_keeps_gain_and_position_bias_in_full_precision():
    model, inputs = small(), batch()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.embeddings.norm.weight(inputs[1]).dtype == torch.float32
        bias = model.encoder["layers"][0].blocks[0].attention.self.continuous_position_bias_mlp((4, 4))
        assert bias.dtype == torch.float32
        rounded = model(*inputs).float()
    with torch.no_grad():
        exact = model(*inputs)
    assert 0 < (rounded - exact).norm() < 0.1 * exact.norm()


@pytest.mark.parametrize("autocast", [True, False])
def test_time_zero_returns_the_input_in_half_precision_too(autocast):
    model, (x, _) = small(learn_residual=True, scale_by_time=True), batch()
    if not autocast:
        model, x = model.bfloat16(), x.bfloat16()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        assert torch.equal(model(x, torch.zeros(2)), x)


@pytest.mark.parametrize("space", [(17, 11)])
@pytest.mark.filterwarnings("ignore")  # the exporter's own deprecations
def test_onnx_export_agrees_with_torch_for_another_batch_size(space, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    model, size = small().eval(), torch.export.Dim("batch", min=1, max=64)
    program = torch.onnx.export(model, batch(*space), dynamo=True, dynamic_shapes=({0: size}, {0: size}), verbose=False)
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    x, time = batch(*space, size=5)
    names = [entry.name for entry in session.get_inputs()]
    (y,) = session.run(None, dict(zip(names, (x.numpy(), time.numpy()), strict=True)))
    torch.testing.assert_close(torch.from_numpy(y), model(x, time), rtol=1e-3, atol=1e-4)


def test_masks_of_shifted_windows_are_made_once_for_each_grid_and_are_no_part_of_the_state(monkeypatch):
    made = []
    monkeypatch.setattr(windows, "attention_mask", lambda *key: made.append(key) or attention_mask(*key))
    model = small()
    before = list(model.state_dict())
    for grid, new in (((16, 12), True), ((16, 12), False), ((24, 20), True), ((16, 12), False)):
        made.clear()
        model(*batch(*grid))
        assert bool(made) == new
    assert list(model.state_dict()) == before
    assert len(pickle.dumps(model)) == len(pickle.dumps(small()))
    for size in range(8, 48, 2):
        model(*batch(size, size))
    stages = [module for module in model.modules() if isinstance(module, Stage)]
    assert all(len(stage.masks._kept) <= windows.KEPT for stage in stages)


def test_masks_of_an_evaluation_serve_a_training():
    model, inputs = small(), batch()
    with torch.inference_mode():
        model.eval()(*inputs)
    model.train()(*inputs).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_inductor_compiles_a_small_one():
    model, inputs = small(depths=[1], num_heads=[2], skip_connections=[0]).eval(), batch(8, 8)
    torch._dynamo.reset()
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embed_dim": 9}, "2 heads do not divide the width 9 of stage 0"),
        ({"num_heads": [2]}, r"num_heads must have one number of at least 1 for each of the 2 stages .*, got \[2\]"),
        ({"skip_connections": [1, 1, 0]}, "skip_connections must have one number of at least 0 for each of the 2"),
        ({"depths": []}, "depths must be numbers of layers of at least 1"),
        ({"depths": [2, 0]}, r"depths must be numbers of layers of at least 1, one for each stage, got \[2, 0\]"),
        ({"patch_size": 0}, "patch_size must be at least 1, got 0"),
        ({"window_size": 0}, "window_size must be at least 1, got 0"),
        ({"image_size": [8, 8, 8]}, r"image_size must be one length or two, each at least 1, got \[8, 8, 8\]"),
        ({"image_size": 0}, "image_size must be one length or two"),
        ({"skip_block": "resnext"}, "unknown skip_block 'resnext'; did you mean 'resnet'"),
        ({"init": "zeros"}, "unknown init 'zeros'"),
        ({"drop_path_rate": 1.0}, "drop_path_rate must be at least 0 and below 1, got 1.0"),
        ({"norm_eps": 0.0}, "norm_eps must be above 0, got 0.0"),
        ({"mlp_ratio": 0.01}, "mlp_ratio 0.01 leaves no hidden width"),
        ({"mlp_layer": "mlp", "act_layer": "relu"}, "act_layer has no effect with mlp_layer"),
        ({"learn_residual": True, "out_channels": 3}, "needs at least as many of them, got 2 in and 3 out"),
        ({"scale_by_time": True}, "scale_by_time needs learn_residual=True"),
        ({"window": 4}, "unknown option 'window' of model 'scot'; did you mean 'window_size'"),
        ({"boundary": ["periodic"] * 3}, "has 3 entries; give one for each of the 2 axes"),
    ],
)
def test_wrong_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        small(**options)


def test_entry_points():
    expected = {f"scot_{size}" for size in ("tiny", "small", "base", "large")} | {"scot"}
    assert set(list_models("scot*")) == set(timm.list_models("scot*")) == expected
    published = {f"poseidon_{size}" for size in ("tiny", "base", "large")}
    assert set(timm.list_models("poseidon*")) == set(timm.list_models("poseidon*", pretrained=True)) == published


def test_timms_optimiser_exempts_what_decay_would_spoil():
    names = small().no_weight_decay()
    assert any(name.endswith("logit_scale") for name in names)
    assert any("continuous_position_bias_mlp" in name for name in names)
    assert not any("dense" in name for name in names)
