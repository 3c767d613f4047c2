"""The small networks among which a search for a formula chooses: sums, products, an outer function."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from katops.interpret.kan_fit import fit_least_squares
from katops.layers.kan_linear import KANLinear
from katops.layers.spline_basis import BSplineBasis


@dataclass(frozen=True)
class TargetTransform:
    """A function g of the target that is fitted in its place, and its inverse, which becomes the last edge.

    Attributes:
        name: as in the names of shapes.
        forward, slope: g and |g'|.
        inverse: name of the library's function that undoes it.
        signs: whether y may be negative, as long as all y have one sign.
    """

    name: str
    forward: Callable[[np.ndarray], np.ndarray]
    slope: Callable[[np.ndarray], np.ndarray]
    inverse: str
    signs: bool = False

    def rows(self, y: np.ndarray) -> np.ndarray:
        """Which rows (N,) it can be fitted on: not those that are but noise around 0; none if too few remain."""
        sign = np.sign(np.median(y)) if self.signs else 1.0
        kept = (sign * y > SMALLEST_TARGET * y.std()).all(axis=1)
        return kept if kept.mean() > ENOUGH else np.zeros(len(y), dtype=bool)

    def weight(self, y: np.ndarray) -> np.ndarray:
        """Of residuals of g(y), such that an error of y counts the same in all rows, (N, 1); its mean square is 1."""
        weight = 1 / self.slope(y)
        return weight / np.sqrt(np.mean(weight**2))


SMALLEST_TARGET, ENOUGH = 0.03, 0.7


def _double(y: np.ndarray) -> np.ndarray:
    return 2 * np.abs(y)


def _inverse_square(y: np.ndarray) -> np.ndarray:
    return y**-2.0


TRANSFORMS = {
    "log": TargetTransform("log", np.log, np.reciprocal, "exp"),
    "square": TargetTransform("square", np.square, _double, "sqrt"),
    "reciprocal": TargetTransform("reciprocal", np.reciprocal, _inverse_square, "1/x", signs=True),
}


COARSE, FINE = 3, 6  # intervals of the grids
NEGLIGIBLE = 0.02
GOOD_START = 3e-3


@dataclass(frozen=True)
class FormulaShape:
    """Widths of a small KAN.

    Attributes:
        layers: per layer how many outputs are sums and how many are products.
        arity: factors of each product.
        transform: of the target, a name in :data:`TRANSFORMS`, or "".
    """

    layers: tuple[tuple[int, int], ...]
    arity: int = 2
    transform: str = ""

    @property
    def starts(self) -> int:
        """How many first weights are tried."""
        hidden = sum(sums + self.arity * products for sums, products in self.layers) - 1
        return 1 if hidden == 0 else 2 + 2 * hidden

    @property
    def name(self) -> str:
        """For tables, such as ``log y: [n, 1 + 1 product, 1]``."""
        parts = []
        for sums, products in self.layers:
            factors = "" if self.arity == 2 else f" of {self.arity}"
            product = f"{products} product{'s' * (products > 1)}{factors}" if products else ""
            parts.append(" + ".join(part for part in (str(sums) if sums else "", product) if part))
        before = f"{self.transform} y: " if self.transform else ""
        return f"{before}[n, {', '.join(parts)}]"


SUM, PRODUCT, LINK = ((1, 0),), ((0, 1),), ((1, 0), (1, 0))


def standard_shapes(inputs: int) -> list[FormulaShape]:
    """The shapes tried by default, the simplest first.

    y = sum f_i(x_i);  y = (sum f_i)(sum g_i);  y = h(sum f_i);  y = h((sum f_i)(sum g_i));  sums of two such terms; and
    the sums and products of log y, y^2 and 1/y.
    """
    shape = FormulaShape
    found = [shape(SUM), shape(LINK)]
    if inputs == 1:
        return found
    mixed, two_sums = ((1, 1), (1, 0)), ((2, 0), (1, 0))
    found += [shape(SUM, transform=name) for name in TRANSFORMS]
    found += [shape(PRODUCT), *(shape(PRODUCT, transform=name) for name in ("square", "reciprocal"))]
    found += [shape(((0, 1), (1, 0))), shape(mixed), shape(two_sums)]
    found += [shape(mixed, transform="log"), shape(mixed, transform="square"), shape(two_sums, transform="square")]
    if inputs > 2:
        found += [shape(PRODUCT, arity=3), shape(mixed, arity=3), shape(((0, 2), (1, 0)))]
    return found


class SmallKAN(nn.Module):
    """Spline layers with a linear branch, in float64, of a :class:`FormulaShape`."""

    def __init__(self, inputs: int, shape: FormulaShape, intervals: int, generator: torch.Generator) -> None:
        super().__init__()
        widths = [inputs, *(sums + products for sums, products in shape.layers)]
        basis = partial(BSplineBasis, intervals=intervals, degree=3)
        with torch.random.fork_rng(devices=[]):  # first weights that are replaced at once
            self.layers = nn.ModuleList(
                KANLinear(before, after, basis, base_act=None, linear=True, products=products, arity=shape.arity)
                for before, after, (_, products) in zip(widths[:-1], widths[1:], shape.layers, strict=True)
            )
            self.double()
        for layer in self.layers:
            layer.reset_parameters(generator)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def update_grid(self, x: Tensor) -> None:
        """Move the knots of all layers to where these rows are."""
        with torch.no_grad():
            for layer in self.layers:
                layer.update_grid(x)
                x = layer(x)

    def refine(self, intervals: int) -> None:
        """Finer grids in all layers."""
        for layer in self.layers:
            layer.refine(intervals)

    @property
    def alive(self) -> int:
        """The number of edges that are not masked."""
        return int(sum(layer.mask.sum().item() for layer in self.layers))

    def shares(self, x: Tensor) -> list[tuple[float, int, int, int]]:
        """Edges that are not masked, by their standard deviation as a share of the largest of their sub-node.

        Returns:
            (share, layer, sub-node, input), the smallest first.
        """
        found = []
        with torch.no_grad():
            for number, layer in enumerate(self.layers):
                spread = layer.edges(x).std(0)
                share = spread / spread.amax(1, keepdim=True).clamp_min(1e-12)
                for target, source in layer.mask.nonzero().tolist():
                    found.append((share[target, source].item(), number, target, source))
                x = layer(x)
        return sorted(found)


def fit_shape(
    shape: FormulaShape,
    x: Tensor,
    y: Tensor,
    weight: Tensor,
    *,
    sparsity: Sequence[float] = (1e-3, 1e-4),
    seed: int = 0,
) -> tuple[SmallKAN, float]:
    """A sparse KAN of this shape, and its mean squared residual.

    Networks with several hidden nodes have many local minima: some starts go on for a few steps, the best one goes on
    to the end, on finer grids at last.

    Args:
        x: (N, inputs), about -1 to 1.
        y: (N, 1), standardised.
        weight: of the residual of each row, (N, 1).
        sparsity: weights of the group lasso, one stage after the other.
        seed: of the first weights.
    """
    model, mse = _best_start(shape, x, y, weight, sparsity[0], seed)
    for penalty in sparsity:
        fit_least_squares(model, x, y, weight=weight, sparsity=penalty)
        model.update_grid(x)
    for share, layer, target, source in model.shares(x):
        if share < NEGLIGIBLE:
            model.layers[layer].mask[target, source] = 0
    model.refine(FINE)
    mse = fit_least_squares(model, x, y, weight=weight, sparsity=sparsity[-1] / 3, steps=20)
    return model, mse


def _best_start(
    shape: FormulaShape, x: Tensor, y: Tensor, weight: Tensor, sparsity: float, seed: int
) -> tuple[SmallKAN, float]:
    best: tuple[SmallKAN, float] | None = None
    for start in range(shape.starts):
        model = SmallKAN(x.shape[1], shape, COARSE, torch.Generator().manual_seed(1000 * seed + start))
        mse = fit_least_squares(model, x, y, weight=weight, sparsity=sparsity, steps=15, tolerance=1e-3)
        model.update_grid(x)
        mse = fit_least_squares(model, x, y, weight=weight, sparsity=sparsity, steps=10, tolerance=1e-3)
        if best is None or mse < best[1]:
            best = model, mse
        if mse < GOOD_START:
            break
    return best


def eliminate_edges(
    model: SmallKAN, x: Tensor, y: Tensor, weight: Tensor, mse: float, *, sparsity: float = 3e-5
) -> float:
    """Mask edges in place as long as the others make up for them by the Bayesian information criterion.

    Sparse penalties shrink needless edges but seldom to zero; here each is left out in turn, weakest first, the network
    fitted again, and the edge put back if the residual has grown.

    Args:
        model: a fitted network.
        x, y, weight: as in :func:`fit_shape`.
        mse: what :func:`fit_shape` has returned.

    Returns:
        the mean squared residual of what is left.
    """
    tried: set[tuple[int, int, int]] = set()
    while True:
        place = next((tuple(place) for _, *place in model.shares(x) if tuple(place) not in tried), None)
        if place is None:
            return mse
        tried.add(place)
        layer, target, source = place
        if model.layers[layer].mask[target].sum() <= 1:
            continue
        before = {name: value.clone() for name, value in model.state_dict().items()}
        unknowns = model.layers[layer].basis.size + 1
        model.layers[layer].mask[target, source] = 0
        without = fit_least_squares(model, x, y, weight=weight, sparsity=sparsity, steps=12)
        if len(x) * math.log(without / mse) < unknowns * math.log(len(x)):
            mse = without
        else:
            model.load_state_dict(before)
