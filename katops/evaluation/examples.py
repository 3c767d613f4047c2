"""Which samples of a test set are shown: the best, the median, the worst, in one pass and in bounded memory."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from torch import Tensor

from katops.errors import UserError
from katops.fields import FieldSample

# Samples drawn at random of which the one nearest to the median error is shown: of 16, it lies on average within 3 % of
# the middle rank, and sets of up to 16 samples are exact.
RESERVOIR = 16
# Fewer of them where samples are long rollouts: what is drawn at random fits into this many bytes, or is one sample.
RESERVOIR_BYTES = 2**28


@dataclass(frozen=True)
class Example:
    """One sample with its fields (float32, on the CPU).

    Attributes:
        role: "best", "median", "worst", "worst but 1", ...
        position: its place in the order of evaluation.
        relative_l2: error of the model.
        rank: its place by error, 1 is the best.
        index: provenance (file, sample, first frame, distance of frames), ``None`` where the data have none.
        time: lead time, ``None`` for steady problems.
        x: (steps_in, input channel, \\*space).
        target, prediction: (steps_out, output channel, \\*space).
    """

    role: str
    position: int
    relative_l2: float
    rank: int
    index: tuple[int, int, int, int] | None
    time: float | None
    x: np.ndarray = field(repr=False)
    target: np.ndarray = field(repr=False)
    prediction: np.ndarray = field(repr=False)


class ExampleKeeper:
    """Sees every sample once and keeps the fields of a bounded number of them.

    Kept are the best, the ``count`` worst (a heap) and a uniform random reservoir (Vitter 1985, algorithm R) with a
    fixed seed, from which the example nearest to the median error is chosen in the end.

    Args:
        count: number of examples wanted.
    """

    def __init__(self, count: int) -> None:
        if count < 0:
            raise UserError(f"examples={count} is negative; give 0 or more")
        self.count = count
        self.errors: list[float] = []
        self._best: Example | None = None
        self._worst: list[tuple[float, int, Example]] = []
        self._reservoir: list[Example] = []
        self._slots = RESERVOIR
        self._random = np.random.default_rng(0)

    def offer(self, errors: np.ndarray, batch: FieldSample, target: Tensor, prediction: Tensor) -> None:
        """Look at a batch with the model's error of each sample; copies only what is kept."""
        if not self.errors and len(errors):
            size = 4 * (batch.x[0].numel() + 2 * target[0].numel())
            self._slots = max(1, min(RESERVOIR, RESERVOIR_BYTES // size))
        for row, error in enumerate(errors.tolist()):
            position = len(self.errors)
            self.errors.append(error)
            if self.count:
                keep = partial(_example, position, error, row, batch, target, prediction)
                self._consider(position, error, keep)

    def _consider(self, position: int, error: float, keep: Callable[[], Example]) -> None:
        slot = position if position < self._slots else int(self._random.integers(position + 1))
        if slot < self._slots:
            self._reservoir[slot : slot + 1] = [keep()]
        if self._best is None or error < self._best.relative_l2:
            self._best = keep()
        # Of equal errors the earlier sample counts as worse, hence the negative position.
        if len(self._worst) < self.count:
            heapq.heappush(self._worst, (error, -position, keep()))
        elif (error, -position) > self._worst[0][:2]:
            heapq.heapreplace(self._worst, (error, -position, keep()))

    def choose(self) -> list[Example]:
        """At most ``count`` different examples: median, worst, best, then the next worst ones; sorted, best first."""
        if not self.count or self._best is None:
            return []
        worst = [kept for _, _, kept in sorted(self._worst, reverse=True, key=lambda entry: entry[:2])]
        roles = [("median", self._nearest_to_median([*self._reservoir, self._best, *worst]))]
        roles += [("worst", worst[0]), ("best", self._best)]
        roles += [(f"worst but {place}", kept) for place, kept in enumerate(worst[1:], start=1)]
        ranks = {
            position: rank for rank, position in enumerate(np.argsort(self.errors, kind="stable").tolist(), start=1)
        }
        chosen: dict[int, Example] = {}
        for role, kept in roles:
            if len(chosen) < self.count and kept.position not in chosen:
                chosen[kept.position] = replace(kept, role=role, rank=ranks[kept.position])
        return sorted(chosen.values(), key=lambda example: example.rank)

    def _nearest_to_median(self, candidates: list[Example]) -> Example:
        """The comparison comes first, since the median may be infinite and the distance then not a number."""
        median = float(np.quantile(self.errors, 0.5, method="inverted_cdf"))
        return min(candidates, key=lambda kept: 0 if kept.relative_l2 == median else abs(kept.relative_l2 - median))


def _example(position: int, error: float, row: int, batch: FieldSample, target: Tensor, prediction: Tensor) -> Example:
    """Copy one row of a batch; its role and rank are known in the end only."""

    def copy(tensor: Tensor) -> np.ndarray:
        # a row of a float32 batch is a view, which would keep the whole batch alive
        return tensor[row].detach().float().cpu().clone().numpy()

    return Example(
        role="",
        position=position,
        relative_l2=error,
        rank=0,
        index=None if batch.index is None else tuple(batch.index[row].tolist()),
        time=None if batch.time is None else float(batch.time[row]),
        x=copy(batch.x),
        target=copy(target),
        prediction=copy(prediction),
    )
