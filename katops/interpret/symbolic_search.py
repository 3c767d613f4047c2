"""Search for the shortest symbolic network that explains the data, from a first guess of every edge.

The functions that fit single learned curves best are seldom all right at once: a curve of a network is known up to what
its neighbours make up for. So edges are exchanged one by one, each time with all numbers fitted again to the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from katops.interpret.symbolic_fit import CurveFit, fit_curves
from katops.interpret.symbolic_gauge import normalised, with_edge, without_edge
from katops.interpret.symbolic_library import SymbolicLibrary
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicNetwork
from katops.interpret.symbolic_refit import Refitted, refit

Place = tuple[int, int, int]
"""An edge: its layer, the node it starts from, the sub-node it leads to."""

Slot = tuple[int, str, int]
"""A free parameter: its layer, "a", "b", "c" or "bias", the number of its edge or sub-node."""

CLOSEST, SIMPLEST = 4, 3  # functions tried for an edge at a time
TRIAL_POINTS = 64
TRIAL = {"steps": 20, "tolerance": 1e-5}
# A number is rounded where the data agree with the round one, and only if they could have contradicted.
STANDARD_ERRORS = 3.0
KNOWN_TO = 0.03
FRACTIONS = (1, 2, 4)


def search(
    network: SymbolicNetwork, x: np.ndarray, y: np.ndarray, library: SymbolicLibrary, *, passes: int = 3
) -> Refitted:
    """Exchange and drop edges and round numbers as long as the score falls.

    Args:
        network: the first guess.
        x, y: the rows of the fit, (N, inputs) and (N, outputs).
        library: what an edge may be.
        passes: how often all edges are tried at most.
    """
    best = refit(normalised(network), x, y)
    for _ in range(passes):
        before = best.score
        for place in [(layer, edge.source, edge.target) for layer, edge in best.network.edges()]:
            best = _improve_edge(best, place, x, y, library)
        best = round_numbers(refit(best.network, x, y), x, y)
        if not best.score < before - 1e-6:
            break
    return best


def _improve_edge(best: Refitted, place: Place, x: np.ndarray, y: np.ndarray, library: SymbolicLibrary) -> Refitted:
    for trial in _alternatives(best.network, place, x, library):
        found = refit(normalised(trial), x, y, **TRIAL)
        if found.score < best.score:
            best = found
    return best


def _alternatives(
    network: SymbolicNetwork, place: Place, x: np.ndarray, library: SymbolicLibrary
) -> Iterator[SymbolicNetwork]:
    """The network without an edge, and with other functions that resemble what the edge is now."""
    layer, source, target = place
    edge = _edge_at(network, place)
    if edge is None:
        return
    values = network.inputs_of_layers(x)[layer][:, source]
    with np.errstate(all="ignore"):
        present = edge.c * edge.function.value(edge.a * values + edge.b)
    if not (np.isfinite(values).all() and np.isfinite(present).all()):
        return
    yield without_edge(network, layer, edge, float(present.mean()))
    fits = [fit for fit in fit_curves(values, present, library, points=TRIAL_POINTS)[0] if fit.function.name != "0"]
    fits = [fit for fit in fits if fit.function.name != edge.function.name]
    for fit in _worth_trying(fits):
        new, constant = SymbolicEdge.fitted(source, target, fit.function, fit.a, fit.b, fit.c)
        yield with_edge(network, layer, new, constant + fit.d)
        if layer == 0 and new.free[1]:
            # laws of nature are seldom shifted; a fit with a shift may hide that another function needs none
            yield with_edge(network, layer, replace(new, b=0.0, free=[new.free[0], False, True]), constant + fit.d)


def _worth_trying(fits: list[CurveFit]) -> list[CurveFit]:
    """Those that follow the curve best, and the simplest of those that follow it well."""
    closest = sorted((fit for fit in fits if fit.r2 > 0.5), key=lambda fit: -fit.r2)[:CLOSEST]
    simplest = sorted((fit for fit in fits if fit.r2 > 0.95), key=lambda fit: (fit.function.complexity, -fit.r2))
    return closest + [fit for fit in simplest[:SIMPLEST] if fit not in closest]


def _edge_at(network: SymbolicNetwork, place: Place) -> SymbolicEdge | None:
    layer, source, target = place
    return next((edge for edge in network.layers[layer].edges if (edge.source, edge.target) == (source, target)), None)


def round_numbers(best: Refitted, x: np.ndarray, y: np.ndarray) -> Refitted:
    """Fix numbers at 0 or at round values where the score does not rise by it: 2 in place of 1.9987.

    Zeros come first, since a shift that is none makes the other numbers round.
    """
    for only_zero in (True, False):
        for slot in _slots(best.network):
            if slot not in _slots(best.network):
                continue
            number = _slots(best.network).index(slot)
            target = 0.0 if only_zero else _round_number(best.network.parameters()[number], best.errors[number])
            if target is None:
                continue
            found = refit(_with_fixed(best.network, slot, target), x, y, **TRIAL)
            if found.score < best.score:
                best = found
    return best


def _round_number(value: float, error: float) -> float | None:
    """The simplest round value that the data allow: a whole number, else a half, else a quarter."""
    allowed = max(STANDARD_ERRORS * error, 1e-9 * abs(value))
    for denominator in FRACTIONS:
        nearest = round(value * denominator) / denominator
        if nearest != 0 and abs(nearest) <= 12 and abs(value - nearest) <= allowed <= KNOWN_TO:
            return nearest
    return None


def _slots(network: SymbolicNetwork) -> list[Slot]:
    """The free parameters, in their order."""
    slots = []
    for number, layer in enumerate(network.layers):
        for position, edge in enumerate(layer.edges):
            slots.extend((number, name, position) for name, free in zip("abc", edge.free, strict=True) if free)
        slots.extend((number, "bias", int(node)) for node in np.flatnonzero(layer.bias_free))
    return slots


def _with_fixed(network: SymbolicNetwork, slot: Slot, value: float) -> SymbolicNetwork:
    """A copy in which one free parameter has a value for good."""
    layer, name, position = slot
    network = network.copy()
    changed = network.layers[layer]
    if name == "bias":
        changed.bias[position], changed.bias_free[position] = value, False
    else:
        edge = changed.edges[position]
        setattr(edge, name, value)
        edge.free["abc".index(name)] = False
    return network
