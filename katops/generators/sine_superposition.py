"""Sums of a few sine waves, sometimes folded or cut off: the initial conditions of one-dimensional benchmarks."""

from dataclasses import dataclass

import numpy as np

MODES = 4
"""The wave numbers are 1, ..., MODES; two of them are drawn."""
WAVES = 2
CHANGE_PROBABILITY = 0.1
WINDOW_START = (0.1, 0.45)
WINDOW_END = (0.55, 0.9)
WINDOW_EDGE = 0.01
NOTES = {
    "pdebench": "as the published script draws: waves that were not drawn stay as constants, one that was drawn twice "
    "has twice the wave number, and windows have length 0.45; the paper prints another law (pdebench_printed)",
    "pdebench_printed": "as the paper prints: two independent waves and independent ends of the window; the published "
    "script draws another law (pdebench)",
}
VARIANTS = tuple(NOTES)


@dataclass(frozen=True)
class SineSuperposition:
    """One initial condition, as a function of x in [0, 1].

    Attributes:
        waves: (MODES,) integers, the number of periods of each wave; 0 is a constant.
        amplitudes, phases: (MODES,).
        sign: +1 or -1.
        absolute: whether the absolute value of the sum is taken, before the sign.
        window: where the values outside [start, end] are cut off, or ``None``.
    """

    waves: np.ndarray
    amplitudes: np.ndarray
    phases: np.ndarray
    sign: float
    absolute: bool
    window: tuple[float, float] | None

    def __call__(self, x: np.ndarray, length: float = 1.0) -> np.ndarray:
        """The values at ``x``, any shape; a wave number n means n periods in ``length``."""
        u = np.zeros(x.shape)
        for wave, amplitude, phase in zip(self.waves, self.amplitudes, self.phases, strict=True):
            u += amplitude * np.sin(2 * np.pi * wave / length * x + phase)
        if self.absolute:
            u = np.abs(u)
        if self.window:
            start, end = self.window
            u *= 0.5 * (np.tanh((x - start) / WINDOW_EDGE) - np.tanh((x - end) / WINDOW_EDGE))
        return self.sign * u


def draw_sine_superposition(rng: np.random.Generator, variant: str) -> SineSuperposition:
    """Draw an initial condition.

    "pdebench_printed" is the recipe of the paper: two waves A sin(2 pi n x + phi), n uniform in 1 ... 4 with
    replacement, A uniform in [0, 1], phi in [0, 2 pi]; with probability 0.1 the absolute value, a random sign, with
    probability 0.1 a window with start uniform in [0.1, 0.45] and end in [0.55, 0.9], independent.

    "pdebench" is what the published script computes. It draws an amplitude and a phase for each of n = 1 ... 4 and
    multiplies n by the number of times that it was drawn. A wave that was not drawn is left with wave number 0 and
    stays as the constant A sin(phi); one that was drawn twice has 2 n periods. The window uses one uniform number U for
    its presence (U < 0.1), its start and its end, so that every window has start 0.1 + 0.35 U < 0.135 and length 0.45.

    Args:
        rng: a fresh stream; the same numbers are drawn whatever the variant.
        variant: one of :data:`VARIANTS`.

    Source: Takamoto et al., "PDEBench", NeurIPS 2022, appendix D and ``init_multi`` of its generator.
    """
    drawn = rng.integers(1, MODES + 1, WAVES)
    amplitudes, phases = rng.random(MODES), 2 * np.pi * rng.random(MODES)
    absolute = bool(rng.random() < CHANGE_PROBABILITY)
    sign = 1.0 if rng.random() < 0.5 else -1.0
    presence, start, end = rng.random(3)
    if variant == "pdebench":
        waves = np.arange(1, MODES + 1) * np.bincount(drawn, minlength=MODES + 1)[1:]
        start = end = presence
    else:
        waves, amplitudes, phases = drawn, amplitudes[:WAVES], phases[:WAVES]
    window = None
    if presence < CHANGE_PROBABILITY:
        window = (_between(WINDOW_START, start), _between(WINDOW_END, end))
    return SineSuperposition(waves, amplitudes, phases, sign, absolute, window)


def _between(ends: tuple[float, float], share: float) -> float:
    return float(ends[0] + (ends[1] - ends[0]) * share)
