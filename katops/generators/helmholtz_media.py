"""Random media of the published Helmholtz data sets, as functions of the position."""

import numpy as np

from katops.generators.gaussian_bumps import gaussian_bumps

LEAST_BUMPS, MOST_BUMPS = 2, 7
AMPLITUDES, DEVIATIONS, CENTRES = (0.5, 10.0), (0.05, 0.1), (0.2, 0.8)
BOUNDARY_VALUES = (0.25, 0.5)
PUBLISHED_NODES = 128

MODES, INVERSE_LENGTH, DECAY = 100, 3.0, 2.0
MEAN_SPEED, SPEED_RANGE = 20.0, 1.0


class BumpMedium:
    """a = (a_bar - min a_bar) / (max a_bar - min a_bar), a_bar = -sum_{i <= n} A_i exp(-|x - c_i|^2 / (2 s_i^2)).

    n ~ U{2, ..., 7}, A_i ~ U(0.5, 10), s_i ~ U(0.05, 0.1), c_i ~ U(0.2, 0.8)^2; and the value b ~ U(0.25, 0.5) on the
    boundary. The extrema are those on the 128 x 128 nodes of the published data, so that a sample is the same function
    on every grid.

    Args:
        rng: the stream of one sample.

    Source: Herde et al., "Poseidon: efficient foundation models for PDEs", NeurIPS 2024, appendix B (Helmholtz).
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.boundary_value = rng.uniform(*BOUNDARY_VALUES)
        bumps = rng.integers(LEAST_BUMPS, MOST_BUMPS + 1)
        amplitude, deviation = rng.uniform(*AMPLITUDES, bumps), rng.uniform(*DEVIATIONS, bumps)
        x, y = rng.uniform(*CENTRES, (2, bumps))
        self._bumps = (0 - amplitude, x, y, deviation)
        published = gaussian_bumps(*self._bumps, np.linspace(0, 1, PUBLISHED_NODES))
        self._lowest, self._highest = published.min(), published.max()

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """a on the grid ``points`` x ``points``."""
        return (gaussian_bumps(*self._bumps, points) - self._lowest) / (self._highest - self._lowest)


class CosineMedium:
    """c = 20 + tanh(sum_l xi_l (pi^2 |l|^2 + 9)^(-1) phi_l), xi_l ~ N(0, 1), over 100 modes l = (l_1, l_2).

    phi_l are the orthonormal cosines cos(pi l_1 x) cos(pi l_2 y) of the unit square without the constant, in the order
    of increasing |l|.

    Args:
        rng: the stream of one sample.

    Source: de Hoop, Huang, Qian, Stuart, "The cost-accuracy trade-off in operator learning with neural networks", 2022,
    section 4.2.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        first, second = smallest_modes(MODES)
        deviation = (np.pi**2 * (first**2 + second**2) + INVERSE_LENGTH**2) ** (-DECAY / 2)
        norm = np.where(first > 0, np.sqrt(2), 1) * np.where(second > 0, np.sqrt(2), 1)
        self._coefficients = np.zeros((first.max() + 1, second.max() + 1))
        self._coefficients[first, second] = rng.standard_normal(MODES) * deviation * norm

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """c on the grid ``points`` x ``points``."""
        cosines = np.cos(np.pi * np.arange(len(self._coefficients))[:, None] * points)
        exponent = np.zeros((len(points), len(points)))
        # Elementwise and not BLAS, whose order of summation may change with the number of threads.
        for along_x, row in zip(cosines, self._coefficients, strict=True):
            exponent += along_x[:, None] * (row[:, None] * cosines).sum(axis=0)
        return MEAN_SPEED + SPEED_RANGE * np.tanh(exponent)


def smallest_modes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """The ``count`` pairs (l_1, l_2) != (0, 0) with the smallest l_1^2 + l_2^2, l_1 first where they are equal."""
    side = int(np.sqrt(2 * count)) + 2
    first, second = (index.ravel()[1:] for index in np.indices((side, side)))
    order = np.argsort(first**2 + second**2, kind="stable")[:count]
    return first[order], second[order]
