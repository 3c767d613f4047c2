"""The course of a training in every task: trainer, checkpoints, early stopping, Ctrl-C, and the best epoch."""

import functools
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from rich.console import Console
from torch import nn

from katops.config import Optimisation
from katops.errors import UserError
from katops.training.callbacks import AtomicCheckpointIO, EpochLog, FiniteLoss, Monitor, RandomState
from katops.training.directory import CHECKPOINTS, LOG_FILE
from katops.training.interrupt import Interrupt

LAST, BEST = "last", "best"


@dataclass(frozen=True)
class Course:
    """How to train and where to keep it.

    Attributes:
        directory: gets ``log.csv`` and ``checkpoints/{best,last}.ckpt``.
        train: the ``train`` section.
        monitor: what chooses the best epoch.
        console: where to print.
        progress: show progress bars and epoch lines.
        accumulate: batches per optimiser step.
    """

    directory: Path
    train: Optimisation
    monitor: Monitor
    console: Console
    progress: bool = True
    accumulate: int = 1

    @property
    def last(self) -> Path:
        """Where the checkpoint to continue from is written."""
        return self.directory / CHECKPOINTS / f"{LAST}.ckpt"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch; there is none without validation."""
        return self.directory / CHECKPOINTS / f"{BEST}.ckpt"

    def saved(self, fingerprint: str, otherwise: str) -> dict[str, Any]:
        """The checkpoint to continue from.

        Args:
            fingerprint: of the data.
            otherwise: how a message says that its training began with others.

        Raises:
            UserError: its training began with other data.
        """
        saved = torch.load(self.last, map_location="cpu", weights_only=True)
        if saved["data_fingerprint"] != fingerprint:
            raise UserError(
                f"cannot resume {self.directory}: {otherwise} that its training began with; put back what was there, "
                f"or train into another folder with --output"
            )
        return saved

    def run(
        self, task: lightning.LightningModule, part: str, training: Any, validation: Any, saved: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Train, from the checkpoint if there is one, and leave the best weights in ``task.<part>`` on the CPU.

        Args:
            task: with the module ``part`` to keep.
            part: its attribute's name.
            training: batches.
            validation: batches, or ``None``.
            saved: from :meth:`saved`, to continue.

        Returns:
            the entry ``training`` of the model file: epochs, seconds, and which epoch was kept for what reason.
        """
        with quiet_lightning():
            trainer, log, interrupt = self._trainer(validation is not None)
        started = time.monotonic()
        if saved is not None and self._stopped_early(saved):
            log.load_state_dict(saved["callbacks"][log.state_key])
        else:
            with interrupt.listening():
                self._fit(trainer, task, training, validation, self.last if saved else None)
        record = {
            "epochs": self.train.epochs,
            "epochs_run": len(log.rows),
            "seconds": round(sum(row["seconds"] for row in log.rows), 3),
            "session_seconds": round(time.monotonic() - started, 3),
            **self._load_best(task, part, log),
        }
        getattr(task, part).cpu().float().eval()
        return record

    def _fit(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        training: Any,
        validation: Any,
        checkpoint: Path | None,
    ) -> None:
        """Run the trainer; Ctrl-C ends it as KeyboardInterrupt, the last checkpoint being whole."""
        try:
            with quiet_lightning():
                trainer.fit(task, training, validation, ckpt_path=checkpoint, weights_only=True)
        except SystemExit:  # Lightning's own answer to Ctrl-C would end a notebook's kernel
            if not trainer.interrupted:
                raise
        if trainer.interrupted:
            raise KeyboardInterrupt

    def _stopped_early(self, checkpoint: dict[str, Any]) -> bool:
        """Whether the run that left this checkpoint had ended by early stopping."""
        states = [state for key, state in checkpoint["callbacks"].items() if key.startswith("EarlyStopping")]
        return self.train.early_stopping is not None and any(
            state["wait_count"] >= state["patience"] for state in states
        )

    def _trainer(self, validate: bool) -> tuple[lightning.Trainer, EpochLog, Interrupt]:
        train, monitor = self.train, self.monitor
        live = self.progress and self.console.is_terminal
        plain = functools.partial(self.console.print, highlight=False, soft_wrap=True)
        log = EpochLog(self.directory / LOG_FILE, monitor, None if live or not self.progress else plain)
        keep = functools.partial(ModelCheckpoint, self.last.parent, enable_version_counter=False, save_top_k=1)
        interrupt = Interrupt()
        callbacks: list[lightning.Callback] = [FiniteLoss(), log, RandomState(), interrupt]
        if validate:
            callbacks.append(keep(filename=BEST, monitor=monitor.name, mode=monitor.mode))
        callbacks.append(keep(filename=LAST, save_on_train_epoch_end=True))
        if train.ema_decay is not None:
            callbacks.append(EMAWeightAveraging(decay=train.ema_decay))
        if train.early_stopping is not None:
            callbacks.append(EarlyStopping(monitor.name, patience=train.early_stopping, mode=monitor.mode))
        if live:
            callbacks.append(RichProgressBar())
        trainer = lightning.Trainer(
            max_epochs=train.epochs,
            max_steps=train.max_steps or -1,
            accelerator=train.device,
            devices=1,
            precision=train.precision,
            gradient_clip_val=train.gradient_clip,
            accumulate_grad_batches=self.accumulate,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            logger=False,
            default_root_dir=self.directory,
            enable_progress_bar=live,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )
        return trainer, log, interrupt

    def _load_best(self, task: nn.Module, part: str, log: EpochLog) -> dict[str, Any]:
        """Put the best weights into the module and say which epoch they are from."""
        path, chosen = (self.best, BEST) if self.best.is_file() else (self.last, LAST)
        if not path.is_file():
            return {"chosen": LAST, "best_epoch": len(log.rows), "monitor": None}
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        prefix = f"{part}."
        state = {
            key.removeprefix(prefix): value for key, value in checkpoint["state_dict"].items() if key.startswith(prefix)
        }
        getattr(task, part).load_state_dict(state)
        epoch, name = checkpoint["epoch"] + 1, self.monitor.name
        return {
            "chosen": chosen,
            "best_epoch": epoch,
            "monitor": name if chosen == BEST else None,
            "best_value": next((row[name] for row in log.rows if row["epoch"] == epoch), None),
        }


def check_device(train: Optimisation) -> None:
    """Refuse what this machine cannot do, in words of the configuration."""
    gpu = torch.cuda.is_available()
    if train.device == "cuda" and not gpu:
        raise UserError("train.device is 'cuda', but torch sees no CUDA device here; use 'auto' or 'cpu'")
    if train.precision == "16-mixed" and (train.device == "cpu" or not gpu):
        raise UserError("train.precision is '16-mixed', which needs a GPU; on the CPU use 'bf16-mixed' or '32-true'")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out advertisements, hardware lists and advice that does not apply here; warnings of other origin stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            # Worker processes are not faster for files without compression.
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            # Validation samples are optional; and a run that max_steps ends within an epoch skips them once.
            warnings.filterwarnings("ignore", message=".*have no `val_dataloader`.*")
            warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
            # A resumed run finds its own checkpoints.
            warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
            warnings.filterwarnings("ignore", module="lightning", category=FutureWarning)
            warnings.filterwarnings("ignore", module="lightning", category=DeprecationWarning)
            yield
    finally:
        logger.setLevel(level)
