"""A Kolmogorov-Arnold network all of whose edges are known functions c f(a x + b), in float64 with exact derivatives.

It is small by nature (a formula has some ten edges), and it is refitted hundreds of times while edges are tried out:
NumPy with the derivative written out is quicker here than automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from katops.interpret.symbolic_library import SymbolicFunction

FLATTEST = 0.01
NARROWEST = 0.1


@dataclass
class SymbolicEdge:
    """c f(a x + b) from node ``source`` of the layer's input to sub-node ``target``.

    Attributes:
        free: whether (a, b, c) are fitted; those that are not keep their value.
    """

    source: int
    target: int
    function: SymbolicFunction
    a: float = 1.0
    b: float = 0.0
    c: float = 1.0
    free: list[bool] = field(default_factory=lambda: [True, True, True])

    @classmethod
    def fitted(
        cls, source: int, target: int, function: SymbolicFunction, a: float, b: float, c: float
    ) -> tuple[SymbolicEdge, float]:
        """The edge in its shortest form, |a| = 1 where a scale changes nothing, and the constant that is left over."""
        edge = cls(source, target, function, a, b, c, [function.scale, function.shift, True])
        if function.name == "x":
            return replace(edge, a=1.0, b=0.0, c=c * a), c * b
        if function.name == "0":
            return replace(edge, a=1.0, b=0.0, c=0.0), 0.0
        if not function.scale and a != 0:
            factor, constant = _homogeneous(function, abs(a))
            return replace(edge, a=float(np.sign(a)), b=b / abs(a), c=c * factor), c * constant
        return edge, 0.0


def _homogeneous(function: SymbolicFunction, scale: float) -> tuple[float, float]:
    """p and q with f(scale v) = p f(v) + q, as there are for powers, the logarithm and the absolute value."""
    points = np.array([1.0, 2.0])
    plain, scaled = function.value(points), function.value(scale * points)
    if plain[1] == plain[0]:
        return 1.0, 0.0
    factor = float((scaled[1] - scaled[0]) / (plain[1] - plain[0]))
    return factor, float(scaled[0] - factor * plain[0])


@dataclass
class SymbolicLayer:
    """Sub-nodes that are sums of edges and a bias; the last outputs are products of ``arity`` sub-nodes each.

    Attributes:
        edges: in any order.
        bias: (sub-nodes,).
        bias_free: which of them are fitted.
        products: number of outputs that are products.
        arity: factors of each.
    """

    edges: list[SymbolicEdge]
    bias: np.ndarray
    bias_free: np.ndarray
    products: int = 0
    arity: int = 2

    @property
    def sums(self) -> int:
        """Number of outputs that are plain sums."""
        return len(self.bias) - self.products * self.arity

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self.sums + self.products

    def factors(self, output: int) -> list[int]:
        """The sub-nodes that an output is made of: one, or the factors of a product."""
        if output < self.sums:
            return [output]
        first = self.sums + (output - self.sums) * self.arity
        return list(range(first, first + self.arity))

    def copy(self) -> SymbolicLayer:
        """Independent of this one."""
        edges = [replace(edge, free=list(edge.free)) for edge in self.edges]
        return replace(self, edges=edges, bias=self.bias.copy(), bias_free=self.bias_free.copy())


class SymbolicNetwork:
    """Layers of symbolic edges, (N, inputs) -> (N, outputs).

    Args:
        layers: from the input to the output.
        in_features: number of inputs.
    """

    def __init__(self, layers: list[SymbolicLayer], in_features: int) -> None:
        self.layers = layers
        self.in_features = in_features

    def copy(self) -> SymbolicNetwork:
        """Independent of this one."""
        return SymbolicNetwork([layer.copy() for layer in self.layers], self.in_features)

    def edges(self) -> Iterator[tuple[int, SymbolicEdge]]:
        """All edges with the number of their layer."""
        for number, layer in enumerate(self.layers):
            for edge in layer.edges:
                yield number, edge

    @property
    def complexity(self) -> float:
        """Sum of the complexities of the functions."""
        return sum(edge.function.complexity for _, edge in self.edges())

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """(N, inputs) -> (N, outputs); NaN or infinity where an edge leaves its domain."""
        with np.errstate(all="ignore"):
            for layer in self.layers:
                x = _outputs(layer, _subnodes(layer, x))
        return x

    def inputs_of_layers(self, x: np.ndarray) -> list[np.ndarray]:
        """What goes into each layer, (N, nodes)."""
        inputs = [x]
        with np.errstate(all="ignore"):
            for layer in self.layers[:-1]:
                inputs.append(_outputs(layer, _subnodes(layer, inputs[-1])))
        return inputs

    def inside(self, x: np.ndarray) -> bool:
        """Whether every edge is smooth, and more than a constant, on the whole range that the rows of x give it."""
        return self.checked(x) is not None

    def checked(self, x: np.ndarray) -> np.ndarray | None:
        """The outputs, (N, outputs); ``None`` where :meth:`inside` is false."""
        with np.errstate(all="ignore"):
            for layer in self.layers:
                z = np.tile(layer.bias, (len(x), 1))
                for edge in layer.edges:
                    u = edge.a * x[:, edge.source] + edge.b
                    if not edge.function.inside(u):
                        return None
                    value = edge.function.value(u)
                    if _is_flat(edge.function, u, value):
                        return None
                    z[:, edge.target] += edge.c * value
                x = _outputs(layer, z)
        return x if np.isfinite(x).all() else None

    def parameters(self) -> np.ndarray:
        """The free parameters: layer by layer (a, b, c) of the edges, then the biases."""
        parts = []
        for layer in self.layers:
            for edge in layer.edges:
                parts.extend(value for value, free in zip((edge.a, edge.b, edge.c), edge.free, strict=True) if free)
            parts.extend(layer.bias[layer.bias_free])
        return np.array(parts, dtype=float)

    def with_parameters(self, values: np.ndarray) -> SymbolicNetwork:
        """A copy with other values of the free parameters."""
        network, position = self.copy(), 0
        for layer in network.layers:
            for edge in layer.edges:
                for name, free in zip("abc", edge.free, strict=True):
                    if free:
                        setattr(edge, name, float(values[position]))
                        position += 1
            count = int(layer.bias_free.sum())
            layer.bias[layer.bias_free] = values[position : position + count]
            position += count
        return network

    def value_and_jacobian(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outputs (N, J) and their derivatives in the free parameters (N, J, P)."""
        inputs, subnodes = [x], []
        for layer in self.layers:
            subnodes.append(_subnodes(layer, inputs[-1]))
            inputs.append(_outputs(layer, subnodes[-1]))
        count = self.layers[-1].outputs
        upstream = np.broadcast_to(np.eye(count), (len(x), count, count))
        columns: list[np.ndarray] = []
        for number in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[number]
            delta = upstream @ _product_slopes(layer, subnodes[number])
            own, upstream = _layer_jacobian(layer, inputs[number], delta, inputs_needed=number > 0)
            columns = own + columns
        jacobian = np.stack(columns, axis=-1) if columns else np.zeros((len(x), count, 0))
        return inputs[-1], jacobian


def _is_flat(function: SymbolicFunction, u: np.ndarray, value: np.ndarray) -> bool:
    """Whether the function hardly changes or bends: differences of huge numbers would imitate others there."""
    if function.name in ("0", "x"):
        return False
    if function.scale and np.ptp(u) < NARROWEST:
        return True
    return bool(np.ptp(value) < FLATTEST * np.abs(value).max())


def _subnodes(layer: SymbolicLayer, x: np.ndarray) -> np.ndarray:
    z = np.tile(layer.bias, (len(x), 1))
    for edge in layer.edges:
        z[:, edge.target] += edge.c * edge.function.value(edge.a * x[:, edge.source] + edge.b)
    return z


def _outputs(layer: SymbolicLayer, z: np.ndarray) -> np.ndarray:
    if not layer.products:
        return z
    factors = z[:, layer.sums :].reshape(len(z), layer.products, layer.arity)
    return np.concatenate([z[:, : layer.sums], factors.prod(axis=-1)], axis=1)


def _product_slopes(layer: SymbolicLayer, z: np.ndarray) -> np.ndarray:
    """Derivative of the outputs in the sub-nodes, (N, outputs, sub-nodes)."""
    slopes = np.zeros((len(z), layer.outputs, z.shape[1]))
    for output in range(layer.outputs):
        factors = layer.factors(output)
        for factor in factors:
            slopes[:, output, factor] = np.prod([z[:, other] for other in factors if other != factor], axis=0)
    return slopes


def _layer_jacobian(
    layer: SymbolicLayer, x: np.ndarray, delta: np.ndarray, *, inputs_needed: bool
) -> tuple[list[np.ndarray], np.ndarray]:
    """Derivatives in the layer's free parameters, each (N, J), and in its inputs (N, J, inputs)."""
    columns = []
    upstream = np.zeros((*delta.shape[:2], x.shape[1])) if inputs_needed else delta
    for edge in layer.edges:
        u = edge.a * x[:, edge.source] + edge.b
        from_node = delta[:, :, edge.target]
        slope = (edge.c * edge.function.slope(u))[:, None] * from_node
        derivatives = (slope * x[:, edge.source, None], slope, edge.function.value(u)[:, None] * from_node)
        columns.extend(column for column, free in zip(derivatives, edge.free, strict=True) if free)
        if inputs_needed:
            upstream[:, :, edge.source] += edge.a * slope
    columns.extend(delta[:, :, node] for node in np.flatnonzero(layer.bias_free))
    return columns, upstream
