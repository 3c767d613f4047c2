"""The trials of a sweep on a Ray cluster: this process takes them from the study, tasks of the cluster train them."""

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from types import ModuleType
from typing import Any

from katops.distributed.launchers import stand_alone
from katops.errors import Preempted, UserError
from katops.plugins import load_plugins
from katops.sweeps.outcome import Outcome
from katops.sweeps.ownership import Ownership
from katops.sweeps.plan import Plan
from katops.sweeps.queue import Queue
from katops.sweeps.trial import run_trial
from katops.sweeps.worker import Say, finished_line, listed, stop_where_hopeless

TURN = 0.5
"""Seconds between two looks whether another task has let a trial go."""


def work_on_ray(plan: Plan, count: int, say: Say) -> None:
    """Run trials until there are none left to take.

    Trials are taken in the same order and with the same random numbers as by processes of one machine. A task whose
    machine fails is started again by Ray and continues from its checkpoint.

    Args:
        plan: the sweep, whose trials have been put down; its folder, and a database, are seen by all machines.
        count: trials at a time.
        say: told a line about every trial that begins or ends.

    Raises:
        UserError: Ray is not installed; a machine is at fault, or all trials fail.
        Preempted: a signal asked a task for an end; the trials are saved.
    """
    with _cluster(count) as ray, ExitStack() as owned:
        gpus = 1 if ray.cluster_resources().get("GPU") and _uses_gpu(plan) else 0
        task = ray.remote(num_cpus=1, num_gpus=gpus)(_remote_trial)
        queue, running = Queue(plan), {}
        while True:
            while len(running) < count and (taken := queue.take()) is not None:
                say(f"trial {taken.number}: {listed(taken.chosen)}")
                owned.enter_context(taken.ownership)
                running[task.remote(plan, taken.number, os.getcwd())] = taken
            if not running:
                return
            (done,), _ = ray.wait(list(running), num_returns=1)
            outcome = _outcome(ray, done)
            say(finished_line(queue, queue.finish(running.pop(done), outcome)))
            stop_where_hopeless(queue)


def _remote_trial(plan: Plan, number: int, folder: str) -> Outcome:
    """What runs on the cluster."""
    stand_alone()
    try:
        os.chdir(folder)
    except OSError as error:
        raise UserError(f"a machine of the cluster does not see {folder!r}, which all have to share") from error
    load_plugins(plan.config.plugins, allowed=plan.allow_plugins)
    queue = Queue(plan)
    trial = queue.trial(number)
    # A task of a command that was killed, or one that Ray has given up, may still be in its last seconds.
    while (alone := Ownership.take(plan.lock(number).with_suffix(".task.lock"))) is None:
        time.sleep(TURN)
    with alone:
        return run_trial(plan, trial, plan.space.values(trial.params), partial(queue.report, trial))


def _outcome(ray: ModuleType, task: Any) -> Outcome:
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        for kind in (UserError, Preempted):
            if isinstance(error.cause, kind):
                raise kind(str(error.cause)) from error
        raise
    except ray.exceptions.RayError as error:  # its process crashed or was killed more often than Ray starts it again
        raise UserError(
            f"a task of the sweep was lost ({' '.join(str(error).split())}); its trial is not, the same command "
            f"continues the sweep"
        ) from error


@contextmanager
def _cluster(count: int) -> Iterator[ModuleType]:
    """The cluster that there is, or one of this machine alone for the time of the sweep."""
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError("--engine ray needs Ray, which is not installed: pip install 'katops[ray]'") from error
    if ray.is_initialized():
        yield ray
        return
    quiet = {"logging_level": "warning", "log_to_driver": False}
    try:
        ray.init(address="auto", **quiet)
    except ConnectionError:
        # Ray would report its use to its makers.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(num_cpus=max(count, os.cpu_count() or 1), include_dashboard=False, **quiet)
    try:
        yield ray
    finally:
        ray.shutdown()


def _uses_gpu(plan: Plan) -> bool:
    train = getattr(plan.config, "train", None)
    return train is not None and train.device != "cpu"
