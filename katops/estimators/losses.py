"""What is minimised, for each row and each member: outputs (n, E, J) and targets (n, J or 1) to losses (n, E)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from katops.errors import UserError

Loss = Callable[[Tensor, Tensor], Tensor]

ROUNDING = 0.02
"""Half width, in standard deviations of the target, of the parabola that rounds the corner of :func:`pinball`."""


def squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    """(y - t)^2 / 2, mean over the targets."""
    return (outputs - targets[:, None]).square().mean(dim=-1) / 2


def pinball(quantile: float) -> Loss:
    """The loss whose minimum is a quantile: q r where the residual r = t - y is above 0, (q - 1) r below.

    Its corner is rounded, |r| becoming r^2 / (2 w) + w / 2 for |r| < w, so that a quasi-Newton method can follow it
    (Koenker and Bassett 1978, Econometrica 46, equation 1.3; rounded as in Huber's loss).

    Raises:
        UserError: ``quantile`` is not between 0 and 1.
    """
    if not 0 < quantile < 1:
        raise UserError(
            f"quantile={quantile!r} must lie between 0 and 1, such as 0.05 for a lower bound; None for means"
        )

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        residual = targets[:, None] - outputs
        size = residual.abs()
        rounded = torch.where(size < ROUNDING, residual.square() / (2 * ROUNDING) + ROUNDING / 2, size)
        return ((quantile - 0.5) * residual + rounded / 2).mean(dim=-1)

    return loss


def logistic(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log p(class) for two classes; one output, the log odds of the second class; targets 0 or 1."""
    logits = outputs[..., 0]
    return functional.binary_cross_entropy_with_logits(logits, targets.expand_as(logits), reduction="none")


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """-log softmax(outputs)[class]; targets hold the number of the class."""
    classes = targets.long().expand(outputs.shape[:2])
    return -outputs.log_softmax(dim=-1).gather(-1, classes[..., None])[..., 0]
