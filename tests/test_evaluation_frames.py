"""Facts about evaluations of several frames: channel groups, masks, lead times, frames that are not finite, drift."""

import json
import math

import numpy as np
import pytest
import torch

from katops.errors import UserError
from katops.evaluation import evaluate
from katops.fields import Axis, Channel, FieldMeta, FieldSample
from katops.metrics import relative_l2, vrmse
from katops.registry import METRICS

VELOCITY = tuple(Channel(f"velocity_{axis}", "m/s", "velocity", (place,)) for place, axis in enumerate("xy"))
CHANNELS = (Channel("density"), *VELOCITY, Channel("pressure"))


def make_meta(steps=3, channels=CHANNELS, n_axes=2):
    axes = tuple(Axis(name) for name in "xyz"[:n_axes])
    return FieldMeta("flow", channels, channels, axes, steps_out=steps, time_step=0.5, time_unit="s")


def make_batch(meta, samples=6, space=(8, 6), mask=None):
    x = torch.randn(samples, 1, len(meta.outputs), *space)
    y = torch.randn(samples, meta.steps_out, len(meta.outputs), *space)
    return FieldSample(x, y, time=torch.full((samples,), 0.5 * meta.steps_out), mask=mask)


def predicting(prediction):
    """A predictor that gives known answers, in the order of the samples."""
    given = 0

    def predict(x, time):
        nonlocal given
        given += len(x)
        return prediction[given - len(x) : given]

    return predict


def in_batches(sample, size):
    for start in range(0, len(sample.x), size):
        yield sample.map(lambda values, rows=slice(start, start + size): values[rows])


def test_components_of_a_quantity_are_one_group_and_other_channels_stand_alone():
    assert make_meta().output_groups == {"density": (0,), "velocity": (1, 2), "pressure": (3,)}
    alone = make_meta(channels=(VELOCITY[1], Channel("pressure")))
    assert alone.output_groups == {"velocity_y": (0,), "pressure": (1,)}


def test_errors_of_a_group_are_ratios_of_sums_over_its_channels_and_points():
    meta = make_meta()
    batch = make_batch(meta)
    prediction = batch.y + 0.3 * torch.randn_like(batch.y)
    found = evaluate({"model": predicting(prediction)}, in_batches(batch, 4), meta).groups
    p, t = prediction.double()[:, :, 1:3].flatten(2), batch.y.double()[:, :, 1:3].flatten(2)
    l1 = (p - t).abs().sum(2) / t.abs().sum(2)
    l2 = (p - t).norm(dim=2) / t.norm(dim=2)
    np.testing.assert_allclose(found.errors["model"]["relative_l1"][:, :, 1], l1, rtol=1e-12)
    np.testing.assert_allclose(found.errors["model"]["relative_l2"][:, :, 1], l2, rtol=1e-12)
    np.testing.assert_allclose(found.mean("model")[:, 1], l2.mean(0), rtol=1e-12)
    np.testing.assert_allclose(found.median("model", "relative_l1")[:, 1], l1.median(0).values, rtol=1e-12)
    assert list(found.groups) == ["density", "velocity", "pressure"]


@pytest.mark.parametrize("of_points", [False, True])
def test_what_is_masked_changes_nothing(of_points):
    """Neither wild predictions nor wild targets under the mask move any number."""
    meta = make_meta()
    mask = torch.zeros(6, 4, 8, 6, dtype=torch.bool) if of_points else torch.tensor([[False] * 3 + [True]] * 6)
    if of_points:
        mask[:, :, :3, 2:4] = True
    batch = make_batch(meta, mask=mask)
    prediction = batch.y * 1.1
    everywhere = mask.reshape(6, 1, 4, *mask.shape[2:], *[1] * (4 - mask.ndim)).expand_as(batch.y)
    wild = FieldSample(batch.x, torch.where(everywhere, 1e6, batch.y), batch.time, mask=mask)
    plain, spoilt = (
        evaluate({"model": predicting(p)}, in_batches(sample, 4), meta)
        for p, sample in ((prediction, batch), (torch.where(everywhere, math.nan, prediction), wild))
    )
    assert spoilt.nonfinite == {"model": 0}
    for record in METRICS:
        if record.name in ("relative_l2", "relative_l1", "relative_l2_channel_mean"):
            np.testing.assert_allclose(plain.errors["model"][record.name], 0.1, rtol=1e-5)
        np.testing.assert_allclose(spoilt.errors["model"][record.name], plain.errors["model"][record.name], rtol=1e-12)
    for metric in ("relative_l1", "relative_l2"):
        assert spoilt.groups.errors["model"][metric] == pytest.approx(plain.groups.errors["model"][metric])
    assert spoilt.channels == plain.channels
    np.testing.assert_allclose(spoilt.steps["model"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(spoilt.error_map, plain.error_map)


def test_a_channel_that_is_constant_or_zero_does_not_blow_up_what_it_is_averaged_into():
    meta = make_meta()
    batch = make_batch(meta)
    batch.y[:, :, 0], batch.y[:, :, 3] = 1.0, 0.0
    prediction = torch.where(batch.y == 0, 0.1, 1.1 * batch.y)
    found = evaluate({"model": predicting(prediction)}, in_batches(batch, 4), meta)
    assert found.constant == ("density", "pressure")
    alone = vrmse(prediction[:, :, 1:3].double(), batch.y[:, :, 1:3].double(), n_axes=2)
    np.testing.assert_allclose(found.errors["model"]["vrmse"], alone, rtol=1e-6)
    assert found.metrics["model"]["relative_l2_channel_mean"] == pytest.approx(0.1, rel=1e-5)
    assert found.channels["model"]["density"]["relative_l2"] == pytest.approx(0.1, rel=1e-5)
    assert math.isnan(found.channels["model"]["pressure"]["relative_l2"])
    assert found.channels["model"]["pressure"]["rmse"] == pytest.approx(0.1, rel=1e-5)
    assert found.to_dict()["constant_channels"] == ["density", "pressure"]


def test_samples_that_are_constant_everywhere_have_no_vrmse_and_the_others_keep_theirs():
    meta = make_meta()
    batch = make_batch(meta)
    batch.y[2] = 1.0
    prediction = 1.1 * batch.y
    prediction[4, 0] = math.nan
    found = evaluate({"model": predicting(prediction)}, in_batches(batch, 4), meta)
    errors = found.errors["model"]["vrmse"]
    assert np.isnan(errors).tolist() == [False, False, True, False, False, False]
    assert found.constant == ()
    assert found.quantiles("vrmse")["model"]["median"] == np.sort(errors[[0, 1, 3, 5]])[2]
    assert found.metrics["model"]["vrmse"] == math.inf
    batch.y[:] = 1.0
    nowhere = evaluate({"model": predicting(1.1 * batch.y)}, in_batches(batch, 4), meta)
    assert math.isnan(nowhere.metrics["model"]["vrmse"])
    assert math.isnan(nowhere.quantiles("vrmse")["model"]["median"])
    assert nowhere.to_dict()["metrics"]["model"]["vrmse"] is None


def test_a_channel_masked_in_all_samples_is_left_out_of_every_mean():
    meta = make_meta()
    batch = make_batch(meta, mask=torch.tensor([[False, False, False, True]] * 6))
    prediction = batch.y * torch.tensor([1.1, 1.2, 1.2, 5.0]).view(4, 1, 1)
    found = evaluate({"model": predicting(prediction)}, in_batches(batch, 4), meta)
    assert list(found.groups.groups) == ["density", "velocity"]
    assert found.groups.left_out == ("pressure",)
    assert found.groups.channels == [0, 1, 2]
    assert set(found.channels["model"]) == {"density", "velocity_x", "velocity_y"}
    # not diluted by a masked channel that counts as exact
    assert found.metrics["model"]["relative_l2_channel_mean"] == pytest.approx((0.1 + 0.2 + 0.2) / 3, rel=1e-5)
    summary = found.to_dict()
    assert "pressure" not in summary["group_errors"]["model"]
    assert summary["groups"] == {"density": ["density"], "velocity": ["velocity_x", "velocity_y"]}


def test_a_channel_masked_in_some_samples_is_judged_by_the_others():
    meta = make_meta(steps=1)
    mask = torch.zeros(6, 4, dtype=torch.bool)
    mask[[0, 2, 5], 3] = True
    batch = make_batch(meta, mask=mask)
    sizes = torch.tensor([9.0, 0.1, 9.0, 0.2, 0.3, 9.0]).view(6, 1, 1, 1)
    prediction = batch.y.clone()
    prediction[:, :, 3] *= 1 + sizes
    found = evaluate({"model": predicting(prediction)}, in_batches(batch, 4), meta)
    assert found.groups.mean("model")[0, 2] == pytest.approx(0.2, rel=1e-5)
    assert found.groups.median("model")[0, 2] == pytest.approx(0.2, rel=1e-5)
    assert found.channels["model"]["pressure"]["relative_l2"] == pytest.approx(0.2, rel=1e-5)
    truth = batch.y[:, 0, 3].double()[[1, 3, 4]]
    pooled = (truth * torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)).square().mean().sqrt().item()
    assert found.channels["model"]["pressure"]["rmse"] == pytest.approx(pooled, rel=1e-5)
    assert found.errors["model"]["relative_l2"][[0, 2, 5]].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(6, 4), r"torch\.float32 of shape \(6, 4\); expected torch\.bool"),
        (torch.zeros(6, 3, dtype=torch.bool), r"expected torch\.bool of shape \(6, 4\) or \(6, 4, 8, 6\)"),
        (torch.tensor([[False] * 4] * 4 + [[True] * 4] * 2), "all of sample 4 is masked"),
    ],
)
def test_a_mask_that_cannot_be_is_refused(mask, message):
    meta = make_meta()
    with pytest.raises(UserError, match=message):
        evaluate({"model": lambda x, time: x}, [make_batch(meta, mask=mask)], meta)


def test_a_group_that_is_zero_in_the_truth_has_no_relative_error():
    meta = make_meta(steps=2)
    batch = make_batch(meta)
    batch.y[:, 0, 1:3] = 0
    found = evaluate({"model": predicting(batch.y + 0.1)}, in_batches(batch, 4), meta)
    assert np.isnan(found.groups.mean("model")[0, 1])
    assert np.isfinite(found.groups.mean("model")[1, 1])
    json.dumps(found.to_dict(), allow_nan=False)


def test_frames_that_are_not_finite_are_named_and_the_frames_before_them_still_judged():
    meta = make_meta(steps=5)
    batch = make_batch(meta)
    prediction = batch.y * 1.1
    prediction[2, 3:, 0, 1, 1] = math.inf
    prediction[4, 4, 3, 0, 0] = math.nan
    found = evaluate({"model": predicting(prediction), "exact": predicting(batch.y)}, in_batches(batch, 4), meta)
    assert found.nonfinite == {"model": 2, "exact": 0}
    assert found.nonfinite_frames["model"].tolist() == [0, 0, 0, 1, 2]
    assert found.first_nonfinite_frame == {"model": 4}
    assert found.metrics["model"]["relative_l2"] == math.inf
    np.testing.assert_allclose(found.steps["model"], [0.1, 0.1, 0.1, math.inf, math.inf], rtol=1e-5)
    np.testing.assert_allclose(found.groups.mean("model")[:, 0], [0.1, 0.1, 0.1, math.inf, math.inf], rtol=1e-5)
    np.testing.assert_allclose(found.groups.median("model")[:, 0], 0.1, rtol=1e-5)
    np.testing.assert_allclose(found.drift.energy["prediction"], 1.21 * found.drift.energy["truth"], rtol=1e-5)
    assert found.to_dict()["first_nonfinite_frame"] == {"model": 4}


def test_frames_in_which_a_baseline_is_better_are_found_for_each_group():
    meta = make_meta(steps=4)
    batch = make_batch(meta)
    errors = torch.tensor([[0.1, 0.1, 0.5, 0.1], [0.3, 0.1, 0.1, 0.1], [0.1, 0.1, 0.1, 0.4]])  # density, velocity, p
    prediction = batch.y * (1 + errors[[0, 1, 1, 2]].T[:, :, None, None])
    found = evaluate({"model": predicting(prediction), "persistence": predicting(batch.y * 1.2)}, [batch], meta)
    expected = {"density": [3], "velocity": [1], "pressure": [4]}
    assert found.groups.worse_frames("model", "persistence") == expected
    assert found.to_dict()["worse_frames_per_group"] == {"persistence": expected}
    assert found.worse_frames["persistence"] == [
        frame + 1
        for frame in range(4)
        if relative_l2(prediction[:, frame], batch.y[:, frame]).mean() > 0.2  # of all channels together
    ]


def test_lead_times_come_from_the_times_of_the_frames_and_must_be_those_of_all_samples():
    meta = make_meta(steps=3)
    batch = make_batch(meta)
    model = {"model": lambda x, time: torch.zeros(len(x), 3, *x.shape[2:])}
    np.testing.assert_allclose(evaluate(model, [batch], meta).lead_times, [0.5, 1.0, 1.5])
    start = torch.arange(6.0)[:, None]
    batch.times_in, batch.times_out = start, start + torch.tensor([0.1, 0.2, 0.9])
    np.testing.assert_allclose(evaluate(model, in_batches(batch, 4), meta).lead_times, [0.1, 0.2, 0.9], rtol=1e-5)
    batch.times_out[3] += 0.5
    assert evaluate(model, in_batches(batch, 2), meta).lead_times is None
    steady = FieldSample(batch.x, batch.y)
    assert evaluate(model, [steady], meta).lead_times is None


def test_drift_tells_energy_means_and_small_scales_frame_by_frame():
    """A model that damps what is shorter than a quarter of the box and adds a constant that grows."""
    meta = make_meta(steps=2, channels=VELOCITY, n_axes=1)
    x = torch.arange(32) / 32
    long, short = (torch.sin(2 * math.pi * k * x) for k in (2, 12))
    y = (long + 0.5 * short).expand(3, 2, 2, 32)
    added = torch.tensor([0.25, 1.0]).view(2, 1, 1)
    prediction = long + 0.1 * short + added * torch.tensor([1.0, -1.0, 1.0]).view(3, 1, 1, 1)
    batch = FieldSample(y[:, :1], y)
    drift = evaluate({"model": predicting(prediction.expand(3, 2, 2, 32))}, in_batches(batch, 2), meta).drift
    np.testing.assert_allclose(drift.energy["truth"][:, 0], 2 * (0.5 + 0.125), rtol=1e-6)  # two components
    np.testing.assert_allclose(drift.energy["prediction"][:, 0], [2 * (0.505 + 0.0625), 2 * (0.505 + 1)], rtol=1e-5)
    np.testing.assert_allclose(drift.high_power_ratio[:, 0], 0.04, rtol=1e-4)
    np.testing.assert_allclose(drift.mean["truth"], 0, atol=1e-7)
    np.testing.assert_allclose(drift.mean["prediction"][:, 0], [0.25 / 3, 1 / 3], rtol=1e-5)
    np.testing.assert_allclose(drift.mean_error, [[0.25, 0.25], [1.0, 1.0]], rtol=1e-5)  # signs do not cancel
    assert drift.to_dict(["a", "b"])["spectra"]["2"]["truth"]["b"][2] == pytest.approx(0.5, rel=1e-5)


def test_small_scales_that_the_truth_does_not_have_give_no_ratio():
    meta = make_meta(steps=1, channels=VELOCITY[:1], n_axes=1)
    y = torch.sin(2 * math.pi * torch.arange(32) / 32).expand(2, 1, 1, 32)
    found = evaluate({"model": lambda x, time: y + 0.1}, [FieldSample(y, y)], meta)
    assert np.isnan(found.drift.high_power_ratio).all()
    assert found.to_dict()["drift"]["high_wavenumber_power_ratio"] == {"velocity_x": [None]}
