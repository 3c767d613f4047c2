"""Activations for the slot ``act_layer``: pointwise on any shape, called through :func:`build_activation`."""

import inspect
from collections.abc import Callable

from torch import nn

from katops.registry import LAYERS

LAYERS.register("gelu", kind="activation", summary="x Phi(x)", paper="arXiv:1606.08415")(nn.GELU)
LAYERS.register("relu", kind="activation", summary="max(x, 0)")(nn.ReLU)
LAYERS.register("silu", kind="activation", summary="x / (1 + exp(-x))", paper="arXiv:1702.03118")(nn.SiLU)
LAYERS.register("tanh", kind="activation", summary="tanh(x)")(nn.Tanh)
LAYERS.register("identity", kind="activation", summary="x; leaves a linear model")(nn.Identity)


def build_activation(act_layer: Callable[..., nn.Module], channels: int, channel_dim: int = -1) -> nn.Module:
    """The activation for a place in a model, told the channels there if it has parameters of that name.

    Args:
        act_layer: makes the activation; ``channels`` and ``channel_dim`` are given to it where its signature has them.
        channels: width at that place.
        channel_dim: axis of the channels.
    """
    wanted = inspect.signature(act_layer).parameters
    offered = {"channels": channels, "channel_dim": channel_dim}
    return act_layer(**{name: value for name, value in offered.items() if name in wanted})
