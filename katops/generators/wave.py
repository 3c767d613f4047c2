"""Acoustic waves from Gaussian pulses, in a smooth or a layered medium, with absorbing boundaries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import numpy as np

from katops.data.writing import StoredField
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.options import known, torch_device, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.wave_media import Medium, Pulses, draw_gaussian_medium, draw_layers, draw_pulses
from katops.registry import PROBLEMS

SCHEMES = ("fourth_order", "leapfrog")
MEAN_SPEED = 2618.0  # m/s, mean of the published data of Wave-Gauss
LAYER_WIDTH = 0.25
COURANT = 0.5
STEPS_MULTIPLE = 8
GROWTH_LIMIT = 2.0
RESOLUTIONS = range(16, 2049)
POINTS_PER_BLOCK = {"cpu": 2**16, "cuda": 2**24}  # a CPU wants to stay in its cache, a GPU to be filled


@dataclass(frozen=True)
class Variant:
    """The constants of one data set.

    Attributes:
        medium: "gaussian" or "layer".
        frames: from time 0 to 1.
        width_factor: the standard deviations of the pulses are those printed times this.
        crossing: sides of the square that a wave of the mean speed crosses in the time 1.
    """

    medium: str
    frames: int
    width_factor: float = 0.55
    crossing: float = 0.58


VARIANTS = {
    "gaussian": Variant("gaussian", 16),
    "layer": Variant("layer", 21),
    "gaussian_literal": Variant("gaussian", 16, width_factor=1.0, crossing=1.0),
    "layer_literal": Variant("layer", 21, width_factor=1.0, crossing=1.0),
}
_DRAW = {"gaussian": draw_gaussian_medium, "layer": draw_layers}
_MEDIA = {
    "gaussian": "c0 + 4 Gaussians, c0 ~ U[1500, 2500], amplitudes U[1000, 2500], standard deviations U[1/12, 1/6], "
    "centres (1/4 or 3/4, 1/4 or 3/4) + U[-0.3125, 0.3125]^2",
    "layer": "3 to 6 layers of constant speed U[2000, 5000], interfaces y = i/n + d_i(x), d_i = c + sum_j (a_j / j) "
    "sin(2 pi j x), 10 terms, c and a_j ~ U[-1, 1], rescaled to max |d_i| = r / (2 n), r ~ U[0, 1]",
}


@PROBLEMS.register(
    "wave",
    summary="acoustic waves from Gaussian pulses in a smooth or layered medium, absorbing boundaries",
    paper="Herde et al., Poseidon: efficient foundation models for PDEs, NeurIPS 2024",
)
class Wave:
    """u_tt = (c / L)^2 Laplace u on (0, 1)^2, u_t = 0 at t = 0, absorbing boundaries; t from 0 to 1 s.

    u at t = 0 is a sum of 2 to 6 Gaussians of amplitude 1 (:func:`~.wave_media.draw_pulses`). The speed c, in m/s, is a
    constant field beside the moving one. ``gaussian`` and ``layer`` are Wave-Gauss and Wave-Layer of the paper
    (arXiv:2405.19101, appendix B), with 16 and 21 frames.

    The paper prints no unit of length: L is 2618 m / crossing, so that a wave of the mean speed of the data crosses the
    square ``crossing`` times in 1 s. With the pulses as printed no crossing gives both the mean and the standard
    deviation of the published u. ``gaussian`` and ``layer`` therefore have pulses narrower by 0.55 and a crossing of
    0.58, fitted to these two numbers; ``gaussian_literal`` and ``layer_literal`` have the printed pulses and a crossing
    of 1. How the interfaces of the layers are drawn is printed in part; what is assumed is in the recipe.

    Solved with finite differences at the cell centres of a square that is larger by a perfectly matched layer of 1/4 on
    every side (:mod:`~katops.generators.acoustic_waves`), in which c continues along the normal. ``fourth_order`` is of
    fourth order in space and time for a smooth c, ``leapfrog`` of second order, the kind of scheme that the paper used.

    Args:
        resolution: stored points along each axis, 16 to 2048; published: 128.
        variant: "gaussian", "layer", "gaussian_literal" or "layer_literal".
        scheme: "fourth_order" or "leapfrog".
        refinement: the equation is solved on a grid finer by this, 1 to 8, and averaged over blocks of cells.
        device: "cpu", "cuda", "cuda:1" or "auto"; no part of the recipe.

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 64,
        variant: str = "gaussian",
        scheme: str = "fourth_order",
        refinement: int = 1,
        device: str = "cpu",
    ) -> None:
        self.variant = known("wave", "variant", variant, VARIANTS)
        self.scheme = known("wave", "scheme", scheme, SCHEMES)
        self.resolution = whole_number("wave", "resolution", resolution, RESOLUTIONS)
        self.refinement = whole_number("wave", "refinement", refinement, range(1, 9))
        self.device = torch_device("wave", device)
        self.constants = VARIANTS[variant]
        self.cells = self.resolution * self.refinement
        self.times = np.linspace(0.0, 1.0, self.constants.frames)
        displacement, speed = (Channel("displacement"),), (Channel("wave_speed", "m/s"),)
        self.meta = FieldMeta(
            name="wave",
            inputs=displacement,
            outputs=displacement,
            constants=speed,
            axes=tuple(Axis(name, boundary=("open", "open")) for name in "xy"),
            time_step=float(self.times[1]),
            time_unit="s",
        )
        space = (self.resolution, self.resolution)
        self.fields = {
            "displacement": StoredField.of(displacement[0], "state", (self.constants.frames, *space)),
            "wave_speed": StoredField.of(speed[0], "constant", space),
        }

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        constants = asdict(self.constants)
        return {
            "recipe": "wave",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "u_tt = (c / L)^2 Laplace u on (0, 1)^2, u_t = 0 at t = 0",
            "length_unit_m": MEAN_SPEED / self.constants.crossing,
            "initial_state": "2 to 6 Gaussians of amplitude 1, centres U[1/6, 5/6]^2, standard deviations U[0.039, "
            "0.156] width_factor; a centre within two standard deviations of another is drawn again",
            "medium_law": _MEDIA[self.constants.medium],
            **constants,
            "notes": "the unit of length is not printed; width_factor and crossing of gaussian and layer are fitted to "
            "mean and standard deviation of the published data, which the printed widths (the literal variants) miss",
            "solver": "explicit time steps, float64",
            "courant_number": COURANT,
            "solver_tolerance": 0.0,
            "growth_limit": GROWTH_LIMIT,
            "scheme": f"finite differences, {self.scheme}; perfectly matched layers of width {LAYER_WIDTH}",
            "native_resolution": self.cells,
            "downsampling": "block_mean" if self.refinement > 1 else "none",
            "domain": "(0, 1)^2",
            "grid": "cell_centres",
            "boundary": "open",
            "end_time": 1.0,
            "frames": self.constants.frames,
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`.

        Quality holds ``rejected`` and ``growth``, the largest \\|u\\| at any time over the largest one at the start.
        """
        return accepted_samples("wave", indices, lambda index, redraw: self._attempt(seed, index, redraw))

    def draw(self, seed: int, index: int, redraw: int = 0) -> tuple[Pulses, Medium]:
        """What is random in a sample: the pulses at the start, and the medium."""
        rng = random_stream(f"wave/{self.variant}", seed, index, redraw)
        return draw_pulses(rng, self.constants.width_factor), _DRAW[self.constants.medium](rng)

    def _attempt(self, seed: int, indices: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
        layer = ceil(LAYER_WIDTH * self.cells)
        points = (np.arange(-layer, self.cells + layer) + 0.5) / self.cells
        drawn = [self.draw(seed, int(index), int(redraw)) for index, redraw in zip(indices, redraws, strict=True)]
        shape = (len(drawn), self.resolution, self.resolution)
        displacement = np.empty((shape[0], self.constants.frames, *shape[1:]), dtype=np.float32)
        wave_speed, growth = np.empty(shape, dtype=np.float32), np.empty(len(drawn))
        block = max(1, POINTS_PER_BLOCK[self.device.type] // len(points) ** 2)
        for begin in range(0, len(drawn), block):
            part = range(begin, min(begin + block, len(drawn)))
            start = np.stack([drawn[sample][0].on(points) for sample in part])
            inside = np.clip(points, 0.0, 1.0)
            speed = np.stack([drawn[sample][1].on(inside) for sample in part])
            crop = slice(layer, layer + self.cells)
            wave_speed[part.start : part.stop] = self._coarse(speed[:, crop, crop])
            steps = self._steps(speed)
            for number in np.unique(steps):  # samples that take as many steps go together
                chosen = np.flatnonzero(steps == number)
                fields = self._solve(start[chosen], speed[chosen], int(number))[..., crop, crop]
                largest = np.abs(fields).max(axis=(2, 3))
                growth[begin + chosen] = largest.max(axis=1) / largest[:, 0]
                displacement[begin + chosen] = self._coarse(fields)
        fields = {"displacement": displacement, "wave_speed": wave_speed}
        return Samples(fields, {}, {"growth": growth}), growth <= GROWTH_LIMIT

    def _steps(self, speed: np.ndarray) -> np.ndarray:
        """(n,) steps from one frame to the next, a multiple of 8 so that samples can share a batch."""
        fastest = speed.max(axis=(1, 2)) * (self.constants.crossing / MEAN_SPEED)
        needed = fastest * self.cells / (COURANT * (self.constants.frames - 1))
        return STEPS_MULTIPLE * np.ceil(needed / STEPS_MULTIPLE).astype(np.int64)

    def _solve(self, start: np.ndarray, speed: np.ndarray, steps: int) -> np.ndarray:
        """(n, T, s, s) with the layers."""
        import torch

        from katops.generators.acoustic_waves import Layers, propagate

        scaled = torch.from_numpy(speed * (self.constants.crossing / MEAN_SPEED)).to(self.device)
        layers = Layers.matched(LAYER_WIDTH, 1 / self.cells, scaled.amax(dim=(1, 2)))
        times = (float(self.times[1]), self.constants.frames, steps)
        fields = propagate(torch.from_numpy(start).to(self.device), scaled, 1 / self.cells, times, layers, self.scheme)
        return fields.transpose(0, 1).cpu().numpy()

    def _coarse(self, fields: np.ndarray) -> np.ndarray:
        """Means over blocks of ``refinement`` x ``refinement`` cells."""
        if self.refinement == 1:
            return fields
        size, factor = self.resolution, self.refinement
        return fields.reshape(*fields.shape[:-2], size, factor, size, factor).mean(axis=(-3, -1))
