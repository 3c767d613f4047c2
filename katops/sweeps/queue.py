"""The trials of a study, each of which is given to one process at a time until it is finished."""

import math
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from katops.sweeps.outcome import Outcome
from katops.sweeps.ownership import Ownership, last_sign
from katops.sweeps.plan import Plan
from katops.sweeps.storage import open_study

STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
MOST_FAILURES = 3
"""So many failures and nothing else end a sweep: the mistake is in all trials."""
WARM_UP = 0.2
"""Share of its steps in which no trial is ended early."""
LOOK = 5.0
"""Seconds between two looks at trials of other machines."""


@dataclass(frozen=True)
class Taken:
    """A trial that belongs to this process.

    Attributes:
        trial: of the study.
        chosen: the values of the varied keys.
        ownership: ends when the trial is finished.
    """

    trial: optuna.Trial
    chosen: dict[str, Any]
    ownership: Ownership

    @property
    def number(self) -> int:
        """Of the trial, from 0."""
        return self.trial.number


class Queue:
    """The study of a sweep, seen from one process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.storage, self.study = open_study(plan)
        self.study.pruner = _pruner(plan)
        self._study_id = self.storage.get_study_id_from_name(plan.name)
        self._signs: dict[int, float] = {}

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials that were asked for, in their order."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.number < self.plan.trials]

    def fill(self) -> None:
        """Put down as many trials as were asked for.

        Two machines that do so at once put down too many, of which only those that were asked for are taken.
        """
        for _ in range(self.plan.trials - len(self.trials)):
            self.study.add_trial(create_trial(state=TrialState.WAITING))

    def take(self) -> Taken | None:
        """The next trial: one whose process is gone, or one that nobody has begun; ``None`` where all are taken."""
        while True:
            trials = self.trials
            running = [trial for trial in trials if trial.state == TrialState.RUNNING]
            waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
            for trial in (*running, *waiting):
                taken = self._take(trial.number)
                if taken is not None:
                    return taken
            if not any(self._may_be_left(trial.number) for trial in running):
                return None
            time.sleep(LOOK)

    def finish(self, taken: Taken, outcome: Outcome) -> FrozenTrial:
        """Write down how a trial ended."""
        taken.trial.set_user_attr("seconds", outcome.seconds)
        if outcome.metric:
            taken.trial.set_user_attr("metric", outcome.metric)
        if outcome.error:
            taken.trial.set_user_attr("error", outcome.error)
        value = outcome.value if outcome.state == "complete" else None
        frozen = self.study.tell(taken.number, value, state=STATES[outcome.state])
        taken.ownership.release()
        return frozen

    def hopeless(self) -> str:
        """The sentence of the last failure where there is nothing but failures; "" where there is hope."""
        finished = [trial for trial in self.trials if trial.state.is_finished()]
        if len(finished) < MOST_FAILURES or any(trial.state != TrialState.FAIL for trial in finished):
            return ""
        last = finished[-1]
        return (
            f"all of the first {len(finished)} trials failed, the last one so: {last.user_attrs.get('error')}; mend it "
            f"and start again in another folder (--output)"
        )

    def report(self, trial: optuna.Trial, step: int, value: float) -> None:
        """Note the value of a step; one that is not a number says nothing.

        Raises:
            optuna.TrialPruned: the trial is not worth to be continued.
        """
        if math.isnan(value):
            return
        known = self.storage.get_trial(self._id(trial.number)).intermediate_values
        if step not in known:
            trial.report(value, step)
        if trial.should_prune():
            raise optuna.TrialPruned

    def _take(self, number: int) -> Taken | None:
        ownership = Ownership.take(self.plan.lock(number))
        if ownership is None:
            return None
        if not self._begin(number):
            ownership.release()
            return None
        trial = self.trial(number)
        return Taken(trial, self.plan.space.suggest(trial), ownership)

    def trial(self, number: int) -> optuna.Trial:
        """A trial of the study; values that it does not have yet are drawn from its own random numbers."""
        self.study.sampler = _sampler(self.plan, number)
        return optuna.Trial(self.study, self._id(number))

    def _begin(self, number: int) -> bool:
        """Whether a trial is there to be run, seen after the lock has been taken."""
        state = self.storage.get_trial(self._id(number)).state
        if state == TrialState.WAITING:
            return self.storage.set_trial_state_values(self._id(number), TrialState.RUNNING)
        return state == TrialState.RUNNING

    def _may_be_left(self, number: int) -> bool:
        """Whether a trial is of another machine that has given no sign of life since this process first looked."""
        sign = last_sign(self.plan.lock(number))
        return sign is not None and self._signs.setdefault(number, sign) == sign

    def _id(self, number: int) -> int:
        return self.storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _sampler(plan: Plan, number: int) -> TPESampler:
    """Random numbers of a trial depend on seed and number alone, not on which process draws them and what it drew."""
    seed = int(np.random.SeedSequence([plan.seed, number]).generate_state(1)[0])
    return TPESampler(seed=seed, constant_liar=True, multivariate=not plan.space.is_conditional)


def _pruner(plan: Plan) -> BasePruner:
    if plan.pruner == "median":
        return MedianPruner(n_warmup_steps=round(WARM_UP * plan.steps))
    if plan.pruner == "hyperband":
        return HyperbandPruner(max_resource=plan.steps)
    return NopPruner()
