"""Optimiser and learning-rate schedule from the configuration."""

import functools
import math
from collections.abc import Callable
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from katops.config import TrainConfig
from katops.errors import UserError
from katops.models.options import resolve_options


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights with decay, vectors and scalars (biases, norms) without.

    Decay pulls a bias or a norm's gain towards a value that means nothing for them; leaving them out is the usual
    practice (Loshchilov & Hutter, arXiv 1711.05101, as applied by timm).
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The configured optimiser with its learning rate and decay.

    ``adamw`` (arXiv 1711.05101) decays weights apart from the gradient, see :func:`parameter_groups`; ``adam`` (arXiv
    1412.6980) adds the decay of every parameter to its gradient, as the published operator codes do.
    """
    if config.optimizer == "adam":
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return Adam(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    return AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate)


def one_cycle(
    optimizer: Optimizer,
    total_steps: int,
    steps_per_epoch: int,
    *,
    rise: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> LRScheduler:
    """Rises from rate / div_factor for the fraction ``rise`` of the steps, then anneals to the first rate /
    final_div_factor (Smith & Topin, arXiv 1708.07120)."""
    if not 0 < rise < 1 or div_factor <= 0 or final_div_factor <= 0:
        raise UserError(
            f"train.schedule one_cycle: rise must lie between 0 and 1, div_factor and final_div_factor above 0; given: "
            f"{rise}, {div_factor}, {final_div_factor}"
        )
    rates = [group["lr"] for group in optimizer.param_groups]
    return OneCycleLR(
        optimizer,
        max_lr=rates,
        total_steps=total_steps,
        pct_start=rise,
        div_factor=div_factor,
        final_div_factor=final_div_factor,
    )


def cosine(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> LRScheduler:
    """Anneals to zero along half a cosine (arXiv 1608.03983)."""
    return CosineAnnealingLR(optimizer, T_max=total_steps)


def step(
    optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, every: int = 100, factor: float = 0.5
) -> LRScheduler:
    """Multiplies the rate by ``factor`` after every ``every`` epochs."""
    if every < 1 or not 0 < factor <= 1:
        raise UserError(
            f"train.schedule step: every must be at least 1 epoch and factor in (0, 1]; given: {every}, {factor}"
        )
    return StepLR(optimizer, step_size=every * steps_per_epoch, gamma=factor)


def constant(optimizer: Optimizer, total_steps: int, steps_per_epoch: int) -> None:
    """The rate stays."""


SCHEDULES: dict[str, Callable[..., LRScheduler | None]] = {
    "one_cycle": one_cycle,
    "cosine": cosine,
    "constant": constant,
    "step": step,
}


def build_schedule(
    optimizer: Optimizer, config: TrainConfig, total_steps: int, steps_per_epoch: int
) -> LRScheduler | None:
    """The learning rate as a function of the optimiser step; ``None`` keeps it constant.

    Raises:
        UserError: an option of the schedule is unknown or out of its range.
    """
    return _schedule(config)(optimizer, total_steps, steps_per_epoch)


def check_schedule(config: TrainConfig) -> None:
    """Build the schedule for an optimiser of nothing.

    Raises:
        UserError: see :func:`build_schedule`.
    """
    build_schedule(AdamW(nn.Linear(1, 1).parameters(), lr=config.learning_rate), config, 2, 1)


def _schedule(config: TrainConfig) -> Callable[..., LRScheduler | None]:
    name, options = config.schedule.name, config.schedule.options
    for given in ("optimizer", "total_steps", "steps_per_epoch"):
        if given in options:
            raise UserError(f"train.schedule: {given!r} of {name!r} is set by katops; leave it out")
    schedule = SCHEDULES[name]
    return functools.partial(schedule, **resolve_options(options, schedule, f"train.schedule {name!r}"))


def steps_per_epoch(config: TrainConfig, n_samples: int) -> int:
    """Optimiser steps of one pass over ``n_samples`` training samples."""
    return math.ceil(n_samples / config.batch_size)


def total_steps(config: TrainConfig, n_samples: int) -> int:
    """Optimiser steps of the whole training on ``n_samples`` training samples."""
    steps = config.epochs * steps_per_epoch(config, n_samples)
    return min(steps, config.max_steps) if config.max_steps else steps
