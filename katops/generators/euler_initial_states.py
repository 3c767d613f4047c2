"""Random initial states of the compressible Euler equations on the unit torus: density, velocity, pressure.

The numbers of a sample are drawn before the grid is known, so that it is the same function at every resolution.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

InitialState = Callable[[np.random.Generator, int], np.ndarray]
"""(random numbers, n) -> (4, n, n): rho, u, v, p at the cell centres ((i + 1/2)/n, (j + 1/2)/n)."""

VORTICES = 100
VORTEX_MODES = 128  # the narrowest vortex, of width 0.01, has decayed to e^-32 there


def cell_centres(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x as (n, 1) and y as (1, n)."""
    centres = (np.arange(n) + 0.5) / n
    return centres[:, None], centres[None, :]


@dataclass(frozen=True)
class StateRange:
    """Independent uniform distributions of the primitive variables; both velocities have the same."""

    density: tuple[float, float] = (0.1, 1.0)
    velocity: tuple[float, float] = (-1.0, 1.0)
    pressure: tuple[float, float] = (0.1, 1.0)

    def draw(self, rng: np.random.Generator, patches: int) -> np.ndarray:
        """(4, patches, patches)."""
        ranges = (self.density, self.velocity, self.velocity, self.pressure)
        return np.stack([rng.uniform(*bounds, (patches, patches)) for bounds in ranges])


@dataclass(frozen=True)
class Patches:
    """Constant states in patches x patches equal cells of the torus, seen through a random shift of the coordinates.

    Point (x, y) lies in cell (i, j) where i <= patches frac(x + s_x) < i + 1, and j from y + s_y in the same way, with
    s = sum_{i, j = 1..modes} a_ij sin(2 pi (i + offset) x + (j + offset) y + b_ij), a ~ U[-amplitude, amplitude],
    b ~ U[0, 1], for s_x and s_y independently. No modes: straight interfaces. As printed, y comes without the 2 pi, so
    that s jumps where the torus closes in y.
    """

    states: StateRange
    patches: int = 2
    modes: int = 0
    offset: int = 0
    amplitude: float = 0.0

    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        states = self.states.draw(rng, self.patches)
        x, y = cell_centres(n)
        column = self._cell(x + self._shift(rng, x, y))
        row = self._cell(y + self._shift(rng, x, y))
        return states[:, column, row]

    def _shift(self, rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        shape = (self.modes, self.modes)
        amplitude, phase = rng.uniform(-self.amplitude, self.amplitude, shape), rng.uniform(0, 1, shape)
        shift = np.zeros(np.broadcast_shapes(x.shape, y.shape))
        for i, j in np.ndindex(shape):
            angle = 2 * np.pi * (i + 1 + self.offset) * x + (j + 1 + self.offset) * y
            shift += amplitude[i, j] * np.sin(angle + phase[i, j])
        return shift

    def _cell(self, coordinate: np.ndarray) -> np.ndarray:
        return np.minimum((coordinate % 1.0 * self.patches).astype(np.int64), self.patches - 1)


@dataclass(frozen=True)
class ShearLayers:
    """Two streams with a perturbed interface at y = 1/4 + s_0 and y = 3/4 + s_1 each.

    (rho, u, v, p) = (1, 1/2, 0, pressure) outside and (2, -1/2, 0, pressure) between the interfaces;
    s = 0.05 sum_{j = 1..modes} a_j cos(2 pi j (x + b_j)) / sum_j a_j, a, b ~ U[0, 1].
    """

    pressure: float
    modes: int = 10
    amplitude: float = 0.05

    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        x, y = cell_centres(n)
        lower, upper = self._interface(rng, x), self._interface(rng, x)
        outside = (y < 0.25 + lower) | (y > 0.75 + upper)
        density = np.where(outside, 1.0, 2.0)
        return np.stack((density, np.where(outside, 0.5, -0.5), 0 * density, np.full_like(density, self.pressure)))

    def _interface(self, rng: np.random.Generator, x: np.ndarray) -> np.ndarray:
        weight, phase = rng.uniform(0, 1, self.modes), rng.uniform(0, 1, self.modes)
        waves = [weight[j] * np.cos(2 * np.pi * (j + 1) * (x + phase[j])) for j in range(self.modes)]
        return self.amplitude * sum(waves) / weight.sum()


@dataclass(frozen=True)
class Vortices:
    """A gas of constant density and pressure that moves with the velocity of 100 Gaussian vortices.

    The vorticity is sum_i (a_i / s_i) exp(-r_i^2 / (2 s_i^2)) over all periodic images, less its mean; a ~ U[-1, 1],
    s ~ U[0.01, 0.1], centres ~ U[0, 1]^2. The velocity is evaluated from the exact Fourier coefficients, up to the
    wavenumbers that the grid carries.
    """

    density: float = 0.1
    pressure: float = 2.5

    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        amplitude, width = rng.uniform(-1, 1, VORTICES), rng.uniform(0.01, 0.1, VORTICES)
        centre = rng.uniform(0, 1, (2, VORTICES))
        highest = min(VORTEX_MODES, (n - 1) // 2)
        modes = np.arange(-highest, highest + 1)
        # Shifted by half a cell, as the grid points are cell centres.
        along = [
            np.exp(-2 * np.pi**2 * np.outer(width**2, modes**2) - 2j * np.pi * np.outer(position - 0.5 / n, modes))
            for position in centre
        ]
        # einsum, not a matrix product: its sums do not depend on the number of threads.
        vorticity = np.einsum("s,sk,sl->kl", 2 * np.pi * amplitude * width, *along, optimize=False)
        laplace = 4 * np.pi**2 * (modes[:, None] ** 2 + modes[None, :] ** 2)
        laplace[highest, highest] = 1.0
        stream = vorticity / laplace
        stream[highest, highest] = 0.0
        u = self._on_grid(2j * np.pi * modes[None, :] * stream, modes, n)
        v = self._on_grid(-2j * np.pi * modes[:, None] * stream, modes, n)
        return np.stack((np.full((n, n), self.density), u, v, np.full((n, n), self.pressure)))

    def _on_grid(self, coefficients: np.ndarray, modes: np.ndarray, n: int) -> np.ndarray:
        spectrum = np.zeros((n, n), dtype=np.complex128)
        spectrum[np.ix_(modes, modes)] = coefficients
        return np.fft.ifft2(spectrum, norm="forward").real


@dataclass(frozen=True)
class Explosion:
    """A gas at rest with a disc of high pressure inside a disc of high density whose edge is perturbed.

    p = 20 for r < 0.1, else 1; rho = 2 for r < 1/4 + perturbation sum_j a_j cos(angle + 2 pi b_j) / sum_j a_j with
    10 terms, else 1; a, b ~ U[0, 1]; r and the angle from the centre of the torus.
    """

    perturbation: float
    modes: int = 10

    def __call__(self, rng: np.random.Generator, n: int) -> np.ndarray:
        weight, phase = rng.uniform(0, 1, self.modes), rng.uniform(0, 1, self.modes)
        x, y = cell_centres(n)
        radius, angle = np.hypot(x - 0.5, y - 0.5), np.arctan2(y - 0.5, x - 0.5)
        waves = sum(weight[j] * np.cos(angle + 2 * np.pi * phase[j]) for j in range(self.modes))
        interface = 0.25 + self.perturbation * waves / weight.sum()
        density = np.where(radius < interface, 2.0, 1.0)
        return np.stack((density, 0 * density, 0 * density, np.where(radius < 0.1, 20.0, 1.0)))
