"""Steps whose loss or gradient is not finite."""

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from katops import api
from katops.bundle import load
from katops.errors import UserError
from katops.training.task import OperatorTask

pytestmark = pytest.mark.usefixtures("undrawn_figures")

BROKEN = 27
"""A step in the second epoch of 24."""


@pytest.fixture
def values(run_values: dict[str, Any]) -> dict[str, Any]:
    """Two epochs of 24 steps."""
    run_values["train"] = {**run_values["train"], "epochs": 2, "device": "cpu", "schedule": "constant"}
    run_values["report"] = {"examples": 1}
    return run_values


class Spoiled:
    """Changes the loss of the same batch whenever it comes, as a bad sample would.

    Args:
        change: from a loss to the one to train on.
        first: number of the batch to change, counted from 1 over the training.
        count: as many batches from there on.
    """

    def __init__(self, change: Any, first: int = BROKEN, count: int = 1) -> None:
        self.places = {divmod(number - 1, 24) for number in range(first, first + count)}
        self.change = change
        self.calls = 0

    def __enter__(self) -> "Spoiled":
        step = OperatorTask.training_step

        def spoiled(task: OperatorTask, batch: Any, index: int) -> torch.Tensor:
            loss = step(task, batch, index)
            self.calls += 1
            return self.change(loss, task) if (task.current_epoch, index) in self.places else loss

        self._patch = mock.patch.object(OperatorTask, "training_step", spoiled)
        self._patch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._patch.stop()


def nan(loss: torch.Tensor, task: OperatorTask) -> torch.Tensor:
    return loss * float("nan")


def infinite_gradient(loss: torch.Tensor, task: OperatorTask) -> torch.Tensor:
    """sqrt at zero: the value is finite, its slope is not."""
    parameter = next(task.network.parameters())
    return loss + (parameter - parameter.detach()).abs().sum().sqrt()


def train(values: dict[str, Any], **options: Any) -> Path:
    api.train({**values, "train": {**values["train"], **options}}, progress=False)
    return Path(values["output"])


@pytest.mark.parametrize(("change", "where"), [(nan, "in the loss"), (infinite_gradient, "in the gradient of ")])
def test_training_stops_before_the_weights_have_changed_and_says_where(values, change, where) -> None:
    with Spoiled(change), pytest.raises(UserError, match=r"in epoch 2, step 26, .*on samples \[\d") as error:
        train(values)
    assert where in str(error.value)
    saved = torch.load(Path(values["output"]) / "checkpoints" / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 0
    assert all(bool(value.isfinite().all()) for value in saved["state_dict"].values())


def test_the_module_whose_weights_are_not_finite_is_named(values) -> None:
    names = []

    def broken(loss: torch.Tensor, task: OperatorTask) -> torch.Tensor:
        name, parameter = list(task.network.named_parameters())[4]
        names.append(name.rpartition(".")[0])
        with torch.no_grad():
            parameter.fill_(float("nan"))
        return loss * float("nan")

    with Spoiled(broken), pytest.raises(UserError, match="first in the output of") as error:
        train(values)
    assert f"first in the output of {names[0]} (" in str(error.value)
    assert "not finite, on samples" in str(error.value)


@pytest.mark.parametrize("change", [nan, infinite_gradient])
def test_a_step_is_left_out_where_the_configuration_says_so(values, change) -> None:
    with Spoiled(change) as spoiled:
        directory = train(values, non_finite="skip")
    assert spoiled.calls >= 48
    assert (directory / "log.csv").read_text(encoding="utf-8").splitlines()[-1].startswith("2,48,")
    assert all(bool(value.isfinite().all()) for value in load(directory).model.state_dict().values())


def test_a_restart_goes_back_and_leaves_the_batch_out(values) -> None:
    """Leaving a step out, and going back to do the epoch once more without its batch, end with the same weights."""
    with Spoiled(nan) as spoiled:
        directory = train(values, non_finite="restart")
    restarted = load(directory).model.state_dict()
    assert spoiled.calls > 48 + 2  # the steps of the second epoch up to the broken one were done twice
    with Spoiled(nan):
        skipped = load(train({**values, "output": values["output"] + "-skip"}, non_finite="skip")).model.state_dict()
    assert all(torch.equal(restarted[name], skipped[name]) for name in skipped)


@pytest.mark.parametrize("policy", ["skip", "restart"])
def test_a_training_that_only_breaks_ends_with_a_sentence(values, policy) -> None:
    with Spoiled(nan, first=3, count=40), pytest.raises(UserError, match=r"lower train\.learning_rate"):
        train(values, non_finite=policy)
