"""From a formula to shorter and shorter ones: what each further simplification costs in accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from katops.interpret.symbolic_gauge import normalised, with_edge, without_edge
from katops.interpret.symbolic_library import SymbolicLibrary
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicNetwork
from katops.interpret.symbolic_refit import Refitted, refit

FITTED = 3
"""So many simplifications of a step, those that change the outputs least before any fit, are fitted again."""

STRAIGHT = "x"


def shorter_networks(best: Refitted, x: np.ndarray, y: np.ndarray, library: SymbolicLibrary) -> list[Refitted]:
    """Networks from this one down to a single edge, each with one edge dropped or made a straight line.

    Of the simplifications that are possible in a step, the one with the least error after all numbers have been fitted
    again is taken.

    Args:
        best: where to begin; not repeated in the list.
        x, y: rows of the fit, (N, inputs) and (N, outputs).
        library: says whether an edge may be a straight line.
    """
    found = []
    while len(list(best.network.edges())) > 1:
        trials = sorted(_simpler(best.network, x, library), key=lambda trial: _distance(trial, x, y))
        fitted = [refit(normalised(trial), x, y, steps=20, tolerance=1e-5) for trial in trials[:FITTED]]
        best = min(fitted, key=lambda trial: trial.rss, default=best)
        if not fitted or not math.isfinite(best.rss):
            break
        found.append(best)
    return found


def complexity(network: SymbolicNetwork) -> float:
    """Complexities of the functions and the count of the numbers that are fitted."""
    return network.complexity + len(network.parameters())


def _simpler(network: SymbolicNetwork, x: np.ndarray, library: SymbolicLibrary) -> Iterator[SymbolicNetwork]:
    inputs = network.inputs_of_layers(x)
    for layer, edge in list(network.edges()):
        values = inputs[layer][:, edge.source]
        with np.errstate(all="ignore"):
            present = edge.c * edge.function.value(edge.a * values + edge.b)
        if not np.isfinite(present).all():
            continue
        shorter = without_edge(network, layer, edge, float(present.mean()))
        if any(True for _ in shorter.edges()):
            yield shorter
        if edge.function.name not in (STRAIGHT, "0") and STRAIGHT in library and np.ptp(values) > 0:
            slope, level = np.polyfit(values, present, 1)
            line, constant = SymbolicEdge.fitted(edge.source, edge.target, library[STRAIGHT], 1.0, 0.0, float(slope))
            yield with_edge(network, layer, line, constant + float(level))


def _distance(network: SymbolicNetwork, x: np.ndarray, y: np.ndarray) -> float:
    """Mean squared error as the network is; infinite where it cannot be evaluated."""
    said = network.checked(x)
    return math.inf if said is None else float(((said - y) ** 2 / np.maximum(y.var(axis=0), 1e-300)).mean())
