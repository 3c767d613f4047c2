"""One training step and one validation step, as a LightningModule."""

from collections.abc import Callable
from typing import Any

import lightning
from torch import Tensor

from katops.config import TrainConfig
from katops.fields import FieldSample
from katops.metrics import relative_l2
from katops.predictors import FieldPredictor
from katops.training.callbacks import Monitor
from katops.training.optim import build_optimizer, build_schedule

MONITOR = Monitor("validation_relative_l2", "min", "validation error {:.4g}")


class OperatorTask(lightning.LightningModule):
    """Learn an operator from pairs of fields.

    The loss compares fields that are divided by the training standard deviation of each output channel but not shifted:
    for one channel that is the relative error in physical units, for several no channel drowns the others. The
    validation metric is the mean over samples of the relative L2 error in physical units.

    Args:
        predictor: normaliser and model.
        loss: maps (prediction, target), each (batch, channel, \\*space), to one value per sample.
        config: the ``train`` section.
        steps: optimiser steps of the whole training and of one epoch, for the schedule.
        fingerprint: of the training data; kept in checkpoints, so that a run is never continued on other data.
    """

    def __init__(
        self,
        predictor: FieldPredictor,
        loss: Callable[[Tensor, Tensor], Tensor],
        config: TrainConfig,
        steps: tuple[int, int],
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.predictor = predictor
        self.loss = loss
        self.config = config
        self.steps = steps
        self.fingerprint = fingerprint

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the training data."""
        checkpoint["data_fingerprint"] = self.fingerprint

    def training_step(self, batch: FieldSample, batch_index: int) -> Tensor:
        """Mean loss of one batch."""
        scale = self.predictor.normalizer.output_scale.view(-1, *(1,) * len(self.predictor.meta.axes))
        prediction = self.predictor(batch.x, batch.time, batch.constants) / scale
        loss = self.loss(prediction.flatten(1, 2), (batch.y / scale).flatten(1, 2)).mean()
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.x))
        return loss

    def validation_step(self, batch: FieldSample, batch_index: int) -> None:
        """Relative L2 error in physical units."""
        prediction = self.predictor(batch.x, batch.time, batch.constants)
        error = relative_l2(prediction.flatten(1, 2), batch.y.flatten(1, 2)).mean()
        self.log(MONITOR.name, error, on_epoch=True, prog_bar=True, batch_size=len(batch.x))

    def sample_names(self, batch: FieldSample) -> list[int | str]:
        """Numbers of the samples in a batch, each with the number of its file where there are several."""
        if batch.index is None:
            return []
        places = sorted({(file, sample) for file, sample, *_ in batch.index.tolist()})
        several = any(file for file, _ in places)
        return [f"{sample} of file {file}" if several else sample for file, sample in places]

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule, advanced after every step."""
        optimizer = build_optimizer(self.predictor, self.config)
        schedule = build_schedule(optimizer, self.config, *self.steps)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
