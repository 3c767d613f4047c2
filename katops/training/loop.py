"""The course of a training in every task: checkpoints, restarts, signals, and the best epoch."""

import copy
import functools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console

from katops.config import Optimisation
from katops.data.loader import worker_failure
from katops.distributed import current
from katops.errors import Preempted, UserError
from katops.training.agreement import Place, Restart, StepAgreement
from katops.training.base_task import Task
from katops.training.callbacks import EpochLog, Monitor
from katops.training.directory import CHECKPOINTS, LOG_FILE
from katops.training.signals import Signals
from katops.training.trackers import Trackers, Tracking
from katops.training.trainer import BEST, LAST, build_trainer, is_sharded, quiet_lightning
from katops.training.watching import EpochValues, Watch

MOST_RESTARTS = 10


@dataclass(frozen=True)
class Course:
    """How to train and where to keep it.

    Attributes:
        directory: gets ``log.csv`` and ``checkpoints/{best,last}.ckpt``.
        train: the ``train`` section.
        monitor: what chooses the best epoch.
        console: where to print.
        trackers: begun, and not ended, by :meth:`run`.
        progress: show progress bars and epoch lines.
        watch: told the validation value of every epoch.
    """

    directory: Path
    train: Optimisation
    monitor: Monitor
    console: Console
    trackers: Trackers
    progress: bool = True
    watch: Watch | None = None

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
            UserError: its training began with other data, or with another number of processes.
        """
        saved = torch.load(self.last, map_location="cpu", weights_only=True)
        if saved["data_fingerprint"] != fingerprint:
            raise UserError(
                f"cannot resume {self.directory}: {otherwise} that its training began with; put back what was there, "
                f"or train into another folder with --output"
            )
        if saved["processes"] != current().size:
            raise UserError(
                f"cannot resume {self.directory}: it was begun with {saved['processes']} processes, and with "
                f"{current().size}, as there are now, it would be another training; start as many"
            )
        return saved

    def run(
        self, task: Task, part: str, training: Any, validation: Any, saved: dict[str, Any] | None
    ) -> dict[str, Any]:
        """Train, from the checkpoint if there is one, and leave the best weights in ``task.<part>`` on the CPU.

        The weights are there in the first process only.

        Args:
            task: with the module ``part`` to keep.
            part: its attribute's name.
            training: batches.
            validation: batches, or ``None``.
            saved: from :meth:`saved`, to continue.

        Returns:
            the entry ``training`` of the model file: epochs, seconds, and which epoch was kept for what reason.

        Raises:
            UserError: a tracker cannot be started; a loss or gradient is not finite, and the configuration does not say
                how to go on.
            Preempted: SIGTERM or SIGUSR1 asked for an end; everything is saved.
        """
        # What is spread over the processes is not put together again here: the best weights go into a copy.
        whole = copy.deepcopy(getattr(task, part)) if is_sharded(self.train) else None
        current().first(lambda: self.trackers.begin(saved["global_step"] if saved else 0))
        signals, log = Signals(), self._log()
        started = time.monotonic()
        if saved is not None and self._stopped_early(saved):
            log.load_state_dict(saved["callbacks"][log.state_key])
        else:
            with signals.listening():
                log = self._train(task, training, validation, self.last if saved else None, signals)
            if any(current().gather(signals.ending)):
                raise Preempted("stopped by a signal after the last epoch; everything is saved, --resume goes on")
        if whole is not None:
            setattr(task, part, whole)
        record = {
            "epochs": self.train.epochs,
            "epochs_run": len(log.rows),
            "seconds": round(sum(row["seconds"] for row in log.rows), 3),
            "session_seconds": round(time.monotonic() - started, 3),
            **current().first(lambda: self._load_best(task, part, log)),
        }
        getattr(task, part).cpu().float().eval()
        return record

    def _train(self, task: Task, training: Any, validation: Any, checkpoint: Path | None, signals: Signals) -> EpochLog:
        """Run the trainer, again from the last checkpoint where a step asks for it."""
        left_out: set[Place] = set()
        while True:
            log = self._log()
            agreement = StepAgreement(
                log,
                signals,
                self.last,
                self.train.non_finite,
                frozenset(left_out),
                self.train.checkpoint_minutes,
                self._tell,
            )
            try:
                watching = [] if self.watch is None else [EpochValues(log, self.watch)]
                callbacks = [agreement, log, signals, Tracking(self.trackers, log), *watching]
                self._fit(callbacks, task, training, validation, checkpoint)
                return log
            except Restart as restart:
                left_out.add(restart.place)
                if len(left_out) > MOST_RESTARTS:
                    raise UserError(
                        f"{restart}; it is the {len(left_out)}th restart, lower train.learning_rate"
                    ) from None
                self._tell(f"{restart}; going back to the last checkpoint, that batch is left out")
                checkpoint = self.last

    def _fit(
        self, callbacks: list[lightning.Callback], task: Task, training: Any, validation: Any, checkpoint: Path | None
    ) -> None:
        """Run the trainer once; Ctrl-C ends it as KeyboardInterrupt, the last checkpoint being whole."""
        with quiet_lightning():
            trainer = build_trainer(
                self.train,
                self.directory,
                self.monitor if validation is not None else None,
                callbacks,
                live=self._live,
            )
            try:
                trainer.fit(task, training, validation, ckpt_path=checkpoint, weights_only=True)
            except RuntimeError as error:
                raise worker_failure(error) or error from None
            except SystemExit:  # Lightning's own answer to Ctrl-C would end a notebook's kernel
                if not trainer.interrupted:
                    raise
        if trainer.interrupted:
            raise KeyboardInterrupt

    @property
    def _live(self) -> bool:
        return self.progress and self.console.is_terminal and current().is_first

    def _log(self) -> EpochLog:
        first = current().is_first
        plain = functools.partial(self.console.print, highlight=False, soft_wrap=True)
        report = plain if first and self.progress and not self._live else None
        return EpochLog(self.directory / LOG_FILE if first else None, self.monitor, report)

    def _tell(self, sentence: str) -> None:
        self.console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    def _stopped_early(self, checkpoint: dict[str, Any]) -> bool:
        """Whether the run that left this checkpoint had ended by early stopping."""
        states = [state for key, state in checkpoint["callbacks"].items() if key.startswith("EarlyStopping")]
        return self.train.early_stopping is not None and any(
            state["wait_count"] >= state["patience"] for state in states
        )

    def _load_best(self, task: Task, part: str, log: EpochLog) -> dict[str, Any]:
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
