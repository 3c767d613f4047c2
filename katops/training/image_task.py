"""One training step and one validation step on images, as a LightningModule."""

from collections.abc import Sequence
from typing import Any

import lightning
from timm.data import Mixup
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from katops.config import ImageTrainConfig
from katops.data.image_loader import ImageBatch
from katops.training.callbacks import Monitor
from katops.training.image_optim import build_optimizer, build_schedule

MONITOR = Monitor("validation_accuracy", "max", "validation accuracy {:.2%}", beside=("validation_loss",))
MOST_NAMED = 8


class ImageTask(lightning.LightningModule):
    """Learn to tell classes apart by cross-entropy with smoothed or mixed labels.

    The validation accuracy is the share of images whose largest logit is that of their class; with ``ema_decay`` it is
    that of the averaged weights, which are also the ones that are kept.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, classes).
        classes: their number.
        config: the ``train`` section.
        steps_per_epoch: optimiser steps, for the schedule.
        names: of the training images, for messages.
        fingerprint: of the data; kept in checkpoints, so that a run is never continued on other data.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        config: ImageTrainConfig,
        steps_per_epoch: int,
        names: Sequence[str],
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.names = names
        self.fingerprint = fingerprint
        self.accuracy = MulticlassAccuracy(classes, average="micro")
        self.mixup = (
            Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=classes)
            if config.mixes
            else None
        )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remember the training data."""
        checkpoint["data_fingerprint"] = self.fingerprint

    def on_train_epoch_start(self) -> None:
        """Mix images up to the epoch that ends it."""
        if self.mixup is not None:
            last = self.config.mixup_off_epoch
            self.mixup.mixup_enabled = last is None or self.current_epoch < last

    def training_step(self, batch: ImageBatch, batch_index: int) -> Tensor:
        """Mean cross-entropy of one batch."""
        images, target, smoothing = batch.images, batch.labels, self.config.label_smoothing
        if self.mixup is not None:  # the mixed labels are smoothed already
            (images, target), smoothing = self.mixup(images, target), 0.0
        loss = functional.cross_entropy(self.model(images).float(), target, label_smoothing=smoothing)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: ImageBatch, batch_index: int) -> None:
        """Accuracy, and cross-entropy with the plain labels."""
        logits = self.model(batch.images).float()
        self.accuracy(logits, batch.labels)
        loss = functional.cross_entropy(logits, batch.labels)
        self.log("validation_loss", loss, on_epoch=True, batch_size=len(logits))
        self.log(MONITOR.name, self.accuracy, on_epoch=True, prog_bar=True, batch_size=len(logits))

    def sample_names(self, batch: ImageBatch) -> list[str]:
        """Names of the first images of a batch."""
        return [self.names[index] for index in batch.index[:MOST_NAMED].tolist()]

    def configure_optimizers(self) -> Any:
        """timm's optimiser and schedule, advanced after every optimiser step."""
        optimizer = build_optimizer(self.model, self.config)
        schedule = build_schedule(optimizer, self.config, self.steps_per_epoch)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """timm's schedules are told the number of the step."""
        scheduler.step_update(self.global_step)
