"""Experiment trackers beside ``log.csv``, which is always written: TensorBoard, MLflow, Weights & Biases."""

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from katops.config import Optimisation
from katops.distributed import current
from katops.errors import UserError

POINTS_PER_EPOCH = 50
"""Of the training loss within an epoch."""


def _tensorboard(directory: Path) -> Logger:
    return TensorBoardLogger(directory.parent, name=directory.name, version="tensorboard")


def _mlflow(directory: Path) -> Logger:
    """The server of MLFLOW_TRACKING_URI, or files in the folder of the run."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{(directory / 'mlflow.db').resolve()}")
    return MLFlowLogger(experiment_name="katops", run_name=directory.name, tracking_uri=uri)


def _wandb(directory: Path) -> Logger:
    """Online or offline as WANDB_MODE says."""
    return WandbLogger(project="katops", name=directory.name, save_dir=directory)


TRACKERS: dict[str, Callable[[Path], Logger]] = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}


def check_trackers(train: Optimisation) -> None:
    """Whether what ``train.trackers`` names is installed.

    Raises:
        UserError: it is not.
    """
    for name in train.trackers:
        if importlib.util.find_spec(name) is None:
            raise UserError(
                f"train.trackers names {name!r}, which is not installed: pip install {name}, or katops[track]; "
                f"log.csv is written without"
            )


def trackers(train: Optimisation, directory: Path) -> list[Logger]:
    """The trackers of a run, in the process that writes.

    Raises:
        UserError: one of them cannot be started, for want of an account for example.
    """
    if not current().is_first:
        return []
    loggers = []
    for name in train.trackers:
        try:
            loggers.append(TRACKERS[name](directory))
        except Exception as error:  # each has its own errors
            reason = " ".join(str(error).split())
            raise UserError(f"train.trackers: {name} cannot be started: {reason}") from error
    return loggers


class StepLosses(lightning.Callback):
    """The training loss of some steps of every epoch, for the trackers; ``EpochLog`` sends the rows of ``log.csv``."""

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Send the loss of this process' batch."""
        every = max(1, trainer.num_training_batches // POINTS_PER_EPOCH)
        if trainer.loggers and batch_idx % every == 0:
            loss = {"step_loss": float(outputs["loss"])}
            for logger in trainer.loggers:
                logger.log_metrics(loss, step=trainer.global_step)
