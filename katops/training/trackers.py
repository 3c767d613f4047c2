"""Experiment trackers beside ``log.csv``, which is always written: TensorBoard, MLflow, Weights & Biases.

Nothing of theirs is imported, and no network is used, before a training that names them begins.
"""

import importlib.util
import json
import math
import os
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import lightning
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from katops.distributed import current
from katops.errors import UserError
from katops.files import write_text
from katops.training.callbacks import EpochLog
from katops.training.directory import TRACKED, TRACKERS_FILE
from katops.training.trainer import quiet_lightning

POINTS_PER_EPOCH = 50
"""Of the training loss within an epoch."""
PROJECT = "katops"
"""What MLflow's experiment and the project of Weights & Biases are called where the environment says nothing else."""


class Place(NamedTuple):
    """What a tracker is started with.

    Attributes:
        directory: of the run.
        name: of the run.
        kept: what the tracker has to know to go on with a run that was begun before; empty for a new one.
        step: optimiser steps that are done; what was tracked after them will be done again.
    """

    directory: Path
    name: str
    kept: dict[str, str]
    step: int


def _tensorboard(place: Place) -> tuple[Logger, dict[str, str]]:
    logger = TensorBoardLogger(
        place.directory, name=None, version=TRACKED["tensorboard"], default_hp_metric=False, purge_step=place.step + 1
    )
    return logger, {"folder": TRACKED["tensorboard"]}


def _mlflow(place: Place) -> tuple[Logger, dict[str, str]]:
    """On the server of MLFLOW_TRACKING_URI, or in a file of the run's folder."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    kept = place.kept if place.kept.get("server") == server else {}
    logger = MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT),
        run_name=place.name,
        run_id=kept.get("run"),
        tracking_uri=server or f"sqlite:///{(place.directory / TRACKED['mlflow']).resolve()}",
    )
    identity = {"server": server, "run": logger.run_id}
    if not server:  # MLflow puts it there, and the next training of this process has a file of its own
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return logger, identity


def _wandb(place: Place) -> tuple[Logger, dict[str, str]]:
    """Online or offline as WANDB_MODE says."""
    identity = place.kept.get("run", uuid.uuid4().hex[:12])
    project = os.environ.get("WANDB_PROJECT", PROJECT)
    return WandbLogger(project=project, name=place.name, id=identity, save_dir=place.directory), {"run": identity}


_STARTS: dict[str, Callable[[Place], tuple[Logger, dict[str, str]]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def check_trackers(names: Sequence[str]) -> None:
    """Whether what ``train.trackers`` names is installed.

    Raises:
        UserError: it is not.
    """
    for name in names:
        found = importlib.util.find_spec(name)
        if found is None or found.origin is None:  # a folder of that name is none
            raise UserError(
                f"train.trackers names {name!r}, which is not installed: pip install {name}, or drop it, log.csv is "
                f"written without"
            )


class Trackers:
    """The trackers of one training; a context that ends them, in the process that writes.

    Args:
        names: keys of ``train.trackers``.
        directory: of the run; gets their files, and one that tells how to go on with them.
        name: of the run.
        configuration: the resolved one, tracked as hyperparameters.
        tell: called with a sentence where a tracker fails, which then gets nothing more; the training goes on.
    """

    def __init__(
        self,
        names: Sequence[str],
        directory: Path,
        name: str,
        configuration: Mapping[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self._names = names if current().is_first else ()
        self._directory = directory
        self._name = name
        self._configuration = dict(configuration)
        self._tell = tell
        self._loggers: dict[str, Logger] = {}
        self._step = 0

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with quiet_lightning():
            self._each(lambda logger: _end(logger, "failed" if kind else "success"))

    def begin(self, step: int) -> None:
        """Start them, or go on with what the folder tells of; ``step`` is that of the checkpoint, 0 without.

        Raises:
            UserError: one of them cannot be started, for want of an account for example.
        """
        self._step = step
        path = self._directory / TRACKERS_FILE
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for name in self._names:
            before = kept.get(name, {})
            try:
                with quiet_lightning():
                    logger, kept[name] = _STARTS[name](Place(self._directory, self._name, before, step))
                    if kept[name] != before:  # MLflow refuses to change hyperparameters
                        logger.log_hyperparams(self._configuration)
                        logger.save()
            except Exception as error:  # each has its own errors
                raise UserError(f"train.trackers: {name} cannot be started: {_reason(error)}") from error
            self._loggers[name] = logger
        if self._names:
            write_text(path, json.dumps(kept, indent=1))

    @property
    def any(self) -> bool:
        """Whether somebody is interested."""
        return bool(self._loggers)

    def log(self, values: Mapping[str, float | None], step: int) -> None:
        """Track numbers after so many optimiser steps; those that are ``None`` or NaN are left out."""
        self._step = step
        known = {name: value for name, value in values.items() if value is not None and not math.isnan(value)}
        self._each(lambda logger: logger.log_metrics(known, step=step))

    def results(self, metrics: Mapping[str, Mapping[str, Any]]) -> None:
        """Track the errors on the test sets, ``darcy.h5/relative_l2``, as of the last step."""
        flat = {
            re.sub(r"[^\w./ -]", "_", f"{part}/{name}"): float(value)
            for part, values in metrics.items()
            for name, value in values.items()
            if isinstance(value, int | float)
        }

        def send(logger: Logger) -> None:
            if isinstance(logger, TensorBoardLogger):
                # Its table of hyperparameters shows the runs that have results.
                logger.log_hyperparams(self._configuration, metrics=flat, step=self._step)
            else:
                logger.log_metrics(flat, step=self._step)

        self._each(send)

    def _each(self, act: Callable[[Logger], None]) -> None:
        """Do something with every tracker; one that fails is left out from then on."""
        for name, logger in list(self._loggers.items()):
            try:
                act(logger)
            except Exception as error:  # each has its own errors
                del self._loggers[name]
                self._tell(f"{name} failed and gets nothing more of this training: {_reason(error)}; log.csv goes on")


class Tracking(lightning.Callback):
    """Sends every row of ``log.csv``, and the training loss of some steps of every epoch.

    Args:
        trackers: where to.
        table: the rows; must be called before this callback.
    """

    def __init__(self, trackers: Trackers, table: EpochLog) -> None:
        self.trackers = trackers
        self.table = table

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Send the loss of this process' batch."""
        every = max(1, trainer.num_training_batches // POINTS_PER_EPOCH)
        if self.trackers.any and batch_idx % every == 0:
            self.trackers.log({"step_loss": float(outputs["loss"])}, trainer.global_step)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Send the row of the epoch."""
        row = self.table.rows[-1]
        self.trackers.log({name: value for name, value in row.items() if name != "step"}, int(row["step"]))


def _end(logger: Logger, status: str) -> None:
    logger.finalize(status)
    if isinstance(logger, WandbLogger):
        # Otherwise the next training of this process would go on with this run.
        logger.experiment.finish(exit_code=int(status != "success"))


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
