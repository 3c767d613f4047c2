"""One run from configuration to report: what is left behind, that it can be resumed, and that it tells the truth."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

import katops
from katops import api
from katops.data import describe
from katops.errors import UserError
from katops.training.task import OperatorTask


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def in_folder(values: dict, folder: Path) -> dict:
    return {**values, "output": str(folder)}


pytestmark = pytest.mark.usefixtures("undrawn_figures")


@pytest.fixture(scope="module")
def finished_run(small_run: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy of a finished run."""
    run = api.train(in_folder(small_run, tmp_path_factory.mktemp("finished") / "full")).directory
    return shutil.copytree(run, run.with_name("copy"))


@pytest.fixture
def full_run(finished_run: Path) -> Path:
    """A finished run that the test may change; always in the folder that its checkpoints name."""
    run = finished_run.with_name("full")
    shutil.rmtree(run)
    return shutil.copytree(finished_run, run)


def test_a_run_leaves_the_promised_files(full_run: Path) -> None:
    names = {path.name for path in full_run.iterdir()}
    assert names >= {"config.yaml", "log.csv", "model.safetensors", "summary.json", "metrics.csv", "report.html"}
    assert {path.name for path in (full_run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not list(full_run.rglob("*.partial"))


def test_training_beats_the_mean_predictor_and_says_which_epoch_was_tested(full_run: Path) -> None:
    with (full_run / "log.csv").open(newline="") as file:
        log = list(csv.DictReader(file))
    errors = [float(row["validation_relative_l2"]) for row in log]
    summary = json.loads((full_run / "summary.json").read_text())
    assert [int(row["epoch"]) for row in log] == [1, 2, 3, 4]
    assert summary["training"]["best_epoch"] == 1 + int(np.argmin(errors))
    metrics = next(iter(summary["evaluations"].values()))["metrics"]
    assert metrics["model"]["relative_l2"] < 0.8 * metrics["mean"]["relative_l2"]


def test_the_same_seed_gives_the_same_weights_bit_for_bit(full_run: Path, run_values: dict, tmp_path: Path) -> None:
    api.train(in_folder(run_values, tmp_path / "again"))
    assert_same_weights(full_run, tmp_path / "again")


def test_another_seed_gives_other_weights(full_run: Path, run_values: dict, tmp_path: Path) -> None:
    api.train({**in_folder(run_values, tmp_path / "other"), "seed": 1})
    ours, theirs = weights(full_run), weights(tmp_path / "other")
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours if name.startswith("model."))


def test_two_epochs_and_a_kill_and_two_resumed_equal_four_bit_for_bit(
    full_run: Path, run_values: dict, tmp_path: Path
) -> None:
    interrupted = in_folder(run_values, tmp_path / "interrupted")
    kill_after_epoch(2, interrupted, tmp_path)
    assert not (tmp_path / "interrupted" / "model.safetensors").exists()
    resumed = api.train(interrupted, resume=True).directory
    assert_same_weights(full_run, resumed)
    assert log_without_times(full_run) == log_without_times(resumed)


class Interruption(Exception):
    """Ends a training in the middle."""


def test_averaged_weights_of_an_interrupted_and_resumed_run_are_those_of_an_uninterrupted_one_bit_for_bit(
    run_values: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_values["train"]["ema_decay"] = 0.9
    full = api.train(in_folder(run_values, tmp_path / "full")).directory
    interrupted, step = in_folder(run_values, tmp_path / "interrupted"), OperatorTask.training_step

    def stop(self: OperatorTask, batch: object, batch_index: int) -> torch.Tensor:
        if self.current_epoch == 2 and batch_index == 2:
            raise Interruption
        return step(self, batch, batch_index)

    with monkeypatch.context() as patch:
        patch.setattr(OperatorTask, "training_step", stop)
        with pytest.raises(Interruption):
            api.train(interrupted)
    resumed = api.train(interrupted, resume=True).directory
    assert_same_weights(full, resumed)
    assert log_without_times(full) == log_without_times(resumed)


def log_without_times(directory: Path) -> list[dict[str, str]]:
    with (directory / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def kill_after_epoch(epoch: int, values: dict, folder: Path) -> None:
    """Train in another process and ``kill -9`` it in the middle of the epoch after ``epoch``."""
    script = f"""
import os, signal
import katops.training.task as task
from katops import api
step = task.OperatorTask.training_step
def stop(self, batch, batch_index):
    if self.current_epoch == {epoch} and batch_index == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, batch_index)
task.OperatorTask.training_step = stop
api.train({values!r})
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, env=single_threaded(), check=False, timeout=120
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr.decode()


def single_threaded() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}


def test_a_kill_in_the_middle_of_writing_a_checkpoint_leaves_the_one_before_it(
    run_values: dict, tmp_path: Path
) -> None:
    values = in_folder(run_values, tmp_path / "killed")
    script = f"""
import os, signal
import torch
from katops import api
save, calls = torch.save, []
def half(checkpoint, path):
    calls.append(path)
    save(checkpoint, path)
    if checkpoint["epoch"] == 2:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = half
api.train({values!r})
"""
    finished = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, check=False, timeout=120
    )
    assert finished.returncode == -signal.SIGKILL, finished.stderr.decode()
    for name in ("best.ckpt", "last.ckpt"):
        checkpoint = torch.load(tmp_path / "killed" / "checkpoints" / name, weights_only=True)
        assert checkpoint["epoch"] <= 1
    resumed = api.train(values, resume=True).directory
    assert len(log_without_times(resumed)) == 4


def test_ctrl_c_ends_training_with_a_word_and_the_run_continues(run_values: dict, tmp_path: Path) -> None:
    values = {**in_folder(run_values, tmp_path / "run"), "train": {**run_values["train"], "epochs": 20}}
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values), encoding="utf-8")
    # A shell lets its background jobs, and what they start, ignore Ctrl-C.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{listening}; from katops.cli import main; main()", "train", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    deadline = time.monotonic() + 100
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    # Just now, Lightning asks fsspec whether files exist, which swallows exceptions.
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "interrupted; what was finished is kept" in error
    assert "Traceback" not in error
    api.train(values, resume=True)
    assert len(log_without_times(tmp_path / "run")) == 20


def test_an_existing_run_is_neither_lost_nor_silently_replaced(full_run: Path, run_values: dict) -> None:
    before = weights(full_run)
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        api.train(in_folder(run_values, full_run))
    again = api.train(in_folder(run_values, full_run), resume=True).directory
    assert all(torch.equal(value, weights(again)[name]) for name, value in before.items())


@pytest.mark.parametrize("option", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_with_other_things_is_never_touched(run_values: dict, tmp_path: Path, option: dict) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "log.csv").write_text("precious")
    (thesis / "config.yaml").write_text("theme: dark\n")
    with pytest.raises(UserError, match="is not empty and is no katops run"):
        api.train(in_folder(run_values, thesis), **option)
    assert (thesis / "log.csv").read_text() == "precious"
    assert (thesis / "config.yaml").read_text() == "theme: dark\n"


def test_overwriting_replaces_the_run_and_leaves_files_of_others(full_run: Path, run_values: dict) -> None:
    (full_run / "notes.txt").write_text("precious")
    run_values["train"]["epochs"] = 1
    api.train(in_folder(run_values, full_run), overwrite=True)
    assert (full_run / "notes.txt").read_text() == "precious"
    assert len(log_without_times(full_run)) == 1


def test_a_bad_configuration_does_not_cost_the_run_that_it_would_overwrite(full_run: Path, run_values: dict) -> None:
    before = weights(full_run)
    run_values["model"]["act_layer"] = "gellu"
    with pytest.raises(UserError, match="did you mean 'gelu'"):
        api.train(in_folder(run_values, full_run), overwrite=True)
    assert all(torch.equal(value, weights(full_run)[name]) for name, value in before.items())


def test_nothing_is_generated_for_a_configuration_that_cannot_train(run_values: dict, tmp_path: Path) -> None:
    run_values["data"]["file"] = str(tmp_path / "made.h5")
    run_values["data"]["generate"] = {"problem": "darcy", "samples": 224, "resolution": 12}
    for change, message in (
        ({"model": "mgnoo"}, "did you mean 'mgno'"),
        ({"train": {"loss": {"name": "h1", "max_wavenumber": "abc"}}}, "max_wavenumber"),
        ({"data": {**run_values["data"], "split": {"train": 400}}}, "400"),
    ):
        with pytest.raises(UserError, match=message):
            api.train({**run_values, **change})
    assert not list(tmp_path.glob("made.h5*"))


def test_the_configuration_cannot_overwrite_data(run_values: dict) -> None:
    run_values["data"]["generate"] = {"problem": "darcy", "samples": 2, "overwrite": True}
    with pytest.raises(UserError, match="unknown option 'overwrite'"):
        api.train(run_values)


def test_resuming_on_other_data_is_refused(full_run: Path, run_values: dict, tmp_path: Path) -> None:
    config = full_run / "config.yaml"
    other = katops.generate("darcy", tmp_path / "other.h5", samples=224, resolution=12, seed=5)
    config.write_text(config.read_text().replace(run_values["data"]["file"], str(other)))
    run_values["data"]["file"] = str(other)
    with pytest.raises(UserError, match="is not the file that its training began with"):
        api.train(in_folder(run_values, full_run), resume=True)


def test_test_files_of_the_same_name_are_told_apart(run_values: dict, tmp_path: Path) -> None:
    files = [
        katops.generate("darcy", tmp_path / folder / "test.h5", samples=8, resolution=12, seed=seed)
        for folder, seed in (("a", 1), ("b", 2))
    ]
    run_values["data"]["test_files"] = [str(file) for file in files]
    run_values["data"]["split"] = {"train": 200}
    run_values["train"]["epochs"] = 1
    result = api.train(in_folder(run_values, tmp_path / "run"))
    assert list(result.evaluations) == [str(file) for file in files]
    with pytest.raises(UserError, match="no part of it was kept for testing"):
        api.evaluate(result.directory, run_values["data"]["file"])


def test_the_model_file_tells_its_measured_errors(full_run: Path) -> None:
    summary = json.loads((full_run / "summary.json").read_text())
    metrics = {name: evaluation["metrics"] for name, evaluation in summary["evaluations"].items()}
    assert katops.load(full_run).header["metrics"] == metrics


def test_another_mesh_is_warned_about(full_run: Path, tmp_path: Path) -> None:
    finer = katops.generate("darcy", tmp_path / "finer.h5", samples=4, resolution=24)
    api.evaluate(full_run, finer, output=tmp_path / "report")
    (warning,) = json.loads((tmp_path / "report" / "summary.json").read_text())["warnings"]
    assert "distance of the grid points is 0.0417, 0.0417; the model was trained with 0.0833" in warning


@pytest.mark.parametrize("name", ["", "*.h5"])
def test_predictions_never_replace_a_file_of_the_folder_they_are_made_from(full_run: Path, tmp_path, name) -> None:
    files = [katops.generate("darcy", tmp_path / "in" / f"{seed}.h5", samples=2, resolution=12, seed=seed)
             for seed in (5, 6)]  # fmt: skip
    before = [file.read_bytes() for file in files]
    with pytest.raises(UserError, match="never the input itself"):
        api.predict(full_run, tmp_path / "in" / name, files[1], overwrite=True)
    assert [file.read_bytes() for file in files] == before
    for _ in range(2):
        output = api.predict(full_run, tmp_path / "in" / name, tmp_path / "out.h5", overwrite=True)
    assert describe(output, inputs=["pressure"], outputs=[]).n_samples == 4


def test_a_report_never_replaces_that_of_a_training_run(full_run: Path, run_values: dict) -> None:
    with pytest.raises(UserError, match="holds a training run"):
        api.evaluate(full_run, run_values["data"]["file"], output=full_run)


def test_resuming_with_another_model_is_refused(full_run: Path, run_values: dict) -> None:
    run_values["model"]["hidden_channels"] = 8
    with pytest.raises(UserError, match=r"model\.hidden_channels was 6 and is 8 now"):
        api.train(in_folder(run_values, full_run), resume=True)


@pytest.mark.parametrize(("key", "value"), [("memory", "ram"), ("workers", 1)])
def test_how_the_data_are_read_may_change_on_resuming(
    full_run: Path, run_values: dict, key: str, value: object
) -> None:
    run_values["data"][key] = value
    assert api.train(in_folder(run_values, full_run), resume=True).directory == full_run


def test_a_run_begun_before_there_were_tasks_is_continued(full_run: Path, run_values: dict) -> None:
    config = full_run / "config.yaml"
    config.write_text(config.read_text().replace("task: operator\n", ""))
    assert "task" not in config.read_text()
    assert api.train(in_folder(run_values, full_run), resume=True).directory == full_run


def test_early_stopping_ends_the_run_and_the_best_epoch_is_kept(run_values: dict, tmp_path: Path) -> None:
    run_values["train"] |= {"epochs": 50, "early_stopping": 2, "learning_rate": 1e-20, "schedule": "constant"}
    run_values["train"]["weight_decay"] = 0.0
    directory = api.train(in_folder(run_values, tmp_path / "stopped")).directory
    training = json.loads((directory / "summary.json").read_text())["training"]
    assert training["epochs_run"] < 50
    assert training["epochs_run"] - training["best_epoch"] == 2
    before = (directory / "log.csv").read_text()
    again = api.train(in_folder(run_values, directory), resume=True)
    assert (directory / "log.csv").read_text() == before
    assert again.bundle.header["training"]["best_epoch"] == training["best_epoch"]


def test_without_validation_the_last_epoch_is_tested_and_said_so(run_values: dict, tmp_path: Path) -> None:
    run_values["data"]["split"]["validation"] = 0
    directory = api.train(in_folder(run_values, tmp_path / "last")).directory
    training = json.loads((directory / "summary.json").read_text())["training"]
    assert (training["chosen"], training["best_epoch"]) == ("last", 4)


def test_the_number_of_steps_can_be_limited(run_values: dict, tmp_path: Path) -> None:
    run_values["train"]["max_steps"] = 3
    directory = api.train(in_folder(run_values, tmp_path / "short")).directory
    assert (directory / "model.safetensors").exists()


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train_and_save_a_float32_model(run_values: dict, tmp_path: Path, precision: str) -> None:
    run_values["train"]["precision"] = precision
    directory = api.train(in_folder(run_values, tmp_path / "run")).directory
    assert {value.dtype for name, value in weights(directory).items() if name.startswith("model.")} == {torch.float32}


def test_the_loss_that_became_nan_stops_the_run_and_names_samples(run_values: dict, tmp_path: Path) -> None:
    run_values["train"] |= {"learning_rate": 1e30, "schedule": "constant", "gradient_clip": None}
    with pytest.raises(
        UserError, match=r"loss became (nan|inf) in epoch \d+, step \d+, first in the output of .*on samples \["
    ):
        api.train(in_folder(run_values, tmp_path / "nan"))


def test_training_leaves_the_working_directory_and_the_default_dtype_alone(run_values: dict, tmp_path: Path) -> None:
    before = Path.cwd(), torch.get_default_dtype(), sorted(Path.cwd().iterdir())
    api.train(in_folder(run_values, tmp_path / "run"))
    assert before == (Path.cwd(), torch.get_default_dtype(), sorted(Path.cwd().iterdir()))


def test_a_plugin_can_add_a_layer(run_values: dict, tmp_path: Path) -> None:
    plugin = tmp_path / "softsign.py"
    plugin.write_text(
        "from torch import nn\nfrom katops.registry import LAYERS\n"
        "LAYERS.register('softsign_of_mine', kind='activation', summary='x / (1 + |x|)')(nn.Softsign)\n"
    )
    run_values["plugins"] = [str(plugin)]
    run_values["model"]["act_layer"] = "softsign_of_mine"
    result = api.train(in_folder(run_values, tmp_path / "run"), allow_plugins=True)
    assert any(isinstance(module, torch.nn.Softsign) for module in result.bundle.model.modules())
    assert katops.load(result.directory).model.recipe["arguments"]["act_layer"] == "softsign_of_mine"
