"""Smaller networks that are the same function: edges masked by their scores, unused nodes and columns taken out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.interpret.attribution import Attribution, attribution
from katops.layers.kan_linear import KANLinear
from katops.layers.spline_basis import BSplineBasis
from katops.models.kan import KAN

EDGE, NODE, INPUT = 3e-2, 1e-2, 1e-2
"""The thresholds of pykan 0.2."""


def prune(
    model: KAN,
    x: Tensor | np.ndarray,
    *,
    edge_threshold: float = EDGE,
    node_threshold: float = NODE,
    input_threshold: float = INPUT,
) -> KAN:
    """A new, smaller KAN without the edges, nodes and columns of low score; the given one stays as it is.

    An edge, a hidden node or a column is kept if its score for any output reaches the threshold
    (:func:`katops.interpret.attribution.attribution`). What is dropped is replaced by its mean over the rows of x, so
    that the outputs keep their level. Nodes and columns that nothing is left of are taken out of the matrices.

    Args:
        model: a fitted KAN.
        x: rows as the model takes them (scaled), (N, columns).
        edge_threshold, node_threshold, input_threshold: from 0, which keeps all.

    Raises:
        UserError: a threshold is negative, the rows do not fit, or nothing would be left.
    """
    for name, value in (("edge", edge_threshold), ("node", node_threshold), ("input", input_threshold)):
        if value < 0:
            raise UserError(f"prune: {name}_threshold must be at least 0, got {value}")
    scores = attribution(model, x)
    return compacted(mask_edges(model, x, kept_edges(model, scores, edge_threshold, node_threshold, input_threshold)))


def kept_edges(
    model: KAN, scores: Attribution, edge_threshold: float, node_threshold: float, input_threshold: float
) -> list[Tensor]:
    """Per layer which edges reach the thresholds with both their ends, (sub-nodes, inputs), True where kept."""
    kept = []
    for number, layer in enumerate(model.layers):
        threshold = input_threshold if number == 0 else node_threshold
        edges = scores.edges[number].max(axis=0) >= max(edge_threshold, 1e-300)
        sources = scores.nodes[number].max(axis=0) >= threshold
        targets = np.ones(layer.out_features, dtype=bool)
        if number + 1 < len(model.layers):
            targets = scores.nodes[number + 1].max(axis=0) >= node_threshold
        subnodes = np.concatenate([targets[: layer.sums], np.repeat(targets[layer.sums :], layer.arity)])
        kept.append(torch.from_numpy(edges & sources & subnodes[:, None]))
    return kept


def mask_edges(model: KAN, x: Tensor | np.ndarray, kept: list[Tensor]) -> KAN:
    """A copy in which only some edges are on; the means of the others over the rows of x go to the biases.

    Args:
        model: a KAN.
        x: rows as it takes them.
        kept: per layer (sub-nodes, inputs), True for the edges that stay (if they were there).

    Raises:
        UserError: an output would depend on nothing.
    """
    masked = copy.deepcopy(model)
    like = masked.layers[0].coefficients
    x = torch.as_tensor(x).to(like.device, like.dtype)
    with torch.no_grad():
        for layer, old, z, keep in zip(masked.layers, model.layers, model.inputs_of_layers(x), kept, strict=True):
            keep = keep.to(layer.mask)
            dropped = (old.statistics(z).mean * (1 - keep) * layer.mask).sum(1)
            layer.mask.mul_(keep)
            if layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros_like(dropped))
            layer.bias.add_(dropped)
    if not masked.layers[-1].mask.any():
        raise UserError("prune: no edge reaches the thresholds; lower them")
    if masked.recipe is not None:
        masked.recipe = copy.deepcopy(masked.recipe)
        masked.recipe["arguments"]["bias"] = all(layer.bias is not None for layer in masked.layers)
    return masked


def compacted(model: KAN) -> KAN:
    """A new KAN, equal to the given one, without nodes that lead nowhere, nodes that are constant, and unseen columns.

    The matrices become smaller, and ``recipe`` tells the new widths, so that the network is saved and loaded as any
    other. At least one node is left in every layer.
    """
    model = copy.deepcopy(model)
    with torch.no_grad():
        _fold_constants(model)
        nodes = _needed_nodes(model)
        columns = torch.tensor(model.used_inputs)[nodes[0]].tolist()
        for layer, sources, targets in zip(model.layers, nodes[:-1], nodes[1:], strict=True):
            _select(layer, sources, targets)
    model.used_inputs = columns
    model._all_used = columns == list(range(model.in_features))
    model.recipe = _recipe(model)
    return model


def _fold_constants(model: KAN) -> None:
    """Edges that start at nodes without edges before them become part of the biases behind them."""
    for before, after in zip(model.layers[:-1], model.layers[1:], strict=True):
        fed = before.mask.any(1)
        fed = torch.cat([fed[: before.sums], fed[before.sums :].view(before.products, before.arity).any(1)])
        if fed.all() or after.bias is None or before.bias is None:
            continue
        bias = before.bias
        factors = bias[before.sums :].view(before.products, before.arity).prod(1)
        values = torch.cat([bias[: before.sums], factors]).unsqueeze(0)
        constant = after.edges(values)[0] * (~fed).to(values)
        after.bias.add_(constant.sum(1))
        after.mask.mul_(fed.to(after.mask))


def _needed_nodes(model: KAN) -> list[Tensor]:
    """Per layer the inputs that are read by something that reaches an output; then all outputs."""
    needed = [torch.arange(model.out_features)]
    for layer in reversed(model.layers):
        outputs = needed[0]
        subnodes = _subnodes_of(layer, outputs)
        read = layer.mask[subnodes].any(0).nonzero().flatten().cpu()
        if layer.base_act is not None and next(layer.base_act.parameters(), None) is not None:
            read = torch.arange(layer.in_features)  # a base function that is learned keeps its inputs together
        needed.insert(0, read if len(read) else torch.zeros(1, dtype=torch.long))
    return needed


def _subnodes_of(layer: KANLinear, outputs: Tensor) -> Tensor:
    found: list[int] = []
    for output in outputs.tolist():
        if output < layer.sums:
            found.append(output)
        else:
            first = layer.sums + (output - layer.sums) * layer.arity
            found.extend(range(first, first + layer.arity))
    return torch.tensor(found)


def _select(layer: KANLinear, sources: Tensor, targets: Tensor) -> None:
    """Keep some inputs and outputs of a layer, in place."""
    subnodes = _subnodes_of(layer, targets)
    device = layer.coefficients.device
    sources, subnodes = sources.to(device), subnodes.to(device)
    layer.products = int((targets >= layer.sums).sum())
    layer.in_features, layer.out_features = len(sources), len(targets)
    for name in ("coefficients", "base_weight", "linear_weight"):
        value = getattr(layer, name)
        if value is not None:
            chosen = value.detach()[subnodes][:, sources].clone()
            setattr(layer, name, nn.Parameter(chosen, requires_grad=value.requires_grad))
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[subnodes].clone(), requires_grad=layer.bias.requires_grad)
    layer.mask = layer.mask[subnodes][:, sources].clone()
    _select_inputs(layer.basis, sources)


def _select_inputs(basis: nn.Module, sources: Tensor) -> None:
    """A basis for some of its inputs; of all bases only splines keep something per input, their knots."""
    if isinstance(basis, BSplineBasis):
        basis.knots = basis.knots[sources].clone()
    basis.in_features = len(sources)


def _recipe(model: KAN) -> dict[str, Any] | None:
    if model.recipe is None:
        return None
    recipe = copy.deepcopy(model.recipe)
    recipe["arguments"].update(
        hidden=[layer.out_features for layer in model.layers[:-1]],
        products=[layer.products for layer in model.layers],
        used_inputs=list(model.used_inputs),
    )
    return recipe
