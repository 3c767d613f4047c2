"""What all processes of a training decide together, once a step: whether the loss is finite, to save, to end."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from torch import Tensor, nn

from katops.distributed import current
from katops.errors import Preempted, ToldElsewhere, UserError
from katops.training.callbacks import EpochLog
from katops.training.diagnosis import first_gradient_not_finite, first_not_finite, local
from katops.training.signals import Signals

Policy = Literal["stop", "skip", "restart"]
Place = tuple[int, int]
"""An epoch and a batch in it."""

MOST_IN_A_ROW = 10
"""So many steps in a row without a finite loss are no accident."""


class Restart(Exception):
    """The training is to go on from its last checkpoint, without the batch at ``place``."""

    def __init__(self, place: Place, reason: str) -> None:
        super().__init__(reason)
        self.place = place


class StepAgreement(lightning.Callback):
    """Adds up the training loss, ends or mends steps that are not finite, saves in time, and ends where asked to.

    Every process takes part in one sum of a few numbers a step, so that all do the same.

    Args:
        log: gets the loss of each step.
        signals: says whether an end is asked for.
        checkpoint: where to save.
        policy: "stop" ends the training at a loss or gradient that is not finite, before it has changed the weights;
            "skip" leaves the step out; "restart" goes back to the last checkpoint and leaves the batch out.
        left_out: batches to leave out.
        minutes: between checkpoints within an epoch; ``None`` saves at the ends of epochs only.
        tell: prints a sentence.
    """

    def __init__(
        self,
        log: EpochLog,
        signals: Signals,
        checkpoint: Path,
        policy: Policy,
        left_out: frozenset[Place],
        minutes: float | None,
        tell: Callable[[str], None],
    ) -> None:
        self._log = log
        self._signals = signals
        self._checkpoint = checkpoint
        self._policy = policy
        self._left_out = left_out
        self._minutes = minutes
        self._tell = tell
        self._saved = time.monotonic()
        self._in_a_row = 0
        self._discard = self._save = self._end = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Have something to go back to."""
        if self._policy == "restart" and trainer.global_step == 0:
            trainer.save_checkpoint(self._checkpoint)
        self._saved = time.monotonic()

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keep the batch, whose samples may have to be named."""
        self._batch, self._place = batch, (trainer.current_epoch, batch_idx)
        self._discard = self._discard or self._place in self._left_out

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Agree on this step.

        Raises:
            UserError: the loss is not finite in some process; names the module, the epoch, the step and the samples.
            Restart: the same, where the training is to go back.
        """
        value, samples = float(loss.detach()) * trainer.accumulate_grad_batches, pl_module.size_of(self._batch)
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:  # 16-bit floats: it is multiplied already
            value /= scaler.get_scale()
        finite = math.isfinite(value)
        due = self._minutes is not None and time.monotonic() - self._saved > 60 * self._minutes
        mine = [not finite, due, self._signals.ending is not None, value * samples if finite else 0.0, samples]
        broken, due, ending, total, count = current().total(torch.tensor(mine, dtype=torch.float64)).tolist()
        self._save, self._end = bool(due), bool(ending)
        if broken and not self._discard:
            with trainer.precision_plugin.train_step_context():
                where = first_not_finite(pl_module, self._batch, self._place[1])
            ranks = [rank for rank, is_finite in enumerate(current().gather(finite)) if not is_finite]
            self._broken(trainer, pl_module, f"training loss became {value}", where, ranks)
        elif not self._discard:
            self._log.add(total, int(count))

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Leave the step out where it was decided to, or where its gradient is not finite.

        With 16-bit floats the scaler of the loss does the latter, as part of its search for a scale.

        Raises:
            UserError, Restart: see :meth:`on_before_backward`.
        """
        if not self._discard and trainer.precision != "16-mixed":
            gradients = [value.grad for value in pl_module.parameters() if value.grad is not None]
            if not math.isfinite(float(local(nn.utils.get_total_norm(gradients)))):
                self._broken(
                    trainer, pl_module, "gradient became infinite or NaN", first_gradient_not_finite(pl_module)
                )
        if self._discard:
            optimizer.zero_grad(set_to_none=True)
        else:
            self._in_a_row = 0
        self._discard = False

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save and end where it was decided to; at the end of an epoch that is saved anyway, a batch later.

        Raises:
            Preempted: a signal asked for the end.
        """
        is_last = batch_idx + 1 == trainer.num_training_batches
        if is_last or (batch_idx + 1) % trainer.accumulate_grad_batches or not (self._save or self._end):
            return
        trainer.save_checkpoint(self._checkpoint)
        self._saved = time.monotonic()
        if self._end:
            name = next(name for name in [*current().gather(self._signals.ending), "a signal"] if name)
            raise Preempted(
                f"stopped by {name} in epoch {trainer.current_epoch + 1} after step {trainer.global_step}; everything "
                f"is saved, --resume continues from here"
            )

    def _broken(
        self,
        trainer: lightning.Trainer,
        task: lightning.LightningModule,
        what: str,
        where: str,
        ranks: list[int] | None = None,
    ) -> None:
        """Stop, go back or leave the step out."""
        epoch, step = trainer.current_epoch + 1, trainer.global_step
        samples = current().gather(task.sample_names(self._batch))
        named = [name for rank in (range(len(samples)) if ranks is None else ranks) for name in samples[rank]]
        sentence = f"the {what} in epoch {epoch}, step {step}, {where}, on samples {named}"
        self._in_a_row += 1
        if self._policy == "stop" or self._in_a_row > MOST_IN_A_ROW:
            advice = (
                "what was saved before is kept; train into another folder with a lower train.learning_rate or a "
                "smaller train.gradient_clip, or let train.non_finite skip such steps"
                if self._policy == "stop"
                else f"this is the {self._in_a_row}th step in a row; lower train.learning_rate"
            )
            if current().rank != (0 if ranks is None else ranks[0]):
                raise ToldElsewhere(sentence)
            raise UserError(f"{sentence}; {advice}")
        if self._policy == "restart":
            raise Restart(self._place, sentence)
        self._tell(f"{sentence}; the step is left out")
        self._discard = True
