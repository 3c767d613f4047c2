"""Two substances that diffuse and react after FitzHugh and Nagumo, in a box with closed walls."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

Array = TypeVar("Array", np.ndarray, Tensor)

STABLE_STEP = 2.5
"""Largest product of a step and the largest rate of diffusion."""
FIRST_REFINEMENTS = {1: 8, 2: 4, 3: 2}
"""Frame -> how many times shorter the steps before it are."""


class Constants(NamedTuple):
    """u_t = diffusivity_u Laplace u + u - u^3 - k - v, v_t = diffusivity_v Laplace v + u - v."""

    diffusivity_u: float = 1e-3
    diffusivity_v: float = 5e-3
    k: float = 5e-3


def rates(u: Array, v: Array, inverse_square: float, constants: Constants) -> tuple[Array, Array]:
    """u_t and v_t on (\\*batch, s, s) with the five-point differences; ``inverse_square`` is 1 / h^2.

    NumPy and torch. Nothing flows through the walls: differences across them are left out.
    """
    return (
        constants.diffusivity_u * inverse_square * differences(u) + u - u * u * u - constants.k - v,
        constants.diffusivity_v * inverse_square * differences(v) + u - v,
    )


def differences(u: Array) -> Array:
    """Sum of the differences to the four neighbours, without those across the walls."""
    x_differences = u[..., 1:, :] - u[..., :-1, :]
    y_differences = u[..., 1:] - u[..., :-1]
    total = 0 * u
    total[..., :-1, :] += x_differences
    total[..., 1:, :] -= x_differences
    total[..., :-1] += y_differences
    total[..., 1:] -= y_differences
    return total


def steps_of_frames(frames: int, interval: float, cells: int, length: float, constants: Constants) -> list[int]:
    """Steps of :func:`solve_with_fixed_steps` before each frame after the first one.

    As many as diffusion needs to be stable (the method is up to 2.78 / the largest rate), at least two; more at the
    beginning, where white noise decays.
    """
    largest_rate = 8 * max(constants.diffusivity_u, constants.diffusivity_v) * (cells / length) ** 2
    steps = max(2, ceil(interval * largest_rate / STABLE_STEP))
    return [steps * FIRST_REFINEMENTS.get(frame, 1) for frame in range(1, frames)]


def solve_with_fixed_steps(
    u: Tensor, v: Tensor, length: float, interval: float, steps: Sequence[int], constants: Constants
) -> tuple[Tensor, Tensor]:
    """The five-point differences, order 2, by the classical Runge-Kutta method, order 4.

    Args:
        u, v: (n, s, s) float64, values at the cell centres of a square at time 0.
        length: of a side of the square.
        interval: time between two frames.
        steps: number of steps before each frame after the first one.
        constants: of the equation.

    Returns:
        u and v, (n, 1 + len(steps), s, s).
    """
    inverse_square = (u.shape[-1] / length) ** 2
    u_frames, v_frames = (values.new_empty((len(u), 1 + len(steps), *u.shape[1:])) for values in (u, v))
    u_frames[:, 0], v_frames[:, 0] = u, v
    for frame, count in enumerate(steps, start=1):
        for _ in range(count):
            u, v = _step(u, v, interval / count, inverse_square, constants)
        u_frames[:, frame], v_frames[:, frame] = u, v
    return u_frames, v_frames


def _step(u: Tensor, v: Tensor, step: float, inverse_square: float, constants: Constants) -> tuple[Tensor, Tensor]:
    u1, v1 = rates(u, v, inverse_square, constants)
    u2, v2 = rates(torch.add(u, u1, alpha=step / 2), torch.add(v, v1, alpha=step / 2), inverse_square, constants)
    u3, v3 = rates(torch.add(u, u2, alpha=step / 2), torch.add(v, v2, alpha=step / 2), inverse_square, constants)
    u4, v4 = rates(torch.add(u, u3, alpha=step), torch.add(v, v3, alpha=step), inverse_square, constants)
    u_sum, v_sum = u1 + 2 * (u2 + u3) + u4, v1 + 2 * (v2 + v3) + v4
    return torch.add(u, u_sum, alpha=step / 6), torch.add(v, v_sum, alpha=step / 6)


def solve_by_runge_kutta(
    u: np.ndarray, v: np.ndarray, length: float, times: np.ndarray, constants: Constants, **options: float | str
) -> tuple[np.ndarray, np.ndarray]:
    """The published method: the five-point differences by SciPy's adaptive RK45, with its default tolerances.

    Args:
        u, v: (s, s), values of one sample at the cell centres of a square at time 0.
        length: of a side of the square.
        times: (T,), of the frames.
        constants: of the equation.
        **options: further options of ``scipy.integrate.solve_ivp``.

    Returns:
        u and v, (T, s, s).
    """
    shape = (2, *u.shape)
    inverse_square = (len(u) / length) ** 2

    def rate(_: float, flat: np.ndarray) -> np.ndarray:
        return np.stack(rates(*flat.reshape(shape), inverse_square, constants)).ravel()

    solution = solve_ivp(rate, (times[0], times[-1]), np.stack((u, v)).ravel(), t_eval=times, **options)
    u_frames, v_frames = solution.y.reshape(*shape, -1).transpose(0, 3, 1, 2)
    return u_frames, v_frames
