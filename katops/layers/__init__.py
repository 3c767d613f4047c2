"""Layers: channel mixers (..., in) -> (..., out) and space mixers (b, c, \\*space) -> (b, c', \\*space)."""

from katops.layers import activation as activation
from katops.layers.boundary import add_ghost_cells as add_ghost_cells
from katops.layers.convolution import Convolution as Convolution
from katops.layers.convolution import Prolongation as Prolongation
from katops.layers.group_rational import GroupRational as GroupRational
from katops.layers.group_rational import GroupRationalKAN as GroupRationalKAN
from katops.layers.group_rational import GroupRationalLinear as GroupRationalLinear
from katops.layers.kan_linear import KANLinear as KANLinear
from katops.layers.mlp import MLP as MLP
from katops.layers.multigrid import MultigridCycle as MultigridCycle
from katops.layers.normalisation import ChannelLayerNorm as ChannelLayerNorm
from katops.layers.normalisation import GroupNorm as GroupNorm
from katops.layers.spline_basis import BSplineBasis as BSplineBasis
from katops.layers.time_norm import TimeLayerNorm as TimeLayerNorm
