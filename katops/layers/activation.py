"""Activations for the slot ``act_layer``: called without arguments, they act pointwise on any shape."""

from torch import nn

from katops.registry import LAYERS

LAYERS.register("gelu", summary="activation: x Phi(x)", paper="arXiv:1606.08415")(nn.GELU)
LAYERS.register("relu", summary="activation: max(x, 0)")(nn.ReLU)
LAYERS.register("silu", summary="activation: x / (1 + exp(-x))", paper="arXiv:1702.03118")(nn.SiLU)
LAYERS.register("tanh", summary="activation: tanh(x)")(nn.Tanh)
LAYERS.register("identity", summary="activation: x; leaves a linear model")(nn.Identity)
