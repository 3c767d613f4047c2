"""A trial that ends its process: it is begun again a few times, and then noted as failed."""

from collections.abc import Callable

import pytest
import torch

from katops.errors import Preempted, UserError
from katops.sweeps import trial as trial_module
from katops.sweeps.outcome import Outcome
from katops.sweeps.plan import Plan
from katops.sweeps.queue import Queue
from katops.sweeps.ray_cluster import _outcome
from katops.sweeps.starts import MOST_STARTS, counted_start, vain_starts
from katops.sweeps.trial import run_trial


@pytest.fixture
def begun(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Outcome]:
    """A function that begins trial 0 anew, in which training is interrupted."""

    def interrupted(*arguments: object, **options: object) -> None:
        raise Preempted("stopped by a signal")

    monkeypatch.setattr(trial_module, "train", interrupted)
    Queue(plan).fill()

    def begin() -> Outcome:
        queue = Queue(plan)
        taken = queue.take()
        with taken.ownership:
            return run_trial(plan, taken.trial, taken.chosen, lambda step, value: None)

    return begin


@pytest.fixture
def crash(plan: Plan) -> Callable[[int], None]:
    """A function that begins trial 0 so often in processes of which nothing is heard any more."""
    unended = []  # the blocks would end if Python threw them away

    def begin(times: int) -> None:
        for _ in range(times):
            taken = Queue(plan).take()
            unended.append(counted_start(taken.trial, plan.folder(0)))
            unended[-1].__enter__()
            taken.ownership.release()  # as the kernel does

    return begin


def save(plan: Plan, step: int) -> None:
    """Leave a checkpoint in the folder of trial 0."""
    path = plan.folder(0) / "checkpoints" / "last.ckpt"
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"global_step": step}, path)


def test_a_trial_that_ends_three_processes_in_turn_is_noted_as_failed(plan: Plan, begun, crash) -> None:
    crash(MOST_STARTS)
    outcome = begun()
    assert outcome.state == "failed"
    assert "3 processes in turn were killed or crashed in it" in outcome.error
    assert Outcome.read(plan.folder(0)) == outcome


def test_what_was_saved_between_two_crashes_begins_the_count_anew(plan: Plan, crash) -> None:
    Queue(plan).fill()
    for step in (10, 20):
        crash(MOST_STARTS - 1)
        save(plan, step)
    assert vain_starts(Queue(plan).trial(0), plan.folder(0)) == 0
    crash(1)
    save(plan, 20)  # a run that is continued after its last step writes the same checkpoint again
    assert vain_starts(Queue(plan).trial(0), plan.folder(0)) == 1


def test_interruptions_are_no_crashes(plan: Plan, begun, crash) -> None:
    crash(MOST_STARTS - 1)
    for _ in range(MOST_STARTS):
        with pytest.raises(Preempted):
            begun()
    crash(1)
    assert begun().state == "failed"


def test_what_ends_a_task_of_a_cluster_ends_the_sweep_in_the_same_way() -> None:
    ray = pytest.importorskip("ray")
    wrapped = ray.exceptions.RayTaskError
    for error, kind, words in (
        (wrapped("task", "", Preempted("stopped by a signal")), Preempted, "stopped by a signal"),
        (wrapped("task", "", UserError("trial 3: disk full")), UserError, "trial 3: disk full"),
        (ray.exceptions.WorkerCrashedError(), UserError, "its trial is not, the same command continues the sweep"),
    ):
        with pytest.raises(kind, match=words):
            _outcome(_cluster_that_raises(ray, error), task=None)


def _cluster_that_raises(ray, error: Exception) -> object:
    class Cluster:
        exceptions = ray.exceptions

        @staticmethod
        def get(task: object) -> None:
            raise error

    return Cluster
