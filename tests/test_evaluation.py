"""Facts about the evaluation: it scores what was predicted, per sample, exactly, whatever the batches."""

import json
import resource
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops import metrics
from katops.errors import UserError
from katops.evaluation import evaluate
from katops.fields import Axis, Channel, FieldMeta, FieldSample
from katops.registry import METRICS
from katops.spectrum import radial_spectrum


def make_meta(n_axes=2, channels=("u",), steps_in=1, steps_out=1):
    named = tuple(Channel(name) for name in channels)
    axes = tuple(Axis(name) for name in "xyz"[:n_axes])
    return FieldMeta("test", named, named, axes, steps_in=steps_in, steps_out=steps_out)


def make_data(meta, samples=7, space=(6, 5), seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, meta.steps_in, len(meta.inputs), *space, generator=generator)
    y = torch.randn(samples, meta.steps_out, len(meta.outputs), *space, generator=generator)
    index = torch.tensor([0, 100, 0, 1]) + torch.arange(samples)[:, None] * torch.tensor([0, 1, 0, 0])
    return FieldSample(x, y, time=torch.ones(samples), index=index)


def in_batches(data, size):
    for start in range(0, len(data.x), size):
        rows = slice(start, start + size)
        yield FieldSample(data.x[rows], data.y[rows], time=data.time[rows], index=data.index[rows])


def zero(x, time):
    return torch.zeros_like(x)


def persistence(meta):
    """The last input frame, for every output frame."""

    def predict(x, time):
        return x[:, -1:].expand(-1, meta.steps_out, *x.shape[2:])

    return predict


class Noisy:
    """The target plus noise whose size grows with the position of the sample; knows the targets by their inputs."""

    def __init__(self, data, sizes):
        self.answers = {tuple(x.flatten().tolist()): (y, s) for x, y, s in zip(data.x, data.y, sizes, strict=True)}

    def __call__(self, x, time):
        rows = [self.answers[tuple(row.flatten().tolist())] for row in x]
        return torch.stack([y * (1 + size) for y, size in rows])


def test_the_mean_over_samples_of_every_metric_is_reported():
    meta = make_meta(channels=("u", "v"), steps_out=3)
    data = make_data(meta)

    def model(x, time):
        return x.expand(-1, 3, -1, -1, -1) * 0.5

    evaluation = evaluate({"model": model, "zero": persistence(meta)}, in_batches(data, 3), meta)
    prediction = model(data.x, None).double()
    for record in METRICS:
        errors = record.factory(prediction, data.y.double(), n_axes=2)
        np.testing.assert_allclose(evaluation.errors["model"][record.name], errors, rtol=1e-12)
        assert evaluation.metrics["model"][record.name] == pytest.approx(errors.mean().item(), rel=1e-12)
    assert evaluation.samples == 7
    assert evaluation.model == "model"
    assert evaluation.baselines == ["zero"]


@settings(max_examples=15, deadline=None)
@given(size=st.integers(1, 12), n_axes=st.integers(1, 3), samples=st.integers(1, 9))
def test_the_size_of_the_batches_changes_nothing(size, n_axes, samples):
    meta = make_meta(n_axes)
    data = make_data(meta, samples, space=(6, 5, 4)[:n_axes])
    whole, parts = (evaluate({"model": zero}, in_batches(data, s), meta) for s in (samples, size))
    np.testing.assert_allclose(parts.error_map, whole.error_map, rtol=1e-12)
    np.testing.assert_allclose(parts.spectra.truth, whole.spectra.truth, rtol=1e-12)
    np.testing.assert_allclose(parts.steps["model"], whole.steps["model"], rtol=1e-12)
    for name, values in whole.errors["model"].items():
        np.testing.assert_allclose(parts.errors["model"][name], values, rtol=1e-12)
    assert [e.position for e in parts.examples] == [e.position for e in whole.examples]


@pytest.mark.parametrize("steps_in", [1, 3])
def test_a_model_that_copies_the_last_input_scores_exactly_as_persistence(steps_in):
    meta = make_meta(steps_in=steps_in, steps_out=2)
    data = make_data(meta)

    def copies(x, time):
        return torch.stack([x[:, -1], x[:, -1]], dim=1)

    evaluation = evaluate({"model": copies, "persistence": persistence(meta)}, in_batches(data, 2), meta)
    assert evaluation.metrics["model"] == evaluation.metrics["persistence"]
    # the given frames earn no credit: the score is that of the predicted frames alone
    expected = metrics.relative_l2(copies(data.x, None).double(), data.y.double(), n_axes=2).mean().item()
    assert evaluation.metrics["model"]["relative_l2"] == pytest.approx(expected, rel=1e-12)


def test_the_zero_prediction_has_relative_error_one_and_the_perfect_one_has_zero():
    meta = make_meta()
    data = make_data(meta)
    evaluation = evaluate({"model": Noisy(data, [0.0] * 7), "zero": zero}, in_batches(data, 4), meta)
    assert evaluation.metrics["zero"]["relative_l2"] == 1.0
    assert set(evaluation.metrics["model"].values()) == {0.0}


def test_channels_and_steps_are_scored_apart():
    meta = make_meta(channels=("u", "v"), steps_out=2)
    data = make_data(meta)
    factor = torch.tensor([[0.9, 1.0], [0.9, 0.5]])[None, :, :, None, None]  # (step, channel)
    evaluation = evaluate({"model": lambda x, time: data.y * factor}, in_batches(data, 7), meta)
    assert evaluation.channels["model"]["u"]["relative_l2"] == pytest.approx(0.1, rel=1e-6)
    truth = data.y.double()
    late = truth[:, 1, 1].square().flatten(1).sum(1) / truth[:, :, 1].square().flatten(1).sum(1)
    assert evaluation.channels["model"]["v"]["relative_l2"] == pytest.approx(0.5 * late.sqrt().mean().item())
    pooled = (0.5 * truth[:, 1, 1]).square().sum() / truth[:, :, 1].numel()
    assert evaluation.channels["model"]["v"]["rmse"] == pytest.approx(pooled.sqrt().item())
    expected = metrics.relative_l2((data.y * factor).double()[:, 0], truth[:, 0]).mean().item()
    assert evaluation.steps["model"][0] == pytest.approx(expected)
    assert evaluation.steps["model"][1] > evaluation.steps["model"][0]


def test_spectra_and_error_map_are_means_over_samples_and_frames():
    meta = make_meta(steps_out=2)
    data = make_data(meta)
    evaluation = evaluate({"model": lambda x, time: data.y + 0.25}, in_batches(data, 7), meta)
    np.testing.assert_allclose(evaluation.error_map, np.full((1, 6, 5), 0.25), rtol=1e-6)
    expected = radial_spectrum(data.y.double(), n_axes=2).mean((0, 1))
    np.testing.assert_allclose(evaluation.spectra.truth, expected, rtol=1e-12)
    # a constant error has all of its power, its mean square, in wavenumber 0
    np.testing.assert_allclose(evaluation.spectra.error[0, 0], 0.25**2, rtol=1e-5)
    assert evaluation.spectra.error[0, 1:].max() < 1e-12
    assert evaluation.spectra.resolved == 2


def test_best_median_and_worst_are_found_with_their_fields_and_provenance():
    meta = make_meta()
    data = make_data(meta, samples=9)
    sizes = [0.5, 0.1, 0.9, 0.3, 0.7, 0.2, 0.4, 0.8, 0.6]
    evaluation = evaluate({"model": Noisy(data, sizes)}, in_batches(data, 2), meta, examples=4)
    assert [(e.role, e.position, e.rank) for e in evaluation.examples] == [
        ("best", 1, 1),
        ("median", 0, 5),
        ("worst but 1", 7, 8),
        ("worst", 2, 9),
    ]
    for example in evaluation.examples:
        np.testing.assert_array_equal(example.x, data.x[example.position])
        np.testing.assert_array_equal(example.target, data.y[example.position])
        assert example.index == (0, 100 + example.position, 0, 1)
    assert evaluation.worst(2) == [
        {"position": 2, "sample": 102, "first_frame": 0, "relative_l2": pytest.approx(0.9)},
        {"position": 7, "sample": 107, "first_frame": 0, "relative_l2": pytest.approx(0.8)},
    ]


def test_the_median_of_a_large_set_is_found_to_a_few_percent_of_the_ranks():
    meta = make_meta(1)
    data = make_data(meta, samples=500, space=(4,))
    sizes = torch.rand(500, generator=torch.Generator().manual_seed(5)).tolist()
    evaluation = evaluate({"model": Noisy(data, sizes)}, in_batches(data, 50), meta)
    by_role = {example.role: example for example in evaluation.examples}
    assert by_role["best"].rank == 1
    assert by_role["worst"].rank == 500
    assert abs(by_role["median"].rank - 250) <= 50


@pytest.mark.parametrize(("count", "roles"), [(0, []), (1, ["median"]), (2, ["median", "worst"])])
def test_fewer_examples_keep_the_most_telling_ones(count, roles):
    meta = make_meta()
    data = make_data(meta)
    evaluation = evaluate({"model": Noisy(data, np.linspace(0.1, 1, 7))}, in_batches(data, 2), meta, examples=count)
    assert [example.role for example in evaluation.examples] == roles


def test_a_single_sample_is_one_example():
    meta = make_meta()
    evaluation = evaluate({"model": zero}, in_batches(make_data(meta, samples=1), 1), meta, examples=3)
    assert [example.role for example in evaluation.examples] == ["median"]


def test_no_batch_stays_in_memory_after_it_was_scored():
    meta = make_meta()
    alive = weakref.WeakSet()
    most = 0

    class Traced(np.ndarray):
        """Lives as long as any tensor or view that shares its memory."""

    def traced():
        # float64, so that a conversion does not make an untraced copy
        array = np.random.default_rng(len(alive)).standard_normal((4, 1, 1, 6, 5)).view(Traced)
        key = Key()
        array.key = key
        alive.add(key)
        return torch.from_numpy(array)

    class Key:
        pass

    def stream():
        nonlocal most
        for _ in range(50):
            most = max(most, len(alive))
            yield FieldSample(traced(), traced())

    evaluation = evaluate({"model": lambda x, time: traced()}, stream(), meta, examples=5)
    assert evaluation.samples == 200
    assert most <= 3  # input, target and prediction of the batch just scored


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_resident_memory_does_not_grow_with_the_number_of_samples():
    meta = make_meta()
    resident = []

    def stream():
        for seed in range(80):
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
            yield make_data(meta, samples=16, space=(64, 64), seed=seed)

    evaluate({"model": lambda x, time: x, "zero": zero}, stream(), meta)
    # 60 batches, whose targets alone are 30 MB; small results kept between the fields of each batch would pin far more
    assert max(resident) - resident[20] < 25


def test_a_prediction_that_is_not_finite_is_flagged_and_counts_as_infinitely_wrong():
    meta = make_meta()
    data = make_data(meta)

    def diverges(x, time):
        prediction = x.clone()
        prediction[1, 0, 0, 2, 3] = float("nan")
        return prediction

    evaluation = evaluate({"model": diverges, "zero": zero}, in_batches(data, 7), meta)
    assert evaluation.nonfinite == {"model": 1, "zero": 0}
    assert evaluation.metrics["model"]["relative_l2"] == np.inf
    assert np.isfinite(evaluation.error_map).all()
    assert evaluation.examples[-1].position == 1
    assert evaluation.to_dict()["metrics"]["model"]["relative_l2"] is None


def test_predictions_that_are_never_finite_still_give_an_evaluation():
    meta = make_meta()
    evaluation = evaluate({"model": lambda x, time: x * float("nan")}, in_batches(make_data(meta), 3), meta)
    assert evaluation.nonfinite == {"model": 7}
    assert evaluation.spectra is None
    json.dumps(evaluation.to_dict(), allow_nan=False)


def test_targets_that_are_zero_everywhere_are_counted():
    meta = make_meta()
    data = make_data(meta)
    data.y[2] = 0
    assert evaluate({"model": zero}, in_batches(data, 3), meta).zero_targets == 1


def test_the_summary_survives_json():
    meta = make_meta(channels=("u", "v"), steps_out=2)
    evaluation = evaluate({"model": persistence(meta), "zero": persistence(meta)}, in_batches(make_data(meta), 3), meta)
    summary = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
    assert summary["samples"] == 7
    assert summary["metrics"]["model"] == evaluation.metrics["model"]
    assert FieldMeta.from_dict(summary["meta"]) == meta
    assert summary["relative_l2_quantiles"]["model"]["maximum"] == evaluation.errors["model"]["relative_l2"].max()


def test_time_is_handed_to_the_predictor_and_progress_counts_the_samples():
    meta = make_meta()
    seen, counted = [], []

    def model(x, time):
        seen.append(time)
        return x

    evaluate({"model": model}, in_batches(make_data(meta), 3), meta, progress=counted.append)
    assert [len(time) for time in seen] == [3, 3, 1]
    assert counted == [3, 3, 1]


def test_gradients_are_not_recorded():
    meta = make_meta()
    weight = torch.ones((), requires_grad=True)
    recorded = []

    def model(x, time):
        y = x * weight
        recorded.append(y.requires_grad)
        return y

    evaluate({"model": model}, in_batches(make_data(meta), 3), meta)
    assert recorded == [False] * 3


def test_a_prediction_of_the_wrong_shape_is_refused_with_the_layout():
    meta = make_meta()
    with pytest.raises(
        UserError, match=r"'model' returned shape \(3, 6, 5\); expected \(batch 3, time 1, channel 1, x 6"
    ):
        evaluate({"model": lambda x, time: x[:, 0, 0]}, in_batches(make_data(meta), 3), meta)


def test_an_empty_test_set_is_refused():
    with pytest.raises(UserError, match="no sample to evaluate"):
        evaluate({"model": zero}, [], make_meta())


def test_samples_without_targets_are_refused():
    with pytest.raises(UserError, match="no target"):
        evaluate({"model": zero}, [FieldSample(torch.zeros(1, 1, 1, 4, 4))], make_meta())


def test_a_target_that_is_not_finite_is_refused_with_its_place():
    meta = make_meta()
    data = make_data(meta)
    data.y[5, 0, 0, 1, 1] = float("inf")
    with pytest.raises(UserError, match="target of sample 5"):
        evaluate({"model": zero}, in_batches(data, 2), meta)


def test_two_resolutions_in_one_test_set_are_refused():
    meta = make_meta()
    batches = [make_data(meta), make_data(meta, space=(8, 8))]
    with pytest.raises(UserError, match=r"sample 7 has \(8, 8\) points"):
        evaluate({"model": zero}, batches, meta)
