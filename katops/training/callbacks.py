"""What Lightning does not bring: an append-only epoch log, whole checkpoints, resumable randomness."""

import csv
import io
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import lightning
import numpy as np
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from katops.distributed import current
from katops.files import atomic_path, write_text


@dataclass(frozen=True)
class Monitor:
    """The validation value by which the best epoch is chosen.

    Attributes:
        name: of the value, and of its column in the log.
        mode: "min" or "max", whichever is better.
        words: the value as a phrase with a place for it, for the epoch lines.
        beside: names of further validation values in the log.
    """

    name: str
    mode: Literal["min", "max"]
    words: str
    beside: tuple[str, ...] = ()


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole or absent.

    Lightning's own writer moves a file from the temporary folder, which on another file system is a copy that ``kill
    -9`` can cut in half; here the file is written beside its name and renamed.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path``."""
        with atomic_path(path) as temporary:
            torch.save(checkpoint, temporary)


class EpochLog(lightning.Callback):
    """One row per epoch in ``log.csv``: epoch, step, training loss, validation values, learning rate, seconds.

    The rows are part of the checkpoint, so that a resumed run continues the table where the checkpoint was taken and
    never repeats or loses a row; so are the losses of an epoch that is under way.

    Args:
        path: the CSV file; ``None`` in all processes but the one that writes.
        monitor: the validation values.
        report: called with one line of text per epoch, for logs without a terminal.
    """

    def __init__(self, path: Path | None, monitor: Monitor, report: Callable[[str], None] | None = None) -> None:
        self.path = path
        self.monitor = monitor
        self.report = report
        self.rows: list[dict[str, float | None]] = []
        self._loss = self._seconds = self._learning_rate = 0.0
        self._samples = 0
        self._started = time.monotonic()

    def add(self, loss: float, samples: int) -> None:
        """Take the sum of the losses of so many training samples."""
        self._loss += loss
        self._samples += samples

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Start the clock of the first epoch, or of what is left of one."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note the learning rate that the epoch starts with."""
        self._learning_rate = max(group["lr"] for group in trainer.optimizers[0].param_groups)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Add a row and write the table."""
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        validation = (*self.monitor.beside, self.monitor.name)
        row = {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            # Without a finite step there is none.
            "train_loss": self._loss / self._samples if self._samples else None,
            **{name: metrics.get(name) for name in validation},  # absent without validation samples
            "learning_rate": self._learning_rate,
            "seconds": round(self._seconds + time.monotonic() - self._started, 3),
        }
        self.rows.append(row)
        self._loss, self._samples, self._seconds, self._started = 0.0, 0, 0.0, time.monotonic()
        if self.path is None:
            return
        table = io.StringIO()
        writer = csv.DictWriter(table, list(row))
        writer.writeheader()
        writer.writerows(self.rows)
        write_text(self.path, table.getvalue())
        if self.report:
            value = row[self.monitor.name]
            words = "" if value is None else ", " + self.monitor.words.format(value)
            loss = "no finite training loss" if row["train_loss"] is None else f"training loss {row['train_loss']:.4g}"
            self.report(f"epoch {row['epoch']}/{trainer.max_epochs}: {loss}{words}, {row['seconds']:.1f} s")

    def state_dict(self) -> dict[str, Any]:
        """The rows so far, and what belongs to the next one."""
        seconds = self._seconds + time.monotonic() - self._started
        return {
            "rows": self.rows,
            "loss": self._loss,
            "samples": self._samples,
            "seconds": seconds,
            "learning_rate": self._learning_rate,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue the table."""
        self.rows = list(state_dict["rows"])
        self._loss, self._samples = state_dict["loss"], state_dict["samples"]
        self._seconds, self._learning_rate = state_dict["seconds"], state_dict["learning_rate"]


class RandomState(lightning.Callback):
    """Save and restore the generators of Python, numpy and torch, which Lightning leaves out of its checkpoints.

    Each process has its own numbers, so that two of them do not drop the same units or add the same noise. Process 0
    has those of a training in one process.
    """

    def state_dict(self) -> dict[str, Any]:
        """State of the global generators of every process, in types that ``weights_only`` loading accepts."""
        return {"processes": current().gather(_generators())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the saved state until training really starts; building the run draws numbers in between."""
        self._saved = state_dict["processes"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the saved state back, if the run was resumed; else give each process numbers of its own."""
        saved, rank = self.__dict__.pop("_saved", None), current().rank
        if saved is not None:
            _restore(saved[rank])
        elif rank:
            lightning.seed_everything((torch.initial_seed() + rank) % 2**32, verbose=False)


def _generators() -> dict[str, Any]:
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - the global generator is meant
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        # Of the GPU of this process; the others are not used.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "numpy": [kind, keys.tolist(), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }


def _restore(saved: dict[str, Any]) -> None:
    torch.set_rng_state(saved["torch"].cpu())
    if saved["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(saved["cuda"][0].cpu())
    kind, keys, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))  # noqa: NPY002
    version, internal, gauss = saved["python"]
    random.setstate((version, tuple(internal), gauss))
