"""The study of a sweep: trials belong to one process at a time, and none is lost."""

import math
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from katops.errors import UserError
from katops.extras import part_of_extra
from katops.sweeps import queue as queue_module
from katops.sweeps.outcome import Outcome
from katops.sweeps.ownership import STALE, Ownership, last_sign
from katops.sweeps.plan import Plan
from katops.sweeps.queue import Queue
from katops.sweeps.storage import JOURNAL


@pytest.mark.parametrize("database", [False, True])
def test_two_processes_share_the_trials_and_one_takes_up_what_the_other_left(plan: Plan, database: bool) -> None:
    if database:
        plan = replace(plan, storage=f"sqlite:///{plan.directory}/sweep.db")
    first, second = Queue(plan), Queue(plan)
    first.fill()
    second.fill()
    assert len(first.trials) == plan.trials
    taken = [queue.take() for queue in (first, second, first, second)]
    assert [one.number for one in taken] == [0, 1, 2, 3]
    assert len({one.chosen["seed"] for one in taken}) == 4
    taken[1].ownership.release()  # as the kernel does when a process ends
    again = first.take()
    assert again.number == 1
    assert again.chosen == taken[1].chosen
    first.finish(again, Outcome("complete", 1.0, "R²", 0.5))
    assert [first.take().number, second.take().number, first.take()] == [4, 5, None]
    assert [trial.state for trial in second.trials].count(TrialState.COMPLETE) == 1


def test_the_values_of_a_trial_depend_on_seed_and_number_alone(plan: Plan) -> None:
    queue = Queue(plan)
    queue.fill()
    in_order = [queue.take().chosen for _ in range(3)]
    other = replace(plan, directory=plan.directory.with_name("other"))
    other.settle()
    queue = Queue(other)
    queue.fill()
    held = [Ownership.take(other.lock(number)) for number in (0, 1)]
    assert queue.take().chosen == in_order[2]
    for ownership in held:
        ownership.release()
    assert [queue.take().chosen, queue.take().chosen] == in_order[:2]
    different = replace(plan, directory=plan.directory.with_name("different"), seed=1)
    different.settle()
    queue = Queue(different)
    queue.fill()
    assert queue.take().chosen != in_order[0]


def test_more_trials_can_be_asked_for_later_and_surplus_ones_are_never_taken(plan: Plan) -> None:
    queue = Queue(replace(plan, trials=1))
    queue.fill()
    assert queue.take().number == 0
    assert queue.take() is None
    queue.study.add_trial(create_trial(state=TrialState.WAITING))  # what two machines at once would put down
    assert queue.take() is None
    queue = Queue(replace(plan, trials=3))
    queue.fill()
    assert [queue.take().number, queue.take().number, queue.take()] == [1, 2, None]


def test_a_trial_far_worse_than_the_others_is_ended_early_and_keeps_its_partial_value(plan: Plan) -> None:
    queue = Queue(replace(plan, trials=6))
    queue.fill()
    for _ in range(5):
        taken = queue.take()
        queue.report(taken.trial, 1, 0.9)
        queue.finish(taken, Outcome("complete", 1.0, "R²", 0.9))
    bad = queue.take()
    queue.report(bad.trial, 1, math.nan)
    with pytest.raises(optuna.TrialPruned):
        queue.report(bad.trial, 1, 0.1)
    # Whoever continues it after a kill tells the same step again.
    with pytest.raises(optuna.TrialPruned):
        queue.report(bad.trial, 1, 0.1)
    frozen = queue.finish(bad, Outcome("pruned", 1.0))
    assert (frozen.state, frozen.value) == (TrialState.PRUNED, 0.1)


@pytest.mark.parametrize("pruner", ["hyperband", "none"])
def test_other_pruners_can_be_chosen(plan: Plan, pruner: str) -> None:
    queue = Queue(replace(plan, pruner=pruner))
    queue.fill()
    for value in (0.9, 0.8, 0.1):
        taken = queue.take()
        try:
            queue.report(taken.trial, 1, value)
        except optuna.TrialPruned:
            assert pruner == "hyperband"
            assert value < 0.9


def test_a_line_that_was_cut_in_half_costs_nothing_but_itself(plan: Plan) -> None:
    queue = Queue(plan)
    queue.fill()
    queue.take()
    with (plan.directory / JOURNAL).open("ab") as file:
        file.write(b'{"op_code":4,"worker')
    queue = Queue(plan)
    queue.take()
    assert [trial.state for trial in Queue(plan).trials].count(TrialState.RUNNING) == 2


def test_a_trial_of_another_machine_is_free_after_two_minutes_without_a_sign(plan: Plan, monkeypatch) -> None:
    queue = Queue(plan)
    queue.fill()
    path = plan.lock(0)
    path.parent.mkdir(parents=True)
    path.write_text("another machine", encoding="utf-8")
    queue.storage.set_trial_state_values(queue._id(0), TrialState.RUNNING)
    assert last_sign(path) == path.stat().st_mtime
    assert queue.take().number == 1

    def silence(seconds: float) -> None:
        past = time.time() - STALE - 1
        os.utime(path, (past, past))

    # Nothing else is left: the process waits for a sign, and as none comes it takes the trial.
    queue.plan = replace(plan, trials=2)
    monkeypatch.setattr(queue_module.time, "sleep", silence)
    assert queue.take().number == 0
    assert path.read_text(encoding="utf-8") != "another machine"


def test_a_trial_of_another_machine_that_gives_signs_is_left_alone(plan: Plan, monkeypatch) -> None:
    queue = Queue(replace(plan, trials=1))
    queue.fill()
    path = plan.lock(0)
    path.parent.mkdir(parents=True)
    path.write_text("another machine", encoding="utf-8")
    queue.storage.set_trial_state_values(queue._id(0), TrialState.RUNNING)
    monkeypatch.setattr(queue_module.time, "sleep", lambda seconds: os.utime(path, (time.time(), time.time() + 1)))
    assert queue.take() is None


def test_a_database_that_cannot_be_opened_is_told_in_one_sentence(plan: Plan) -> None:
    for address in ("nonsense", "postgresql+nodriver://host/name", "sqlite:////no/such/folder/x.db"):
        with pytest.raises(UserError, match="cannot be opened; write sqlite"):
            Queue(replace(plan, storage=address))


def test_two_sweeps_whose_folders_have_one_name_cannot_share_a_study(plan: Plan, tmp_path: Path) -> None:
    plan = replace(plan, storage=f"sqlite:///{tmp_path}/sweep.db")
    Queue(plan)
    other = replace(plan, directory=tmp_path / "elsewhere" / plan.name, seed=1)
    other.settle()
    with pytest.raises(UserError, match="the study 'sweep' belongs to another sweep"):
        Queue(other)
    Queue(plan)  # its own goes on


def test_a_folder_that_cannot_be_written_to_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "locks").touch()
    with pytest.raises(UserError, match="cannot write"):
        Ownership.take(tmp_path / "locks" / "0000.lock")


def test_a_missing_package_is_told_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "katops.sweeps.storage")
    with pytest.raises(UserError, match=r"pip install 'katops\[sweep\]'"):
        part_of_extra("katops.sweeps.storage", "sweep", ("optuna",), "sweeps")
