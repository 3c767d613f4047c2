"""A drawing of a KAN: nodes, and on every edge the function that it has learned, all in vector artists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from katops.errors import UserError
from katops.interpret.attribution import attribution
from katops.interpret.fitted import opened
from katops.interpret.style import CURVE, INK, TEXT, axes_or_new, plain, text_size
from katops.models.kan import KAN

SHARPNESS = 3.0  # opacity = tanh(3 score), as in pykan
WEAKEST = 0.02
GAP = 3.0  # between two layers, in units of the drawing
BOX_WIDTH, BOX_HEIGHT = 0.9, 0.72
FACTORS, SPREAD = 0.45, 0.5  # factors of a product lie so far before it, and so far apart
POINTS = 60


@dataclass(frozen=True)
class _Edge:
    layer: int
    target: int
    source: int
    opacity: float
    x: np.ndarray
    y: np.ndarray


def plot_network(
    model: Any,
    X: Any,
    *,
    member: int = 0,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    edges: int = 60,
    ax: Axes | None = None,
) -> Axes:
    """Draw a network from its inputs at the left to its outputs at the right.

    Every edge carries a small diagram of its function over the range of the rows; its opacity is tanh(3 score), the
    score being that of :func:`katops.interpret.attribution.attribution`, largest over the outputs. Product nodes
    are marked by a cross. Edges that would be all but invisible are left out.

    Args:
        model: a fitted estimator or a KAN.
        X: rows: as the estimator takes them; scaled, as the network takes them, for a KAN.
        member: which network of an ensemble.
        input_names, output_names: names at the nodes; those of the table by default.
        edges: how many edges are drawn at most, those of the highest scores.
        ax: where to draw; a new figure by default, of a size that fits.

    Raises:
        UserError: there is no such member, or names are not as many as nodes.
    """
    network, rows, inputs, outputs = _network_and_rows(model, X, member)
    inputs = _names(input_names, inputs, "input_names")
    outputs = _names(output_names, outputs, "output_names")
    drawn = _visible_edges(network, rows, edges)
    per_gap = [
        sorted((e for e in drawn if e.layer == n), key=lambda e: (e.source, e.target))
        for n in range(len(network.layers))
    ]
    widths = [len(network.used_inputs), *(layer.out_features for layer in network.layers)]
    height = max(max(widths), *(len(gap) for gap in per_gap), 2)
    ax = axes_or_new(ax, 2.3 + 2.6 * len(network.layers), 0.55 + 0.42 * height)
    ax.set_axis_off()
    ax.set_xlim(
        -0.6 - 0.11 * max(len(name) for name in inputs), GAP * len(network.layers) + 0.6 + 0.11 * max(map(len, outputs))
    )
    ax.set_ylim(-0.3, height + 0.3)
    places = [_spread(width, height) for width in widths]
    for number, gap in enumerate(per_gap):
        _draw_gap(ax, network, number, gap, places, height)
    _draw_nodes(ax, network, places, inputs, outputs)
    return ax


def _network_and_rows(model: Any, X: Any, member: int) -> tuple[KAN, torch.Tensor, list[str], list[str]]:
    if isinstance(model, KAN):
        rows = torch.as_tensor(np.asarray(X)).to(model.layers[0].coefficients)
        names = [f"x{column}" for column in model.used_inputs]
        return model, rows, names, [f"y{k}" if model.out_features > 1 else "y" for k in range(model.out_features)]
    fitted = opened(model)
    if not 0 <= member < len(fitted.models):
        raise UserError(f"plot_network: there is no member {member}; the ensemble has {len(fitted.models)}, from 0")
    network = fitted.models[member]
    names = [fitted.names[column] for column in network.used_inputs]
    return network, fitted.rows(network, fitted.scaled(X)), names, fitted.outputs


def _names(given: Sequence[str] | None, default: list[str], argument: str) -> list[str]:
    if given is not None and len(given) != len(default):
        raise UserError(f"plot_network: {argument} must be {len(default)} names, got {len(given)}")
    return [str(name) for name in (default if given is None else given)]


def _visible_edges(network: KAN, rows: torch.Tensor, most: int) -> list[_Edge]:
    scores = attribution(network, rows)
    found = []
    with torch.no_grad():
        for number, (layer, z) in enumerate(zip(network.layers, network.inputs_of_layers(rows), strict=True)):
            opacity = np.tanh(SHARPNESS * scores.edges[number].max(axis=0))
            low, high = z.amin(0), z.amax(0)
            grid = low + (high - low) * torch.linspace(0, 1, POINTS, dtype=z.dtype, device=z.device).unsqueeze(1)
            curves = layer.edges(grid).double().cpu().numpy()
            x = grid.double().cpu().numpy()
            for target, source in zip(*np.nonzero(opacity > WEAKEST), strict=True):
                edge = _Edge(
                    number,
                    int(target),
                    int(source),
                    float(opacity[target, source]),
                    x[:, source],
                    curves[:, target, source],
                )
                found.append(edge)
    return sorted(found, key=lambda edge: -edge.opacity)[:most]


def _spread(count: int, height: float) -> np.ndarray:
    """Vertical places of the nodes of a layer, the first at the top."""
    return height - (np.arange(count) + 0.5) * height / count


def _draw_gap(ax: Axes, network: KAN, number: int, edges: list[_Edge], places: list[np.ndarray], height: float) -> None:
    layer = network.layers[number]
    left, right = GAP * number, GAP * (number + 1)
    middle = left + 0.5 * GAP
    for edge, y in zip(edges, _spread(max(len(edges), 1), height), strict=False):
        output, shift = _target(layer, edge.target)
        end = places[number + 1][output] + shift
        style = {"color": INK, "alpha": edge.opacity, "linewidth": 1.1, "solid_capstyle": "round", "zorder": 1}
        ax.plot([left + 0.1, middle - BOX_WIDTH / 2], [places[number][edge.source], y], **style)
        near = right - (FACTORS if shift else 0.12)
        ax.plot([middle + BOX_WIDTH / 2, near], [y, end], **style)
        if shift:
            ax.plot([near], [end], "o", color=INK, markersize=3, zorder=4)
            ax.plot([near, right - 0.12], [end, places[number + 1][output]], color=INK, linewidth=0.9, zorder=1)
        _draw_function(ax, edge, middle, y)


def _target(layer: Any, sub_node: int) -> tuple[int, float]:
    """The output that a sub-node belongs to, and how far from its centre the edge ends."""
    if sub_node < layer.sums:
        return sub_node, 0.0
    product, factor = divmod(sub_node - layer.sums, layer.arity)
    return layer.sums + product, SPREAD * ((layer.arity - 1) / 2 - factor)


def _draw_function(ax: Axes, edge: _Edge, x: float, y: float) -> None:
    corner = (x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
    box = FancyBboxPatch(
        corner,
        BOX_WIDTH,
        BOX_HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.08",
        facecolor="white",
        edgecolor=INK,
        linewidth=0.8,
        alpha=max(edge.opacity, 0.15),
        zorder=2,
    )
    ax.add_patch(box)
    span_x, span_y = np.ptp(edge.x) or 1.0, np.ptp(edge.y) or 1.0
    inner_x = (edge.x - edge.x.min()) / span_x * 0.82 * BOX_WIDTH + corner[0] + 0.09 * BOX_WIDTH
    inner_y = (edge.y - edge.y.min()) / span_y * 0.74 * BOX_HEIGHT + corner[1] + 0.13 * BOX_HEIGHT
    ax.plot(inner_x, inner_y, color=CURVE, linewidth=1.5, alpha=max(edge.opacity, 0.15), zorder=3)


def _draw_nodes(ax: Axes, network: KAN, places: list[np.ndarray], inputs: list[str], outputs: list[str]) -> None:
    for number, heights in enumerate(places):
        x = GAP * number
        products = network.layers[number - 1].products if number else 0
        for node, y in enumerate(heights):
            if node >= len(heights) - products:
                ax.plot([x], [y], "o", color="white", markeredgecolor=INK, markersize=11, zorder=4)
                ax.text(x, y, "×", ha="center", va="center_baseline", fontsize=TEXT + 2, zorder=5)
            else:
                ax.plot([x], [y], "o", color=INK, markersize=5.5, zorder=4)
        if number == 0:
            for name, y in zip(inputs, heights, strict=True):
                ax.text(x - 0.2, y, plain(name), ha="right", va="center", fontsize=text_size(ax, len(heights)))
        if number == len(places) - 1:
            for name, y in zip(outputs, heights, strict=True):
                ax.text(x + 0.25, y, plain(name), ha="left", va="center", fontsize=text_size(ax, len(heights)))
