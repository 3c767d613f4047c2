"""Gaussian random functions of period 1 whose coefficients do not depend on the grid."""

import numpy as np


def periodic_line_spectrum(modes: int, sigma: float, gamma: float, tau: float) -> np.ndarray:
    """Standard deviation of the waves k = 1 ... modes: sigma ((2 pi k)^2 + tau^2)^(-gamma / 2).

    It is the square root of the eigenvalues of sigma^2 (-d^2/dx^2 + tau^2)^(-gamma). The expected mean square of a
    function is twice the sum of the squares of this array.

    Returns:
        (modes,), float64.
    """
    wave_numbers = 2 * np.pi * np.arange(1, modes + 1)
    return sigma * (wave_numbers**2 + tau**2) ** (-gamma / 2)


def periodic_line_field(rng: np.random.Generator, modes: int, sigma: float, gamma: float, tau: float) -> np.ndarray:
    """Coefficients c_0 ... c_modes of a zero-mean Gaussian function u(x) = sum of c_k exp(2 pi i k x), c_-k = c_k*.

    .. math:: u(x) = \\sum_{k=1}^{modes} \\sqrt 2 \\sigma_k (\\xi_k \\cos 2 \\pi k x + \\eta_k \\sin 2 \\pi k x),
        \\quad \\xi, \\eta \\sim N(0, 1),

    with :func:`periodic_line_spectrum` as sigma_k. The normals are drawn wave by wave: the same stream gives the same
    coefficients whatever ``modes`` is, and a finer grid only adds waves. The values on n > 2 modes nodes i / n are
    ``n * irfft(c, n)``.

    Returns:
        (modes + 1,), complex128.

    Source: the initial condition of Burgers' equation in Li et al., "Fourier neural operator for parametric partial
    differential equations", ICLR 2021, appendix A.3.
    """
    normals = rng.standard_normal((modes, 2))
    coefficients = np.zeros(modes + 1, dtype=np.complex128)
    coefficients[1:] = (normals[:, 0] - 1j * normals[:, 1]) / np.sqrt(2)
    coefficients[1:] *= periodic_line_spectrum(modes, sigma, gamma, tau)
    return coefficients
