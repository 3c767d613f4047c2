"""Activations for the slot ``act_layer``: called without arguments, they act pointwise on any shape."""

from torch import nn

from katops.registry import LAYERS

LAYERS.register("gelu", kind="activation", summary="x Phi(x)", paper="arXiv:1606.08415")(nn.GELU)
LAYERS.register("relu", kind="activation", summary="max(x, 0)")(nn.ReLU)
LAYERS.register("silu", kind="activation", summary="x / (1 + exp(-x))", paper="arXiv:1702.03118")(nn.SiLU)
LAYERS.register("tanh", kind="activation", summary="tanh(x)")(nn.Tanh)
LAYERS.register("identity", kind="activation", summary="x; leaves a linear model")(nn.Identity)
