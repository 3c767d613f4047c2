"""timm's optimisers and learning-rate schedule from the configuration."""

from collections.abc import Iterable
from typing import Any

import torch
from timm.optim import create_optimizer_v2, list_optimizers, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import create_scheduler_v2
from timm.scheduler.scheduler import Scheduler
from torch import nn
from torch.optim import Optimizer

from katops.config import ImageTrainConfig
from katops.errors import UserError, did_you_mean

RATIONAL_COEFFICIENTS = ("weight_numerator", "weight_denominator")
"""Decay would pull them to y = 0 rather than to a smaller function."""


def parameter_groups(model: nn.Module, weight_decay: float, layer_decay: float | None) -> list[dict[str, Any]]:
    """timm's parameter groups: no weight decay for biases, norms, what the model exempts, and rational coefficients.

    With ``layer_decay`` each group has ``lr_scale`` = layer_decay ** (layers above it), which the schedule applies.
    """
    exempt = _without_decay(model)
    if layer_decay is None:
        return param_groups_weight_decay(model, weight_decay, no_weight_decay_list=exempt)
    return param_groups_layer_decay(model, weight_decay, no_weight_decay_list=exempt, layer_decay=layer_decay)


def _without_decay(model: nn.Module) -> set[str]:
    own: Iterable[str] = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    coefficients = {name for name, _ in model.named_parameters() if name.endswith(RATIONAL_COEFFICIENTS)}
    return {*own, *coefficients}


def build_optimizer(model: nn.Module, config: ImageTrainConfig) -> Optimizer:
    """The optimiser named by ``train.optimizer``, with timm's defaults for everything but rate and decay."""
    groups = parameter_groups(model, config.weight_decay, config.layer_decay)
    return create_optimizer_v2(groups, opt=config.optimizer, lr=config.learning_rate, weight_decay=config.weight_decay)


def check_optimizer(config: ImageTrainConfig) -> None:
    """Make the optimiser once, for one number.

    Raises:
        UserError: there is no such optimiser, or it needs a package that is not installed.
    """
    if config.optimizer not in list_optimizers():
        names = list_optimizers()
        raise UserError(
            f"train.optimizer: timm has no optimiser {config.optimizer!r}{did_you_mean(config.optimizer, names)} "
            f"Allowed: {', '.join(names)}."
        )
    try:
        create_optimizer_v2([nn.Parameter(torch.zeros(1))], opt=config.optimizer, lr=config.learning_rate)
    except Exception as error:  # each optional package fails in its own way
        raise UserError(f"train.optimizer {config.optimizer!r} cannot be used here: {error}") from error


def build_schedule(optimizer: Optimizer, config: ImageTrainConfig, steps_per_epoch: int) -> Scheduler:
    """Warm-up and half a cosine, or a constant rate, as a function of the optimiser step.

    As in timm the cosine counts from the first step, so that it continues below the top of the warm-up.
    """
    constant = config.schedule == "constant"
    schedule, _ = create_scheduler_v2(
        optimizer,
        sched="step" if constant else "cosine",
        num_epochs=config.epochs,
        decay_epochs=config.epochs,
        decay_rate=1.0,
        min_lr=config.min_learning_rate,
        warmup_lr=config.warmup_learning_rate,
        warmup_epochs=config.warmup_epochs,
        step_on_epochs=False,
        updates_per_epoch=steps_per_epoch,
    )
    return schedule
