"""Runs on pairs of frames: a mixture of data sets, fine-tuning, forecasts at chosen times."""

import warnings
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import katops
from katops import cli
from katops.bundle import Bundle
from katops.config import parse_config
from katops.config.operators import NOT_INHERITED
from katops.data.adjustment import Adjustment
from katops.data.normalize import Normalizer
from katops.data.splits import split
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.metrics import relative_l2
from katops.predictors import FieldPredictor
from katops.predictors.keeping import keeping
from katops.predictors.rollout import Rollout
from katops.predictors.training_sets import reading_like
from katops.runs.forecasts import Request, comparison_window
from katops.runs.model_data import open_for_model, part_windows
from katops.training.data import open_run_data
from katops.training.initial import Initial, _take_statistics
from katops.training.resume import check_same_run
from katops.training.stated import Stated, stated_by
from katops.training.task import OperatorTask

FLUID = ["density", "velocity", "pressure"]
SMALL = {"name": "scot", "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4, "patch_size": 2}
MODEL = {**SMALL, "learn_residual": True, "scale_by_time": True}
POINTS, FRAMES, STEP = 8, 5, 0.25


def trained(values, **options):
    """A run whose report nobody reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("katops.runs.fields.write_report", lambda *arguments, **options: None)
        return katops.train(values, **options)


def travelling(samples, seed, speed):
    """(sample, time, x, y): waves that run along x."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * rng.random((samples, 1, 1, 1))
    x = np.arange(POINTS).reshape(1, 1, POINTS, 1) / POINTS
    y = np.arange(POINTS).reshape(1, 1, 1, POINTS) / POINTS
    time = STEP * np.arange(FRAMES).reshape(1, FRAMES, 1, 1)
    return (np.sin(2 * np.pi * (x - speed * time) + phase) + 0.3 * np.cos(2 * np.pi * y)).astype(np.float32)


def write(path, **arrays):
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def files(folder):
    waves = travelling(12, 1, 0.2)
    return {
        "flow": write(folder / "flow.h5", velocity=travelling(12, 0, 0.5)),
        "gas": write(folder / "gas.h5", density=2 + 0.2 * waves, velocity=waves, pressure=1 - 0.5 * waves),
    }


@pytest.fixture(scope="module")
def pretraining(files, folder):
    return {
        "task": "operator",
        "name": "pretraining",
        "output": str(folder / "pretraining"),
        "data": {
            "inputs": FLUID,
            "outputs": FLUID,
            "axes": ["sample", "time", "x", "y"],
            "boundary": "periodic",
            "time_step": STEP,
            "pairs": {},
            "split": {"train": 6, "validation": 3, "test": 3},
            "mix": [
                {"file": files["flow"], "fill": {"density": 1.0, "pressure": 0.0}, "mask": ["pressure"]},
                {"file": files["gas"], "weight": 0.5},
            ],
        },
        "model": MODEL,
        "train": {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "loss": "channel_groups"},
        "report": {"examples": 1, "rollout": {"frames": 4}, "semigroup": True},
    }


@pytest.fixture(scope="module")
def fine_tuning(files, folder):
    return {
        "task": "operator",
        "name": "fine_tuning",
        "output": str(folder / "fine_tuning"),
        "data": {
            "file": files["flow"],
            "inputs": ["velocity"],
            "outputs": ["velocity"],
            "axes": ["sample", "time", "x", "y"],
            "boundary": "periodic",
            "time_step": STEP,
            "pairs": {"identity": False},
            "split": {"train": 6, "validation": 3, "test": 3},
        },
        "model": MODEL,
        "train": {"epochs": 1, "batch_size": 8, "learning_rate": 1e-4},
        "report": {"examples": 1},
    }


@pytest.fixture(scope="module")
def mixed(pretraining, undrawn):
    with undrawn():
        return katops.train(pretraining)


@pytest.fixture(scope="module")
def tuned(fine_tuning):
    return trained(fine_tuning)


def test_a_mixture_is_trained_evaluated_and_reported_and_each_file_is_read_in_its_own_way(
    mixed, pretraining, files, tmp_path
):
    result = mixed
    assert list(result.evaluations)[:2] == ["flow.h5", "gas.h5"]
    flow = result.evaluations["flow.h5"]
    assert flow.samples == 3
    assert len(flow.steps["model"]) == FRAMES - 1
    assert np.isfinite(flow.errors["model"]["relative_l2"]).all()
    header = result.bundle.header
    assert header["data"]["file"] == f"{files['flow']} + {files['gas']}"
    # 6 trajectories of 15 pairs, and half of them: 135 windows in 17 batches.
    assert (Path(pretraining["output"]) / "log.csv").read_text().splitlines()[-1].startswith("2,34,")
    assert float(result.bundle.predictor.normalizer.time_scale) == pytest.approx(STEP * (FRAMES - 1))
    steps = header["training"]["steps"]
    assert [entry["step"] for entry in steps] == pytest.approx([0.25, 0.5, 1.0])
    report = (Path(pretraining["output"]) / "report.html").read_text()
    assert "rollout of 4 frames" in report

    again = katops.evaluate(pretraining["output"], files["flow"])
    np.testing.assert_allclose(again.errors["model"]["relative_l2"], flow.errors["model"]["relative_l2"], rtol=1e-4)
    gas = katops.evaluate(pretraining["output"], files["gas"])
    expected = result.evaluations["gas.h5"].errors["model"]["relative_l2"]
    np.testing.assert_allclose(gas.errors["model"]["relative_l2"], expected, rtol=1e-4)

    written = katops.predict(pretraining["output"], files["flow"], tmp_path / "flow_predictions.h5", times=[0.3, 0.7])
    with h5py.File(written) as file:
        # The pressure of the flow was never learned.
        assert set(file["fields"]) == {"density", "velocity"}
        assert file["fields/velocity"].shape == (12, 2, POINTS, POINTS)
        np.testing.assert_allclose(file["time"], [0.3, 0.7])


class Interruption(Exception):
    """Ends a training in the middle."""


def test_a_resumed_mixture_ends_with_the_weights_of_an_uninterrupted_one(mixed, pretraining, tmp_path, monkeypatch):
    whole = mixed.bundle
    parts = {**pretraining, "output": str(tmp_path / "parts"), "report": {"examples": 1}}
    step, steps = OperatorTask.training_step, []

    def interrupted(self, *arguments):
        steps.append(self.current_epoch)
        if len(steps) > 22:
            raise Interruption
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(OperatorTask, "training_step", interrupted)
        with pytest.raises(Interruption):
            trained(parts)
    assert steps[-1] == 1
    assert not (tmp_path / "parts" / "model.safetensors").exists()
    resumed = trained(parts, resume=True).bundle
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name


def test_fine_tuning_begins_as_the_very_function_that_the_initial_model_is(tuned, fine_tuning, tmp_path):
    first = tuned.bundle
    second = {
        **fine_tuning,
        "output": str(tmp_path / "second"),
        "data": {**fine_tuning["data"], "normalizer": "initial"},
        "train": {**fine_tuning["train"], "initial": fine_tuning["output"], "learning_rate": 1e-12, "weight_decay": 0},
    }
    result = trained(second)
    assert "all" in result.bundle.header["training"]["initial"]
    x = torch.from_numpy(travelling(2, 5, 0.5)[:, :1, None])
    time = torch.tensor([0.4, 0.9])
    with torch.no_grad():
        ours, theirs = result.bundle.predictor(x, time), first.predictor(x, time)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_fine_tuning_takes_the_channels_that_it_has_by_name_and_reports_the_others(mixed, fine_tuning, tmp_path):
    other = {
        **fine_tuning,
        "output": str(tmp_path / "other"),
        "data": {**fine_tuning["data"], "normalizer": "initial"},
        "train": {**fine_tuning["train"], "initial": str(mixed.directory)},
    }
    result = trained(other)
    said = result.bundle.header["training"]["initial"]
    assert "input velocity" in said
    assert "patch_recovery.projection.weight" in said
    ours, theirs = result.bundle.predictor.normalizer, mixed.bundle.predictor.normalizer
    assert float(ours.output_std) == pytest.approx(float(theirs.output_std[1]))
    before, after = mixed.bundle.model.state_dict(), result.bundle.model.state_dict()
    layer = "encoder.layers.0.blocks.0.attention.self.query.weight"
    torch.testing.assert_close(before[layer], after[layer], atol=2e-3, rtol=0)


def test_parts_of_the_model_have_learning_rates_of_their_own(tuned, fine_tuning, tmp_path):
    frozen = {
        **fine_tuning,
        "output": str(tmp_path / "frozen"),
        "train": {**fine_tuning["train"], "initial": fine_tuning["output"], "rates": {"rest": 0.0, "norms": 0.0}},
    }
    before = tuned.bundle.model
    after = trained(frozen).bundle.model
    roles = before.parameter_roles()
    old, new = dict(before.named_parameters()), dict(after.named_parameters())
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed
    assert changed <= set(roles["channels"])


def test_evaluations_at_chosen_times_compare_the_frames_there(tuned, files):
    run = tuned.directory
    direct = katops.evaluate(run, files["flow"], times=[0.5, 1.0])
    assert len(direct.steps["model"]) == 2
    stepped = katops.evaluate(run, files["flow"], times=[0.5, 1.0], step=0.25)
    rollout = katops.evaluate(run, files["flow"], rollout=4)
    np.testing.assert_allclose(stepped.steps["model"], rollout.steps["model"][1::2], rtol=1e-4)
    assert len(katops.evaluate(run, files["flow"], times=[1.0], step="auto").steps["model"]) == 1
    with pytest.raises(UserError, match=r"no frame 0.3 after the input"):
        katops.evaluate(run, files["flow"], times=[0.3])


def test_states_of_one_time_are_predicted_from_at_the_times_that_are_asked_for(tuned, tmp_path):
    state = write(tmp_path / "state.h5", velocity=travelling(2, 9, 0.5)[:, :1])
    run, output = str(tuned.directory), str(tmp_path / "out.h5")
    runner = CliRunner()
    refused = runner.invoke(cli.app, ["predict", run, state, "-o", output])
    assert "states of one time only; say at which lead times" in str(refused.exception)
    done = runner.invoke(cli.app, ["predict", run, state, "-o", output, "--at", "0.1,0.25,2", "--step", "0.25"])
    assert done.exit_code == 0, done.output
    with h5py.File(output) as file:
        assert file["fields/velocity"].shape == (2, 3, POINTS, POINTS)
        np.testing.assert_allclose(file["time"], [0.1, 0.25, 2.0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"window": {"n_in": 2}}}, "take the place of data.window"),
        ({"data": {"file": "other.h5"}}, "needs either file or mix"),
        ({"data": {"mix": []}}, "needs either file or mix"),
        ({"data": {"normalizer": "initial"}}, "train.initial names no model"),
        ({"train": {"rollout": {"steps": 2}}}, "data.pairs have none"),
        ({"data": {"test_files": ["x.h5"]}}, "belongs to one data set"),
        ({"data": {"pairs": {"frames": [0, 2], "every": 2}}}, "drop first, last and every"),
        (
            {"data": {"pairs": None, "mix": [{"file": "x.h5", "pairs": {}}]}, "train": {"rollout": {"steps": 2}}},
            "have none",
        ),
        ({"data": {"mix": [{"file": "x.h5", "window": {"n_in": 2}}]}}, "take the place of data.window"),
        ({"data": {"mix": [{"file": "x.h5", "normalizer": "none"}]}}, "entry 0 has normalizer, which is the same for"),
        ({"data": {"mix": [{"file": "x.h5", "dirichlet_values": {"velocity": 0}}]}}, "entry 0 has dirichlet_values"),
        (
            {"data": {"mix": [{"file": "x.h5", "split": {"validation": 0}}]}, "train": {"early_stopping": 2}},
            "needs validation samples",
        ),
    ],
)
def test_contradictions_are_refused_before_anything_is_read(pretraining, changes, words):
    values = {**pretraining, **{section: {**pretraining[section], **keys} for section, keys in changes.items()}}
    with pytest.raises(UserError, match=words):
        parse_config(values)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train": {"rates": {"norm": 1e-3}}}, "unknown part 'norm' in train.rates; did you mean 'norms'"),
        ({"train": {"rates": {"norms": 0.0, "rest": 0.0, "channels": 0.0}}}, "nothing to train"),
        ({"train": {"schedule": {"name": "cosine", "warmup_epochs": 1.0}}}, "warmup_epochs is 1"),
        ({"train": {"initial": "/nowhere"}}, "no run folder and no model file"),
        ({"data": {"pairs": {"last": 9}}}, "the pairs use frame 9"),
        ({"model": {"name": "mgno_tiny"}, "train": {"rates": {"norms": 1e-3}}}, "does not tell which"),
        ({"model": {"name": "mgno_tiny"}}, "does not take the lead time"),
    ],
)
def test_mistakes_that_need_the_files_are_told_in_a_sentence(fine_tuning, changes, words, tmp_path):
    values = {
        **fine_tuning,
        "output": str(tmp_path),
        **{s: k if s == "model" else {**fine_tuning[s], **k} for s, k in changes.items()},
    }
    with pytest.raises(UserError, match=words):
        trained(values)


@pytest.fixture(scope="module")
def levels(pretraining, files, folder):
    """A run on three data sets of which each states a mean of the pressure of its own."""
    mix = [
        {"file": files["gas"], "statistics": {"pressure": [1.0, 0.4], "velocity": [0.0, 0.5]}},
        {**pretraining["data"]["mix"][0], "statistics": {"pressure": [9.0, 0.4], "velocity": [0.0, 0.5]}},
        {"file": write(folder / "high.h5", **high(files["gas"])), "statistics": {"pressure": [4.0, 0.4]}},
    ]
    return trained(
        {
            **pretraining,
            "output": str(folder / "levels"),
            "report": {"examples": 1},
            "data": {**pretraining["data"], "mix": mix},
            "train": {**pretraining["train"], "max_steps": 2},
        }
    )


def test_published_levels_of_the_pressure_are_moved_to_one_and_back(levels, files, folder, tmp_path):
    bundle = levels.bundle
    assert bundle.predictor.normalizer.known()["pressure"] == pytest.approx((1.0, 0.4))
    assert [part["offset"] for part in bundle.header["data"]["mix"]] == [{}, {"pressure": 8.0}, {"pressure": 3.0}]
    low, shifted = (
        h5py.File(katops.predict(bundle, file, tmp_path / name, times=[0.5]))["fields/pressure"][:]
        for name, file in (("low.h5", files["gas"]), ("shifted.h5", str(folder / "high.h5")))
    )
    np.testing.assert_allclose(shifted - low, 3.0, atol=1e-4)


def test_errors_of_a_data_set_with_a_level_of_its_own_are_those_of_the_fields_in_its_file(levels, folder):
    file = str(folder / "high.h5")
    evaluation = katops.evaluate(levels.bundle, file)
    for found in (evaluation, levels.evaluations["high.h5"]):
        with h5py.File(file) as stored:
            names = ("density", "velocity", "pressure")
            frames = np.stack([stored[name][:] for name in names], 2)[_test_samples(levels, "high.h5")]
        first, later = frames[:, :1].astype(np.float64), frames[:, 1:].astype(np.float64)
        expected = np.sqrt(((later - first) ** 2).sum((1, 2, 3, 4)) / (later**2).sum((1, 2, 3, 4)))
        persistence = np.sort(found.errors["persistence"]["relative_l2"])
        np.testing.assert_allclose(persistence, np.sort(expected), rtol=1e-4)
        # The waves of the pressure are small beside its level.
        assert found.errors["mean"]["relative_l2"].max() < 0.5


def _test_samples(result, name):
    reading = next(part for part in result.bundle.header["data"]["mix"] if part["file"].endswith(name))
    parts = split(12, train=6, validation=3, test=3, seed=reading["split"]["seed"])
    return parts.test


def test_a_file_that_fits_several_levels_is_read_like_the_first_with_a_warning_or_like_the_named_one(
    levels, files, tmp_path
):
    other = write(tmp_path / "other.h5", **{k: v + (k == "pressure") for k, v in high(files["gas"]).items()})
    found = open_for_model(levels.bundle, other)
    assert found.adjustment == Adjustment()
    assert found.doubt.endswith("say which it is like: --like high.h5")
    named = open_for_model(levels.bundle, other, like="high.h5")
    assert (named.adjustment, named.doubt) == (Adjustment({"pressure": 3.0}), None)
    assert open_for_model(levels.bundle, files["gas"]).doubt is None
    with pytest.raises(UserError, match=r"is gas\.h5, one of the training files; leave --like out"):
        open_for_model(levels.bundle, files["gas"], like="high.h5")
    with pytest.raises(UserError, match=r"not trained on a data set 'hihg.h5'; did you mean 'high.h5'\?"):
        open_for_model(levels.bundle, other, like="hihg.h5")


def test_arrays_are_predicted_at_the_level_of_the_named_data_set(levels, files):
    with h5py.File(files["gas"]) as file:
        low = np.stack([file[name][:2, 0] for name in ("density", "velocity", "pressure")], 1)
    raised = low.copy()
    raised[:, 2] += 3.0
    with pytest.warns(UserWarning, match=r"taken for one like gas.h5; flow.h5, high.h5 have other levels"):
        expected = levels.bundle.predict(low, 0.5)
    expected[:, 2] += 3.0
    np.testing.assert_allclose(levels.bundle.predict(raised, 0.5, like="high.h5"), expected, atol=1e-4)


def test_a_mixture_has_the_time_scale_of_its_section_or_of_the_entry_that_states_one_first(pretraining):
    def opened(*scales, **section):
        data = pretraining["data"]
        mix = [
            entry if scale is None else {**entry, "time_scale": scale}
            for entry, scale in zip(data["mix"], scales, strict=True)
        ]
        data = open_run_data(parse_config({**pretraining, "data": {**data, **section, "mix": mix}}).data, 1)
        return data.stated.time_scale, [getattr(part.dataset, "adjustment", Adjustment()) for part in data.parts]

    assert opened(7.0, 7.0) == opened(7.0, None) == (7.0, [Adjustment(), Adjustment()])
    assert opened(7.0, 2.0) == (7.0, [Adjustment(), Adjustment({}, 3.5)])
    assert opened(7.0, 2.0, time_scale=1.0) == (1.0, [Adjustment({}, 1 / 7), Adjustment({}, 0.5)])


def test_a_data_set_of_twice_the_time_scale_is_the_same_to_the_model_at_twice_the_lead_time(
    pretraining, files, folder, tmp_path
):
    with h5py.File(files["gas"]) as file:
        slow = write(folder / "slow.h5", **{name: values[:] for name, values in file.items()})
    mix = [{"file": files["gas"], "time_scale": 1.0}, {"file": slow, "time_scale": 2.0, "time_step": 2 * STEP}]
    values = {**pretraining, "output": str(tmp_path / "run"), "report": {"examples": 1}}
    values["data"] = {**pretraining["data"], "mix": mix}
    values["train"] = {**pretraining["train"], "max_steps": 2}
    result = trained(values)
    fast, stretched = (result.evaluations[name] for name in ("gas.h5", "slow.h5"))
    np.testing.assert_allclose(stretched.errors["model"]["relative_l2"], fast.errors["model"]["relative_l2"], rtol=1e-4)
    np.testing.assert_allclose(2 * fast.lead_times, stretched.lead_times)
    ahead = [
        predicted(
            result.bundle, file, tmp_path / f"{Path(file).stem}.out.h5", times=times, step="auto", like=Path(file).name
        )
        for file, times in ((files["gas"], [0.3, 0.9]), (slow, [0.6, 1.8]))
    ]
    np.testing.assert_allclose(ahead[0], ahead[1], atol=1e-5)


def test_another_file_is_read_like_the_training_file_that_has_its_channels(mixed, files, tmp_path):
    found = open_for_model(mixed.bundle, write(tmp_path / "other.h5", **high(files["gas"])))
    assert found.reading["file"] == files["gas"]
    assert not found.own
    assert float(found.dataset.read([0]).x[:, :, 2].mean()) == pytest.approx(4.0, abs=0.2)
    flow = open_for_model(mixed.bundle, write(tmp_path / "flow.h5", velocity=travelling(2, 8, 0.5)))
    assert flow.reading["file"] == files["flow"]


@pytest.mark.parametrize("stated", [{"frames": [0, 2, 4]}, {"leads": [2, 4]}])
def test_rollouts_of_an_evaluation_repeat_the_shortest_distance_of_the_frames_of_training(tuned, files, stated):
    pairs = {**tuned.bundle.header["data"]["pairs"], **stated}
    header = {**tuned.bundle.header, "data": {**tuned.bundle.header["data"], "pairs": pairs}}
    bundle = Bundle(tuned.bundle.predictor, header, tuned.bundle.mean_target)
    window = partial(comparison_window, Request(rollout=2))
    assert open_for_model(bundle, files["flow"], window=window).dataset.window.every == 2


def predicted(bundle, file, output, **options):
    """The velocity that is predicted."""
    with h5py.File(katops.predict(bundle, file, output, **options)) as written:
        return written["fields/velocity"][:]


def high(gas):
    """The same gas at another level of the pressure."""
    with h5py.File(gas) as file:
        return {name: file[name][:] + (3.0 if name == "pressure" else 0.0) for name in FLUID}


def test_a_channel_of_a_mixture_has_one_stated_deviation(pretraining, tmp_path):
    mix = [
        {**entry, "statistics": {"velocity": [0.0, 1.0 + place]}}
        for place, entry in enumerate(pretraining["data"]["mix"])
    ]
    values = {**pretraining, "output": str(tmp_path), "data": {**pretraining["data"], "mix": mix}}
    with pytest.raises(UserError, match="a channel of a mixture has one"):
        trained(values)


def test_pairs_are_mixed_with_windows_of_two_frames(pretraining, files, tmp_path):
    flow, gas = pretraining["data"]["mix"]
    for number, mix in enumerate([[flow, {**gas, "pairs": None}], [{**gas, "pairs": None}, flow]]):
        values = {**pretraining, "output": str(tmp_path / str(number)), "report": {"examples": 1}}
        values["data"] = {**pretraining["data"], "mix": mix}
        values["train"] = {**pretraining["train"], "max_steps": 2}
        result = trained(values)
        steps = result.bundle.header["training"]["steps"]
        assert [entry["step"] for entry in steps] == pytest.approx([0.25, 0.5, 1.0])
        assert len(result.evaluations["gas.h5"].steps["model"]) == 1


def test_the_saved_configuration_of_a_mixture_is_that_of_the_run_and_follows_its_section(mixed, pretraining):
    saved = (mixed.directory / "config.yaml").read_text()
    values = yaml.safe_load(saved)
    assert parse_config(values).model_dump() == parse_config(pretraining).model_dump()
    assert set(values["data"]["mix"][1]) == {"weight", "file", *NOT_INHERITED}
    values["data"] |= {"workers": 2, "subsample": 2}
    assert [(entry.workers, entry.subsample) for entry in parse_config(values).data.mix] == [(2, 2), (2, 2)]


def test_a_resumed_mixture_may_have_other_workers_and_is_told_which_key_of_an_entry_differs(mixed, pretraining):
    data = pretraining["data"]
    check_same_run(parse_config({**pretraining, "data": {**data, "workers": 2, "memory": "file"}}), mixed.directory)
    changed = [data["mix"][0], {**data["mix"][1], "weight": 2.0}]
    with pytest.raises(UserError, match=r"data\.mix\.1\.weight was 0\.5 and is 2\.0 now"):
        check_same_run(parse_config({**pretraining, "data": {**data, "mix": changed}}), mixed.directory)


@pytest.mark.parametrize(
    ("stated", "scale", "missing"),
    [
        ({}, None, "state data.statistics of pressure and data.time_scale as"),
        ({"pressure": (4.0, 0.4)}, None, "state data.time_scale as"),
        ({}, 2.0, "state data.statistics of pressure as"),
        ({"pressure": (4.0, 0.4)}, 2.0, None),
    ],
)
def test_statistics_of_a_model_that_moved_its_data_sets_are_taken_with_a_warning(stated, scale, missing):
    channels = tuple(Channel(name) for name in FLUID)
    meta = FieldMeta("gas", channels, channels, (Axis("x"), Axis("y")))
    predictor = FieldPredictor(torch.nn.Identity(), Normalizer(meta), meta)
    adjustments = (Adjustment(), Adjustment({"pressure": 3.0}, 0.5))
    first = Initial({}, (), (), {"pressure": (1.0, 0.4)}, 7.0, adjustments)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _take_statistics(predictor, first, SimpleNamespace(stated=Stated(stated, scale)), "runs/levels")
    assert [missing in str(warning.message) for warning in told] == ([True] if missing else [])
    assert float(predictor.normalizer.time_scale) == (7.0 if scale is None else 1.0)


def test_values_on_dirichlet_sides_are_refused_for_a_channel_with_levels(pretraining):
    data = pretraining["data"]
    mix = [{**entry, "statistics": {"pressure": [place, 0.4]}} for place, entry in enumerate(data["mix"])]
    config = parse_config({**pretraining, "data": {**data, "mix": mix, "dirichlet_values": {"pressure": 0.0}}}).data
    with pytest.raises(UserError, match=r"'pressure' is 0\.0 on the Dirichlet sides, but .*gas\.h5 states a level"):
        stated_by(config)
    config = parse_config({**pretraining, "data": {**data, "mix": mix, "dirichlet_values": {"velocity": 0.0}}}).data
    assert stated_by(config).adjustments[1] == Adjustment({"pressure": 1.0})


def test_training_data_sets_of_one_name_are_told_apart_by_their_paths():
    mix = [{"file": "a/gas.h5"}, {"file": "b/gas.h5", "offset": {"pressure": 3.0}}, {"file": "flow.h5"}]
    header = {"data": {"mix": mix}}
    assert reading_like(header, "b/gas.h5") is mix[1]
    assert reading_like(header, "flow.h5") is mix[2]
    with pytest.raises(UserError, match=r"several .* are named 'gas\.h5'; give the whole path: a/gas\.h5, b/gas\.h5"):
        reading_like(header, "gas.h5")
    del mix[1]["offset"]
    assert reading_like(header, "gas.h5") is mix[0]


def test_rollouts_of_a_mixture_keep_the_channel_that_was_filled_in_and_is_not_learned(mixed, files):
    window = partial(comparison_window, Request(rollout=4))
    found = open_for_model(mixed.bundle, files["flow"], window=window)
    sample = found.dataset.read(part_windows(found, "test")[0])
    predictor = mixed.bundle.predictor
    with torch.no_grad():
        kept, drifting = (
            Rollout(each, 4)(sample.x, sample.time)[:, :, :2]
            for each in (keeping(predictor, {"pressure": None}), predictor)
        )
    expected = relative_l2(kept.flatten(1, 2), sample.y[:, :, :2].flatten(1, 2)).sort().values
    assert not torch.allclose(kept, drifting, rtol=1e-4)
    for evaluation in (
        katops.evaluate(mixed.bundle, files["flow"], rollout=4),
        mixed.evaluations["flow.h5, rollout of 4 frames"],
    ):
        np.testing.assert_allclose(np.sort(evaluation.errors["model"]["relative_l2"]), expected, rtol=1e-4)
