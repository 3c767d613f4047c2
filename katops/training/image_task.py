"""One training step and one validation step on images, as a LightningModule."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.data import Mixup
from torch import Tensor, nn
from torch.nn import functional

from katops.config import ImageTrainConfig
from katops.data.image_loader import ImageBatch
from katops.training.base_task import Task, ValidationValues
from katops.training.callbacks import Monitor
from katops.training.image_optim import build_optimizer, build_schedule

MONITOR = Monitor("validation_accuracy", "max", "validation accuracy {:.2%}", beside=("validation_loss",))
MOST_NAMED = 8


class ImageTask(Task):
    """Learn to tell classes apart by cross-entropy with smoothed or mixed labels.

    The validation accuracy is the share of images whose largest logit is that of their class; with ``ema_decay`` it is
    that of the averaged weights, which are also the ones that are kept.

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, classes).
        classes: their number.
        config: the ``train`` section.
        steps_per_epoch: optimiser steps, for the schedule.
        names: of the training images, for messages.
        fingerprint: see :class:`katops.training.base_task.Task`.
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
        super().__init__(fingerprint)
        self.model = model
        self.config = config
        self.steps_per_epoch = steps_per_epoch
        self.names = names
        self.hits, self.losses = ValidationValues(), ValidationValues()
        self.mixup = (
            Mixup(config.mixup, config.cutmix, label_smoothing=config.label_smoothing, num_classes=classes)
            if config.mixes
            else None
        )

    @property
    def network(self) -> nn.Module:
        """The classifier."""
        return self.model

    def size_of(self, batch: ImageBatch) -> int:
        """Images in a batch."""
        return len(batch.images)

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
        return functional.cross_entropy(self.model(images).float(), target, label_smoothing=smoothing)

    def validation_step(self, batch: ImageBatch, batch_index: int) -> None:
        """Accuracy, and cross-entropy with the plain labels."""
        logits = self.model(batch.images).float()
        keys = [(index,) for index in batch.index.tolist()]
        self.hits.add(keys, logits.argmax(-1) == batch.labels)
        self.losses.add(keys, functional.cross_entropy(logits, batch.labels, reduction="none"))

    def on_validation_epoch_end(self) -> None:
        """The means over the validation images of all processes."""
        accuracy, loss = (torch.tensor(each.mean(), dtype=torch.float64) for each in (self.hits, self.losses))
        self.log("validation_loss", loss, logger=False)
        self.log(MONITOR.name, accuracy, prog_bar=True, logger=False)

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
