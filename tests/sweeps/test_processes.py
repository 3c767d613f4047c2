"""Who starts the processes of a sweep, and which GPU each of them has."""

from pathlib import Path

import pytest
import torch

import katops
from katops.errors import UserError
from katops.sweeps.plan import Plan
from katops.sweeps.processes import devices
from katops.sweeps.queue import Queue
from katops.sweeps.ray_cluster import _remote_trial


@pytest.mark.parametrize(
    ("count", "visible", "names"),
    [(0, None, []), (2, None, ["0", "1"]), (2, "3,5", ["3", "5"]), (1, "GPU-8f2a", ["GPU-8f2a"])],
)
def test_gpus_are_called_as_the_user_limited_them(
    count: int, visible: str | None, names: list[str], monkeypatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert devices() == names


@pytest.mark.parametrize(
    "variables", [{"TORCHELASTIC_RUN_ID": "1"}, {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}]
)
def test_processes_that_would_train_together_are_refused(variables: dict, values: dict, monkeypatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="start it without torchrun, or with one task per srun"):
        katops.sweep(values, {"seed": [0, 1]}, trials=2)


def test_a_task_of_a_cluster_that_srun_has_brought_up_trains_alone(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "TORCHELASTIC_RUN_ID": "none"}.items():
        monkeypatch.setenv(name, value)
    queue = Queue(plan)
    queue.fill()
    taken = queue.take()
    assert _remote_trial(plan, taken.number, str(tmp_path)).state == "complete"
