"""What trials are compared by: the validation value of the best epoch, or the score of a study of a table."""

from typing import Literal

from katops.config import BaseRunConfig, ImageRunConfig, RunConfig, TableRunConfig
from katops.errors import UserError
from katops.report.tables import metric_label
from katops.runs.result import RunResult
from katops.training import image_task, task


def direction(config: BaseRunConfig) -> Literal["minimize", "maximize"]:
    """Whether smaller or larger values are better.

    Raises:
        UserError: the runs of this configuration have no validation value.
    """
    if isinstance(config, TableRunConfig):
        return "maximize"  # R2 of a regression, F1 of a classification
    if isinstance(config, RunConfig | ImageRunConfig) and not config.is_validated:
        raise UserError("a sweep compares trials on validation samples, but the configuration sets none aside")
    monitor = image_task.MONITOR if isinstance(config, ImageRunConfig) else task.MONITOR
    return "minimize" if monitor.mode == "min" else "maximize"


def steps(config: BaseRunConfig) -> int:
    """How many values a run reports on its way, at most."""
    if isinstance(config, TableRunConfig):
        return config.folds.splits * config.folds.repeats
    return config.train.epochs


def score(config: BaseRunConfig, result: RunResult) -> tuple[str, float]:
    """The name of the value, and the value.

    Raises:
        UserError: the run ended without one.
    """
    if isinstance(config, TableRunConfig):
        study = result.evaluations["folds"]
        return study.metrics[0].label, study.score
    training = result.bundle.header["training"]
    if training["best_value"] is None:
        raise UserError("the training ended without a validation value; it needs validation samples and a whole epoch")
    return metric_label(training["monitor"]), training["best_value"]
