"""What each process of a sweep does: take a trial, train it, write down how it ended, until all are taken."""

from collections.abc import Callable
from functools import partial

from optuna.trial import FrozenTrial, TrialState

from katops.errors import UserError
from katops.report.sweep_figures import value_text
from katops.sweeps.plan import Plan
from katops.sweeps.queue import Queue
from katops.sweeps.trial import run_trial

Say = Callable[[str], None]


def work(plan: Plan, say: Say) -> None:
    """Run trials until there are none left to take.

    Args:
        plan: the sweep, whose trials have been put down.
        say: told a line about every trial that begins or ends.

    Raises:
        UserError: the machine is at fault, or all trials fail.
    """
    queue = Queue(plan)
    while (taken := queue.take()) is not None:
        say(f"trial {taken.number}: {listed(taken.chosen)}")
        with taken.ownership:
            outcome = run_trial(plan, taken.trial, taken.chosen, partial(queue.report, taken.trial))
            trial = queue.finish(taken, outcome)
        say(finished_line(queue, trial))
        stop_where_hopeless(queue)


def stop_where_hopeless(queue: Queue) -> None:
    """End a sweep of which nothing but failures came.

    Raises:
        UserError: the sentence of the last failure.
    """
    if sentence := queue.hopeless():
        raise UserError(sentence)


def finished_line(queue: Queue, trial: FrozenTrial) -> str:
    """How a trial ended, beside the best one so far."""
    done = sum(other.state.is_finished() for other in queue.trials)
    counted = f"[{done}/{queue.plan.trials}] trial {trial.number}"
    if trial.state == TrialState.FAIL:
        return f"{counted} failed: {trial.user_attrs.get('error')}"
    seconds = f"{trial.user_attrs.get('seconds', 0):.1f} s"
    complete = [other for other in queue.trials if other.state == TrialState.COMPLETE]
    best = queue.study.best_trial if complete else None
    beside = f" (best {best.value:.4g} by trial {best.number})" if best is not None else ""
    if trial.state == TrialState.PRUNED:
        return f"{counted} ended early at step {trial.last_step} with {trial.value:.4g}{beside}, {seconds}"
    return f"{counted}: {trial.user_attrs.get('metric')} {trial.value:.4g}{beside}, {seconds}"


def listed(chosen: dict) -> str:
    """The values of a trial as text."""
    return ", ".join(f"{key}={value_text(value)}" for key, value in chosen.items())
