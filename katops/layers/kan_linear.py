"""A layer of a Kolmogorov-Arnold network: a learned function on every edge, two matrix products in all."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from katops.errors import UserError
from katops.layers.activation import build_activation
from katops.layers.basis_functions import BASIS_PAPER, real
from katops.layers.edge_statistics import EdgeStatistics, edge_statistics
from katops.layers.kan_initialisation import RULES, Spread, glorot_spread, power_spread, pykan_coefficients
from katops.layers.spline_basis import BSplineBasis
from katops.ops.bspline_knots import (
    inner_knots,
    insertion_matrix,
    quantile_knots,
    refined_inner_knots,
    refit,
    with_ghost_knots,
)
from katops.registry import LAYERS


@LAYERS.register(
    "kan_linear",
    kind="channel mixer",
    summary="a learned function on every edge, summed at the nodes",
    paper=BASIS_PAPER,
)
class KANLinear(nn.Module):
    """A KAN layer, (..., in_features) -> (..., out_features) (Liu et al. 2024, equations 2.10 to 2.12).

        phi_si(x) = mask_si (w^b_si b(x) + w^l_si x + sum_m c_sim psi_m(x))
        z_s = bias_s + sum_i phi_si(x_i),                                         s = 1 .. sub-nodes
        y = (z_1, ..., z_n, products of ``arity`` sub-nodes each),                n = out_features - products

    b is the base function, w^l the optional linear branch, psi the basis. Product nodes are those of KAN 2.0 (Liu et
    al. 2024b, arXiv 2408.10205, section 2): they come last, and multiply neighbouring sub-nodes.

    The functions of an edge are never evaluated edge by edge: y is the product of psi(x), as (rows, inputs functions),
    and the coefficients, plus that of b(x) and its weights. Edge by edge, they are there on request (:meth:`edges`).

    Args:
        in_features, out_features: widths.
        basis_layer: makes the basis, called with ``in_features``; see :mod:`katops.layers.spline_basis` and
            :mod:`katops.layers.basis_functions`.
        base_act: makes b; ``None`` for none.
        linear: whether edges have the linear branch, so that what is linear can be learned exactly.
        products: how many of the outputs are product nodes.
        arity: how many factors a product has.
        bias: whether nodes have a bias.
        init: how weights start: "glorot" (equal variances), "power" (small curves on a base function) or "pykan" (with
            splines only), see :mod:`katops.layers.kan_initialisation`.

    Raises:
        UserError: a number is out of range, or ``init`` has no such name or needs splines.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        basis_layer: Callable[..., nn.Module] = BSplineBasis,
        base_act: Callable[..., nn.Module] | None = nn.SiLU,
        linear: bool = False,
        products: int = 0,
        arity: int = 2,
        bias: bool = True,
        init: str = "glorot",
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise UserError(f"kan_linear: widths must be at least 1; given: {in_features} and {out_features}")
        if not 0 <= products <= out_features or arity < 2:
            raise UserError(
                f"kan_linear: products must be from 0 to out_features = {out_features}, arity at least 2; given: "
                f"{products} and {arity}"
            )
        self.in_features, self.out_features, self.products, self.arity = in_features, out_features, products, arity
        self.basis = basis_layer(in_features=in_features)
        self.base_act = None if base_act is None else build_activation(base_act, in_features)
        if init not in RULES or (init == "pykan" and not self.spline):
            raise UserError(
                f"kan_linear: init must be one of {', '.join(RULES)}, and 'pykan' needs splines; given: {init!r} with "
                f"{type(self.basis).__name__}"
            )
        self.init = init
        edges = (self.sub_nodes, in_features)
        self.coefficients = nn.Parameter(torch.empty(*edges, self.basis.size))
        self.base_weight = None if base_act is None else nn.Parameter(torch.empty(edges))
        self.linear_weight = nn.Parameter(torch.empty(edges)) if linear else None
        self.bias = nn.Parameter(torch.empty(self.sub_nodes)) if bias else None
        self.register_buffer("mask", torch.ones(edges))
        self.reset_parameters()

    @property
    def sums(self) -> int:
        """How many of the outputs are sums."""
        return self.out_features - self.products

    @property
    def sub_nodes(self) -> int:
        """The number of sums of edges, factors of products included."""
        return self.sums + self.arity * self.products

    @property
    def spline(self) -> bool:
        """Whether the edges are splines, with a grid that can be moved."""
        return isinstance(self.basis, BSplineBasis)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw the weights again, from this generator or the global one; factors of products start near 1."""
        with torch.no_grad():
            self._draw(generator)
            if self.linear_weight is not None:
                self.linear_weight.normal_(0, self.in_features**-0.5, generator=generator)
            if self.bias is not None:
                self.bias.zero_()
                self.bias[self.sums :] = 1.0

    def _draw(self, generator: torch.Generator | None) -> None:
        if self.init == "pykan":
            drawn = pykan_coefficients(self.basis, self.sub_nodes, generator)
            self.coefficients.copy_(drawn.permute(2, 0, 1))
            if self.base_weight is not None:
                self.base_weight.uniform_(-1, 1, generator=generator).mul_(self.in_features**-0.5)
            return
        spread: Spread = (
            glorot_spread(self.basis, self.base_act, self.sub_nodes)
            if self.init == "glorot"
            else power_spread(self.basis)
        )
        self.coefficients.normal_(0, spread.coefficients, generator=generator)
        if self.base_weight is not None:
            self.base_weight.normal_(0, spread.base, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        z = self.subnodes(x)
        if not self.products:
            return z
        factors = z[..., self.sums :].unflatten(-1, (self.products, self.arity))
        return torch.cat([z[..., : self.sums], factors.prod(-1)], -1)

    def subnodes(self, x: Tensor) -> Tensor:
        """z, (..., in_features) -> (..., sub_nodes): the sums before products are taken."""
        kind = self.coefficients.dtype
        psi = self.basis(x).flatten(-2).to(kind)
        z = functional.linear(psi, (self.coefficients * self.mask.unsqueeze(-1)).flatten(1), self.bias)
        if self.base_weight is not None:
            z = z + functional.linear(self.base_act(x), self.base_weight * self.mask)
        if self.linear_weight is not None:
            z = z + functional.linear(x, self.linear_weight * self.mask)
        return z

    def edges(self, x: Tensor) -> Tensor:
        """phi_si(x_i), (rows, in_features) -> (rows, sub_nodes, in_features); sub-nodes are its sums, plus the bias."""
        phi = torch.einsum("nim,sim->nsi", self.basis(x), self.coefficients)
        if self.base_weight is not None:
            phi = phi + self.base_act(x).unsqueeze(1) * self.base_weight
        if self.linear_weight is not None:
            phi = phi + x.unsqueeze(1) * self.linear_weight
        return phi * self.mask

    def edge(self, sub_node: int, feature: int, values: Tensor) -> Tensor:
        """The function of one edge at these values of its input, (n,) -> (n,)."""
        x = values.new_zeros(len(values), self.in_features)
        x[:, feature] = values
        phi = self.basis(x)[:, feature] @ self.coefficients[sub_node, feature]
        if self.base_weight is not None:
            phi = phi + self.base_act(x)[:, feature] * self.base_weight[sub_node, feature]
        if self.linear_weight is not None:
            phi = phi + values * self.linear_weight[sub_node, feature]
        return phi * self.mask[sub_node, feature]

    def statistics(self, x: Tensor) -> EdgeStatistics:
        """Mean and variance of every edge over the rows of x (rows, in_features), differentiable, without the edges."""
        features, weights = [self.basis(x)], [self.coefficients]
        if self.base_weight is not None:
            features.append(self.base_act(real(x)).unsqueeze(-1))
            weights.append(self.base_weight.unsqueeze(-1))
        if self.linear_weight is not None:
            features.append(real(x).unsqueeze(-1))
            weights.append(self.linear_weight.unsqueeze(-1))
        return edge_statistics(torch.cat(features, -1), torch.cat(weights, -1) * self.mask.unsqueeze(-1))

    def outside(self, x: Tensor) -> Tensor:
        """For every input, how many values lie outside of its grid; none for bases without one."""
        if self.spline:
            return self.basis.outside(x)
        return torch.zeros(self.in_features, dtype=torch.long, device=x.device)

    def update_grid(self, x: Tensor, uniform_share: float = 0.02, was: Tensor | None = None) -> float:
        """Move the knots to where the samples are, and refit the splines, see :mod:`katops.ops.bspline_knots`.

        Args:
            x: samples, (rows, in_features).
            uniform_share: how much the distances of the knots are made equal, 0 to 1.
            was: what the same rows were before layers in front of this one changed; the values there are kept.

        Returns:
            the largest change of a sub-node on the samples.

        Raises:
            UserError: the edges are no splines, there are no samples, or some are not finite.
        """
        self._check_samples(x)
        with torch.no_grad():
            before = self.subnodes(x if was is None else was)
            knots = quantile_knots(x, self.basis.intervals, self.basis.degree, uniform_share)
            self._move_to(knots.to(self.basis.knots), refit(*self._splines(), knots.double(), *self._kind(), x, was))
            return (self.subnodes(x) - before).abs().max().item()

    def refine(self, intervals: int, x: Tensor | None = None, was: Tensor | None = None) -> None:
        """Splines on a finer grid, the same on the range: exact by knot insertion where the new number of intervals is
        a multiple of the old one, else the nearest by least squares.

        Args:
            intervals: the new number.
            x: samples (rows, in_features) to be kept outside of the range, too, where the extrapolation "zero" makes
                that depend on the ghost knots, which move.
            was: as in :meth:`update_grid`.

        Raises:
            UserError: the edges are no splines, or there would be fewer intervals than before.
        """
        self._check_spline("refine")
        if intervals < self.basis.intervals:
            raise UserError(f"refine: a grid of {self.basis.intervals} intervals cannot be refined to {intervals}")
        if intervals == self.basis.intervals:
            return
        with torch.no_grad():
            old, coefficients = self._splines()
            degree = self.basis.degree
            knots = with_ghost_knots(refined_inner_knots(inner_knots(old, degree), intervals), degree)
            if x is not None and self.basis.extrapolation == "zero":
                finer = refit(old, coefficients, knots, *self._kind(), x, was)
            elif intervals % self.basis.intervals == 0:
                finer = insertion_matrix(old, knots, degree) @ coefficients
            else:
                finer = refit(old, coefficients, knots, *self._kind())
            self._move_to(knots, finer)

    def _kind(self) -> tuple[int, str]:
        return self.basis.degree, self.basis.extrapolation

    def _splines(self) -> tuple[Tensor, Tensor]:
        """Knots, and coefficients as (inputs, functions, sub_nodes), in float64."""
        return self.basis.knots.double(), self.coefficients.double().permute(1, 2, 0)

    def _move_to(self, knots: Tensor, coefficients: Tensor) -> None:
        self.basis.knots = knots.to(self.basis.knots)
        new = coefficients.permute(2, 0, 1).to(self.coefficients).contiguous()
        if new.shape == self.coefficients.shape:
            self.coefficients.copy_(new)
        else:
            self.coefficients = nn.Parameter(new, requires_grad=self.coefficients.requires_grad)

    def _check_spline(self, verb: str) -> None:
        if not self.spline:
            raise UserError(f"{verb}: only splines have a grid; the basis here is {type(self.basis).__name__}")

    def _check_samples(self, x: Tensor) -> None:
        self._check_spline("update_grid")
        if x.ndim != 2 or x.shape[1] != self.in_features or not len(x):
            raise UserError(f"update_grid: expected samples (rows > 0, input={self.in_features}), got {tuple(x.shape)}")
        broken = (~x.isfinite()).any(0).nonzero().flatten().tolist()
        if broken:
            raise UserError(f"update_grid: samples must be finite; they are not in the inputs {broken[:10]}")
        if not self.coefficients.isfinite().all():
            raise UserError("update_grid: the coefficients are not finite; the training has diverged before")

    def extra_repr(self) -> str:
        products = f", products={self.products}, arity={self.arity}" if self.products else ""
        return f"{self.in_features}, {self.out_features}{products}"
