"""Fitting the members of an ensemble at once: stages of refinement, updates of the grids, early stopping."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from katops.errors import UserError
from katops.estimators.joint import SMALLEST_SIZE, OneByOne, SideBySide, State, build_members, joint_model
from katops.estimators.losses import Loss
from katops.estimators.minimisers import adamw, lbfgs
from katops.estimators.monotone import RisingWeights
from katops.estimators.rows import Rows
from katops.estimators.settings import SMALL, Settings
from katops.progress import bar

WARM_SHARES = (0.05, 0.1, 0.2)
"""Shares of the epochs after each of which the grids follow what the inner nodes have become, and inputs are turned off
by their penalty; then the grids rest."""

SMALLEST_BATCH, MOST_BATCHES = 256, 64
"""Rows of a batch of AdamW at least, and batches of an epoch at most."""

NEGLIGIBLE = 3 * SMALLEST_SIZE
"""An input whose weights have a smaller norm is turned off by its penalty: the loss would take it back less than the
penalty takes it away (the condition of the group lasso for a group at 0, up to the rounding of the corner)."""

SMALLEST_GAIN = 1e-4
"""An epoch is better than the best so far when its validation loss is lower by more than this share."""


@dataclass(frozen=True)
class Problem:
    """What is to be learned.

    Attributes:
        rows: the training rows, targets on the scale of the outputs.
        held_out: the rows that each member is validated on, (n, members), bool.
        loss: see :mod:`katops.estimators.losses`.
        outputs: width of the models' output.
        directions: see :func:`katops.estimators.monotone.directions`.
    """

    rows: Rows
    held_out: np.ndarray
    loss: Loss
    outputs: int
    directions: np.ndarray | None = None


def fit_members(
    problem: Problem, settings: Settings, seeds: list[int], verbose: bool
) -> tuple[list[nn.Module], list[dict[str, Any]]]:
    """Fit an ensemble.

    Args:
        problem: what is to be learned.
        settings: how.
        seeds: one for each member, and one for the order of batches.
        verbose: show a progress bar.

    Returns:
        The members, each as it was at its best epoch on the rows that it held out, or at the end where it held out
        none; and a record of every epoch with ``intervals``, ``epoch``, mean ``loss`` and ``validation`` loss.

    Raises:
        UserError: the loss became infinite or NaN.
    """
    rows = len(problem.rows)
    dtype = settings.type_for(rows)
    width = problem.rows.inputs.shape[1]
    members = build_members(settings, width, problem.outputs, seeds[:-1])
    joint = joint_model(members).to(device=settings.device, dtype=dtype)
    alone = one_thread() if rows <= SMALL else nullcontext()
    with bar(Console(stderr=True), "fitting", verbose) as report, alone:
        return _Fit(joint, problem, settings, dtype, seeds[-1], report).run()


@contextmanager
def one_thread() -> Iterator[None]:
    """Work of torch in one thread: what is small is done before a second one is awake, and threads that wait for each
    other take three times as long where anything else runs on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Fit:
    """The state of one fit."""

    def __init__(
        self,
        joint: SideBySide | OneByOne,
        problem: Problem,
        settings: Settings,
        dtype: torch.dtype,
        seed: int,
        report: Callable[[int, int], None],
    ) -> None:
        self.joint, self.settings, self.loss, self.report = joint, settings, problem.loss, report
        self.method = settings.method(len(problem.rows))
        on = {"device": settings.device, "dtype": dtype}
        self.inputs = torch.as_tensor(problem.rows.inputs, **on)
        self.targets = torch.as_tensor(problem.rows.targets, **on)
        weight = problem.rows.weight[:, None]
        self.training = torch.as_tensor(_shares(weight * ~problem.held_out), **on)
        self.validation = torch.as_tensor(_shares(weight * problem.held_out), **on)
        self.validated = torch.from_numpy(problem.held_out.any(axis=0))
        self.generator = torch.Generator().manual_seed(seed)
        self.best = torch.full((len(joint),), torch.inf, dtype=torch.float64)
        self.waiting = torch.zeros(len(joint), dtype=torch.int64)
        self.snapshots = joint.snapshots()
        self.history: list[dict[str, Any]] = []
        self.features: Tensor = self.inputs
        self.losses: Tensor | None = None  # of every row and member, where the parameters are what they were then
        self.watching = False
        self.directions = problem.directions

    def run(self) -> tuple[list[nn.Module], list[dict[str, Any]]]:
        for stage, intervals in enumerate(self.settings.grids):
            if stage:
                self.joint.restore(self.snapshots)
                self.joint.refine(intervals)
            self.waiting.zero_()
            self._run_stage(intervals, first=stage == 0)
        if self.settings.inputs:
            self._drop_inputs(self.snapshots)
        return self.joint.members(self.snapshots), self.history

    def _run_stage(self, intervals: int, first: bool) -> None:
        epochs = self.settings.epochs
        pauses = first and (self.joint.has_grid or self.settings.inputs > 0)
        ends = [round(epochs * share) for share in np.cumsum(WARM_SHARES)] if pauses else []
        start = 0
        for end in (*ends, epochs):
            if first and self.joint.has_grid:
                self.joint.update_grid(self.inputs)
            self.watching = end == epochs
            if end > start:
                self._run_epochs(range(start, end), intervals)
                if self.settings.inputs and not self.watching:
                    self._drop_inputs()
            start = end
        # Also members that no epoch has been noted of, the minimiser having found nothing to do.
        unwatched = ~self.validated | self.best.isinf()
        self.snapshots = self.joint.snapshots(unwatched, self.snapshots)

    def _run_epochs(self, epochs: range, intervals: int) -> None:
        """Some epochs on fixed grids, with an optimiser that starts anew."""
        self.features = self.joint.features(self.inputs)
        parameters = [parameter for parameter in self.joint.parameters() if parameter.requires_grad]
        rising = None if self.directions is None else _rising(self.joint, self.directions)
        numbers = iter(epochs)

        def after() -> bool:
            return self._after(next(numbers, epochs[-1]), intervals)

        if self.method == "lbfgs":
            lbfgs(parameters, self._full_loss, len(epochs), self.settings.weight_decay, after, rising)
            return
        settings = self.settings
        rates = (settings.learning_rate, settings.weight_decay)
        adamw(parameters, self._batch_loss, self._batches, epochs, settings.epochs, *rates, after, rising)

    def _full_loss(self) -> Tensor:
        losses = self.loss(self.joint(self.features), self.targets)
        self.losses = losses.detach()
        return self._finite((losses * self.training).sum() + self._sparsity(slice(None)))

    def _batch_loss(self, batch: Tensor) -> Tensor:
        self.losses = None
        share = self.training[batch] * (len(self.inputs) / len(batch))
        loss = (self.loss(self.joint(self.features[batch]), self.targets[batch]) * share).sum()
        return self._finite(loss + self._sparsity(batch))

    def _sparsity(self, batch: Tensor | slice) -> Tensor | float:
        settings = self.settings
        penalty = settings.edges * self.joint.penalty(self.inputs[batch]) if settings.edges else 0.0
        if settings.inputs:
            penalty = penalty + settings.inputs * self.joint.sizes_of_inputs().sum()
        return penalty + settings.smoothness * self.joint.roughness() if settings.smoothness else penalty

    def _drop_inputs(self, snapshots: list[State] | None = None) -> None:
        """Turn inputs off whose weights are negligible, in the joint network, or in states that are to be returned."""
        with torch.no_grad():
            if snapshots is None:
                self.joint.drop_inputs(_worth_keeping(self.joint.sizes_of_inputs()))
                return
            for member, state in zip(self.joint.members(snapshots), snapshots, strict=True):
                state["layers.0.mask"] *= _worth_keeping(OneByOne([member]).sizes_of_inputs())

    def _finite(self, loss: Tensor) -> Tensor:
        if torch.isfinite(loss):
            return loss
        raise UserError(
            f"the loss became {float(loss.detach())} after {len(self.history)} epochs; lower learning_rate, raise "
            f"weight_decay, or look for extreme values in the table"
        )

    def _batches(self) -> Iterator[Tensor]:
        rows = len(self.inputs)
        order = torch.randperm(rows, generator=self.generator)
        return iter(order.to(self.inputs.device).split(max(SMALLEST_BATCH, -(-rows // MOST_BATCHES))))

    def _after(self, epoch: int, intervals: int) -> bool:
        """Note how good the members are, keep those that are at their best; whether to stop."""
        with torch.no_grad():
            losses = self.loss(self.joint(self.features), self.targets) if self.losses is None else self.losses
            training = (losses * self.training).sum(dim=0).double().cpu()
            validation = (losses * self.validation).sum(dim=0).double().cpu()
        record = {"intervals": intervals, "epoch": epoch + 1, "loss": float(training.mean())}
        if self.validated.any():
            record["validation"] = float(validation[self.validated].mean())
        self.history.append(record)
        self.report(len(self.history), self.settings.epochs * len(self.settings.grids))
        if not self.watching or not self.validated.any():
            return False
        better = self.validated & (validation < self.best * (1 - SMALLEST_GAIN))
        self.best = torch.where(better, validation, self.best)
        self.waiting = torch.where(better, 0, self.waiting + 1)
        if better.any():
            self.snapshots = self.joint.snapshots(better, self.snapshots)
        return bool((self.waiting[self.validated] > self.settings.patience).all())


def _worth_keeping(sizes: Tensor) -> Tensor:
    """The inputs (members, inputs) with more than negligible weights, and the largest one in any case."""
    return (sizes > NEGLIGIBLE) | (sizes == sizes.amax(dim=1, keepdim=True))


def _rising(joint: SideBySide | OneByOne, wanted: np.ndarray) -> RisingWeights:
    if isinstance(joint, OneByOne):
        raise UserError("monotone needs the basis 'bspline' and no products")
    return RisingWeights(joint.net, wanted)


def _shares(weight: np.ndarray) -> np.ndarray:
    """Columns that sum to 1; those that are zero stay."""
    total = weight.sum(axis=0)
    return weight / np.where(total > 0, total, 1)
