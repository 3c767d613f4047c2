"""Two ways to minimise a loss over the parameters of a network: quasi-Newton on all rows, AdamW on batches."""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from scipy.optimize import Bounds, minimize
from torch import Tensor, nn

from katops.estimators.monotone import RisingWeights

HISTORY = 20
"""Pairs of steps and gradient changes from which the curvature is estimated."""

RELATIVE_DECREASE = 1e-10
"""The minimisation has converged when an iteration lowers the loss by less than this times the larger of loss and 1."""

LARGEST_GRADIENT = 10.0
"""Norm to which the gradient of a batch is clipped."""

AfterEpoch = Callable[[], bool]
"""Called after every epoch with the parameters at its end; true ends the minimisation."""


def lbfgs(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[], Tensor],
    epochs: int,
    weight_decay: float,
    after: AfterEpoch,
    rising: RisingWeights | None = None,
) -> None:
    """Minimise loss + weight_decay / 2 |parameters|^2 by L-BFGS, an epoch being one iteration.

    The line search looks for the strong Wolfe conditions.

    SciPy's implementation (Zhu, Byrd, Lu and Nocedal 1997, ACM Transactions on Mathematical Software 23, algorithm
    778); it keeps its vectors in float64 whatever the type of the parameters.

    Args:
        parameters: leaves; changed in place.
        loss: of the present parameters.
        epochs: largest number of iterations.
        weight_decay: weight of the squared parameters.
        after: see :data:`AfterEpoch`.
        rising: what weights have to be like, if they have to.
    """
    evaluated: list[np.ndarray] = []

    def value_and_slope(vector: np.ndarray) -> tuple[float, np.ndarray]:
        evaluated[:] = [vector.copy()]
        vector = vector if rising is None else rising.parameters(vector)
        _write(parameters, vector)
        value = loss()
        slopes = torch.autograd.grad(value, parameters, allow_unused=True)
        filled = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, slopes, strict=True)]
        decay = weight_decay / 2 * (vector @ vector)
        slope = _read(filled) + weight_decay * vector
        return float(value.detach()) + decay, slope if rising is None else rising.slopes(slope)

    def callback(intermediate_result: object) -> None:
        if not np.array_equal(intermediate_result.x, evaluated[0]):
            value_and_slope(intermediate_result.x)
        if after():
            raise StopIteration

    start = _read(parameters)
    found = minimize(
        value_and_slope,
        start if rising is None else rising.coordinates(start),
        jac=True,
        method="L-BFGS-B",
        bounds=None if rising is None else Bounds(*rising.bounds()),
        callback=callback,
        options={"maxiter": epochs, "maxcor": HISTORY, "maxfun": 100 * epochs, "ftol": RELATIVE_DECREASE, "gtol": 1e-8},
    )
    _write(parameters, found.x if rising is None else rising.parameters(found.x))


def adamw(
    parameters: Sequence[nn.Parameter],
    loss: Callable[[Tensor], Tensor],
    batches: Callable[[], Iterable[Tensor]],
    epochs: range,
    total: int,
    learning_rate: float,
    weight_decay: float,
    after: AfterEpoch,
    rising: RisingWeights | None = None,
) -> None:
    """Minimise by AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a learning rate that falls as a cosine.

    Args:
        parameters: leaves; changed in place.
        loss: of a batch, given as places of rows.
        batches: those of one epoch.
        epochs: numbers of the epochs to run, of ``total``; the learning rate is that of these epochs.
        learning_rate: of the first of all epochs.
        weight_decay: decoupled, as a share of a parameter per step at learning rate 1.
        after: see :data:`AfterEpoch`.
        rising: what weights have to be like, if they have to; they are moved there after every step.
    """
    if rising is not None:
        rising.project(parameters)
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=weight_decay)
    for epoch in epochs:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * (1 + math.cos(math.pi * epoch / total)) / 2
        for batch in batches():
            optimiser.zero_grad(set_to_none=True)
            loss(batch).backward()
            nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT)
            optimiser.step()
            if rising is not None:
                rising.project(parameters)
        if after():
            return


def _read(tensors: Sequence[Tensor]) -> np.ndarray:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).double().cpu().numpy()


def _write(parameters: Sequence[nn.Parameter], vector: np.ndarray) -> None:
    parts = torch.from_numpy(vector).split([parameter.numel() for parameter in parameters])
    with torch.no_grad():
        for parameter, values in zip(parameters, parts, strict=True):
            parameter.copy_(values.view_as(parameter))
