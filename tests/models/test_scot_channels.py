"""Weights for other channels: taken by name, new ones at the right scale, everything reported."""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

from katops.errors import UserError
from katops.models import build_model
from katops.models.scot import from_published
from katops.models.scot_channels import EMBEDDING, MIXUP, OF_CHANNELS, RECOVERY, RECOVERY_BIAS, adapt

SIZES = {
    "image_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": [2, 2],
    "num_heads": [1, 2],
    "skip_connections": [1, 0],
    "window_size": 4,
    "mlp_ratio": 2.0,
}
POSEIDON = ("density", "velocity_x", "velocity_y", "pressure")
OTHERS = ("tracer", "potential", "temperature")
KNOWN = st.lists(st.sampled_from(POSEIDON + OTHERS), min_size=1, max_size=7, unique=True)


@pytest.fixture(scope="module")
def source():
    """A scOT with four channels, and weights whose channels have outputs of different size and mix."""
    torch.manual_seed(3)
    model = build_model("scot", in_channels=4, out_channels=4, **SIZES).eval()
    with torch.no_grad():
        model.patch_recovery.mixup.weight.add_(0.02 * torch.randn(4, 4, 5, 5))
        model.patch_recovery.projection.bias.add_(0.3 * torch.randn(4))
    return model


def target(inputs, outputs, **options):
    return build_model("scot", in_channels=len(inputs), out_channels=len(outputs), **{**SIZES, **options}).eval()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=KNOWN, outputs=KNOWN)
def test_outputs_stay_within_three_times_the_spread_for_any_channels_in_any_order(source, inputs, outputs):
    model = target(inputs, outputs)
    adapt(source.state_dict(), POSEIDON, POSEIDON, model, inputs, outputs)
    time = torch.rand(4)
    with torch.no_grad():
        before = source(torch.randn(4, 4, 32, 32), time).std(dim=(0, 2, 3))
        after = model(torch.randn(4, len(inputs), 32, 32), time).std(dim=(0, 2, 3))
    assert after.max() < 3 * before.max()
    assert after.min() > before.min() / 3
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(inputs=st.permutations(POSEIDON), outputs=st.permutations(POSEIDON))
def test_reordered_channels_give_the_same_function(source, inputs, outputs):
    model = target(inputs, outputs)
    adapt(source.state_dict(), POSEIDON, POSEIDON, model, inputs, outputs)
    x, time = torch.randn(2, 4, 32, 32), torch.rand(2)
    expected = source(x, time)[:, [POSEIDON.index(name) for name in outputs]]
    found = model(x[:, [POSEIDON.index(name) for name in inputs]], time)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_same_channels_take_every_tensor(source):
    model = target(POSEIDON, POSEIDON)
    report = adapt(source.state_dict(), POSEIDON, POSEIDON, model, POSEIDON, POSEIDON)
    assert set(report.taken) == set(source.state_dict())
    assert (report.in_part, report.not_taken) == ((), ())
    assert all(torch.equal(model.state_dict()[key], value) for key, value in source.state_dict().items())


def test_new_channels_change_exactly_the_four_tensors_of_channels(source):
    inputs, outputs = (*POSEIDON, "tracer"), ("tracer", *POSEIDON)
    model = target(inputs, outputs)
    report = adapt(source.state_dict(), POSEIDON, POSEIDON, model, inputs, outputs)
    assert {remark.key for remark in report.in_part} == set(OF_CHANNELS)
    new, old = model.state_dict(), source.state_dict()
    assert all(torch.equal(new[key], value) for key, value in old.items() if key not in OF_CHANNELS)
    assert torch.equal(new[EMBEDDING][:, :4], old[EMBEDDING])
    assert torch.equal(new[RECOVERY][:, 1:], old[RECOVERY])
    assert torch.equal(new[RECOVERY_BIAS][1:], old[RECOVERY_BIAS])
    assert torch.equal(new[MIXUP][1:, 1:], old[MIXUP])
    assert (new[MIXUP][1:, 0] == 0).all()


def test_new_inputs_keep_the_size_of_tokens(source):
    energy = source.state_dict()[EMBEDDING].square().sum()
    for inputs in (("tracer",), ("density", "tracer", "potential"), ("tracer", "potential", *POSEIDON)):
        model = target(inputs, POSEIDON)
        adapt(source.state_dict(), POSEIDON, POSEIDON, model, inputs, POSEIDON)
        ratio = model.state_dict()[EMBEDDING].square().sum() / energy
        assert 0.99 < ratio < 1.11


def test_renamed_outputs_are_the_outputs_that_fell_away(source):
    outputs = ("density", "velocity_x", "velocity_y", "energy")
    model = target(POSEIDON, outputs)
    report = adapt(source.state_dict(), POSEIDON, POSEIDON, model, POSEIDON, outputs)
    x, time = torch.randn(2, 4, 32, 32), torch.rand(2)
    torch.testing.assert_close(model(x, time), source(x, time), rtol=0, atol=0)
    assert report.outputs["energy"] == "new, begins as a copy of pressure"


def test_every_new_weight_learns(source):
    inputs, outputs = ("tracer", "density"), ("density", "tracer", "potential", "temperature", "velocity_x", "energy")
    model = target(inputs, outputs)
    adapt(source.state_dict(), POSEIDON, POSEIDON, model, inputs, outputs)
    model(torch.randn(2, 2, 32, 32), torch.rand(2)).square().sum().backward()
    recovery = model.patch_recovery
    assert (recovery.projection.weight.grad.abs().sum((0, 2, 3)) > 0).all()
    assert (recovery.mixup.weight.grad.abs().sum((2, 3)) > 0).all()


def test_report_names_what_was_taken_in_part_and_not_at_all_and_why(source):
    state = {**source.state_dict(), "head.weight": torch.zeros(2)}
    state.pop("embeddings.norm.bias.bias")
    inputs, outputs = ("density", "tracer"), ("density",)
    model = target(inputs, outputs, window_size=2, mlp_ratio=4.0)
    report = adapt(state, POSEIDON, POSEIDON, model, inputs, outputs)
    text = str(report)
    reasons = {remark.key: remark.reason for remark in (*report.in_part, *report.not_taken)}
    assert reasons["embeddings.norm.bias.bias"] == "the source has no such tensor; it keeps its initial values"
    assert reasons["head.weight"] == "the model has no place for it"
    hidden = "encoder.layers.0.blocks.0.intermediate.dense.weight"
    assert reasons[hidden] == "another shape, (16, 8) in the source, (32, 8) here; it keeps its initial values"
    assert reasons[EMBEDDING] == "taken: density; new: tracer; left out: velocity_x, velocity_y, pressure"
    assert all(f"{key}: {reason}" in text for key, reason in reasons.items())
    assert "input tracer: new, filters of velocity_x shuffled over the width" in text
    own = set(model.state_dict()) | {"head.weight"}
    assert {*report.taken, *reasons} == own


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": ("a",)}, r"inputs must name each of the 2 channels once, got \['a'\]"),
        ({"inputs": ("a", "a")}, "inputs must name each of the 2 channels once"),
        ({"source_outputs": POSEIDON[:3]}, "source_outputs must name each of the 4 channels once"),
        ({"options": {"embed_dim": 16}}, "weights of width 8 and patches of 2 do not fit a model of width 16"),
        (
            {"options": {"patch_size": 4}},
            "do not fit a model of width 8 and patches of 4; only the channels may differ",
        ),
        ({"options": {"time_conditioning": False}}, "norms know the time"),
        ({"options": {"learn_residual": True}}, "put the outputs first among the inputs, in their order"),
        ({"state": {}}, "the source lacks 'embeddings.patch_embeddings.projection.weight'"),
    ],
)
def test_what_cannot_be_adapted_is_told(source, change, message):
    arguments = {
        "source_state": change.get("state", source.state_dict()),
        "source_inputs": POSEIDON,
        "source_outputs": change.get("source_outputs", POSEIDON),
        "inputs": change.get("inputs", ("a", "b")),
        "outputs": ("b", "c"),
    }
    with pytest.raises(UserError, match=message):
        adapt(model=target(("a", "b"), ("b", "c"), **change.get("options", {})), **arguments)


def test_published_weights_with_random_seams_stay_in_size(shared):
    path = shared / "golden/scot_conditioned.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    names, inputs, outputs = ("a", "b", "c"), ("b", "d", "e", "a"), ("d", "a", "e", "f", "c")
    source = from_published(state, config).eval()
    model = target(inputs, outputs)
    adapt(state, names, names, model, inputs, outputs)
    with torch.no_grad():
        before = source(tensors["input"], tensors["time"]).std()
        after = model(torch.randn(2, 4, 32, 32), tensors["time"]).std()
    assert before / 3 < after < 3 * before
