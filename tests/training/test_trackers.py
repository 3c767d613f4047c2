"""Trackers get what ``log.csv`` gets, go on where the training goes on, and end no training."""

import csv
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import Logger
from rich.console import Console

from katops import api
from katops.errors import UserError
from katops.training import trackers as module
from katops.training.callbacks import EpochLog
from katops.training.directory import remove_run
from katops.training.trackers import Trackers, check_trackers

pytestmark = pytest.mark.usefixtures("undrawn_figures")

VALUES = {"name": "small", "train": {"epochs": 2, "rates": None}}


class Recorder(Logger):
    """A tracker that keeps everything in memory."""

    name = version = None

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, Any]] = []
        self.configurations: list[Mapping[str, Any]] = []
        self.ends: list[str] = []
        self.kept: list[dict[str, str]] = []
        self.fails_at: int | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if step == self.fails_at:
            raise ConnectionError("the server\n does not answer")
        self.rows.append({"at": step, **metrics})

    def log_hyperparams(self, params: Any) -> None:
        self.configurations.append(params)

    def finalize(self, status: str) -> None:
        self.ends.append(status)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """What ``trackers: [tensorboard]`` starts in this test."""
    recorder = Recorder()

    def start(place: module.Place) -> tuple[Logger, dict[str, str]]:
        recorder.kept.append(place.kept)
        return recorder, {"run": "7"}

    monkeypatch.setitem(module._STARTS, "tensorboard", start)
    monkeypatch.setattr("katops.training.fit.check_trackers", lambda names: None)
    return recorder


@pytest.fixture
def tracked_values(run_values: dict[str, Any]) -> dict[str, Any]:
    """A training of two epochs of six steps."""
    run_values["data"]["split"] = {"train": 48, "validation": 16, "test": 16}
    run_values["train"] |= {"epochs": 2, "device": "cpu", "trackers": ["tensorboard"]}
    return {**run_values, "report": {"examples": 1}}


def interrupt_after_the_first_epoch(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a run with a checkpoint of its first epoch, stopped in the second."""
    begin = EpochLog.on_train_epoch_end

    def stop(self: EpochLog, *arguments: Any) -> None:
        if len(self.rows) == 1:
            raise KeyboardInterrupt
        begin(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(EpochLog, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            api.train(values, progress=False)


def rows_of(directory: Path) -> list[dict[str, float]]:
    """``log.csv``."""
    with open(directory / "log.csv", newline="") as stream:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(stream)]


def test_trackers_get_the_rows_of_the_log_losses_of_steps_the_configuration_and_the_results(
    tracked_values: dict[str, Any], recorder: Recorder
) -> None:
    result = api.train(tracked_values, progress=False)
    logged = rows_of(result.directory)
    epochs = [row for row in recorder.rows if "train_loss" in row]
    assert [{"step": row.pop("at"), **row} for row in epochs] == logged
    assert [row["at"] for row in recorder.rows if "step_loss" in row] == list(range(1, 13))
    [(name, evaluation)] = result.evaluations.items()
    assert recorder.rows[-1]["at"] == 12
    assert recorder.rows[-1][f"{name}/relative_l2"] == evaluation.metrics["model"]["relative_l2"]
    assert [found["train"]["batch_size"] for found in recorder.configurations] == [8]
    assert recorder.ends == ["success"]


def test_an_interrupted_run_is_told_as_failed_and_continued_under_the_same_identity(
    tracked_values: dict[str, Any], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_after_the_first_epoch(tracked_values, monkeypatch)
    assert recorder.ends == ["failed"]
    directory = api.train(tracked_values, resume=True, progress=False).directory
    assert recorder.kept == [{}, {"run": "7"}]
    assert (len(recorder.configurations), recorder.ends) == (1, ["failed", "success"])
    assert [row["epoch"] for row in recorder.rows if "epoch" in row] == [1, 2]
    remove_run(directory)
    assert not (directory / "trackers.json").exists()


def test_a_tracker_that_fails_is_told_once_and_the_training_goes_on(
    tracked_values: dict[str, Any], recorder: Recorder
) -> None:
    recorder.fails_at = 3
    console = Console(file=io.StringIO())
    result = api.train(tracked_values, console=console, progress=False)
    assert len(rows_of(result.directory)) == 2
    assert [row["at"] for row in recorder.rows] == [1, 2]
    told = " ".join(console.file.getvalue().split())
    assert told.count("tensorboard failed and gets nothing more of this training: the server does not answer") == 1


def test_a_tracker_that_cannot_be_started_ends_the_run_before_training(
    tracked_values: dict[str, Any], recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: module.Place) -> None:
        raise RuntimeError("no API key\nconfigured")

    monkeypatch.setitem(module._STARTS, "tensorboard", refuse)
    with pytest.raises(UserError, match=r"^train\.trackers: tensorboard cannot be started: no API key configured$"):
        api.train(tracked_values, progress=False)
    assert not (Path(tracked_values["output"]) / "log.csv").exists()


def test_a_tracker_that_is_not_installed_is_told_and_a_folder_of_its_name_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "absent_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"'absent_tracker', which is not installed: pip install absent_tracker"):
        check_trackers(["absent_tracker"])
    check_trackers(["json", "csv"])


def test_the_curves_of_tensorboard_go_on_without_a_gap_or_a_second_value(
    tracked_values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    interrupt_after_the_first_epoch(tracked_values, monkeypatch)
    result = api.train(tracked_values, resume=True, progress=False)
    events = EventAccumulator(str(result.directory / "tensorboard"))
    events.Reload()
    logged = rows_of(result.directory)
    for name in ("train_loss", "validation_relative_l2", "learning_rate"):
        curve = [(event.step, event.value) for event in events.Scalars(name)]
        assert curve == [(row["step"], pytest.approx(row[name])) for row in logged]
    assert [event.step for event in events.Scalars("step_loss")] == list(range(1, 13))
    [name] = result.evaluations
    assert [event.step for event in events.Scalars(f"{name}/relative_l2")] == [12]
    assert "_hparams_/experiment" in events.summary_metadata
    assert (result.directory / "tensorboard" / "hparams.yaml").is_file()
    remove_run(result.directory)
    assert not list((result.directory / "tensorboard").iterdir())


def track(name: str, directory: Path, step: int) -> str:
    """Track a training of two steps; returns the identity of the run."""
    with Trackers([name], directory, directory.name, VALUES, print) as trackers:
        trackers.begin(step)
        trackers.log({"train_loss": 0.5, "validation": None}, step + 2)
        trackers.results({"a (b)": {"relative_l2": 0.25, "name": "x"}})
    return json.loads((directory / "trackers.json").read_text())[name]["run"]


@pytest.mark.filterwarnings("ignore")  # of others
def test_mlflow_keeps_every_training_in_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name in ("one", "two"):
        directory = tmp_path / name
        directory.mkdir()
        run = track("mlflow", directory, 0)
        assert track("mlflow", directory, 2) == run
        client = MlflowClient(f"sqlite:///{directory / 'mlflow.db'}")
        found = client.get_run(run)
        assert (found.info.run_name, found.info.status) == (name, "FINISHED")
        assert found.data.params["train/epochs"] == "2"
        assert found.data.metrics["a _b_/relative_l2"] == 0.25
        assert [point.step for point in client.get_metric_history(run, "train_loss")] == [2, 4]
        remove_run(directory)
        assert not list(directory.glob("mlflow*"))


@pytest.mark.filterwarnings("ignore")  # of others
def test_weights_and_biases_keeps_trainings_of_one_process_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    runs = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        runs[name] = track("wandb", tmp_path / name, 0)
        assert wandb.run is None
        [file] = (tmp_path / name).glob(f"wandb/offline-run-*/run-{runs[name]}.wandb")
        wanted = {b"train_loss", b"a _b_/relative_l2", b"epochs"}
        until = time.monotonic() + 60  # another process writes the file
        while missing := {word for word in wanted if word not in file.read_bytes()}:
            assert time.monotonic() < until, missing
            time.sleep(0.1)
        remove_run(tmp_path / name)
        assert not file.exists()
    assert runs["one"] != runs["two"]
