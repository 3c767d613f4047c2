"""What a training minimises: a metric of every sample, or a loss of a whole batch."""

import functools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from katops.config import Component
from katops.data.normalize import Normalizer
from katops.errors import UserError, did_you_mean
from katops.fields import FieldMeta
from katops.models.options import resolve_options
from katops.registry import METRICS

# Published: what is added to the denominator.
_EPS = 1e-10
# Mean size of a normalised group below which there is rounding and no signal to compare with.
_NO_SIGNAL = 1e-6

Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(prediction, target, mask) in physical units, (batch, steps, channel, \\*space) -> a number."""


class MetricLoss:
    """The mean over samples of a metric of fields that are divided by the standard deviation of each output channel.

    They are not shifted: for one channel a ratio is then the relative error in physical units, for several no channel
    drowns the others. Where the mask is true both are zero, so that nothing there counts.

    Args:
        metric: maps (prediction, target), each (batch, channel, \\*space), to one value per sample.
        normalizer: statistics of the training targets.
    """

    def __init__(self, metric: Callable[[Tensor, Tensor], Tensor], normalizer: Normalizer) -> None:
        self.metric = metric
        self.normalizer = normalizer

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        scale = self.normalizer.output_scale.view(-1, *(1,) * self.normalizer.n_axes)
        prediction, target = both_without_masked(prediction, target, mask)
        return self.metric((prediction / scale).flatten(1, 2), (target / scale).flatten(1, 2)).mean()


class ChannelGroupLoss:
    r"""The normalised loss of channel groups (Herde et al., Poseidon, arXiv 2405.19101, and its published code).

    .. math:: \frac{1}{|G|} \sum_{g \in G} \frac{D_g(p, t)}{D_g(t, 0) + 10^{-10}}, \qquad
              D_g(p, t) = \mathrm{mean} |p - t|^q

    over the whole batch, the steps, the channels of the group g and the grid, of normalised fields (shifted and
    scaled). It is a ratio of means over the batch, so that a sample near zero does not dominate; it depends on what is
    in the batch. Where the mask is true both are 0. A group that is masked in every sample contributes nothing but
    counts as a group. Of a group that never varies in the training data, or has no size in the batch, D_g(p, t) itself
    counts.

    Args:
        normalizer: statistics of the training targets.
        groups: positions of the output channels of each group.
        order: q, 1 or 2.
    """

    def __init__(self, normalizer: Normalizer, groups: Sequence[Sequence[int]], *, order: int = 1) -> None:
        self.normalizer = normalizer
        self.groups = [list(group) for group in groups]
        self.order = order

    def __call__(self, prediction: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        prediction = self.normalizer.encode_output(without_masked(prediction, target, mask))
        target = self.normalizer.encode_output(target)
        error, size = (prediction - target).abs(), without_masked(target, torch.zeros_like(target), mask).abs()
        if self.order == 2:
            error, size = error.square(), size.square()
        return torch.stack([self._of_group(error, size, group) for group in self.groups]).mean()

    def _of_group(self, error: Tensor, size: Tensor, group: list[int]) -> Tensor:
        distance = error[:, :, group].mean()
        if self.normalizer.output_constant[group].all():
            return distance
        reference = size[:, :, group].mean()
        return torch.where(reference > _NO_SIGNAL, distance / (reference + _EPS), distance)


def both_without_masked(prediction: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both fields, with zero where the mask is true: nothing there counts in an error nor in what it is relative to."""
    if mask is None:
        return prediction, target
    target = without_masked(target, torch.zeros_like(target), mask)
    return without_masked(prediction, torch.zeros_like(target), mask), target


def without_masked(prediction: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """The prediction, with the target in its place where the mask is true: no error, no gradient.

    Args:
        prediction, target: (batch, steps, channel, \\*space).
        mask: (batch, channel) or (batch, channel, \\*space); ``None`` where everything counts.
    """
    if mask is None:
        return prediction
    mask = mask.view(*mask.shape, *(1,) * (prediction.ndim - 1 - mask.ndim))[:, None]
    return torch.where(mask, target.to(prediction.dtype), prediction)


def _group_loss(
    normalizer: Normalizer, meta: FieldMeta, *, groups: Sequence[Sequence[str]] | None = None, order: int = 1
) -> Loss:
    """Groups of channel names; by default the components of one quantity belong together."""
    names = [channel.name for channel in meta.outputs]
    if order not in (1, 2):
        raise UserError(f"train.loss channel_groups: order is {order}; allowed: 1 (absolute), 2 (squared)")
    if groups is None:
        return ChannelGroupLoss(normalizer, list(meta.output_groups.values()), order=order)
    given = [name for group in groups for name in group]
    unknown = [name for name in given if name not in names]
    if unknown or sorted(given) != sorted(names):
        raise UserError(
            f"train.loss channel_groups: the groups name {given}; every output channel belongs to one group: "
            f"{', '.join(names)}{did_you_mean(unknown[0], names) if unknown else ''}"
        )
    return ChannelGroupLoss(normalizer, [[names.index(name) for name in group] for group in groups], order=order)


LOSSES: Mapping[str, Callable[..., Loss]] = {"channel_groups": _group_loss}
"""Losses that are no metrics."""


def build_loss(component: Component, normalizer: Normalizer, meta: FieldMeta) -> Loss:
    """The loss named by ``train.loss``, a registered metric or one of :data:`LOSSES`, with its options.

    Raises:
        UserError: the name or an option is unknown.
    """
    options, owner = component.options, f"train.loss {component.name!r}"
    if component.name in LOSSES:
        factory = LOSSES[component.name]
        return factory(normalizer, meta, **resolve_options(options, factory, owner, ("normalizer", "meta")))
    if component.name not in METRICS:
        known = [*METRICS.names(), *LOSSES]
        raise UserError(
            f"unknown train.loss {component.name!r}{did_you_mean(component.name, known)} Known: {', '.join(known)}."
        )
    metric = METRICS[component.name].factory
    options = resolve_options(options, metric, owner, ("prediction", "target", "n_axes"))
    return MetricLoss(functools.partial(metric, **options), normalizer)
