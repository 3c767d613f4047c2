"""What makes KANs sparse: the regularisation of the published training, from statistics in closed form."""

import torch
from torch import Tensor

from katops.errors import UserError
from katops.layers.edge_statistics import root
from katops.layers.kan_linear import KANLinear


def sparsity_penalty(
    layer: KANLinear,
    x: Tensor,
    l1: float = 1.0,
    entropy: float = 2.0,
    coefficients: float = 0.0,
    smoothness: float = 0.0,
) -> Tensor:
    """l1 A + entropy (H_rows + H_columns) + coefficients C + smoothness D for one layer (Liu et al. 2024, section 2.5).

        a_si = std(phi_si) / (std(x_i) + 0.1),       A = sum_si a_si
        p_si = a_si / (sum_i a_si + 1),              H_rows = -mean_s sum_i p_si log2(p_si + 1e-4), columns likewise
        C = sum_i mean_sm |c_sim|,                   D = sum_i mean_sm h_i |d_{s,i,m+1} - d_sim|

    with the constants of pykan 0.2, and whole edges, base function included. d are the differences of neighbouring
    coefficients, divided by those of their Greville abscissae, and h is the mean interval: on a uniform grid the second
    differences of P-splines (Eilers & Marx 1996). D is zero for straight lines, whatever the grid.

    Args:
        layer: the layer.
        x: what it sees, (rows, inputs).
        l1, entropy, coefficients, smoothness: weights of the terms.

    Raises:
        UserError: smoothness is asked of edges that are no splines.
    """
    total = x.new_zeros(())
    if l1 or entropy:
        total = total + activity_penalty(edge_activity(layer, x), l1, entropy)
    c = layer.coefficients * layer.mask.unsqueeze(-1)
    if coefficients:
        total = total + coefficients * c.abs().mean((0, 2)).sum()
    if smoothness:
        total = total + smoothness * bending(layer).abs().mean((0, 2)).sum()
    return total


def edge_activity(layer: KANLinear, x: Tensor) -> Tensor:
    """a_si = std(phi_si) / (std(x_i) + 0.1), (sub_nodes, inputs), for what the layer sees, x (rows, inputs)."""
    deviation = root((x - x.mean(0)).square().mean(0))
    return layer.statistics(x).deviation / (deviation + 0.1)


def activity_penalty(a: Tensor, l1: float, entropy: float) -> Tensor:
    """l1 A + entropy (H_rows + H_columns) of the activities (sub_nodes, inputs), see :func:`sparsity_penalty`."""
    return l1 * a.sum() + entropy * (_entropy(a, 1) + _entropy(a, 0))


def bending(layer: KANLinear) -> Tensor:
    """h_i (d_{s,i,m+1} - d_sim), (sub_nodes, inputs, functions - 2), see :func:`sparsity_penalty`.

    Raises:
        UserError: the edges are no splines.
    """
    if not layer.spline:
        raise UserError(f"kan: smoothness is defined for splines; the basis here is {type(layer.basis).__name__}")
    basis = layer.basis
    # The Greville abscissa of a function is the mean of its inner knots.
    abscissae = basis.knots[:, 1:-1].unfold(1, basis.degree, 1).mean(-1)
    slopes = (layer.coefficients * layer.mask.unsqueeze(-1)).diff() / abscissae.diff()
    width = (basis.high - basis.low) / basis.intervals
    return slopes.diff() * width[:, None]


def _entropy(a: Tensor, axis: int) -> Tensor:
    share = a / (a.sum(axis, keepdim=True) + 1)
    return -(share * torch.log2(share + 1e-4)).sum(axis).mean()
