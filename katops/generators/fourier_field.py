"""Gaussian random fields on the unit torus whose coefficients do not depend on the grid."""

from functools import cache

import numpy as np
from scipy import fft


def fourier_spectrum(k1: np.ndarray, k2: np.ndarray, alpha: float, tau: float) -> np.ndarray:
    """Standard deviation of one wave: sqrt(2) tau^(alpha-1) (4 pi^2 |k|^2 + tau^2)^(-alpha/2); 0 for k = 0.

    The expected mean square of a field is the sum of the squares over *all* wave vectors.
    """
    spectrum = np.sqrt(2) * tau ** (alpha - 1) * (4 * np.pi**2 * (k1**2 + k2**2) + tau**2) ** (-alpha / 2)
    return np.where((k1 == 0) & (k2 == 0), 0.0, spectrum)


@cache
def half_plane(largest: int) -> np.ndarray:
    """One of k and -k for every wave vector with 0 < max(abs(k1), abs(k2)) <= largest, in nested square shells.

    The wave vectors of a coarse grid are therefore the first ones of every finer grid.

    Returns:
        (n, 2) integers, n = 2 largest (largest + 1); not to be written to.
    """
    k1, k2 = (k.ravel() for k in np.mgrid[-largest : largest + 1, 0 : largest + 1])
    ours = (k2 > 0) | (k1 > 0)
    k1, k2 = k1[ours], k2[ours]
    order = np.lexsort((k2, k1, np.maximum(np.abs(k1), k2)))
    modes = np.stack((k1[order], k2[order]), axis=1)
    modes.setflags(write=False)
    return modes


def fourier_field(rng: np.random.Generator, size: int, alpha: float, tau: float) -> np.ndarray:
    """A zero-mean Gaussian field on the nodes (i / size, j / size) of the unit torus.

    .. math:: g(x) = \\sum_{0 < |k|_\\infty < size/2} \\sigma_k
        (a_k \\cos 2 \\pi k \\cdot x - b_k \\sin 2 \\pi k \\cdot x), \\quad a_k, b_k \\sim N(0, 1)

    with :func:`fourier_spectrum` as sigma. The waves k and -k are drawn together, with the variance of both, in the
    order of :func:`half_plane`: the same stream gives the same coefficients on every grid, and a finer
    grid only adds waves.

    Args:
        rng: a fresh stream.
        size: number of nodes along each axis.
        alpha, tau: decay of the spectrum and inverse correlation length.

    Returns:
        (size, size), float64.

    Source: the Gaussian field of the Navier-Stokes data of Li et al., "Fourier neural operator for parametric partial
    differential equations", ICLR 2021, as their first code drew it, with independent real and imaginary parts of
    variance one each; a later version of that code has half the variance.
    """
    modes = half_plane((size - 1) // 2)
    k1, k2 = modes.T
    normals = rng.standard_normal((len(modes), 2))
    amplitude = fourier_spectrum(k1, k2, alpha, tau) / np.sqrt(2)  # of e^(ikx): half of that of two waves together
    coefficients = np.zeros((size, size // 2 + 1), dtype=np.complex128)
    values = amplitude * (normals[:, 0] + 1j * normals[:, 1])
    coefficients[k1, k2] = values
    on_axis = k2 == 0  # the stored half of the plane holds k and -k of these
    coefficients[-k1[on_axis], 0] = values[on_axis].conj()
    return fft.irfft2(coefficients, s=(size, size), norm="forward")
