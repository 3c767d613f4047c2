"""Random permeabilities of the published Darcy data sets."""

from dataclasses import dataclass

import numpy as np

from katops.generators.gaussian_field import cosine_field


@dataclass(frozen=True)
class GaussianPhases:
    """Two phases, told apart by the sign of a Gaussian field, :func:`~katops.generators.gaussian_field.cosine_field`.

    Attributes:
        alpha, tau: decay of the spectrum and inverse correlation length of the field.
        coefficient_positive, coefficient_negative: the coefficient where the field is >= 0, and elsewhere.
    """

    alpha: float
    tau: float
    coefficient_positive: float
    coefficient_negative: float

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """The coefficient at the cell centres of the unit square, (size, size)."""
        field = cosine_field(rng, size, self.alpha, self.tau)
        return np.where(field >= 0, self.coefficient_positive, self.coefficient_negative)


@dataclass(frozen=True)
class BumpPhases:
    """Two phases, told apart by the height of a sum of bumps exp(-|x - c|^2 / w), c ~ U(0, 1)^2, w ~ U(0, width).

    Attributes:
        bumps: how many.
        width: the largest w.
        threshold: the height that the larger coefficient begins above.
        coefficient_positive, coefficient_negative: the coefficient above the threshold, and elsewhere.

    Source: Takamoto et al., PDEBench, NeurIPS 2022, where the threshold is the mean of all samples of a batch. Here it
    is the expectation of that mean, so that a sample depends on itself alone:
    ``bumps`` times E_w[g(w)^2], g(w) = sqrt(pi w) erf(1 / sqrt(w)) - w (1 - exp(-1 / w)).
    """

    bumps: int
    width: float
    threshold: float
    coefficient_positive: float
    coefficient_negative: float

    def __call__(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """The coefficient at the cell centres of the unit square, (size, size)."""
        field = self.field(rng, (np.arange(size) + 0.5) / size)
        return np.where(field > self.threshold, self.coefficient_positive, self.coefficient_negative)

    def field(self, rng: np.random.Generator, points: np.ndarray) -> np.ndarray:
        """The sum of the bumps on the grid ``points`` x ``points``."""
        x, y, width = rng.uniform(size=(3, self.bumps))
        width *= self.width
        total = np.zeros((len(points), len(points)))
        for bump in range(self.bumps):
            along_x = np.exp(-((points - x[bump]) ** 2) / width[bump])
            along_y = np.exp(-((points - y[bump]) ** 2) / width[bump])
            total += along_x[:, None] * along_y
        return total


@dataclass(frozen=True)
class MultiscaleWaves:
    """a(x, y) = prod_{k = 1}^{waves} (1 + cos(pi a_k (x + y)) / 2) (1 + sin(pi a_k (y - 3 x)) / 2), on [-1, 1]^2.

    The numbers a_k ~ U[2^(k-1), 1.5 2^(k-1)] are independent.

    Attributes:
        waves: number of scales.

    Source: Liu, Xu, Zhang, "Mitigating spectral bias for the multiscale operator learning", 2022.
    """

    waves: int

    def frequencies(self, rng: np.random.Generator) -> np.ndarray:
        """The a_k of one sample, (waves,)."""
        return rng.uniform(1.0, 1.5, self.waves) * 2.0 ** np.arange(self.waves)

    def evaluate(self, frequencies: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """a(x, y) for arrays that broadcast."""
        value = np.ones(np.broadcast(x, y).shape)
        for frequency in frequencies:
            value *= 1 + np.cos(np.pi * frequency * (x + y)) / 2
            value *= 1 + np.sin(np.pi * frequency * (y - 3 * x)) / 2
        return value
