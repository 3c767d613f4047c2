"""Initial states of two-dimensional incompressible flows on the unit torus, drawn as published."""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import fft
from scipy.special import j0

from katops.generators.fourier_field import fourier_field
from katops.generators.gaussian_field import shell_order

SHEET_WIDTH = 5 / 128
SHEET_POINTS = 4096
BRIDGE_HURST = 0.5


class InitialState(NamedTuple):
    """A divergence-free velocity: its curl on the nodes, (n, n), and its mean, (2,); the first axis is x."""

    vorticity: np.ndarray
    mean_velocity: np.ndarray


Draw = Callable[[np.random.Generator, int], InitialState]
"""``draw(rng, n)`` on the n x n nodes (i/n, j/n); the random numbers do not depend on n, a finer grid may draw more."""


def gaussian_random(rng: np.random.Generator, n: int) -> InitialState:
    """Vorticity N(0, 2 * 7^3 (-Laplace + 49)^(-2.5)) (Li et al., ICLR 2021, and its data: rms 0.262)."""
    return _of_vorticity(fourier_field(rng, n, alpha=2.5, tau=7.0))


def sines(rng: np.random.Generator, n: int) -> InitialState:
    """Velocity of 10 x 10 sine waves in each direction, projected to zero divergence (Poseidon, NS-Sines)."""
    amplitude = rng.uniform(-1, 1, (10, 10))
    phase_x, phase_y = rng.uniform(0, 2 * np.pi, (2, 10, 10))
    i, j = np.mgrid[1:11, 1:11]
    amplitude = (amplitude / np.sqrt(2 * np.pi * (i + j))).reshape(-1, 1)
    points = 2 * np.pi * np.arange(n) / n
    angle_x = i.reshape(-1, 1) * points + phase_x.reshape(-1, 1)
    angle_y = j.reshape(-1, 1) * points + phase_y.reshape(-1, 1)
    return of_velocity(
        _sum_of_products(amplitude * np.sin(angle_x), np.sin(angle_y)),
        _sum_of_products(amplitude * np.cos(angle_x), np.cos(angle_y)),
    )


def gaussians(rng: np.random.Generator, n: int) -> InitialState:
    """Vorticity of 100 vortices (a/s) exp(-r^2/(2 s^2)) and their periodic images (Poseidon, NS-Gauss)."""
    strength, width = rng.uniform(-1, 1, (100, 1)), rng.uniform(0.01, 0.1, (100, 1))
    centre_x, centre_y = rng.uniform(0, 1, (2, 100, 1))

    def profile(centre: np.ndarray) -> np.ndarray:
        distance = np.arange(n) / n - centre
        return sum(np.exp(-((distance + image) ** 2) / (2 * width**2)) for image in (-1, 0, 1))

    return _of_vorticity(_sum_of_products(strength / width * profile(centre_x), profile(centre_y)))


def piecewise_constant_literal(rng: np.random.Generator, n: int) -> InitialState:
    """Vorticity U[-1, 1] in each of 10 x 10 equal cells, as printed (Poseidon, NS-PwC)."""
    values = rng.uniform(-1, 1, (10, 10))
    cell = 10 * np.arange(n) // n
    return _of_vorticity(values[cell[:, None], cell[None, :]])


def piecewise_constant(rng: np.random.Generator, n: int) -> InitialState:
    """Ten times :func:`piecewise_constant_literal`, which is what the statistics of the published files show."""
    return InitialState(10 * piecewise_constant_literal(rng, n).vorticity, np.zeros(2))


def brownian_bridge(rng: np.random.Generator, n: int) -> InitialState:
    """Velocity with the spectrum of a fractional Brownian bridge, Hurst exponent 1/2, projected (Poseidon, NS-BB).

    Each component is the sum over 0 <= k1, k2 < n/2 of A_k times the four products of cos and sin of 2 pi k1 x and
    2 pi k2 y with coefficients U[-1, 1], A_k = m (4 pi^2 |k|^2)^(-(H+1)/2), m = 4, or 2 where k1 or k2 is 0.
    """
    size = (n + 1) // 2
    drawn = rng.uniform(-1, 1, (size**2, 2, 4))[shell_order(size)]  # (k1, k2, component, product)
    k1, k2 = np.indices((size, size))
    square = 4.0 * np.pi**2 * (k1**2 + k2**2)
    square[0, 0] = 1.0
    amplitude = np.where((k1 == 0) | (k2 == 0), 2.0, 4.0) * square ** (-(BRIDGE_HURST + 1) / 2)
    amplitude[0, 0] = 0.0
    drawn = amplitude[:, :, None, None] * drawn
    return of_velocity(_trigonometric_sum(drawn[:, :, 0], n), _trigonometric_sum(drawn[:, :, 1], n))


def shear_layer(rng: np.random.Generator, n: int) -> InitialState:
    """Two perturbed shear layers, u = tanh of the shifted height (Poseidon, NS-SL, as its solver draws it)."""
    y, shift, width = _shear(rng, n)
    return _layers(y + shift, y + shift, width)


def shear_layer_literal(rng: np.random.Generator, n: int) -> InitialState:
    """As printed (Poseidon, NS-SL): the shift decides between the two layers only, which leaves a jump."""
    y, shift, width = _shear(rng, n)
    return _layers(y + 0 * shift, y + shift, width)


def vortex_sheet(rng: np.random.Generator, n: int) -> InitialState:
    """Vorticity concentrated on a perturbed sine curve, smoothed by a spline of radius 5/128 (Poseidon, NS-SVS).

    The curve is y = 1/2 + 0.2 sin 2 pi x + sum of ten a_i sin 2 pi (x + b_i). The convolution with the spline is exact
    for every wave |k| < n/2; the mean, the length of the curve, is taken away.
    """
    amplitude, phase = rng.uniform(0, 0.003125, (10, 1)), rng.uniform(0, 1, (10, 1))
    x = np.arange(SHEET_POINTS) / SHEET_POINTS
    height = 0.5 + 0.2 * np.sin(2 * np.pi * x) + np.sum(amplitude * np.sin(2 * np.pi * (x + phase)), axis=0)
    slope = 2 * np.pi * (0.2 * np.cos(2 * np.pi * x) + np.sum(amplitude * np.cos(2 * np.pi * (x + phase)), axis=0))
    length = np.sqrt(1 + slope**2)
    k2 = np.arange((n + 1) // 2)
    waves = fft.fft(length * np.exp(-2j * np.pi * k2[:, None] * height), axis=-1, norm="forward")  # (k2, k1)
    k1 = _wave_numbers(n)
    coefficients = np.zeros((n, n // 2 + 1), dtype=np.complex128)
    coefficients[:, : len(k2)] = _sheet_symbol(n) * waves[:, k1].T
    coefficients[0, 0] = 0.0
    if n % 2 == 0:
        coefficients[n // 2] = 0.0  # a wave of n/2 has no sine on this grid
    return _of_vorticity(fft.irfft2(coefficients, s=(n, n), norm="forward"))


def central_disc(n: int) -> np.ndarray:
    """The tracer of NS-Tracer-PwC: 1 where the distance from the centre of the box is below 1/4, else 0; (n, n)."""
    distance = np.arange(n) / n - 0.5
    return (distance[:, None] ** 2 + distance[None, :] ** 2 < 1 / 16).astype(np.float64)


def of_velocity(u: np.ndarray, v: np.ndarray) -> InitialState:
    """The divergence-free part of a velocity (n, n), (n, n)."""
    n = len(u)
    k1, k2 = _wave_numbers(n)[:, None], np.arange(n // 2 + 1)
    curl = 2j * np.pi * (k1 * fft.rfft2(v) - k2 * fft.rfft2(u))
    if n % 2 == 0:
        curl[n // 2] = 0.0
        curl[:, n // 2] = 0.0
    return InitialState(fft.irfft2(curl, s=(n, n)), np.array([u.mean(), v.mean()]))


def _of_vorticity(vorticity: np.ndarray) -> InitialState:
    return InitialState(vorticity - vorticity.mean(), np.zeros(2))


def _wave_numbers(n: int) -> np.ndarray:
    return np.fft.fftfreq(n, 1 / n).astype(np.int64)


def _sum_of_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Sum over k of left[k, x] right[k, y]; not by BLAS, whose rounding depends on the number of threads."""
    return np.einsum("kx,ky->xy", left, right, optimize=False)


def _trigonometric_sum(coefficients: np.ndarray, n: int) -> np.ndarray:
    """Sum of cc cos cos + cs cos sin + sc sin cos + ss sin sin over k1, k2; coefficients are (k1, k2, 4)."""
    cc, cs, sc, ss = np.moveaxis(coefficients, -1, 0)
    size = len(cc)
    waves = np.zeros((n, n), dtype=np.complex128)
    waves[:size, :size] = ((cc - ss) - 1j * (sc + cs)) / 2
    opposite = -np.arange(size)  # of the second wave number; row 0 adds to itself
    waves[:size, opposite] += ((cc + ss) - 1j * (sc - cs)) / 2
    return fft.ifft2(waves, norm="forward").real


def _shear(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Heights (1, n), shift (n, 1) and width of the shear layers."""
    modes = int(rng.integers(7, 13))
    width, offset = rng.uniform(0.08, 0.12), rng.uniform(-1 / 16, 1 / 16)
    amplitude, phase = rng.uniform(0, 1, (modes, 1)), rng.uniform(0, 2 * np.pi, (modes, 1))
    points = np.arange(n) / n
    waves = amplitude * np.sin(2 * np.pi * np.arange(1, modes + 1)[:, None] * points - phase)
    return points[None, :], (offset + 0.025 * waves.sum(axis=0))[:, None], width


def _layers(height: np.ndarray, side: np.ndarray, width: float) -> InitialState:
    """u = tanh(2 pi (height - 1/4) / width) where side <= 1/2, else tanh(2 pi (3/4 - height) / width)."""
    u = np.tanh(2 * np.pi * np.where(side <= 0.5, height - 0.25, 0.75 - height) / width)
    return of_velocity(u, np.zeros_like(u))


@cache
def _sheet_symbol(n: int) -> np.ndarray:
    """Fourier transform of the spline of the vortex sheet at the wave vectors of an n x n grid, (n, (n + 1) // 2).

    psi(r) = 80 / (7 pi) ((1 - r)_+^3 - 4 (1/2 - r)_+^3), a cubic on each of [0, 1/2] and [1/2, 1].
    """
    k1, k2 = _wave_numbers(n)[:, None], np.arange((n + 1) // 2)
    nodes, weights = np.polynomial.legendre.leggauss(64)
    symbol = np.zeros(np.broadcast_shapes(k1.shape, k2.shape))
    frequency = 2 * np.pi * SHEET_WIDTH * np.sqrt(k1**2 + k2**2)
    for lower in (0.0, 0.5):
        for node, weight in zip(nodes, weights, strict=True):
            r = lower + (node + 1) / 4
            spline = 80 / (7 * np.pi) * ((1 - r) ** 3 - 4 * max(0.5 - r, 0.0) ** 3)
            symbol += weight / 4 * 2 * np.pi * r * spline * j0(frequency * r)
    symbol.setflags(write=False)
    return symbol
