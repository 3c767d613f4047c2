"""Somebody who is told how a run goes, and may end it."""

from collections.abc import Callable

import lightning

from katops.training.callbacks import EpochLog

Watch = Callable[[int, float], None]
"""Called with (step, value) when a step of a run is done: an epoch, counted from 1, and its validation value, or a fold
and the score so far. What it raises ends the run, which can be resumed."""


class EpochValues(lightning.Callback):
    """Tells a :data:`Watch` the validation value of every epoch but the last one, whose value is the run's own.

    It is told when the next epoch begins: the checkpoint of the epoch is whole by then. A run that was resumed tells
    the epoch before once more, since the process that ended may not have come to it.

    Args:
        epochs: whose last row is told.
        watch: who is told.
    """

    def __init__(self, epochs: EpochLog, watch: Watch) -> None:
        self.epochs = epochs
        self.watch = watch

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell the epoch before; without validation samples there is nothing to tell."""
        row = self.epochs.rows[-1] if self.epochs.rows else {}
        value = row.get(self.epochs.monitor.name)
        if value is not None:
            self.watch(int(row["epoch"]), value)
