"""One training in two processes: what it computes, what it writes, how it ends."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from katops import api
from katops.bundle import Bundle, load
from katops.data.dataset import FieldDataset
from katops.data.sources import describe_all


@pytest.fixture(scope="module")
def alone(job: Any, scenarios: dict[str, Any]) -> Path:
    """The same training in one process, with twice the batch."""
    folder = job.folder
    api.train(scenarios["configuration"](folder, "alone", batch_size=4), progress=False)
    return folder / "alone"


def rows(run: Path) -> list[dict[str, float]]:
    with (run / "log.csv").open(encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load(run).model.state_dict()


def predictions(bundle: Bundle, file: Path) -> torch.Tensor:
    samples = FieldDataset(describe_all(file)).read(range(4))
    return torch.as_tensor(bundle.predict(samples.x.numpy()))


def test_steps_of_two_processes_are_those_of_one_with_twice_the_batch(job: Any, alone: Path) -> None:
    both = weights(job.folder / "ddp")
    for name, expected in weights(alone).items():
        torch.testing.assert_close(both[name], expected, rtol=1e-5, atol=1e-6)
    for ours, theirs in zip(rows(job.folder / "ddp"), rows(alone), strict=True):
        assert ours["step"] == theirs["step"]
        assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-5)
        assert ours["validation_relative_l2"] == pytest.approx(theirs["validation_relative_l2"], rel=1e-5)


def test_images_are_learned_by_two_processes_as_by_one(job: Any, scenarios: dict[str, Any]) -> None:
    assert [each["images"] for each in job.found] == ["done", "done"]
    api.train(scenarios["images"](job.folder, "images-alone", 6), progress=False)
    ours, theirs = (rows(job.folder / f"images-{name}") for name in ("ddp", "alone"))
    for one, other in zip(ours, theirs, strict=True):
        assert one["step"] == other["step"]
        assert one["train_loss"] == pytest.approx(other["train_loss"], rel=1e-5)
        assert one["validation_loss"] == pytest.approx(other["validation_loss"], rel=1e-5)
    both = weights(job.folder / "images-ddp")
    for name, expected in weights(job.folder / "images-alone").items():
        torch.testing.assert_close(both[name], expected, rtol=1e-4, atol=1e-5)


def test_a_mean_over_seven_samples_is_exact_however_they_are_shared_out(job: Any, scenarios: dict[str, Any]) -> None:
    folder, found = job.folder, job.found
    expected = scenarios["validation_mean"](folder / "darcy.h5", 0, 1, 4)
    assert [each["metric"] for each in found] == [expected, expected]


def test_a_sharded_training_that_was_stopped_leaves_a_model_file_that_one_process_reads(job: Any, alone: Path) -> None:
    folder = job.folder
    assert job.found[0]["fsdp stopped"].startswith("Preempted")
    assert [each["fsdp"] for each in job.found] == ["done", "done"]
    sharded, whole = load(folder / "fsdp"), load(alone)
    assert sharded.header["meta"] == whole.header["meta"]
    assert sharded.header.keys() == whole.header.keys()
    ours, theirs = (predictions(each, folder / "darcy.h5") for each in (sharded, whole))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_files_of_a_run_are_the_same_ones(job: Any, alone: Path) -> None:
    listed = {path.relative_to(alone) for path in alone.rglob("*") if path.is_file()}
    for name in ("ddp", "fsdp"):
        run = job.folder / name
        assert {path.relative_to(run) for path in run.rglob("*") if path.is_file()} == listed


def test_a_signal_to_one_process_ends_all_after_the_same_step(job: Any) -> None:
    found = job.found
    sentence = (
        "Preempted: stopped by SIGUSR1 in epoch 1 after step 3; everything is saved, --resume continues from here"
    )
    assert [each["stopped"] for each in found] == [sentence, sentence]


@pytest.mark.parametrize(
    ("name", "outcome"), [("stopped", "resumed"), ("killed", "killed"), ("terminated", "terminated")]
)
def test_what_continues_ends_with_the_weights_and_the_log_of_an_uninterrupted_run(
    job: Any, name: str, outcome: str
) -> None:
    folder, found = job.folder, job.found
    assert [each[outcome] for each in found] == ["done", "done"]
    ours, theirs = weights(folder / name), weights(folder / "ddp")
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    timeless = [[{**row, "seconds": 0} for row in rows(folder / run)] for run in (name, "ddp")]
    assert timeless[0] == timeless[1]


def test_the_loss_of_a_process_ends_the_job_with_one_sentence(job: Any) -> None:
    ending = job.endings["dies"]
    assert ending.code != 0
    assert ending.output.count("error: ") == ending.output.count("of the 2 of this job is gone") == 1


def test_sigterm_to_the_launcher_saves_and_ends_the_job(job: Any) -> None:
    ending = job.endings["terminated"]
    assert ending.code != 0
    assert "stopped by SIGTERM in epoch 2 after step 7; everything is saved" in ending.output


def test_a_truncated_file_is_told_by_one_process(job: Any) -> None:
    first, second = (each["truncated"] for each in job.found)
    assert first.startswith("UserError")
    assert "truncated.h5" in first
    assert second.startswith("ToldElsewhere")


def test_a_loss_that_is_not_finite_is_told_once_with_module_step_and_samples(job: Any) -> None:
    first, second = (each["stop"] for each in job.found)
    assert first.startswith("ToldElsewhere")
    assert second.startswith("UserError: the training loss became nan in epoch 1, step 1, in the loss, from a finite")
    assert "on samples [" in second
    assert not (job.folder / "stop" / "model.safetensors").exists()


def test_a_step_that_is_not_finite_in_one_process_is_left_out_in_all(job: Any) -> None:
    folder, found = job.folder, job.found
    assert [each["skip"] for each in found] == ["done", "done"]
    assert rows(folder / "skip")[-1]["step"] == rows(folder / "ddp")[-1]["step"]
    assert all(bool(value.isfinite().all()) for value in weights(folder / "skip").values())


def test_going_back_and_leaving_the_step_out_end_with_the_same_weights(job: Any) -> None:
    assert [each["restart"] for each in job.found] == ["done", "done"]
    ours, theirs = weights(job.folder / "restart"), weights(job.folder / "skip")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_mistake_is_told_by_one_process(job: Any) -> None:
    first, second = job.found
    assert (first["first"], second["first"]) == ("UserError: only once", "ToldElsewhere: only once")
    assert second["together"] == "UserError: no file"
    assert first["together"].startswith("ToldElsewhere")


def test_another_number_of_machines_than_configured_is_refused(job: Any) -> None:
    assert "train.num_nodes is 2, but the launcher has started processes on 1" in job.found[0]["nodes"]
