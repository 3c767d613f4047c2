"""How a process finds out that it is one of several."""

import os

import pytest

from katops.distributed.launch import _started_by_launcher
from katops.errors import UserError

SRUN = {
    "SLURM_JOB_ID": "12345678",
    "SLURM_JOB_NAME": "pretrain",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "node[17-18]",
    "SLURM_NODELIST": "node[16-18]",
    "SLURM_PROCID": "5",
    "SLURM_NODEID": "1",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without a launcher; what is set in it is forgotten."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "TORCHELASTIC"))}
    monkeypatch.setattr(os, "environ", variables)
    return monkeypatch


def test_variables_of_srun_are_given_the_names_of_torchrun(environment) -> None:
    os.environ.update(SRUN)
    assert _started_by_launcher()
    expected = {
        "RANK": "5",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "node17",
        "MASTER_PORT": "20678",
    }
    assert {name: os.environ[name] for name in expected} == expected


def test_steps_of_a_job_meet_at_ports_of_their_own(environment) -> None:
    os.environ.update({**SRUN, "SLURM_STEP_ID": "1"})
    assert _started_by_launcher()
    assert os.environ["MASTER_PORT"] == "20679"


@pytest.mark.parametrize("missing", ["SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"])
def test_a_batch_script_without_srun_is_one_process(environment, missing) -> None:
    os.environ.update({name: value for name, value in SRUN.items() if name != missing})
    assert not _started_by_launcher()


def test_a_process_without_launcher_is_alone(environment) -> None:
    assert not _started_by_launcher()


@pytest.mark.parametrize("uneven", [{"SLURM_STEP_NUM_NODES": "3"}, {"SLURM_STEP_TASKS_PER_NODE": "5,3"}])
def test_uneven_nodes_are_refused(environment, uneven) -> None:
    os.environ.update({**SRUN, **uneven})
    with pytest.raises(UserError, match=r"8 processes on \d nodes"):
        _started_by_launcher()
