"""Least-squares fit of a small KAN with sparse edges, as a search for formulas needs it: quick, and close to the data.

Ten thousand steps of a gradient method do what twenty steps of Levenberg and Marquardt do here; networks for formulas
have a few hundred unknowns at most.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from katops.interpret.least_squares import levenberg_marquardt
from katops.layers.kan_linear import KANLinear

# Of the sum of squares of a target with variance 1; keeps coefficients finite that the data say nothing about.
RIDGE = 1e-8


def fit_least_squares(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    weight: Tensor | None = None,
    sparsity: float = 0.0,
    steps: int = 30,
    tolerance: float = 1e-5,
) -> float:
    """Fit a network in place to (x, y), each output having about unit variance.

    Args:
        model: of float64 :class:`katops.layers.kan_linear.KANLinear` layers in ``model.layers``.
        x, y: (N, inputs) and (N, outputs).
        weight: of the residual of each row, (N, 1); 1 by default.
        sparsity: weight of the sum of the edges' norms (group lasso, by reweighted ridge; Yuan & Lin 2006), relative to
            the number of rows.
        steps, tolerance: see :func:`katops.interpret.least_squares.levenberg_marquardt`.

    Returns:
        the mean squared, weighted residual.
    """
    weight = torch.ones(len(x), 1, dtype=x.dtype) if weight is None else weight
    parameters = dict(model.named_parameters())
    shapes = {name: value.shape for name, value in parameters.items()}
    groups = _edge_groups(model)

    def unflat(values: np.ndarray) -> dict[str, Tensor]:
        pieces = torch.from_numpy(values).split([shape.numel() for shape in shapes.values()])
        return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}

    def load(values: np.ndarray) -> None:
        with torch.no_grad():
            for name, value in unflat(values).items():
                parameters[name].copy_(value)

    def residual(values: np.ndarray) -> np.ndarray:
        load(values)
        with torch.no_grad():
            return ((model(x) - y) * weight).flatten().numpy()

    def jacobian(values: np.ndarray) -> np.ndarray:
        load(values)
        return (_jacobian(model, x) * weight.expand_as(y).reshape(-1, 1)).numpy()

    def penalty(values: np.ndarray) -> np.ndarray:
        norms = np.sqrt(np.bincount(groups, values**2))[groups] + 1e-3
        return len(x) * (RIDGE + np.where(groups > 0, sparsity / norms, 0.0))

    start = torch.cat([value.detach().flatten() for value in parameters.values()]).numpy()
    found = levenberg_marquardt(residual, jacobian, start, steps=steps, tolerance=tolerance, penalty=penalty)
    return float(np.mean(residual(found) ** 2))


def _jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """Derivatives of the outputs in all parameters, (N outputs, P), in the order of ``model.parameters()``.

    Written out: the derivative in a coefficient is a basis function times that of the output in the sub-node.
    """
    inputs, subnodes = [x], []
    with torch.no_grad():
        for layer in model.layers:
            subnodes.append(layer.subnodes(inputs[-1]))
            inputs.append(_outputs(layer, subnodes[-1]))
    upstream = torch.eye(inputs[-1].shape[1], dtype=x.dtype).expand(len(x), -1, -1)
    blocks: list[Tensor] = []
    for number in range(len(model.layers) - 1, -1, -1):
        layer, z = model.layers[number], inputs[number]
        delta = upstream @ _product_slopes(layer, subnodes[number])
        blocks = _layer_blocks(layer, z, delta) + blocks
        if number:
            upstream = torch.einsum("njs,nsi->nji", delta, _edge_slopes(layer, z))
    return torch.cat([block.flatten(2) for block in blocks], -1).flatten(0, 1)


def _layer_blocks(layer: KANLinear, z: Tensor, delta: Tensor) -> list[Tensor]:
    """Derivatives in the parameters of a layer, in their order, each (N, outputs, ...)."""
    with torch.no_grad():
        on = delta.unsqueeze(-1) * layer.mask
        blocks = {"coefficients": torch.einsum("njsi,nim->njsim", on, layer.basis(z)), "bias": delta}
        if layer.base_weight is not None:
            blocks["base_weight"] = on * layer.base_act(z)[:, None, None]
        if layer.linear_weight is not None:
            blocks["linear_weight"] = on * z[:, None, None]
    return [blocks[name] for name, _ in layer.named_parameters(recurse=False)]


def _edge_slopes(layer: KANLinear, z: Tensor) -> Tensor:
    """phi'_si(z_i), (N, sub-nodes, inputs)."""
    z = z.detach().requires_grad_()
    edges = layer.edges(z)
    count = edges.shape[1]
    slopes = [torch.autograd.grad(edges[:, node].sum(), z, retain_graph=node + 1 < count)[0] for node in range(count)]
    return torch.stack(slopes, 1)


def _outputs(layer: KANLinear, subnodes: Tensor) -> Tensor:
    factors = subnodes[:, layer.sums :].unflatten(-1, (layer.products, layer.arity)) if layer.products else None
    return subnodes if factors is None else torch.cat([subnodes[:, : layer.sums], factors.prod(-1)], -1)


def _product_slopes(layer: KANLinear, subnodes: Tensor) -> Tensor:
    """Derivative of the layer's outputs in its sub-nodes, (N, outputs, sub-nodes)."""
    slopes = subnodes.new_zeros(len(subnodes), layer.out_features, subnodes.shape[1])
    for output in range(layer.sums):
        slopes[:, output, output] = 1
    for product in range(layer.products):
        first = layer.sums + product * layer.arity
        for factor in range(first, first + layer.arity):
            others = [other for other in range(first, first + layer.arity) if other != factor]
            slopes[:, layer.sums + product, factor] = subnodes[:, others].prod(1)
    return slopes


def _edge_groups(model: nn.Module) -> np.ndarray:
    """For every parameter the number of its edge, from 1; 0 for biases."""
    parts, first = [], 1
    for layer in model.layers:
        count = layer.mask.numel()
        numbers = torch.arange(first, first + count).view(layer.mask.shape)
        for name, value in layer.named_parameters(recurse=False):
            if name == "bias":
                parts.append(torch.zeros(value.numel(), dtype=torch.long))
            else:
                parts.append(numbers.view(*numbers.shape, *[1] * (value.ndim - 2)).expand(value.shape).flatten())
        first += count
    return torch.cat(parts).numpy()
