"""An image run from configuration to report: files, truthfulness, resumption, trials."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner

import katops
from katops import api
from katops.cli import app
from katops.errors import UserError
from katops.evaluation.classification_result import ClassificationEvaluation
from katops.training.image_task import ImageTask


def in_folder(values: dict, folder: Path) -> dict:
    return {**values, "output": str(folder)}


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def assert_same_weights(one: Path, other: Path) -> None:
    ours, theirs = weights(one), weights(other)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


def log_without_times(directory: Path) -> list[dict[str, str]]:
    with (directory / "log.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def summary(directory: Path) -> dict:
    return json.loads((directory / "summary.json").read_text(encoding="utf-8"))


def accuracy_of(evaluation: ClassificationEvaluation) -> float:
    return evaluation.scores[evaluation.model].accuracy


class Interruption(Exception):
    """Ends a training where a test wants it."""


def interrupt(monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int, trial: int = 1) -> None:
    """Raise in the middle of an epoch of a trial, counted from 1."""
    step, starts = ImageTask.training_step, []

    def stop(self: ImageTask, images: object, index: int) -> torch.Tensor:
        if self.current_epoch == 0 and index == 0:
            starts.append(self)
        if len(starts) == trial and self.current_epoch == epoch and index == batch:
            raise Interruption
        return step(self, images, index)

    monkeypatch.setattr(ImageTask, "training_step", stop)


@pytest.fixture(scope="module")
def digits_run(digits: dict, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the digits, with its report as users see it."""
    return api.train(in_folder(digits, tmp_path_factory.mktemp("digits") / "run")).directory


@pytest.fixture(autouse=True)
def _undrawn(undrawn_figures: None) -> None:
    """All other reports are made without drawing, since fixtures of the module come first."""


def test_digits_are_learned_and_the_run_can_be_used_in_every_way(digits_run: Path, tmp_path: Path) -> None:
    names = {path.relative_to(digits_run).as_posix() for path in digits_run.rglob("*") if path.is_file()}
    trial = "trials/resnet10t-seed0"
    promised = {"config.yaml", "log.csv", "model.safetensors", "summary.json", "metrics.csv", "report.html"}
    promised |= {f"{trial}/{name}" for name in ("log.csv", "model.safetensors", "checkpoints/best.ckpt")}
    assert promised <= names
    assert not [name for name in names if name.endswith(".partial")]

    told = summary(digits_run)
    accuracy = told["evaluations"]["test"]["predictors"]["resnet10t"]["accuracy"]
    assert accuracy > 0.5
    log = log_without_times(digits_run)
    reached = [float(row["validation_accuracy"]) for row in log]
    assert told["training"]["best_epoch"] == 1 + reached.index(max(reached))
    assert told["training"]["monitor"] == "validation_accuracy"
    assert told["data"]["training_images_per_class"].keys() == set("0123456789")

    bundle = katops.load(digits_run)
    assert bundle.header["kind"] == "images"
    assert bundle.header["classes"] == list("0123456789")
    assert bundle.header["metrics"]["test"]["accuracy"] == accuracy
    assert accuracy_of(api.evaluate(digits_run, "digits")) == accuracy
    validation = accuracy_of(api.evaluate(digits_run, "digits", split="validation"))
    assert validation == pytest.approx(max(reached), abs=1e-6)
    whole = api.evaluate(digits_run, "digits", split="all")
    parts = [api.evaluate(digits_run, "digits", split=split) for split in ("train", "validation", "test")]
    assert whole.images == 1797 == sum(part.images for part in parts)
    assert accuracy_of(whole) == pytest.approx(sum(accuracy_of(part) * part.images for part in parts) / 1797)


def test_the_validation_accuracy_of_the_log_is_that_of_the_kept_weights(image_values: dict) -> None:
    result = api.train(image_values)
    evaluation = result.evaluations["validation"]
    assert accuracy_of(evaluation) == pytest.approx(result.bundle.header["training"]["best_value"], abs=1e-6)


def test_without_test_images_the_report_says_what_was_measured(image_values: dict) -> None:
    directory = api.train(image_values).directory
    (warning,) = summary(directory)["warnings"]
    assert "the validation images chose the epoch and are the ones reported" in warning
    assert "the validation images chose the epoch" in (directory / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "train", [{}, {"ema_decay": 0.8, "mixup": 0.5, "cutmix": 1.0, "mixup_off_epoch": 3, "accumulate": 2}]
)
def test_an_interrupted_and_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    image_values: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train: dict
) -> None:
    image_values["model"]["drop_path_rate"] = 0.2
    image_values["train"] |= train
    full = api.train(in_folder(image_values, tmp_path / "full")).directory
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=2, batch=1)
        with pytest.raises(Interruption):
            api.train(in_folder(image_values, tmp_path / "resumed"))
    assert not (tmp_path / "resumed" / "model.safetensors").exists()
    resumed = api.train(in_folder(image_values, tmp_path / "resumed"), resume=True).directory
    assert_same_weights(full, resumed)
    assert log_without_times(full) == log_without_times(resumed)


def test_the_averaged_weights_are_the_ones_that_are_kept(image_values: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def record(self: ImageTask, *_: object) -> None:
        seen.append({name: value.detach().clone() for name, value in self.model.state_dict().items()})

    monkeypatch.setattr(ImageTask, "on_train_batch_end", record)
    decay = 0.7
    image_values["train"] |= {"ema_decay": decay}
    image_values["data"] |= {"validation_split": None, "test_split": "val"}
    directory = api.train(image_values).directory
    average = seen[0]
    for step in seen[1:]:
        average = {name: decay * value + (1 - decay) * step[name] for name, value in average.items()}
    for name, value in weights(directory).items():
        torch.testing.assert_close(value, average[name.removeprefix("model.")], rtol=1e-4, atol=1e-6)


def test_images_are_mixed_until_the_epoch_that_ends_it(image_values: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    mixed: dict[int, bool] = {}
    step = ImageTask.training_step

    def record(self: ImageTask, batch: object, index: int) -> torch.Tensor:
        mixed[self.current_epoch] = self.mixup.mixup_enabled
        return step(self, batch, index)

    monkeypatch.setattr(ImageTask, "training_step", record)
    image_values["train"] |= {"mixup": 0.8, "mixup_off_epoch": 2}
    api.train(image_values)
    assert mixed == {0: True, 1: True, 2: False, 3: False}


def test_accumulated_batches_are_one_step(image_values: dict) -> None:
    image_values["train"] |= {"accumulate": 3, "epochs": 2}
    assert [row["step"] for row in log_without_times(api.train(image_values).directory)] == ["1", "2"]


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_other_precisions_train_and_save_a_float32_model(image_values: dict, precision: str) -> None:
    image_values["train"] |= {"precision": precision, "epochs": 2, "mixup": 0.5}
    directory = api.train(image_values).directory
    assert {value.dtype for value in weights(directory).values()} == {torch.float32}


@pytest.fixture
def compared(image_values: dict) -> dict:
    image_values["train"]["epochs"] = 2
    resnet = {"name": "resnet10t", "stem_type": "", "stem_width": 8, "channels": [8, 8, 8, 8]}
    return {**image_values, "repeats": 2, "compare": [resnet]}


def test_every_model_is_trained_with_every_seed_and_the_first_seed_is_the_run(compared: dict) -> None:
    directory = api.train(compared).directory
    labels = ["vit_tiny_patch16_224", "resnet10t"]
    folders = {path.name for path in (directory / "trials").iterdir()}
    assert folders == {f"{label}-seed{seed}" for label in labels for seed in (0, 1)}
    told = summary(directory)
    assert [(trial["model"], trial["seed"]) for trial in told["trials"]] == [(n, s) for n in labels for s in (0, 1)]
    assert list(told["evaluations"]["validation"]["predictors"]) == labels
    first, second = (directory / "trials" / f"{labels[0]}-seed{seed}" for seed in (0, 1))
    assert_same_weights(directory, first)
    ours, theirs = weights(directory), weights(second)
    assert any(not torch.equal(value, theirs[name]) for name, value in ours.items())
    for trial in told["trials"]:
        evaluation = told["evaluations"]["validation"]["predictors"][trial["model"]]
        if trial["seed"] == 0:
            assert trial["accuracy"] == evaluation["accuracy"]


def test_finished_trials_are_kept_and_the_interrupted_one_is_continued(
    compared: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = api.train(in_folder(compared, tmp_path / "full")).directory
    parts = in_folder(compared, tmp_path / "parts")
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=1, batch=1, trial=2)
        with pytest.raises(Interruption):
            api.train(parts)
    finished = tmp_path / "parts" / "trials" / "vit_tiny_patch16_224-seed0" / "model.safetensors"
    before = finished.stat().st_mtime_ns
    api.train(parts, resume=True)
    assert finished.stat().st_mtime_ns == before
    for trial in sorted((full / "trials").iterdir()):
        assert_same_weights(trial, tmp_path / "parts" / "trials" / trial.name)


def test_more_repeats_can_be_added_to_a_finished_run(image_values: dict) -> None:
    image_values["train"]["epochs"] = 2
    directory = api.train(image_values).directory
    api.train({**image_values, "repeats": 2}, resume=True)
    assert [trial["seed"] for trial in summary(directory)["trials"]] == [0, 1]


def test_overwriting_removes_every_trial_and_leaves_files_of_others(compared: dict) -> None:
    directory = api.train(compared).directory
    (directory / "trials" / "notes.txt").write_text("precious")
    api.train({**compared, "compare": [], "repeats": 1}, overwrite=True)
    assert len(list(directory.glob("trials/*/model.safetensors"))) == 1
    assert (directory / "trials" / "notes.txt").read_text() == "precious"


def contents(directory: Path) -> dict[str, bytes]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in files}


@pytest.mark.parametrize("decoded", [10_000, 0])
def test_a_run_survives_a_replacement_that_fails_on_a_cut_image(
    image_values: dict, image_folder: Path, monkeypatch: pytest.MonkeyPatch, decoded: int
) -> None:
    image_values["train"]["epochs"] = 2
    directory = api.train(image_values).directory
    before = contents(directory)
    monkeypatch.setattr("katops.data.image_check.MOST_DECODED", decoded)
    whole = (image_folder / "train" / "dog" / "3.png").read_bytes()
    (image_folder / "train" / "dog" / "3.png").write_bytes(whole[:-40])
    with pytest.raises(UserError, match=r"dog/3\.png"):
        api.train({**image_values, "seed": 1}, overwrite=True)
    assert contents(directory) == before
    (image_folder / "train" / "dog" / "3.png").write_bytes(whole)
    api.train({**image_values, "seed": 1}, overwrite=True)
    assert not (directory / ".replaced").exists()
    assert [path.name for path in directory.glob("trials/*/model.safetensors")] == ["model.safetensors"]
    assert contents(directory)["model.safetensors"] != before["model.safetensors"]


def test_a_replaced_run_is_kept_until_the_new_one_is_complete(
    image_values: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_values["train"]["epochs"] = 2
    directory = api.train(image_values).directory
    before = contents(directory)
    console = Console(record=True, width=300)
    for seed in (1, 2):  # the second replaces the unfinished first one, not the complete run
        with monkeypatch.context() as patch:
            interrupt(patch, epoch=1, batch=1)
            with pytest.raises(Interruption):
                api.train({**image_values, "seed": seed}, overwrite=True, console=console)
        assert contents(directory / ".replaced") == before
        assert [path.parent.parent.name[-1] for path in directory.glob("trials/*/checkpoints/last.ckpt")] == [str(seed)]
    assert "is kept in" in console.export_text()
    api.train({**image_values, "seed": 2}, resume=True)
    assert not (directory / ".replaced").exists()
    assert summary(directory)["training"]["seeds"] == [2]


def test_splits_that_share_files_through_links_are_refused(image_values: dict, image_folder: Path) -> None:
    for number in (0, 1):
        (image_folder / "val" / "cat" / f"link{number}.png").symlink_to(
            image_folder / "train" / "cat" / f"{number}.png"
        )
    with pytest.raises(UserError, match=r"data\.train_split and data\.validation_split share 2 images"):
        api.train(image_values)


def test_a_copy_of_the_training_images_is_no_validation(image_values: dict, image_folder: Path) -> None:
    shutil.copytree(image_folder / "train", image_folder / "copy")
    image_values["data"]["validation_split"] = "copy"
    with pytest.raises(UserError, match=r"data\.train_split and data\.validation_split share 24 images"):
        api.train(image_values)


def test_what_is_not_read_is_said_on_the_console_and_in_the_report(image_values: dict, image_folder: Path) -> None:
    (image_folder / "train" / "cat" / "9.heic").write_bytes(b"")
    image_values["train"]["epochs"] = 2
    console = Console(record=True, width=300)
    directory = api.train(image_values, console=console).directory
    assert "1 file looks like an image and is not read" in console.export_text()
    assert "9.heic" in summary(directory)["warnings"][0]
    assert "9.heic" in (directory / "report.html").read_text(encoding="utf-8")


def test_a_folder_is_never_mistaken_for_the_data_set_of_the_training(
    image_values: dict, image_folder: Path, digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_values["train"]["epochs"] = 2
    run = api.train(image_values).directory
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="there is no folder 'folder' of images"):
        api.evaluate(run, "folder")
    shutil.copytree(image_folder / "val" / "cat", Path("folder", "cat"))
    assert api.evaluate(run, "folder").images == 4
    shutil.copytree(image_folder / "val" / "cat", Path("digits", "7"))
    with pytest.raises(
        UserError, match=r"'digits' is the data set of the training and a folder here; write '\./digits'"
    ):
        api.evaluate(digits_run, "digits")
    assert api.evaluate(digits_run, "./digits").images == 4


def test_all_the_data_of_the_training_are_the_parts_together(image_values: dict, image_folder: Path) -> None:
    image_values["train"]["epochs"] = 2
    run = api.train(image_values).directory
    whole = api.evaluate(run, image_folder, split="all")
    assert whole.images == 36
    assert whole.support.tolist() == [12, 12, 12]


def test_resuming_on_other_images_or_another_model_is_refused(image_values: dict, image_folder: Path) -> None:
    image_values["train"]["epochs"] = 2
    api.train(image_values)
    with pytest.raises(UserError, match=r"train\.learning_rate was 0\.01 and is 0\.02 now"):
        api.train({**image_values, "train": {**image_values["train"], "learning_rate": 0.02}}, resume=True)
    (image_folder / "train" / "cat" / "0.png").unlink()
    with pytest.raises(UserError, match="the images are not those that its training began with"):
        api.train(image_values, resume=True)


def test_an_unfinished_training_is_not_continued_with_other_images(
    image_values: dict, image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, epoch=1, batch=1)
        with pytest.raises(Interruption):
            api.train(image_values)
    (image_folder / "val" / "owl" / "0.png").unlink()
    with pytest.raises(UserError, match="the images are not those that its training began with"):
        api.train(image_values, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"name": "vit_tny_patch16_224"}}, r"no image model 'vit_tny_patch16_224'; did you mean 'vit_tiny"),
        ({"model": {"name": "vit_tiny_patch16_224", "dept": 2}}, "cannot be built with these options .*'dept'"),
        ({"model": {"name": "vit_tiny_patch16_224", "img_size": 16}}, r"'img_size' .* is 16, the data say \[8, 8\]"),
        ({"model": {"name": "vit_tiny_patch16_224", "num_classes": 5}}, "'num_classes' .* is 5, the data say 3"),
        ({"model": "mgno_tiny"}, "learns a map between fields"),
        ({"compare": ["resnet10"]}, "did you mean 'resnet1"),
        ({"train": {"optimizer": "adamv"}}, r"no optimiser 'adamv'; did you mean 'adam"),
        ({"train": {"batch_size": 25}}, "batch_size is 25, but there are 24 training images"),
        ({"train": {"accumulate": 4}}, "accumulate is 4, but an epoch has 3 batches: 24 training images by"),
        ({"data": {"validation_split": "train"}}, r"data\.train_split and data\.validation_split share 24 images"),
        ({"data": {"validation_split": "."}}, r"data\.train_split and data\.validation_split share 24 images"),
        ({"data": {"train_split": "."}}, r"data\.train_split and data\.validation_split share 12 images"),
        ({"data": {"validation_split": "vall"}}, "did you mean 'val'"),
        ({"data": {"augmentation": {"auto_augment": "rund"}}}, "is not understood by timm"),
    ],
)
def test_a_run_that_cannot_train_is_refused_before_anything_is_written(
    image_values: dict, tmp_path: Path, change: dict, message: str
) -> None:
    for section, values in change.items():
        merge = section in ("data", "train")
        image_values[section] = {**image_values[section], **values} if merge else values
    with pytest.raises(UserError, match=message):
        api.train(image_values)
    assert not (tmp_path / "run").exists()


def test_an_image_model_cannot_learn_a_map_between_fields(run_values: dict) -> None:
    with pytest.raises(UserError, match="'kat_tiny' classifies images; write task: image_classification"):
        api.train({**run_values, "model": "kat_tiny"})


def test_the_loss_that_became_nan_names_images(image_values: dict) -> None:
    image_values["train"] |= {"learning_rate": 1e30, "warmup_epochs": 0, "schedule": "constant"}
    with pytest.raises(
        UserError,
        match=r"loss became (nan|inf) in epoch \d+, step \d+, first in .*on samples \['(cat|dog|owl)/",
    ):
        api.train(image_values)


def test_early_stopping_waits_for_a_better_accuracy(image_values: dict) -> None:
    image_values["train"] |= {"epochs": 30, "learning_rate": 1e-12, "warmup_learning_rate": 0.0, "early_stopping": 2}
    training = summary(api.train(image_values).directory)["training"]
    assert (training["best_epoch"], training["epochs_run"]) == (1, 3)


def test_weights_of_a_file_are_loaded_and_a_pickle_is_not(image_values: dict, tmp_path: Path) -> None:
    trained = api.train(image_values).bundle
    torch.save(trained.model.state_dict(), tmp_path / "weights.pth")
    image_values["model"] = {**image_values["model"], "checkpoint_path": str(tmp_path / "weights.pth")}
    image_values["train"] |= {"learning_rate": 1e-12, "warmup_learning_rate": 0.0, "weight_decay": 0.0}
    again = api.train(in_folder(image_values, tmp_path / "again")).bundle
    assert "checkpoint_path" not in again.model.recipe["arguments"]
    for name, value in trained.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value, rtol=0, atol=1e-6)

    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"state_dict": Bomb()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="pickled code is never run"):
        api.train(in_folder(image_values, tmp_path / "bomb"))
    assert not (tmp_path / "exploded").exists()


def test_a_folder_is_evaluated_by_class_names_whatever_is_missing(image_values: dict, image_folder: Path) -> None:
    run = api.train(image_values).directory
    assert accuracy_of(api.evaluate(run, image_folder)) == accuracy_of(api.evaluate(run, image_folder / "val"))
    for file in (image_folder / "val" / "cat").iterdir():
        file.unlink()
    (image_folder / "val" / "cat").rmdir()
    evaluation = api.evaluate(run, image_folder / "val")
    assert evaluation.classes == ("cat", "dog", "owl")
    assert evaluation.support.tolist() == [0, 4, 4]
    with pytest.raises(UserError, match="the images are no longer those of the training"):
        api.evaluate(run, image_folder)
    with pytest.raises(UserError, match="holds the training images"):
        api.evaluate(run, image_folder / "train")
    assert api.evaluate(run, image_folder / "train", split="all").images == 24
    (image_folder / "val" / "owl").rename(image_folder / "val" / "horse")
    with pytest.raises(UserError, match="is no class of the training images"):
        api.evaluate(run, image_folder / "val")


def test_the_command_predicts_a_folder_and_names_what_it_cannot_read(
    image_values: dict, image_folder: Path, tmp_path: Path
) -> None:
    run = api.train(image_values).directory
    (image_folder / "val" / "broken.png").write_bytes(b"no image")
    output = tmp_path / "predictions.csv"
    arguments = ["predict", str(run), str(image_folder / "val"), "-o", str(output), "--batch-size", "5"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "broken.png" in done.output.replace("\n", "")
    with output.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["file", "label", "probability", "cat", "dog", "owl"]
    assert len(rows) == 13
    bundle = katops.load(run)
    for row in rows:
        if row["file"] == "broken.png":
            assert row["label"] == row["probability"] == row["cat"] == ""
            continue
        path = image_folder / "val" / row["file"]
        assert [row["label"]] == bundle.labels(path)
        expected = bundle.predict(path)[0]
        assert [float(row[name]) for name in ("cat", "dog", "owl")] == pytest.approx(expected.tolist(), abs=1e-5)
        assert float(row["probability"]) == pytest.approx(float(expected.max()), abs=1e-5)
    with pytest.raises(UserError, match="exists already"):
        api.predict(run, image_folder / "val", output)


def test_the_command_trains_and_evaluates_by_name(digits: dict, tmp_path: Path) -> None:
    run = str(tmp_path / "digits")
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(in_folder(digits, run)), encoding="utf-8")
    changes = ["repeats=2", "train.epochs=2", "train.batch_size=128"]
    done = CliRunner().invoke(app, ["train", str(tmp_path / "digits.yaml"), *changes])
    assert done.exit_code == 0, done.output
    assert "trial 2 of 2" in done.output
    assert "epoch 2/2: training loss" in done.output
    assert "validation accuracy" in done.output
    done = CliRunner().invoke(app, ["evaluate", run, "digits", "-o", str(tmp_path / "report")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.parametrize(("size", "enlarged"), [(8, False), (64, True)])
def test_images_that_are_enlarged_a_lot_are_told_before_training(image_values: dict, size: int, enlarged: bool) -> None:
    image_values["data"]["input_size"] = [3, size, size]
    image_values["model"] = {**image_values["model"], "patch_size": size // 2}
    image_values["train"] = {"epochs": 1, "warmup_epochs": 0, "batch_size": 8}
    console = Console(record=True, width=250)
    api.train(image_values, console=console, progress=False)
    said = console.export_text()
    assert f"24 train, 12 validation images of 3 classes, read as 3 x {size} x {size}" in said
    assert ("are enlarged to 64 x 64" in said) == enlarged


def test_report_of_a_converted_model_says_how_far_its_outputs_moved(image_values: dict) -> None:
    image_values["model"] = {**image_values["model"], "convert": True}
    image_values["train"] = {"epochs": 1, "warmup_epochs": 0, "batch_size": 8}
    directory = api.train(image_values).directory
    card = summary(directory)["model"]["conversion"]
    assert card["difference_of_outputs"]["measured_on"] == "24 training images"
    assert 0 <= card["difference_of_outputs"]["relative"] < 0.05
    assert "difference of outputs" in (directory / "report.html").read_text(encoding="utf-8")
