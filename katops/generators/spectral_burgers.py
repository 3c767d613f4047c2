"""Fourier-Galerkin method for viscous Burgers' equation on the unit circle."""

from collections.abc import Sequence

import torch
from torch import Tensor

from katops.generators.etdrk4 import ETDRK4


def retained_modes(size: int) -> int:
    """The largest wave number k of which products are free of aliasing on ``size`` points: 3 k < size."""
    return (size - 1) // 3


def solve_spectral_burgers(
    coefficients: Tensor, size: int, viscosity: float, step: float, frames: Sequence[int]
) -> Tensor:
    """Solve u_t + u u_x = viscosity u_xx, u periodic on (0, 1).

    The Galerkin method in the waves |k| <= :func:`retained_modes`: products are computed on ``size`` points without
    aliasing, so that the mean is conserved to round-off and the energy never grows but by the error in time. Spectral
    accuracy in space; in time :class:`~katops.generators.etdrk4.ETDRK4`, order 4.

    Args:
        coefficients: (n, modes + 1) complex128, Fourier coefficients c_0 ... c_modes of u at time 0 with
            modes = ``retained_modes(size)``.
        size: number of points of the products.
        viscosity: > 0.
        step: time step.
        frames: increasing numbers of steps after which u is wanted; 0 is the initial value.

    Returns:
        (n, len(frames), modes + 1), the coefficients.
    """
    wave_numbers = 2 * torch.pi * torch.arange(coefficients.shape[-1], dtype=torch.float64, device=coefficients.device)
    half_derivative = torch.complex(torch.zeros_like(wave_numbers), -0.5 * wave_numbers)
    stepper = ETDRK4(-viscosity * wave_numbers**2, step)

    def advection(spectrum: Tensor) -> Tensor:
        """Coefficients of -(u^2 / 2)_x."""
        u = torch.fft.irfft(spectrum, size, norm="forward")
        return half_derivative * torch.fft.rfft(u * u, norm="forward")[..., : spectrum.shape[-1]]

    if len(coefficients) == 1:
        # A single transform of 8192 points or more is done in another order of operations than one of several.
        pair = coefficients.expand(2, -1)
        return solve_spectral_burgers(pair, size, viscosity, step, frames)[:1]
    found = coefficients.new_empty((len(coefficients), len(frames), coefficients.shape[-1]))
    u, done = coefficients, 0
    for position, frame in enumerate(frames):
        for _ in range(frame - done):
            u = stepper(u, advection)
        found[:, position], done = u, frame
    return found
