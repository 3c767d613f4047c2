"""Trainings that are stopped by a scheduler within an epoch, and continued."""

import multiprocessing
import os
import signal
from typing import Any
from unittest import mock

import pytest
import torch

from katops import api
from katops.bundle import load
from katops.errors import Preempted, UserError
from katops.runs import fields
from katops.training.image_task import ImageTask
from katops.training.signals import ending_at_once
from katops.training.task import OperatorTask

STOPPED = 3
"""The step in which the signal comes."""


def signalled_in_step(task: type, number: int, signals: tuple[signal.Signals, ...], readers: bool) -> Any:
    """Signals to this process, and to its readers as SLURM and torchrun send them, in a step counted from 1."""
    step, count = task.training_step, 0

    def acting(self: Any, batch: Any, index: int) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == number:
            for given in signals:
                for process in multiprocessing.active_children() if readers else ():
                    os.kill(process.pid, given)
                os.kill(os.getpid(), given)
        return step(self, batch, index)

    return mock.patch.object(task, "training_step", acting)


def of_fields(run_values: dict[str, Any], **train: Any) -> dict[str, Any]:
    return {**run_values, "train": {**run_values["train"], "epochs": 2, "device": "cpu", **train}}


def stop_and_continue(values: dict[str, Any], task: type, *signals: signal.Signals, readers: bool = False) -> None:
    """Both ways to the end have the same weights."""
    with signalled_in_step(task, STOPPED, signals, readers), pytest.raises(Preempted, match="epoch 1 after step 3"):
        api.train(values, progress=False)
    stopped = api.train(values, resume=True, progress=False).bundle.model.state_dict()
    whole = load(
        api.train({**values, "output": values["output"] + "-whole"}, progress=False).directory
    ).model.state_dict()
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


@pytest.mark.usefixtures("undrawn")
def test_averaged_weights_continue_where_they_were(run_values) -> None:
    stop_and_continue(of_fields(run_values, ema_decay=0.5), OperatorTask, signal.SIGTERM)


@pytest.mark.usefixtures("undrawn")
def test_readers_go_on_while_the_training_saves(run_values) -> None:
    values = of_fields(run_values)
    values["data"] = {**values["data"], "workers": 1}
    stop_and_continue(values, OperatorTask, signal.SIGTERM, signal.SIGUSR1, readers=True)


@pytest.mark.usefixtures("undrawn")
def test_images_are_continued_within_an_epoch(image_values) -> None:
    image_values["train"] |= {"epochs": 2, "batch_size": 4, "device": "cpu"}
    stop_and_continue(image_values, ImageTask, signal.SIGUSR1)


@pytest.mark.usefixtures("undrawn")
def test_a_signal_outside_of_the_training_ends_the_run_at_once(run_values) -> None:
    def signalled(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGUSR1)

    values = of_fields(run_values, epochs=1)
    with mock.patch.object(fields, "_evaluate_set", signalled), pytest.raises(Preempted, match="SIGUSR1"):
        api.train(values, progress=False)
    assert api.train(values, resume=True, progress=False).evaluations


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Preempted, match="SIGTERM"), ending_at_once():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.usefixtures("undrawn")
def test_another_number_of_processes_does_not_continue_a_run(run_values) -> None:
    values = of_fields(run_values, epochs=1)
    directory = api.train(values, progress=False).directory
    path = directory / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    torch.save({**checkpoint, "processes": 4}, path)
    with pytest.raises(UserError, match="begun with 4 processes"):
        api.train(values, resume=True, progress=False)
