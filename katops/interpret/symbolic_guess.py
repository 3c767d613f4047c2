"""From a fitted KAN to a first symbolic network: every edge on its own becomes the function that fits it best."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from katops.interpret.symbolic_fit import CurveFit, fit_curves
from katops.interpret.symbolic_library import SymbolicLibrary
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicLayer, SymbolicNetwork
from katops.layers.kan_linear import KANLinear

# An edge that varies by less than this part of its sub-node is taken for a constant.
FLAT = 1e-3
TOLERANCE = 1e-3


def guess_network(
    layers: Sequence[KANLinear], scaled: torch.Tensor, raw: np.ndarray, library: SymbolicLibrary
) -> SymbolicNetwork:
    """The symbolic network of the best fits, on raw columns.

    Args:
        layers: of a fitted KAN.
        scaled: rows as the KAN takes them, (N, inputs).
        raw: the same rows in original units; each column an affine function of the scaled one.
        library: what an edge may be.
    """
    symbolic, x = [], scaled
    with torch.no_grad():
        for number, layer in enumerate(layers):
            values = raw if number == 0 else x.double().cpu().numpy()
            symbolic.append(_guess_layer(layer, values, layer.edges(x).double().cpu().numpy(), library))
            # what the next layer will see is what this one has become
            outputs = SymbolicNetwork([symbolic[-1]], values.shape[1])(values)
            x = torch.from_numpy(outputs).to(x) if np.isfinite(outputs).all() else layer(x)
    return SymbolicNetwork(symbolic, raw.shape[1])


def _guess_layer(layer: KANLinear, values: np.ndarray, curves: np.ndarray, library: SymbolicLibrary) -> SymbolicLayer:
    """One layer, from its inputs (N, I) and its edges (N, S, I)."""
    subnodes = curves.shape[1]
    bias = np.zeros(subnodes) if layer.bias is None else layer.bias.detach().double().cpu().numpy().copy()
    spread = curves.std(axis=0)
    largest = spread.max(axis=1, keepdims=True)
    alive = (spread > FLAT * largest) & (layer.mask.cpu().numpy() > 0)
    bias += np.where(alive, 0.0, curves.mean(axis=0)).sum(axis=1)
    edges = []
    targets, sources = np.nonzero(alive)
    if len(targets):
        fits = fit_curves(values[:, sources].T, curves[:, targets, sources].T, library)
        for target, source, found in zip(targets, sources, fits, strict=True):
            edge, constant = _edge_of(int(source), int(target), found)
            edges.append(edge)
            bias[target] += constant
    return SymbolicLayer(edges, bias, np.ones(subnodes, dtype=bool), layer.products, layer.arity)


def _edge_of(source: int, target: int, fits: list[CurveFit]) -> tuple[SymbolicEdge, float]:
    fits = [fit for fit in fits if fit.function.name != "0"] or fits
    # A learned curve is right to about a percent: of what follows it as well, the simplest is the likeliest.
    allowed = max(5 * (1 - max(fit.r2 for fit in fits)), TOLERANCE)
    best = min((fit for fit in fits if 1 - fit.r2 <= allowed), key=lambda fit: (_cost(fit), -fit.r2))
    edge, constant = SymbolicEdge.fitted(source, target, best.function, best.a, best.b, best.c)
    return edge, constant + best.d


def _cost(fit: CurveFit) -> float:
    return fit.function.complexity + fit.function.scale + fit.function.shift


def with_output(
    network: SymbolicNetwork, scale: np.ndarray, offset: np.ndarray, library: SymbolicLibrary
) -> SymbolicNetwork:
    """The network with outputs times ``scale`` plus ``offset``, (J,), behind it."""
    network, last = network.copy(), network.layers[-1]
    identity = library["x"] if "x" in library else SymbolicLibrary()["x"]
    edges = [
        SymbolicEdge(output, output, identity, c=float(factor), free=[False, False, True])
        for output, factor in zip(range(last.outputs), scale, strict=True)
    ]
    layer = SymbolicLayer(edges, np.array(offset, dtype=float), np.ones(last.outputs, dtype=bool))
    network.layers.append(layer)
    return network
