"""One way of writing a symbolic network among the many that are the same function.

The scale and the shift of a hidden node can be moved between the edges before it and the edges behind it, and that of
a product between its factors. The rules here leave 1 and 0 where they can, so that formulas come out short.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from katops.interpret.symbolic_network import SymbolicEdge, SymbolicLayer, SymbolicNetwork


def normalised(network: SymbolicNetwork) -> SymbolicNetwork:
    """The same function with as few free numbers as possible.

    Behind a hidden node that is a sum, the first edge becomes c f(z) with a = 1 and b = 0; behind a product a = 1. A
    factor c that the edges before can take (of x, of powers, of exp) becomes 1 or -1. Of the factors of a product only
    the first has a free scale.
    """
    network = network.copy()
    # from the output backwards, since what is moved out of an edge lands in the edges before it
    for before, after in list(zip(network.layers[:-1], network.layers[1:], strict=True))[::-1]:
        for node in range(before.outputs):
            behind = [edge for edge in after.edges if edge.source == node]
            if behind:
                _take_argument(before, node, behind, after)
            if len(behind) == 1:
                _take_factor(before, node, behind[0])
    for layer in network.layers:
        _balance_products(layer)
    return network


def _take_argument(before: SymbolicLayer, node: int, behind: list[SymbolicEdge], after: SymbolicLayer) -> None:
    """Move a and b of the first edge behind a node into the node."""
    first = behind[0]
    a, b = first.a, first.b
    is_sum = node < before.sums
    if a == 0 or (not first.function.scale and not (is_sum and first.function.shift)):
        return
    scale = a if first.function.scale else 1.0
    shift = b / a * scale if is_sum and first.function.shift else 0.0
    _scale_node(before, node, scale)
    if shift:
        _shift_subnode(before, before.factors(node)[0], shift)
    for edge in behind:
        # z' = scale z + shift is what the node is from here on
        a, b = edge.a / scale, edge.b - edge.a / scale * shift
        moved, constant = SymbolicEdge.fitted(edge.source, edge.target, edge.function, a, b, edge.c)
        edge.a, edge.b, edge.c = moved.a, moved.b, moved.c
        _shift_subnode(after, edge.target, constant)
    if first.function.scale:
        first.a, first.free[0] = 1.0, False
    if shift or (is_sum and first.function.shift):
        first.b, first.free[1] = 0.0, False


def _scale_node(layer: SymbolicLayer, node: int, factor: float) -> None:
    """Multiply an output of the layer by a factor."""
    _scale_subnode(layer, layer.factors(node)[0], factor)


def _scale_subnode(layer: SymbolicLayer, subnode: int, factor: float) -> None:
    """What was fixed at a round value is free again, since it is round no more; a bias of 0 stays 0."""
    if factor == 1:
        return
    for edge in layer.edges:
        if edge.target == subnode:
            edge.c *= factor
            edge.free[2] = edge.function.name != "0"
    layer.bias[subnode] *= factor
    layer.bias_free[subnode] |= layer.bias[subnode] != 0


def _shift_subnode(layer: SymbolicLayer, subnode: int, constant: float) -> None:
    if constant:
        layer.bias[subnode] += constant
        layer.bias_free[subnode] = True


def _take_factor(before: SymbolicLayer, node: int, edge: SymbolicEdge) -> None:
    """Move c of the only edge behind a node into the node, where the function lets it."""
    size = abs(edge.c)
    if not math.isfinite(size) or size == 0 or edge.b != 0:
        return
    name, sign = edge.function.name, math.copysign(1.0, edge.c)
    if name == "x":
        _scale_node(before, node, edge.c)
        edge.c, edge.free[2] = 1.0, False
    elif name == "exp" and node < before.sums and not edge.free[0]:
        _shift_subnode(before, before.factors(node)[0], math.log(size))
        edge.c, edge.free[2] = sign, False
    elif not edge.function.scale and edge.function.name not in ("0", "log", "sgn"):
        doubled = float(edge.function.value(2.0) / edge.function.value(1.0))
        factor = size ** (math.log(2) / math.log(doubled))
        if 1e-6 < factor < 1e6:
            _scale_node(before, node, factor)
            edge.c, edge.free[2] = sign, False


def _balance_products(layer: SymbolicLayer) -> None:
    for output in range(layer.sums, layer.outputs):
        factors = layer.factors(output)
        leads = {
            node: next((edge for edge in layer.edges if edge.target == node and edge.c != 0), None) for node in factors
        }
        first = next((node for node in factors if leads[node] is not None), None)
        if first is None:
            continue
        for other in factors:
            lead = leads[other]
            size = abs(lead.c) if lead is not None else layer.bias[other]
            if other == first or size == 0:
                continue
            _scale_subnode(layer, other, 1 / size)
            _scale_subnode(layer, first, size)
            if lead is None:
                layer.bias_free[other] = False
            else:
                lead.free[2] = False


def without_edge(network: SymbolicNetwork, layer: int, edge: SymbolicEdge, constant: float) -> SymbolicNetwork:
    """A copy in which one edge is a constant, without nodes that lead nowhere any more or are constant themselves."""
    network = network.copy()
    changed = network.layers[layer]
    changed.edges = [other for other in changed.edges if (other.source, other.target) != (edge.source, edge.target)]
    _shift_subnode(changed, edge.target, constant)
    _fold_constants(network)
    _drop_dead_ends(network)
    return network


def _fold_constants(network: SymbolicNetwork) -> None:
    """Edges that start at a constant node become part of the bias behind them."""
    for before, after in zip(network.layers[:-1], network.layers[1:], strict=True):
        fed = {edge.target for edge in before.edges}
        for node in range(before.outputs):
            factors = before.factors(node)
            if fed & set(factors):
                continue
            value = float(np.prod(before.bias[factors]))
            for edge in [edge for edge in after.edges if edge.source == node]:
                constant = edge.c * float(edge.function.value(np.float64(edge.a * value + edge.b)))
                _shift_subnode(after, edge.target, constant)
                after.edges.remove(edge)


def _drop_dead_ends(network: SymbolicNetwork) -> None:
    """Remove edges into nodes that no later edge reads, from the output backwards."""
    for layer, after in list(zip(network.layers[:-1], network.layers[1:], strict=True))[::-1]:
        read = {edge.source for edge in after.edges}
        alive = {subnode for output in read for subnode in layer.factors(output)}
        layer.edges = [edge for edge in layer.edges if edge.target in alive]
        layer.bias_free &= np.isin(np.arange(len(layer.bias)), list(alive))


def with_edge(network: SymbolicNetwork, layer: int, new: SymbolicEdge, constant: float) -> SymbolicNetwork:
    """A copy in which the edge between the same nodes is another function, its constant added to the bias."""
    network = network.copy()
    changed = network.layers[layer]
    changed.edges = [
        replace(new, free=list(new.free)) if (old.source, old.target) == (new.source, new.target) else old
        for old in changed.edges
    ]
    _shift_subnode(changed, new.target, constant)
    return network
