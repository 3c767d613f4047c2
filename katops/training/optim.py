"""Optimiser and learning-rate schedule from the configuration."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import Adam, AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, OneCycleLR, SequentialLR, StepLR

from katops.config import TrainConfig
from katops.errors import UserError, did_you_mean
from katops.models.options import resolve_options

ROLES = ("channels", "norms", "rest")
"""What ``train.rates`` may name; a model says in ``parameter_roles()`` which of its parameters have the first two."""


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Parameters with their learning rates: weights with decay; vectors, scalars and norms without.

    Decay pulls a bias or a norm's gain towards a value that means nothing for them; leaving them out is the usual
    practice (Loshchilov & Hutter, arXiv 1711.05101, as applied by timm). What a model names in ``no_weight_decay()`` is
    spared too. Parameters whose rate is 0 are left as they are.

    Raises:
        UserError: see :func:`check_rates`.
    """
    freeze(model, config)
    spared = set(model.no_weight_decay()) if hasattr(model, "no_weight_decay") else set()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    roles = _roles(model)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = config.rates.get(roles[name], config.learning_rate)
        decays = parameter.ndim > 1 and name not in spared and roles[name] != "norms"
        groups.setdefault((rate, config.weight_decay if decays else 0.0), []).append(parameter)
    return [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]


def freeze(model: nn.Module, config: TrainConfig) -> None:
    """Have no gradients worked out for parameters whose rate is 0.

    To be called before the model is shared by several processes, which wait for every gradient that there is.

    Raises:
        UserError: see :func:`check_rates`.
    """
    check_rates(model, config)
    roles = _roles(model)
    for name, parameter in model.named_parameters():
        if config.rates.get(roles[name]) == 0:
            parameter.requires_grad_(False)


def check_rates(model: nn.Module, config: TrainConfig) -> None:
    """Whether ``train.rates`` names parts that the model has.

    Raises:
        UserError: a part is unknown, the model does not tell its parameters apart, all rates are 0, or the optimiser
            has one group.
    """
    for role in config.rates:
        if role not in ROLES:
            raise UserError(
                f"unknown part {role!r} in train.rates{did_you_mean(role, ROLES)} Allowed: {', '.join(ROLES)}."
            )
    there = set(_roles(model).values())
    missing = [role for role in config.rates if role not in there]
    if missing:
        raise UserError(
            f"train.rates names {', '.join(missing)}, but this model does not tell which of its parameters these are; "
            f"it has {', '.join(sorted(there))}"
        )
    if config.rates and all(config.rates.get(role) == 0 for role in there):
        raise UserError("train.rates are 0 for every part of the model, so there is nothing to train")
    if config.rates and config.optimizer == "adam":
        raise UserError("train.rates need train.optimizer adamw")


def _roles(model: nn.Module) -> dict[str, str]:
    """{parameter: part}."""
    told: Mapping[str, Any] = model.parameter_roles() if hasattr(model, "parameter_roles") else {}
    parts = {name: role for role, names in told.items() for name in names}
    return {name: parts.get(name, "rest") for name, _ in model.named_parameters()}


def build_optimizer(model: nn.Module, config: TrainConfig) -> Optimizer:
    """The configured optimiser with its learning rates and decay.

    ``adamw`` (arXiv 1711.05101) decays weights apart from the gradient, see :func:`parameter_groups`; ``adam`` (arXiv
    1412.6980) adds the decay of every parameter to its gradient, as the published operator codes do.
    """
    if config.optimizer == "adam":
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return Adam(trainable, lr=config.learning_rate, weight_decay=config.weight_decay)
    return AdamW(parameter_groups(model, config), lr=config.learning_rate)


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


def cosine(optimizer: Optimizer, total_steps: int, steps_per_epoch: int, *, warmup_epochs: float = 0.0) -> LRScheduler:
    """Rises linearly for ``warmup_epochs``, then anneals to zero along half a cosine (arXiv 1608.03983)."""
    rising = round(warmup_epochs * steps_per_epoch)
    if warmup_epochs < 0 or (rising and rising >= total_steps):
        raise UserError(
            f"train.schedule cosine: warmup_epochs is {warmup_epochs:g}, but there are "
            f"{total_steps / steps_per_epoch:g} epochs in all; it may be anything from 0 to less than that"
        )
    falling = CosineAnnealingLR(optimizer, T_max=total_steps - rising)
    if not rising:
        return falling
    # The first step has a rate above zero already, the step after the rise the full one.
    warmup = LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
    return SequentialLR(optimizer, [warmup, falling], milestones=[rising])


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
    build_schedule(AdamW(nn.Linear(1, 1).parameters(), lr=config.learning_rate), config, config.epochs * 1000, 1000)


def _schedule(config: TrainConfig) -> Callable[..., LRScheduler | None]:
    name, options = config.schedule.name, config.schedule.options
    schedule, reserved = SCHEDULES[name], ("optimizer", "total_steps", "steps_per_epoch")
    return functools.partial(schedule, **resolve_options(options, schedule, f"train.schedule {name!r}", reserved))


def steps_per_epoch(config: TrainConfig, n_samples: int) -> int:
    """Optimiser steps of one pass over ``n_samples`` training samples, those of one process."""
    return math.ceil(math.ceil(n_samples / config.batch_size) / config.accumulate)


def total_steps(config: TrainConfig, n_samples: int) -> int:
    """Optimiser steps of the whole training on ``n_samples`` training samples, those of one process."""
    steps = config.epochs * steps_per_epoch(config, n_samples)
    return min(steps, config.max_steps) if config.max_steps else steps
