"""One training step and one validation step, as a LightningModule."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from katops.config import TrainConfig
from katops.fields import FieldSample
from katops.metrics import relative_l2
from katops.predictors import FieldPredictor
from katops.predictors.rollout import following
from katops.training.base_task import Task, ValidationValues
from katops.training.callbacks import Monitor
from katops.training.losses import Loss, both_without_masked, without_masked
from katops.training.optim import build_optimizer, build_schedule, freeze

MONITOR = Monitor("validation_relative_l2", "min", "validation error {:.4g}")


class OperatorTask(Task):
    """Learn an operator from pairs of fields.

    The validation metric is the mean over samples of the relative L2 error of one call in physical units, where nothing
    is masked; of a mixture at the levels that the model learns (:mod:`katops.data.adjustment`).

    With ``train.rollout`` a training window holds the targets of several calls, see
    :class:`katops.config.operators.RolloutTrainingConfig`.

    Args:
        predictor: normaliser and model.
        loss: see :mod:`katops.training.losses`.
        config: the ``train`` section.
        steps: optimiser steps of the whole training and of one epoch, for the schedule.
        fingerprint: see :class:`katops.training.base_task.Task`.
    """

    def __init__(
        self,
        predictor: FieldPredictor,
        loss: Loss,
        config: TrainConfig,
        steps: tuple[int, int],
        fingerprint: str,
    ) -> None:
        super().__init__(fingerprint)
        self.predictor = predictor
        self.loss = loss
        self.config = config
        self.steps = steps
        self.errors = ValidationValues()
        freeze(predictor.model, config)

    @property
    def network(self) -> nn.Module:
        """The operator."""
        return self.predictor.model

    def size_of(self, batch: FieldSample) -> int:
        """Windows in a batch."""
        return len(batch.x)

    def training_step(self, batch: FieldSample, batch_index: int) -> Tensor:
        """Mean loss of one batch."""
        losses = [self.loss(y, target, batch.mask) for y, target in self._predictions(batch)]
        return torch.stack(losses).mean()

    def _predictions(self, batch: FieldSample) -> Iterator[tuple[Tensor, Tensor]]:
        """(prediction, target) of the calls whose loss counts: one, or those of a rollout."""
        rollout = self.config.rollout
        x = batch.x
        if rollout.noise:
            std = self.predictor.normalizer.input_scale.view(-1, *(1,) * len(self.predictor.meta.axes))
            x = x + rollout.noise * std * torch.randn_like(x)
        if rollout.steps == 1:
            yield self.predictor(x, batch.time, batch.constants), batch.y
            return
        time = None if batch.time is None else batch.time / rollout.steps
        call = partial(self.predictor, time=time, constants=batch.constants)
        first, *later = batch.y.split(self.predictor.meta.steps_out, dim=1)
        y = call(x)
        yield y, first
        x = self._following(x, y.detach() if rollout.pushforward else y, first, batch.mask)
        for target in later:
            last = target is later[-1]
            with torch.set_grad_enabled(last or not rollout.pushforward):
                y = call(x)
            if last or not rollout.pushforward:
                yield y, target
            x = self._following(x, y, target, batch.mask)

    def _following(self, x: Tensor, y: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
        """The input of the next call; what is not learned is not fed back, its target takes the place."""
        return following(x, without_masked(y, target, mask), self.predictor.meta)

    def validation_step(self, batch: FieldSample, batch_index: int) -> None:
        """Relative L2 error in physical units."""
        prediction = self.predictor(batch.x, batch.time, batch.constants)
        prediction, target = both_without_masked(prediction, batch.y, batch.mask)
        self.errors.add(map(tuple, batch.index.tolist()), relative_l2(prediction.flatten(1, 2), target.flatten(1, 2)))

    def on_validation_epoch_end(self) -> None:
        """The mean over the validation windows of all processes."""
        self.log(MONITOR.name, torch.tensor(self.errors.mean(), dtype=torch.float64), prog_bar=True, logger=False)

    def sample_names(self, batch: FieldSample) -> list[int | str]:
        """Numbers of the samples in a batch, each with the number of its file where there are several."""
        if batch.index is None:
            return []
        places = sorted({(file, sample) for file, sample, *_ in batch.index.tolist()})
        several = any(file for file, _ in places)
        return [f"{sample} of file {file}" if several else sample for file, sample in places]

    def configure_optimizers(self) -> Any:
        """The optimiser and the schedule, advanced after every step."""
        optimizer = build_optimizer(self.predictor.model, self.config)
        schedule = build_schedule(optimizer, self.config, *self.steps)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
