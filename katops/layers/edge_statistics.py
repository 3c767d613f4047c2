"""Statistics of the edges of a KAN layer over a batch, in closed form, without a tensor of rows, outputs and inputs."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class EdgeStatistics:
    """Mean and variance (of the batch, divided by its rows) of every edge, each (sub_nodes, inputs)."""

    mean: Tensor
    variance: Tensor

    @property
    def deviation(self) -> Tensor:
        """The standard deviation, with a finite gradient where it is zero."""
        return root(self.variance)


def root(variance: Tensor) -> Tensor:
    """The square root, with the derivative zero where the variance is zero."""
    positive = variance > torch.finfo(variance.dtype).tiny
    return torch.where(positive, torch.where(positive, variance, 1.0).sqrt(), 0.0)


def edge_statistics(features: Tensor, weights: Tensor) -> EdgeStatistics:
    """Moments of phi_si = sum_f weights_sif features_if over the rows.

        mean = w . E[f],    variance = w^T Cov(f) w

    with one covariance per input: inputs sub_nodes functions^2 operations, whatever the number of rows.

    Args:
        features: what the edges of each input are made of, (rows, inputs, functions).
        weights: (sub_nodes, inputs, functions).
    """
    mean = features.mean(0)
    centred = (features - mean).transpose(0, 1)
    covariance = centred.transpose(1, 2) @ centred / len(features)
    per_input = weights.transpose(0, 1)
    variance = ((per_input @ covariance) * per_input).sum(-1).T
    return EdgeStatistics((weights * mean).sum(-1), variance.clamp_min(0))
