"""How much edges, nodes and inputs of a KAN contribute to every output (Liu et al. 2024b, arXiv 2408.10205, 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from katops.errors import UserError
from katops.models.kan import KAN

# As in pykan: keeps scores finite where a node does not vary.
SMALLEST_SPREAD = 1e-4


@dataclass(frozen=True)
class Attribution:
    """Scores per output, never averaged over outputs unless asked for.

    Attributes:
        inputs: (outputs, columns) of the whole table; 0 for columns that the network does not see.
        nodes: per layer the scores of the layer's inputs, (outputs, nodes); behind the last layer the outputs.
        edges: per layer (outputs, sub-nodes, inputs).
    """

    inputs: np.ndarray
    nodes: list[np.ndarray]
    edges: list[np.ndarray]

    @property
    def normalised(self) -> np.ndarray:
        """Scores of the columns that sum to 1 for each output, (outputs, columns); raw ones need not sum to 1."""
        total = self.inputs.sum(axis=1, keepdims=True)
        return np.divide(self.inputs, total, out=np.zeros_like(self.inputs), where=total > 0)

    @property
    def mean_edges(self) -> list[np.ndarray]:
        """Per layer the mean over the outputs, (sub-nodes, inputs), as network plots and pruning take it."""
        return [edges.mean(axis=0) for edges in self.edges]


def attribution(model: KAN, x: Tensor | np.ndarray) -> Attribution:
    """Scores from standard deviations, traced back from the outputs.

        e_o,si = s_o,s std(phi_si) / (std(z_s) + 1e-4),    s_o,i = sum_s e_o,si

    over the rows of x, where s_o of the last layer is 1 at output o and 0 elsewhere, and a product passes its score on
    to every factor. A score says how much of the variation runs along an edge; it does not see that inputs may be
    correlated, see :mod:`katops.interpret.importance` for what does.

    Args:
        model: a KAN.
        x: rows as the model takes them (scaled), (N, columns), at least two.

    Raises:
        UserError: fewer than two rows, or the wrong number of columns.
    """
    x = _rows(model, x)
    with torch.no_grad():
        inputs = model.inputs_of_layers(x)
        score = torch.eye(model.out_features, dtype=x.dtype, device=x.device)
        nodes, edges = [score], []
        for layer, z in zip(reversed(model.layers), reversed(inputs), strict=True):
            per_subnode = torch.cat(
                [score[:, : layer.sums], score[:, layer.sums :].repeat_interleave(layer.arity, dim=1)], dim=1
            )
            spread = layer.statistics(z).deviation
            ratio = spread / (layer.subnodes(z).std(0, correction=0).unsqueeze(1) + SMALLEST_SPREAD)
            edge = per_subnode.unsqueeze(2) * ratio
            score = edge.sum(1)
            edges.append(edge)
            nodes.append(score)
    columns = torch.zeros(model.out_features, model.in_features, dtype=x.dtype, device=x.device)
    columns[:, model.used_inputs] = score
    as_array = [[part.double().cpu().numpy() for part in parts[::-1]] for parts in (nodes, edges)]
    return Attribution(columns.double().cpu().numpy(), *as_array)


def _rows(model: KAN, x: Tensor | np.ndarray) -> Tensor:
    like = model.layers[0].coefficients
    x = torch.as_tensor(x).to(like.device, like.dtype)
    if x.ndim != 2 or x.shape[1] != model.in_features or len(x) < 2:
        raise UserError(
            f"attribution: expected at least two rows of {model.in_features} columns (scaled, as the network takes "
            f"them), got {tuple(x.shape)}"
        )
    return x
