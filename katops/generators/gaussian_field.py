"""Gaussian random fields whose coefficients do not depend on the grid."""

import numpy as np
from scipy import fft


def shell_order(size: int) -> np.ndarray:
    """Position of mode (k1, k2) in the order of nested square shells max(k1, k2) = 0, 1, 2, ...

    Shell k takes the positions k^2 ... (k + 1)^2 - 1: first (k, 0) ... (k, k), then (0, k) ... (k - 1, k). The modes of
    a coarse grid are therefore the first ones of every finer grid.

    Returns:
        (size, size) integers, a permutation of 0 ... size^2 - 1.
    """
    k1, k2 = np.indices((size, size))
    return np.where(k1 >= k2, k1**2 + k2, k2**2 + k2 + 1 + k1)


def cosine_spectrum(size: int, alpha: float, tau: float) -> np.ndarray:
    """Standard deviation of mode (k1, k2): tau^(alpha - 1) (pi^2 (k1^2 + k2^2) + tau^2)^(-alpha / 2); 0 for the mean.

    It is the square root of the eigenvalues of tau^(2 alpha - 2) (-Laplace + tau^2)^(-alpha) with zero Neumann
    conditions on (0, 1)^2. The expected mean square of a field is the sum of the squares of this array.

    Returns:
        (size, size), float64.
    """
    k1, k2 = np.indices((size, size))
    spectrum = tau ** (alpha - 1) * (np.pi**2 * (k1**2 + k2**2) + tau**2) ** (-alpha / 2)
    spectrum[0, 0] = 0.0
    return spectrum


def cosine_field(rng: np.random.Generator, size: int, alpha: float, tau: float) -> np.ndarray:
    """A zero-mean Gaussian field on the cell centres ((i + 1/2) / size, (j + 1/2) / size) of the unit square.

    .. math:: g(x, y) = \\sum_{k_1, k_2 < size} \\sigma_{k_1 k_2} \\xi_{k_1 k_2} c_{k_1} c_{k_2}
        \\cos(\\pi k_1 x) \\cos(\\pi k_2 y), \\quad \\xi \\sim N(0, 1), \\quad c_0 = 1, \\; c_k = \\sqrt 2,

    with :func:`cosine_spectrum` as sigma. The normals are drawn in :func:`shell_order`: the same stream gives the same
    coefficients on every grid, and a finer grid only adds modes.

    Args:
        rng: a fresh stream; size^2 normals are drawn from it.
        size: number of cells along each axis.
        alpha, tau: decay of the spectrum and inverse correlation length.

    Returns:
        (size, size), float64.

    Source: the Gaussian field of Li et al., "Fourier neural operator for parametric partial differential equations",
    ICLR 2021, appendix A.3 (there with alpha = 2, tau = 3).
    """
    normals = rng.standard_normal(size**2)[shell_order(size)]
    coefficients = size * cosine_spectrum(size, alpha, tau) * normals
    return fft.idctn(coefficients, type=2, norm="ortho")
