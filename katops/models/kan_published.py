"""Published KANs: the state dicts of pykan 0.2 (Liu, MIT licence)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.models.published import read_weights

_BASES: dict[str, str | None] = {"silu": "silu", "identity": "identity", "zero": None}


def load_published(
    source: Any, config: Mapping[str, Any] | None, changes: Mapping[str, Any], build: Callable[..., nn.Module]
) -> nn.Module:
    """See :func:`katops.models.kan.from_published`; ``build`` makes the model from its options."""
    state, found = read_weights(source, "KAN")
    config = {**(found or {}), **(config or {})}
    layers = []
    while f"act_fun.{len(layers)}.coef" in state:
        layers.append(_Layer(state, len(layers)))
    if not layers:
        raise UserError("the weights hold no 'act_fun.0.coef'; expected the state dict of a MultKAN of pykan 0.2")
    products = _products(config.get("width"), layers)
    intervals = layers[0].knots.shape[1] - 1 - 2 * layers[0].degree
    options = {
        "in_features": layers[0].inputs,
        "out_features": layers[-1].nodes,
        "hidden": [layer.nodes for layer in layers[:-1]],
        "products": products,
        "basis_layer": {
            "name": "bspline",
            "intervals": intervals,
            "degree": layers[0].degree,
            "extrapolation": "zero",
        },
        "base_act": _base(config),
        "arity": _arity(layers, products),
    }
    changes = dict(changes)
    basis = changes.pop("basis_layer", {})
    options["basis_layer"] = basis if isinstance(basis, str) else {**options["basis_layer"], **basis}
    model = build(**{**options, **changes})
    if not model.spline or any(layer.bias is None for layer in model.layers):
        raise UserError("published KANs have B-spline edges and a bias at every node; leave both as they are")
    with torch.no_grad():
        for layer, own, count in zip(layers, model.layers, products, strict=True):
            layer.fill(own, count)
    return model


class _Layer:
    """The tensors of one published layer; sub-nodes first summed, then scaled and shifted, then multiplied."""

    def __init__(self, state: Mapping[str, Tensor], number: int) -> None:
        self.number = number
        edges = {name: f"act_fun.{number}.{key}" for name, key in _EDGES.items()}
        nodes = {name: f"{name}_{number}" for name in _NODES}
        missing = [key for key in (*edges.values(), *nodes.values()) if key not in state]
        if missing:
            raise UserError(f"the weights of layer {number} lack {', '.join(missing)}")
        self.knots, self.coefficients, self.base, self.spline, self.mask = (state[key] for key in edges.values())
        self.sub_scale, self.sub_bias, self.node_scale, self.node_bias = (state[key] for key in nodes.values())
        self.inputs, sub_nodes, functions = self.coefficients.shape
        # G + 2 k + 1 knots, G + k functions.
        self.degree = self.knots.shape[1] - 1 - functions
        self.nodes = len(self.node_scale)
        shapes = {"scale_base": self.base, "scale_sp": self.spline, "mask": self.mask}
        for name, tensor in shapes.items():
            if tuple(tensor.shape) != (self.inputs, sub_nodes):
                raise UserError(
                    f"'{name}' of layer {number} must be {(self.inputs, sub_nodes)}, got {tuple(tensor.shape)}"
                )
        if bool(state.get(f"symbolic_fun.{number}.mask", torch.zeros(1)).any()):
            raise UserError(
                f"layer {number} has symbolic edges that are on; unfix them first, formulas are fitted afterwards"
            )

    def fill(self, own: nn.Module, products: int) -> None:
        """Put the weights into a layer, scales and biases folded into them."""
        sums = self.nodes - products
        scale, bias = self.sub_scale.clone(), self.sub_bias.clone()
        scale[:sums] *= self.node_scale[:sums]
        bias[:sums] = self.node_scale[:sums] * bias[:sums] + self.node_bias[:sums]
        if products:
            if bool(self.node_bias[sums:].any()):
                raise UserError(f"layer {self.number} has a bias behind a product, which a product node here has not")
            # A factor takes the scale of its product.
            first = slice(sums, None, (len(scale) - sums) // products)
            scale[first] *= self.node_scale[sums:]
            bias[first] *= self.node_scale[sums:]
        own.basis.knots = self.knots.to(own.basis.knots)
        own.coefficients.copy_((self.coefficients * (self.spline * scale).unsqueeze(-1)).transpose(0, 1))
        if own.base_weight is not None:
            own.base_weight.copy_((self.base * scale).T)
        if own.linear_weight is not None:
            own.linear_weight.zero_()
        own.bias.copy_(bias)
        own.mask.copy_(self.mask.T)


_EDGES = {"knots": "grid", "coefficients": "coef", "base": "scale_base", "spline": "scale_sp", "mask": "mask"}
_NODES = ("subnode_scale", "subnode_bias", "node_scale", "node_bias")


def _products(width: Sequence[Any] | None, layers: Sequence[_Layer]) -> list[int]:
    """How many nodes of each layer are products: as the configuration says, else none."""
    if width is None:
        if any(len(layer.sub_scale) != layer.nodes for layer in layers):
            raise UserError("the net has product nodes; give config={'width': [[sums, products], ...]}")
        return [0] * len(layers)
    pairs = [(entry, 0) if isinstance(entry, int) else tuple(entry) for entry in width]
    if [sum(pair) for pair in pairs] != [layers[0].inputs, *(layer.nodes for layer in layers)]:
        raise UserError(f"the configuration's width {list(width)} is not that of the weights")
    return [products for _, products in pairs[1:]]


def _arity(layers: Sequence[_Layer], products: Sequence[int]) -> int:
    found = {
        (len(layer.sub_scale) - layer.nodes + count) // count
        for layer, count in zip(layers, products, strict=True)
        if count
    }
    if len(found) > 1:
        raise UserError(f"the net has products of {sorted(found)} factors; all must have the same number here")
    return found.pop() if found else 2


def _base(config: Mapping[str, Any]) -> str | None:
    name = config.get("base_fun", config.get("base", "silu"))
    if name not in _BASES:
        raise UserError(f"the base function {name!r} is none of {', '.join(_BASES)}")
    return _BASES[name]
