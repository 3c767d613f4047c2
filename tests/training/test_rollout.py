"""Rollouts: predictions that become inputs, in training, evaluation and prediction."""

import json
import resource
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import katops
from katops import cli
from katops.config import TrainConfig, parse_config
from katops.data.normalize import Normalizer
from katops.data.windows import Window
from katops.errors import UserError
from katops.evaluation import evaluate
from katops.fields import Axis, Channel, FieldMeta, FieldSample
from katops.metrics import relative_l2
from katops.predictors import FieldPredictor
from katops.predictors.rollout import Rollout, rollout_window, unroll
from katops.report import write_report
from katops.report.tables import useful_frames, warnings_about
from katops.training.losses import MetricLoss
from katops.training.task import OperatorTask

pytestmark = pytest.mark.usefixtures("undrawn_figures")

PERIODIC = Axis("x", "periodic_nodes", boundary=("periodic", "periodic"))


def description(steps_in=1, steps_out=1, inputs=("u",), outputs=("u",), constants=()):
    named = [tuple(Channel(name) for name in names) for names in (inputs, outputs, constants)]
    return FieldMeta(
        "advection",
        named[0],
        named[1],
        (PERIODIC,),
        steps_in=steps_in,
        steps_out=steps_out,
        time_step=0.1,
        constants=named[2],
    )


class Shift(nn.Module):
    """The exact solution of advection: every frame is the one before, one point further."""

    def __init__(self, steps_in, steps_out):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(()))
        self.steps = steps_out
        self.last = steps_in - 1
        self.leads = []

    def forward(self, x, time=None):
        self.leads.append(None if time is None else time.tolist())
        last = self.gain * x[:, self.last : self.last + 1]
        return torch.cat([last.roll(step, -1) for step in range(1, self.steps + 1)], 1)


def predictor(meta):
    return FieldPredictor(Shift(meta.steps_in, meta.steps_out), Normalizer(meta), meta)


def trajectory(frames, start):
    return torch.stack([start.roll(step, -1) for step in range(frames)], 1)[:, :, None]


@pytest.mark.parametrize(("steps_in", "steps_out", "frames"), [(1, 1, 7), (3, 1, 5), (1, 4, 8), (2, 3, 7), (3, 2, 1)])
def test_rollout_of_the_exact_step_is_the_exact_trajectory(steps_in, steps_out, frames):
    truth = trajectory(steps_in + frames, torch.randn(2, 16))
    y = Rollout(predictor(description(steps_in, steps_out)), frames)(truth[:, :steps_in])
    torch.testing.assert_close(y, truth[:, steps_in:], rtol=0, atol=0)


def test_every_call_gets_the_lead_time_of_one_call():
    one = predictor(description(1, 2))
    Rollout(one, 6)(torch.randn(1, 1, 1, 8), torch.tensor([0.6]))
    assert one.model.leads == [[pytest.approx(0.2)]] * 3


def test_channels_in_another_order_find_their_places_and_constants_stay():
    meta = description(inputs=("u", "v"), outputs=("v", "u"), constants=("f",))

    class Exchange(nn.Module):
        def forward(self, x, time=None):
            return torch.stack([x[:, 1] + x[:, 2], x[:, 0]], 1)  # v + f, u

    one = FieldPredictor(Exchange(), Normalizer(meta), meta)
    x, f = torch.randn(2, 1, 2, 8), torch.randn(2, 1, 8)
    y = Rollout(one, 3)(x, constants=f)
    torch.testing.assert_close(y[:, 2, 0], x[:, 0, 1] + 3 * f[:, 0])
    torch.testing.assert_close(y[:, 2, 1], x[:, 0, 0])


def test_a_channel_that_is_not_predicted_is_named():
    with pytest.raises(UserError, match="needs f in every step, which the model does not predict; name it among the"):
        Rollout(predictor(description(inputs=("u", "f"))), 2)


def test_a_window_with_a_gap_is_refused():
    with pytest.raises(UserError, match=r"window\.gap is 2; train with every: 6 instead"):
        rollout_window(Window(gap=2, every=2), 4)


def task(meta, **rollout):
    config = TrainConfig.model_validate({"rollout": rollout})
    model = predictor(meta)
    made = OperatorTask(model, MetricLoss(relative_l2, model.normalizer), config, (10, 5), "")
    made.log = lambda *arguments, **options: None
    return made


def batch(meta, steps):
    truth = trajectory(meta.steps_in + steps * meta.steps_out, torch.randn(3, 16))
    return FieldSample(truth[:, : meta.steps_in], truth[:, meta.steps_in :] * 1.5, torch.full((3,), 0.1 * steps))


def test_loss_of_a_rollout_is_the_mean_over_its_calls_and_the_gradient_flows_through_all():
    meta = description()
    made, sample = task(meta, steps=3), batch(meta, 3)
    loss = made.training_step(sample, 0)
    gain = made.predictor.model.gain
    (gradient,) = torch.autograd.grad(loss, gain)
    # Frame k is gain^k times the truth over 1.5: |g^k / 1.5 - 1|, at g = 1.
    assert loss.item() == pytest.approx(1 / 3)
    assert gradient.item() == pytest.approx(-(1 + 2 + 3) / 3 / 1.5)


def test_pushforward_sends_the_gradient_through_the_first_and_the_last_call_one_by_one():
    meta = description()
    made, sample = task(meta, steps=3, pushforward=True), batch(meta, 3)
    with torch.no_grad():
        made.predictor.model.gain.fill_(0.9)
    loss = made.training_step(sample, 0)
    (gradient,) = torch.autograd.grad(loss, made.predictor.model.gain)
    assert loss.item() == pytest.approx(((1 - 0.9 / 1.5) + (1 - 0.9**3 / 1.5)) / 2)
    assert gradient.item() == pytest.approx(-(1 + 0.9**2) / 1.5 / 2)
    assert len(made.predictor.model.leads) == 3


@pytest.mark.parametrize("pushforward", [True, False])
def test_what_is_masked_is_not_fed_back_in_training(pushforward):
    meta = description(inputs=("u", "p"), outputs=("u", "p"))

    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(()))

        def forward(self, x, time=None):
            return self.gain * x + torch.tensor([0.0, 1e6]).view(2, 1)

    model = FieldPredictor(Both(), Normalizer(meta), meta)
    config = TrainConfig.model_validate({"rollout": {"steps": 3, "pushforward": pushforward}})
    made = OperatorTask(model, MetricLoss(relative_l2, model.normalizer), config, (10, 5), "")
    made.log = lambda *arguments, **options: None
    seen = []
    model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    x, y = torch.randn(2, 1, 2, 8), torch.randn(2, 3, 2, 8)
    made.training_step(FieldSample(x, y, mask=torch.tensor([[False, True]]).expand(2, 2)), 0)
    assert len(seen) == 3
    for later, target in zip(seen[1:], y.unbind(1), strict=False):
        assert torch.equal(later[:, 0, 1], target[:, 1])
        torch.testing.assert_close(later[:, 0, 0], x[:, 0, 0])


def test_noise_has_the_stated_fraction_of_the_deviation_of_its_channel():
    meta = description()
    made = task(meta, noise=0.1)
    made.predictor.normalizer.input_std.fill_(20.0)
    seen = []
    made.predictor.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    sample = FieldSample(torch.zeros(64, 1, 1, 256), torch.ones(64, 1, 1, 256))
    made.training_step(sample, 0)
    assert seen[0].std().item() == pytest.approx(2.0, rel=0.05)
    assert not sample.x.any()


def test_unroll_gives_gradients_through_every_call():
    one = predictor(description())
    *_, last = unroll(one, torch.randn(1, 1, 1, 8), None, None, 4)
    (gradient,) = torch.autograd.grad(last.abs().sum(), one.model.gain)
    assert gradient.item() == pytest.approx(4 * last.abs().sum().item(), rel=1e-5)


@pytest.fixture
def advection(tmp_path: Path) -> dict:
    """Waves that move by a point per frame: 20 trajectories of 12 frames, and a configuration for them."""
    generator = np.random.default_rng(0)
    x = np.arange(16) / 16
    phases, weights = generator.uniform(size=(20, 3)), generator.normal(size=(20, 3))
    frames = np.arange(12) / 16
    waves = [
        weights[:, k, None, None] * np.sin(2 * np.pi * (k + 1) * (x - frames[:, None] + phases[:, k, None, None]))
        for k in range(3)
    ]
    with h5py.File(tmp_path / "waves.h5", "w") as file:
        file["u"] = sum(waves).astype(np.float32)
    return {
        "name": "waves",
        "output": str(tmp_path / "run"),
        "data": {
            "file": str(tmp_path / "waves.h5"),
            "inputs": ["u"],
            "outputs": ["u"],
            "axes": ["sample", "time", "x"],
            "boundary": "periodic",
            "time_step": 0.1,
            "split": {"train": 12, "validation": 4, "test": 4},
        },
        "model": {"name": "mgno", "hidden_channels": 8, "n_layers": 2, "schedule": [[1, 1], [1, 0]]},
        "train": {"epochs": 6, "batch_size": 8, "learning_rate": 5e-3, "rollout": {"steps": 3, "noise": 0.01}},
        "report": {"rollout": {"frames": 10, "start": 1}},
    }


def test_run_with_rollouts_trains_reports_evaluates_and_predicts(advection, tmp_path, monkeypatch):
    result = katops.train(advection)
    one_step, rolled = result.evaluations.values()
    assert list(result.evaluations) == ["waves.h5", "waves.h5, rollout of 10 frames"]
    assert rolled.samples == 4
    assert rolled.steps["model"].shape == rolled.steps["persistence"].shape == (10,)
    assert rolled.metrics["model"]["relative_l2"] < rolled.metrics["persistence"]["relative_l2"]
    # The first frame of a rollout is a prediction of one step.
    assert rolled.steps["model"][0] == pytest.approx(one_step.metrics["model"]["relative_l2"], rel=0.5)
    assert (result.directory / "report.html").read_text(encoding="utf-8").count("better than") >= 1
    again = katops.evaluate(result.directory, advection["data"]["file"], rollout=10, start=1)
    np.testing.assert_allclose(again.steps["model"], rolled.steps["model"], rtol=1e-5)
    output = tmp_path / "forecast.h5"
    call = ["predict", str(result.directory), advection["data"]["file"], "-o", str(output)]
    assert CliRunner().invoke(cli.app, [*call, "--rollout", "30", "--start", "11"]).exit_code == 0
    with h5py.File(output) as file, h5py.File(advection["data"]["file"]) as source:
        forecast, last = file["fields/u"][:], source["u"][:, 11:12]
        np.testing.assert_allclose(
            file["time"][:] if "time" in file else file["axes/time"][:], 0.1 * np.arange(1, 31), rtol=1e-6
        )
    assert forecast.shape == (20, 30, 16)
    bundle = katops.load(result.directory)
    first = bundle.predict(torch.from_numpy(last)[:, :, None])
    np.testing.assert_allclose(forecast[:, :1], first[:, :, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("pushforward", [True, False])
def test_resumed_rollout_training_is_one(advection, pushforward):
    advection["train"]["rollout"] = {"steps": 2, "pushforward": pushforward}
    advection["train"]["epochs"] = 1
    assert katops.train(advection).bundle.header["training"]["epochs_run"] == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": {"rollout": {"steps": 12}}}, r"the window spans 13 frames .* has 12"),
        ({"report": {"rollout": {"frames": 11, "start": 1}}}, r"the window spans 12 frames from frame 1 on"),
        ({"train": {"rollout": {"pushforward": True}}}, r"pushforward needs train\.rollout\.steps of at least 2"),
        ({"train": {"rollout": {"steps": 2}}, "window": {"gap": 1}}, r"window\.gap is 1"),
    ],
)
def test_a_rollout_that_cannot_be_is_refused_before_the_training(advection, change, message):
    advection["data"]["window"] = change.get("window", {})
    advection["train"] |= change.get("train", {})
    advection["report"] = change.get("report", {})
    with pytest.raises(UserError, match=message):
        katops.train(advection)
    assert not Path(advection["output"]).exists()


def test_windows_may_leave_the_first_frames_out():
    assert list(Window(n_in=2, n_out=1, first=4, stride=3).starts(12)) == [4, 7]
    with pytest.raises(UserError, match=r"window\.first must be an integer of at least 0"):
        Window(first=-1)


def test_a_steady_model_has_no_rollout(run_values):
    run_values["report"] = {"rollout": {"frames": 3}}
    with pytest.raises(UserError, match="needs coefficient in every step"):
        katops.train(parse_config(run_values))


def test_evaluation_tells_growth_and_the_last_useful_frame():
    """A model that doubles what it should keep is worse than persistence from the second frame on."""
    meta = FieldMeta("wave", (Channel("u"),), (Channel("u"),), (PERIODIC,), steps_out=3, time_step=0.1)
    truth = torch.ones(4, 3, 1, 8) * torch.tensor([1.5, 1.0, 1.0]).view(3, 1, 1)
    sample = FieldSample(torch.ones(4, 1, 1, 8), truth)
    growing = torch.tensor([1.4, 2.0, 4.0]).view(3, 1, 1)
    found = evaluate(
        {"model": lambda x, time: growing * x, "persistence": lambda x, time: x.expand(-1, 3, -1, -1)}, [sample], meta
    )
    assert found.useful_frames == {"persistence": 1}
    np.testing.assert_allclose(found.amplitudes["model"], [1.4 / 1.5, 2, 4], rtol=1e-6)
    assert found.to_dict()["amplitude_per_step"]["persistence"] == pytest.approx([1 / 1.5, 1, 1])
    assert useful_frames(found) == (
        "relative L2 of frame 3: 300 %, its amplitude 4.00 times the truth's; better than persistence predictor up to "
        "frame 1 of 3"
    )


def long_rollout(gain, batches, samples=4, points=512):
    """Rollouts of 100 frames by a model that multiplies by ``gain`` in each step what should only move."""
    meta = description(steps_out=100)
    one = predictor(description())
    one.model.gain.data.fill_(gain)

    def still(x, time):
        return x.expand(-1, 100, -1, -1)

    def stream():
        for _ in range(batches):
            truth = trajectory(101, torch.randn(samples, points))
            yield FieldSample(truth[:, :1], truth[:, 1:], torch.full((samples,), 10.0))

    return meta, {"model": Rollout(one, 100), "persistence": still}, stream


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_hundred_frames_of_a_stable_model_are_measured_in_memory_that_does_not_grow():
    meta, predictors, stream = long_rollout(gain=0.999, batches=60)
    resident = []

    def watched():
        for sample in stream():
            resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20)
            yield sample

    found = evaluate(predictors, watched(), meta)
    # Targets of 40 batches are 66 MB of float64 numbers, and predictions as much again.
    assert max(resident) - resident[20] < 25
    assert found.nonfinite == {"model": 0, "persistence": 0}
    assert found.first_nonfinite_frame == {}
    np.testing.assert_allclose(found.steps["model"], 1 - 0.999 ** np.arange(1, 101), rtol=1e-3)
    np.testing.assert_allclose(found.lead_times, 0.1 * np.arange(1, 101), rtol=1e-5)
    assert found.worse_frames == {"persistence": []}
    kept = found.drift.energy["prediction"][:, 0] / found.drift.energy["truth"][:, 0]
    np.testing.assert_allclose(kept, 0.999 ** (2 * np.arange(1, 101)), rtol=1e-3)


def test_hundred_frames_of_an_unstable_model_are_flagged_where_they_pass_persistence_and_where_they_break(tmp_path):
    meta, predictors, stream = long_rollout(gain=3.0, batches=1, points=64)
    (sample,) = stream()
    largest = sample.x.double().abs().amax()
    powers = 3.0 ** np.arange(1, 101)
    first = int(np.flatnonzero(largest.item() * powers > torch.finfo(torch.float32).max)[0]) + 1
    found = evaluate(predictors, [sample], meta)
    assert 75 < first < 85
    assert found.first_nonfinite_frame == {"model": first}
    np.testing.assert_allclose(found.steps["model"][: first - 1], powers[: first - 1] - 1, rtol=1e-4)
    assert np.isinf(found.steps["model"][first - 1 :]).all()
    assert found.metrics["model"]["relative_l2"] == np.inf
    # Persistence is off by the square root of two, the model by two from the first frame on.
    assert found.worse_frames["persistence"][0] == 1
    lead = f"{0.1 * first:.4g}"
    assert f"first in frame {first} (after {lead})" in " ".join(warnings_about(found, "waves"))
    page = write_report(tmp_path, evaluations={"waves": found}, summary={}).read_text(encoding="utf-8")
    assert f"first in frame {first}" in page
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    assert summary["evaluations"]["waves"]["first_nonfinite_frame"] == {"model": first}


def test_a_run_compares_one_step_with_two_where_the_model_takes_the_lead_time(advection, monkeypatch):
    monkeypatch.setattr(katops.models.mgno.MgNO, "takes_time", True, raising=False)
    advection["train"] |= {"epochs": 1, "rollout": {}}
    advection["report"] = {"semigroup": True}
    result = katops.train(advection)
    summary = json.loads((result.directory / "summary.json").read_text(encoding="utf-8"))
    found = summary["semigroup"]["waves.h5"]
    # Twelve frames, of which the third, fifth, ... have one in the middle between them and the first.
    assert found["times"] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0], rel=1e-5)
    assert found["samples"] == 4
    assert "One step against two on waves.h5" in (result.directory / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("takes_time", "window", "message"),
    [
        (False, {}, r"report\.semigroup compares steps of different lengths, but 'mgno' does not take the lead time"),
        (True, {"n_in": 2}, r"takes one frame and gives one; data\.window has n_in 2 and n_out 1"),
        (True, {"every": 6}, r"trajectories of at least 3 frames"),
    ],
)
def test_steps_that_cannot_be_compared_are_refused_before_the_training(
    advection, monkeypatch, takes_time, window, message
):
    monkeypatch.setattr(katops.models.mgno.MgNO, "takes_time", takes_time, raising=False)
    advection["data"]["window"] = window
    advection["train"]["rollout"] = {}
    advection["report"] = {"semigroup": True}
    with pytest.raises(UserError, match=message):
        katops.train(advection)
    assert not Path(advection["output"]).exists()
