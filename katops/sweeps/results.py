"""What a sweep leaves behind: ``sweep.html``, ``trials.csv`` and the best configurations."""

import os
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from katops.bundle import versions
from katops.files import locked, write_text
from katops.report.cards import Card, card
from katops.report.sweep import SweepSummary, write_sweep_report
from katops.report.sweep_figures import Parameter, SweepTrial, value_text
from katops.sweeps.domains import Choices, Range
from katops.sweeps.plan import LOCKS, Plan
from katops.sweeps.queue import STATES, Queue

BEST = 3
"""So many configurations are written."""
TURN = 0.2
"""Seconds between two attempts to write the report, while another process does."""
FEWEST = 4
"""Complete trials from which the importance of parameters is computed."""
WORDS = {state: word for word, state in STATES.items()} | {TrialState.RUNNING: "running"}


@dataclass(frozen=True)
class SweepResult:
    """A sweep after this process has done its part.

    Attributes:
        directory: with ``sweep.html``, ``trials.csv``, ``best-*.yaml`` and a folder per trial.
        trials: all that have begun, in their order.
        best: the written configurations, the best one first.
        unfinished: trials that other processes are still running.
    """

    directory: Path
    trials: list[SweepTrial]
    best: list[Path]
    unfinished: int


def write_results(queue: Queue) -> SweepResult:
    """Write what is known so far; nothing where no trial is finished.

    One process at a time looks at the study and writes, so that no older report takes the place of a newer one.
    """
    while (lock := locked(queue.plan.directory / LOCKS / "report.lock")) is None:
        time.sleep(TURN)
    try:
        return _write(queue)
    finally:
        os.close(lock)


def _write(queue: Queue) -> SweepResult:
    plan = queue.plan
    begun = [trial for trial in queue.trials if trial.state in WORDS]
    trials = [_described(plan, trial) for trial in begun]
    unfinished = sum(trial.state == "running" for trial in trials)
    if unfinished == len(trials):
        return SweepResult(plan.directory, trials, [], unfinished)
    best, texts = _write_best(plan, begun)
    summary = SweepSummary(
        title=f"{plan.config.name}: sweep over {len(plan.space.domains)} keys",
        metric=next((trial.user_attrs["metric"] for trial in begun if "metric" in trial.user_attrs), "value"),
        larger=plan.direction == "maximize",
        asked=plan.trials,
        parameters=[_parameter(key, domain) for key, domain in plan.space.domains.items()],
        trials=trials,
        importance=_importance(queue.study, begun),
        best_yaml=texts[0] if texts else "",
        cards=[
            card("Sweep", {"seed": plan.seed, "pruner": plan.pruner, "best": [path.name for path in best]}),
            Card("Space", [(key, _in_words(domain)) for key, domain in plan.space.domains.items()]),
            card("Versions", {**versions(), "optuna": optuna.__version__}),
        ],
    )
    write_sweep_report(plan.directory, summary)
    return SweepResult(plan.directory, trials, best, unfinished)


def _parameter(key: str, domain: Choices | Range) -> Parameter:
    if isinstance(domain, Choices):
        return Parameter(key, choices=tuple(domain.choices))
    step = domain.step or (1 if domain.whole else None)
    return Parameter(key, ends=(domain.low, domain.high), step=step, log=domain.log)


def _described(plan: Plan, trial: FrozenTrial) -> SweepTrial:
    return SweepTrial(
        number=trial.number,
        state=WORDS[trial.state],
        value=trial.value if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) else None,
        course=dict(sorted(trial.intermediate_values.items())),
        seconds=trial.user_attrs.get("seconds"),
        values=plan.space.values(trial.params),
        error=trial.user_attrs.get("error", ""),
        folder=plan.folder(trial.number).relative_to(plan.directory).as_posix(),
    )


def _write_best(plan: Plan, trials: list[FrozenTrial]) -> tuple[list[Path], list[str]]:
    """The configurations of the best trials, each of which ``katops train`` takes as it stands."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    complete.sort(key=lambda trial: trial.value, reverse=plan.direction == "maximize")
    paths, texts = [], []
    for place, trial in enumerate(complete[:BEST], 1):
        name = f"{plan.config.name}-best-{place}"
        text = plan.config_alone(plan.space.values(trial.params), name).to_yaml()
        found = f"{trial.user_attrs.get('metric', 'value')} {trial.value:.6g}"
        paths.append(plan.directory / f"best-{place}.yaml")
        texts.append(f"# Trial {trial.number} of the sweep {plan.name}: {found}.\n{text}")
        write_text(paths[-1], texts[-1])
    return paths, texts


def _importance(study: optuna.Study, trials: list[FrozenTrial]) -> dict[str, float]:
    """Share of the variation of the value that goes with each parameter; empty where there is too little to tell.

    By functional analysis of variance (F. Hutter, H. Hoos, K. Leyton-Brown 2014, ICML) over the complete trials, of the
    parameters that all of them have.
    """
    values = [trial.value for trial in trials if trial.state == TrialState.COMPLETE]
    if len(values) < FEWEST or min(values) == max(values):
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that parameters without variation are left out
        return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))


def _in_words(domain: Choices | Range) -> str:
    if isinstance(domain, Choices):
        text = ", ".join(map(value_text, domain.choices))
    else:
        text = f"{value_text(domain.low)} to {value_text(domain.high)}"
        text += " (logarithmic)" if domain.log else f" by {value_text(domain.step)}" if domain.step else ""
    conditions = " and ".join(f"{key} is {value_text(value)}" for key, value in domain.when.items())
    return f"{text}, where {conditions}" if conditions else text
