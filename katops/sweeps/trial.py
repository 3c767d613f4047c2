"""One trial: the training of one configuration in its own folder."""

import errno
import math
import os
import shutil
import time
from pathlib import Path

import optuna
from optuna import TrialPruned

from katops.api import train
from katops.errors import Preempted, UserError
from katops.sweeps.generation import once_generated
from katops.sweeps.objective import score
from katops.sweeps.outcome import Outcome
from katops.sweeps.plan import Plan
from katops.sweeps.starts import MOST_STARTS, counted_start, vain_starts
from katops.training.directory import CONFIG_FILE
from katops.training.watching import Watch


def run_trial(plan: Plan, trial: optuna.Trial, chosen: dict, watch: Watch) -> Outcome:
    """Train, from the last checkpoint if an earlier process was ended; what is finished already is only read.

    A trial that has ended its process again and again is not begun once more, so that it does not end every process
    that takes it up.

    Args:
        plan: the sweep.
        trial: of the study.
        chosen: values of the varied keys.
        watch: told the value of every step; raises :class:`optuna.TrialPruned` to end the trial.

    Raises:
        UserError: the machine is at fault and not the values (a missing file, a full disk): the trial stays unfinished.
        Preempted: a signal of a scheduler asked for the end: it stays unfinished too.
    """
    folder = plan.folder(trial.number)
    finished = Outcome.read(folder)
    if finished is not None:
        return finished
    outcome = _outcome(plan, trial, chosen, watch)
    outcome.write(folder)
    return outcome


def _outcome(plan: Plan, trial: optuna.Trial, chosen: dict, watch: Watch) -> Outcome:
    began = time.monotonic()
    try:
        _check_starts(trial, plan.folder(trial.number))
        with counted_start(trial, plan.folder(trial.number)):
            metric, value = _train(plan, trial.number, chosen, watch)
        return Outcome("complete", time.monotonic() - began, metric, value)
    except Preempted:
        raise
    except TrialPruned:
        return Outcome("pruned", time.monotonic() - began)
    except Exception as error:
        if _is_of_the_machine(error):
            raise UserError(
                f"trial {trial.number}: {_sentence(error)}; the same command continues the sweep"
            ) from error
        return Outcome("failed", time.monotonic() - began, error=_sentence(error))


def _check_starts(trial: optuna.Trial, folder: Path) -> None:
    if vain_starts(trial, folder) >= MOST_STARTS:
        raise UserError(
            f"{MOST_STARTS} processes in turn were killed or crashed in it before they could save anything new; it may "
            f"need more memory than there is"
        )


def _train(plan: Plan, number: int, chosen: dict, watch: Watch) -> tuple[str, float]:
    config = plan.config_of(number, chosen)
    folder = Path(config.directory)
    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        shutil.rmtree(folder)  # of a process that ended before it began to train
    options = {"resume": True, "allow_plugins": plan.allow_plugins, "progress": False, "watch": watch}
    result = once_generated(lambda: train(config, **options))
    metric, value = score(config, result)
    if not math.isfinite(value):
        raise UserError(f"its {metric} is {value}, which cannot be compared")
    return metric, value


def _is_of_the_machine(error: BaseException | None) -> bool:
    """Whether an operation on files lies behind an error; writers in C++ tell of a full disk in words alone."""
    while error is not None:
        if isinstance(error, OSError) or os.strerror(errno.ENOSPC) in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
