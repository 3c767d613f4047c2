"""How the statistics of predicted fields drift from those of the truth over the output frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Power this far below all of a field's power is rounding of its float32 numbers.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Drift:
    r"""Means over samples, frame by frame, of the model and of the truth.

    A sample whose frame is not finite is left out there, on both sides; where no sample is left stands NaN.

    Attributes:
        groups: name of a channel group -> positions of its channels.
        power: {"truth", "prediction": (frames, channels, shells)}, see :func:`katops.spectrum.radial_spectrum`.
        mean: {"truth", "prediction": (frames, channels)}, mean over space: what a conservation law keeps.
        mean_error: (frames, channels), mean over samples of the difference's magnitude, which does not cancel.
        resolved: the last shell that lies whole on the grid.
    """

    groups: dict[str, tuple[int, ...]]
    power: dict[str, np.ndarray] = field(repr=False)
    mean: dict[str, np.ndarray] = field(repr=False)
    mean_error: np.ndarray = field(repr=False)
    resolved: int

    @property
    def energy(self) -> dict[str, np.ndarray]:
        r"""{"truth", "prediction": (frames, groups)}: :math:`\langle \sum_c u_c^2 \rangle`, mean over space.

        Of a velocity it is twice the kinetic energy per mass. By Parseval's theorem it is the sum over all shells.
        """
        return {name: self._of_groups(power.sum(2)) for name, power in self.power.items()}

    @property
    def high_power_ratio(self) -> np.ndarray:
        """(frames, groups): power of the prediction over that of the truth in the upper half of the resolved shells.

        1 is right; less is too smooth, more is noise. NaN where the truth has no power there but rounding.
        """
        truth, prediction = (
            self._of_groups(power[:, :, self.resolved // 2 + 1 : self.resolved + 1].sum(2))
            for power in (self.power["truth"], self.power["prediction"])
        )
        there = truth > ROUNDING * self.energy["truth"]
        return np.divide(prediction, truth, out=np.full_like(truth, np.nan), where=there)

    @property
    def shown_frames(self) -> list[int]:
        """Positions of the first, the middle and the last frame."""
        last = len(self.mean_error) - 1
        return sorted({0, last // 2, last})

    def to_dict(self, channels: list[str]) -> dict[str, Any]:
        """Plain containers; spectra of the first, the middle and the last frame, which are counted from 1."""

        def named(names: list[str], values: np.ndarray) -> dict[str, list[float]]:
            return {name: values[:, place].tolist() for place, name in enumerate(names)}

        groups = list(self.groups)
        return {
            "energy": {who: named(groups, values) for who, values in self.energy.items()},
            "mean": {who: named(channels, values) for who, values in self.mean.items()},
            "mean_error": named(channels, self.mean_error),
            "high_wavenumber_power_ratio": named(groups, self.high_power_ratio),
            "spectra": {
                str(frame + 1): {
                    who: dict(zip(channels, power[frame].tolist(), strict=True)) for who, power in self.power.items()
                }
                for frame in self.shown_frames
            },
        }

    def _of_groups(self, values: np.ndarray) -> np.ndarray:
        """(frames, channels) -> (frames, groups), sums."""
        return np.stack([values[:, list(group)].sum(1) for group in self.groups.values()], 1)
