"""What the rational activations of a model see: input histograms, and the denominator over those inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.evaluation.result import finite_or_none
from katops.layers.group_rational import GroupRational

FITTED = 3.0  # the initial shapes are fitted on [-3, 3]
FAR = 10.0
QUANTILES = (0.001, 0.999)
# Quantiles are read off bins this many times finer than those shown: to 0.1 % of the histogram's width for 80 bins.
FINER = 16


@dataclass(frozen=True)
class ActivationRecord:
    """One rational activation with G groups and the inputs it saw.

    Attributes:
        name: the module's path in the model, ``blocks.0.mlp.act1``.
        numerator: (G or 1, m + 1), denominator: (G or 1, n); y = Σ a_i x^i / (1 + Σ |b_j| |x|^j), copies in float64.
        initial_numerator, initial_denominator: (1, m + 1) and (1, n) of the shape that the module starts with.
        edges: (bins + 1,) of the histogram; they span the inputs of the first batch, but for 0.1 % at either end, and a
            quarter of their width more on both sides.
        histogram: (G, bins) counts.
        below, above: (G,) counts of finite inputs outside the edges.
        nonfinite: (G,) counts of NaN and infinite inputs, which are left out of everything else.
        quantiles: (G, 2), 0.1 % and 99.9 %, to 1/16 of a bin inside the edges.
        smallest_denominator, largest_denominator: (G,) over the inputs seen.
        outside_fit: (G,) share of the inputs outside [−3, 3], where the initial shape was fitted.
        far: (G,) share of the inputs beyond 10 in magnitude.
    """

    name: str
    numerator: np.ndarray = field(repr=False)
    denominator: np.ndarray = field(repr=False)
    initial_numerator: np.ndarray = field(repr=False)
    initial_denominator: np.ndarray = field(repr=False)
    edges: np.ndarray = field(repr=False)
    histogram: np.ndarray = field(repr=False)
    below: np.ndarray
    above: np.ndarray
    nonfinite: np.ndarray
    quantiles: np.ndarray
    smallest_denominator: np.ndarray
    largest_denominator: np.ndarray
    outside_fit: np.ndarray
    far: np.ndarray

    @property
    def groups(self) -> int:
        """G."""
        return len(self.histogram)

    @property
    def denominator_range(self) -> tuple[float, float]:
        """Smallest and largest Q over the inputs of all groups; NaN if no group has one."""
        smallest = np.fmin.reduce(self.smallest_denominator)
        return float(smallest), float(np.fmax.reduce(self.largest_denominator))

    def curves(self, x: np.ndarray) -> np.ndarray:
        """The function of every group, (G, points) at x (points,), in float64."""
        return np.broadcast_to(rational(self.numerator, self.denominator, x), (self.groups, len(x)))

    def initial_curve(self, x: np.ndarray) -> np.ndarray:
        """The function that all groups start with, (points,)."""
        return rational(self.initial_numerator, self.initial_denominator, x)[0]

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON; non-finite becomes ``None``."""
        arrays = {key: value for key, value in vars(self).items() if key != "name"}
        return finite_or_none({"name": self.name, **{key: value.tolist() for key, value in arrays.items()}})


def rational(numerator: np.ndarray, denominator: np.ndarray, x: np.ndarray) -> np.ndarray:
    """P/Q of coefficients (G or 1, m + 1) and (G or 1, n) at x (points,), as (G or 1, points)."""
    powers = x[None] ** np.arange(numerator.shape[1])[:, None]
    return (numerator @ powers) / denominator_at(denominator, np.abs(x))


def denominator_at(denominator: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Q = 1 + Σ_j |b_j| |x|^j of coefficients (G or 1, n) at magnitudes |x| (points,), as (G or 1, points)."""
    powers = magnitude[None] ** np.arange(1, denominator.shape[1] + 1)[:, None]
    return 1 + np.abs(denominator) @ powers


def record_activations(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, bins: int = 80
) -> list[ActivationRecord]:
    """Run the batches through the model and record what each ``GroupRational`` in it is given.

    The model runs in evaluation mode without gradients; afterwards its hooks are gone and every module is in the
    mode it was in, also when the model raises.

    Args:
        batches: ``(images, labels)`` on the model's device; labels are ignored. A few hundred images are enough.
        bins: bins of each histogram.

    Returns:
        one record per module that was given a finite input, in the order of ``model.named_modules()``; empty for a
        model without any.

    Raises:
        UserError: ``bins`` is not positive, or there are no batches.
    """
    if bins < 1:
        raise UserError(f"bins={bins}; give 1 or more")
    watched = {name: module for name, module in model.named_modules() if isinstance(module, GroupRational)}
    if not watched:
        return []
    seen = {name: InputSums(module.groups, bins) for name, module in watched.items()}
    with evaluating(model), torch.no_grad(), ExitStack() as hooks:
        for name, module in watched.items():
            hooks.callback(module.register_forward_pre_hook(partial(_observe, seen[name])).remove)
        images = None
        for images, _ in batches:
            model(images)
    if images is None:
        raise UserError("there is no batch of images to record activations from; check the split")
    return [_record(name, watched[name], sums) for name, sums in seen.items() if sums.edges is not None]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module's own mode afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


class InputSums:
    """Running counts of the inputs of one activation.

    Args:
        groups: G.
        bins: bins shown; they are found from the first batch.
    """

    def __init__(self, groups: int, bins: int) -> None:
        self.groups, self.bins = groups, bins
        self.edges: Tensor | None = None
        self.counts = np.zeros((groups, bins * FINER + 2), dtype=np.int64)
        self.nonfinite = np.zeros(groups, dtype=np.int64)
        self.outside_fit = np.zeros(groups, dtype=np.int64)
        self.far = np.zeros(groups, dtype=np.int64)
        self.minimum, self.maximum = np.full(groups, np.inf), np.full(groups, -np.inf)
        self.smallest, self.largest = np.full(groups, np.inf), np.full(groups, -np.inf)

    def add(self, x: Tensor, channel_dim: int) -> None:
        """Count a batch; group g holds the g-th block of consecutive channels."""
        grouped = x.detach().float().movedim(channel_dim, 0).reshape(self.groups, -1)
        if self.edges is None:
            self.edges = _edges(grouped[grouped.isfinite()], self.bins * FINER)
        for group, values in enumerate(grouped):  # one at a time: bucket numbers take twice the memory of the values
            finite = values[values.isfinite()]
            self.nonfinite[group] += len(values) - len(finite)
            if len(finite) and self.edges is not None:
                self._count(group, finite)

    def _count(self, group: int, values: Tensor) -> None:
        # Bucket 0 is below all edges, the last one at or above them.
        buckets = torch.bucketize(values, self.edges, right=True)
        self.counts[group] += torch.bincount(buckets, minlength=self.counts.shape[1]).cpu().numpy()
        magnitude = values.abs()
        self.outside_fit[group] += int((magnitude > FITTED).sum())
        self.far[group] += int((magnitude > FAR).sum())
        for kept, value, choose in (
            (self.minimum, values.min(), min),
            (self.maximum, values.max(), max),
            (self.smallest, magnitude.min(), min),
            (self.largest, magnitude.max(), max),
        ):
            kept[group] = choose(kept[group], float(value))

    @property
    def finite(self) -> np.ndarray:
        """(G,): finite inputs counted."""
        return self.counts.sum(1)

    def quantiles(self) -> np.ndarray:
        """(G, 2): linear between the edges; what is outside them is taken as spread evenly up to the extremes."""
        inner = self.edges.double().cpu().numpy()
        rows = np.full((self.groups, len(QUANTILES)), np.nan)
        for group in np.flatnonzero(self.finite):
            low, high = self.minimum[group], self.maximum[group]
            places = np.clip(np.concatenate([[low], inner, [high]]), low, high)
            cumulative = np.concatenate([[0], np.cumsum(self.counts[group])]) / self.finite[group]
            rows[group] = np.interp(QUANTILES, cumulative, places)
        return rows


def _observe(sums: InputSums, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    sums.add(arguments[0], module.channel_dim)


def _edges(values: Tensor, count: int) -> Tensor | None:
    """``count`` equal bins over the values but for the 0.1 % at either end, and a quarter more on both sides."""
    if not len(values):
        return None
    low, high = (values.kthvalue(1 + round(level * (len(values) - 1))).values for level in QUANTILES)
    margin = (high - low) / 4 if high > low else 0.5 + high.abs() / 4
    return torch.linspace(float(low - margin), float(high + margin), count + 1, device=values.device)


def _record(name: str, module: nn.Module, sums: InputSums) -> ActivationRecord:
    numerator, denominator = (
        weight.detach().double().cpu().numpy().copy() for weight in (module.weight_numerator, module.weight_denominator)
    )
    return ActivationRecord(
        name=name,
        numerator=numerator,
        denominator=denominator,
        initial_numerator=np.array([module.shape.numerator], dtype=np.float64),
        initial_denominator=np.array([module.shape.denominator], dtype=np.float64),
        edges=sums.edges.double().cpu().numpy()[::FINER],
        histogram=sums.counts[:, 1:-1].reshape(sums.groups, sums.bins, FINER).sum(2),
        below=sums.counts[:, 0],
        above=sums.counts[:, -1],
        nonfinite=sums.nonfinite,
        quantiles=sums.quantiles(),
        smallest_denominator=_of_each_group(denominator, sums.smallest),
        largest_denominator=_of_each_group(denominator, sums.largest),
        outside_fit=sums.outside_fit / np.maximum(1, sums.finite),
        far=sums.far / np.maximum(1, sums.finite),
    )


def _of_each_group(denominator: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Q of group g at magnitude g (NaN where a group saw nothing); Q grows with |x|, so its extremes are at those."""
    groups = len(magnitude)
    known = np.where(np.isfinite(magnitude), magnitude, np.nan)
    return np.broadcast_to(denominator_at(denominator, known), (groups, groups)).diagonal().copy()
