"""Kolmogorov-Arnold networks for tables (Liu et al. 2024, arXiv 2404.19756)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.layers.basis_functions import BASIS_PAPER
from katops.layers.kan_linear import KANLinear
from katops.layers.spline_basis import BSplineBasis
from katops.models.build import register_net
from katops.models.kan_penalty import sparsity_penalty
from katops.models.kan_published import load_published


class KAN(nn.Module):
    """Layers of :class:`katops.layers.kan_linear.KANLinear`, (..., in_features) -> (..., out_features).

    An input outside of the grid of its edges is continued along their tangents, see the option ``extrapolation`` of the
    basis, and is counted by :meth:`outside`.

    Args:
        in_features, out_features: columns in and out.
        hidden: widths in between; empty for a generalised additive model.
        basis_layer: the basis of all edges: "bspline", "radial", "chebyshev", "fourier", "rational_basis", with options
            as ``{"name": "bspline", "intervals": 3}``.
        base_act: base function of all edges, ``None`` for none.
        linear: whether edges have a linear branch.
        products: how many nodes of each layer, the last one included, are products; none by default.
        arity: how many factors a product has.
        bias: whether nodes have a bias.
        init: how weights start, "glorot", "power" or "pykan".
        used_inputs: the columns that the first layer sees, in this order; all by default.

    Raises:
        UserError: a number is out of range, or the lengths of ``hidden`` and ``products`` do not fit.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int = 1,
        hidden: Sequence[int] = (5,),
        basis_layer: Callable[..., nn.Module] = BSplineBasis,
        base_act: Callable[..., nn.Module] | None = nn.SiLU,
        linear: bool = False,
        products: Sequence[int] | None = None,
        arity: int = 2,
        bias: bool = True,
        init: str = "glorot",
        used_inputs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        used = list(range(in_features)) if used_inputs is None else list(used_inputs)
        if not used or len(set(used)) != len(used) or not all(0 <= column < in_features for column in used):
            raise UserError(
                f"kan: used_inputs must be different columns from 0 to {in_features - 1}, at least one; given: {used}"
            )
        products = [0] * (len(hidden) + 1) if products is None else list(products)
        if len(products) != len(hidden) + 1:
            raise UserError(
                f"kan: products must have a number for each of the {len(hidden) + 1} layers; given: {products}"
            )
        self.in_features, self.out_features = in_features, out_features
        self.used_inputs = used
        self._all_used = used == list(range(in_features))
        widths = [len(used), *hidden, out_features]
        self.layers = nn.ModuleList(
            KANLinear(before, after, basis_layer, base_act, linear, count, arity, bias, init)
            for before, after, count in zip(widths, widths[1:], products, strict=False)
        )
        self.recipe: dict[str, Any] | None = None

    @property
    def spline(self) -> bool:
        """Whether the edges are splines, with grids that can be moved."""
        return self.layers[0].spline

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw all weights again, from this generator or the global one."""
        for layer in self.layers:
            layer.reset_parameters(generator)

    def forward(self, x: Tensor) -> Tensor:
        x = self.select(x)
        for layer in self.layers:
            x = layer(x)
        return x

    def select(self, x: Tensor) -> Tensor:
        """The columns that the first layer sees.

        Raises:
            UserError: the last axis has another number of columns.
        """
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise UserError(f"kan: expected (..., input={self.in_features}), got {tuple(x.shape)}")
        return x if self._all_used else x[..., self.used_inputs]

    def inputs_of_layers(self, x: Tensor) -> list[Tensor]:
        """What every layer sees for these rows."""
        inputs = [self.select(x)]
        for layer in self.layers[:-1]:
            inputs.append(layer(inputs[-1]))
        return inputs

    def edges(self, x: Tensor) -> list[Tensor]:
        """The activations of all edges, per layer (rows, sub_nodes, inputs)."""
        return [layer.edges(z) for layer, z in zip(self.layers, self.inputs_of_layers(x), strict=True)]

    def outside(self, x: Tensor) -> Tensor:
        """For every column, how many values lie outside of the grid of the first layer, (in_features,)."""
        counts = torch.zeros(self.in_features, dtype=torch.long, device=x.device)
        counts[self.used_inputs] = self.layers[0].outside(self.select(x))
        return counts

    def penalty(
        self, x: Tensor, l1: float = 1.0, entropy: float = 2.0, coefficients: float = 0.0, smoothness: float = 0.0
    ) -> Tensor:
        """What makes edges sparse, curves small or curves smooth, see :mod:`katops.models.kan_penalty`."""
        weights = (l1, entropy, coefficients, smoothness)
        return sum(
            sparsity_penalty(layer, z, *weights) for layer, z in zip(self.layers, self.inputs_of_layers(x), strict=True)
        )

    def update_grid(self, x: Tensor, uniform_share: float = 0.02) -> float:
        """Move all grids to where the samples x (rows, in_features) are, the function kept as well as it can be.

        Layers are moved in their order, each for what the moved ones before it give, and fitted to what it was before.
        State of an optimiser belongs to coefficients that are gone; start a new one.

        Returns:
            the largest change of an output on the samples.
        """
        with torch.no_grad():
            before, expected = self.inputs_of_layers(x), self(x)
            now = self.select(x)
            for layer, was in zip(self.layers, before, strict=True):
                layer.update_grid(now, uniform_share, was)
                now = layer(now)
            return (now - expected).abs().max().item()

    def refine(self, intervals: int, x: Tensor | None = None) -> None:
        """Finer grids in all layers, the same function within them (:meth:`KANLinear.refine`).

        The coefficients are other parameters than before; start a new optimiser.

        Args:
            intervals: per input, in all layers.
            x: samples (rows, in_features) to be kept outside of the grids, too, with the extrapolation "zero".
        """
        with torch.no_grad():
            before = self.inputs_of_layers(x) if x is not None else [None] * len(self.layers)
            now = before[0]
            for layer, was in zip(self.layers, before, strict=True):
                layer.refine(intervals, now, was)
                now = layer(now) if now is not None else None
        if self.recipe is not None:
            basis = self.recipe["arguments"].get("basis_layer", "bspline")
            options = {"name": basis} if isinstance(basis, str) else dict(basis)
            self.recipe["arguments"]["basis_layer"] = {**options, "intervals": intervals}


@register_net(summary="Kolmogorov-Arnold network for tables", paper=BASIS_PAPER, kind="table")
def kan(**options: Any) -> KAN:
    """A KAN of any width and depth; ``in_features`` has to be given."""
    if "in_features" not in options:
        raise UserError(
            "model 'kan' needs in_features, the number of columns; give create_model('kan', in_features=...)"
        )
    return KAN(**options)


def from_published(source: Any, config: Mapping[str, Any] | None = None, **changes: Any) -> KAN:
    """A KAN with the weights of pykan 0.2 (``state_dict()`` of a ``MultKAN``).

    Args:
        source: a state dict, or a file with one, safetensors or ``.pth``; never unpickled.
        config: the published names: ``width`` (numbers, or pairs of sums and products), ``grid``, ``k``, ``base_fun``
            or ``base`` ("silu", "identity" or "zero"); what is missing is read off the weights.
        changes: options of :class:`KAN` that are to differ, such as ``basis_layer={"extrapolation": "linear"}``;
            pykan's own extrapolation is "zero".

    Raises:
        UserError: weights are missing or of the wrong shape; or the net has symbolic edges that are on, or a bias
            behind a product, which have no place here.
    """
    return load_published(source, config, changes, kan)
