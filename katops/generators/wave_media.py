"""Random pulses and random media for waves, as functions on the square: the same on every grid."""

from typing import NamedTuple, Protocol

import numpy as np

_TERMS = 10
_FINE = (np.arange(1024) + 0.5) / 1024
_ATTEMPTS = 100


class Medium(Protocol):
    """A speed of sound."""

    def on(self, points: np.ndarray) -> np.ndarray:
        """(s, s) speeds in m/s at (points[i], points[j])."""
        ...


class Pulses(NamedTuple):
    """A sum of Gaussians.

    Attributes:
        centres: (n, 2).
        widths: (n,) standard deviations.
        amplitudes: (n,).
        offset: added to the sum.
    """

    centres: np.ndarray
    widths: np.ndarray
    amplitudes: np.ndarray
    offset: float = 0.0

    def on(self, points: np.ndarray) -> np.ndarray:
        """(s, s) values at (points[i], points[j])."""
        total = np.full((len(points), len(points)), self.offset)
        for (x, y), width, amplitude in zip(self.centres, self.widths, self.amplitudes, strict=True):
            along_x, along_y = (np.exp(-((points - centre) ** 2) / (2 * width**2)) for centre in (x, y))
            total += amplitude * along_x[:, None] * along_y
        return total


class LayeredMedium(NamedTuple):
    """Layers of constant speed, one above the other along y.

    Attributes:
        speeds: (n,) from the lowest layer up.
        coefficients: (n - 1, 11) of the interfaces: the constant, and of sin(2 pi j x), j = 1 ... 10.
    """

    speeds: np.ndarray
    coefficients: np.ndarray

    def interfaces(self, x: np.ndarray) -> np.ndarray:
        """(n - 1, len(x)) heights."""
        return self.coefficients @ _interface_terms(x)

    def on(self, points: np.ndarray) -> np.ndarray:
        """See :class:`Medium`."""
        layer = (points[None, None, :] >= self.interfaces(points)[:, :, None]).sum(axis=0)
        return self.speeds[layer]


def draw_pulses(rng: np.random.Generator, width_factor: float) -> Pulses:
    """2 to 6 Gaussians of amplitude 1, none of them within two (of the larger) standard deviations of another.

    Centres are drawn again until they are far enough from those before; after 100 attempts all are.
    """
    count = int(rng.integers(2, 7))
    widths = rng.uniform(0.039, 0.156, count) * width_factor
    while True:
        centres = np.empty((0, 2))
        for place in range(count):
            for _ in range(_ATTEMPTS):
                centre = rng.uniform(1 / 6, 5 / 6, 2)
                distance = np.linalg.norm(centres - centre, axis=1)
                if (distance >= 2 * np.maximum(widths[:place], widths[place])).all():
                    centres = np.concatenate([centres, centre[None]])
                    break
            else:
                break
        if len(centres) == count:
            return Pulses(centres, widths, np.ones(count))


def draw_gaussian_medium(rng: np.random.Generator) -> Pulses:
    """c0 + 4 Gaussians, each about the middle of one quarter of the square."""
    offset = float(rng.uniform(1500, 2500))
    middles = np.array([(x, y) for x in (0.25, 0.75) for y in (0.25, 0.75)])
    centres = middles + rng.uniform(-0.3125, 0.3125, (4, 2))
    return Pulses(centres, rng.uniform(1 / 12, 1 / 6, 4), rng.uniform(1000, 2500, 4), offset)


def draw_layers(rng: np.random.Generator) -> LayeredMedium:
    """3 to 6 layers, whose interfaces stay in strips of their own."""
    count = int(rng.integers(3, 7))
    speeds = rng.uniform(2000, 5000, count)
    terms = rng.uniform(-1, 1, (count - 1, _TERMS + 1))
    terms[:, 1:] /= np.arange(1, _TERMS + 1)
    largest = np.abs(terms @ _interface_terms(_FINE)).max(axis=1)
    terms *= (rng.uniform(0, 1, count - 1) / (2 * count) / largest)[:, None]
    terms[:, 0] += np.arange(1, count) / count
    return LayeredMedium(speeds, terms)


def _interface_terms(x: np.ndarray) -> np.ndarray:
    """(11, len(x)): 1, sin(2 pi x), ..., sin(20 pi x)."""
    waves = np.sin(2 * np.pi * np.arange(1, _TERMS + 1)[:, None] * x)
    return np.concatenate([np.ones((1, len(x))), waves])
