"""Optimiser and learning-rate schedule from the configuration."""

import math
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, OneCycleLR

from katops.config import TrainConfig


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
    """AdamW (arXiv 1711.05101) with the configured learning rate and decay."""
    return AdamW(parameter_groups(model, config.weight_decay), lr=config.learning_rate)


def build_schedule(optimizer: Optimizer, config: TrainConfig, total_steps: int) -> LRScheduler | None:
    """The learning rate as a function of the optimiser step; ``None`` keeps it constant.

    ``one_cycle`` rises for 30 % of the steps and anneals to almost nothing (Smith & Topin, arXiv 1708.07120);
    ``cosine`` anneals to zero along half a cosine (arXiv 1608.03983).
    """
    if config.schedule == "one_cycle":
        return OneCycleLR(optimizer, max_lr=config.learning_rate, total_steps=total_steps)
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=total_steps)
    return None


def total_steps(config: TrainConfig, n_samples: int) -> int:
    """Optimiser steps of the whole training on ``n_samples`` training samples."""
    steps = config.epochs * math.ceil(n_samples / config.batch_size)
    return min(steps, config.max_steps) if config.max_steps else steps
