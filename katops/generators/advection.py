"""Advection at constant speed in one dimension."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from katops.data.writing import StoredField
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.block_size import samples_per_block
from katops.generators.conservation_law import solve_conservation_law
from katops.generators.muscl import linear_upwind_flux
from katops.generators.options import known, real_number, torch_device, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.sine_superposition import NOTES, VARIANTS, SineSuperposition, draw_sine_superposition
from katops.registry import PROBLEMS

FINAL_TIME = 2.0
COURANT_NUMBER = 0.4
SCHEMES = ("exact", "reference")
RESOLUTIONS = range(8, 2**16 + 1)
FRAMES = range(2, 2002)
LARGEST_BETA = 100.0


@PROBLEMS.register(
    "advection",
    summary="advection at constant speed on a circle, sums of sine waves -> their shift",
    paper="Takamoto et al., PDEBench: an extensive benchmark for scientific machine learning, NeurIPS 2022",
)
class Advection:
    """u_t + beta u_x = 0 on (0, 1), periodic, 0 <= t <= 2; the state is u.

    The initial condition is a :func:`~katops.generators.sine_superposition.draw_sine_superposition`: two sine waves,
    sometimes folded at zero or cut off. "pdebench" draws what the published script draws, "pdebench_printed" what the
    paper prints. Published at 1024 cell centres with 201 frames and beta 0.1, 0.2, 0.4, 0.7, 1, 2, 4, 7.

    "exact" evaluates the solution u(x - beta t, 0) at the cell centres. "reference" is the published finite-volume
    method: piecewise linear reconstruction with the monotonised central limiter, upwind flux, midpoint rule, Courant
    number 0.4; second order where u is smooth, first in L1 at the edges of windows. It also keeps the period of the
    published waves, 1 - 1 / s instead of 1, which leaves a small jump at the end of the interval.

    Args:
        resolution: s, the number of cells, 8 to 65536.
        variant: "pdebench" or "pdebench_printed".
        beta: the speed, -100 to 100.
        frames: number of stored times from 0 to 2, 2 to 2001.
        scheme: "exact" or "reference".
        device: where "reference" is solved: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 256,
        variant: str = "pdebench",
        beta: float = 0.4,
        frames: int = 201,
        scheme: str = "exact",
        device: str = "cpu",
    ) -> None:
        self.resolution = whole_number("advection", "resolution", resolution, RESOLUTIONS)
        self.variant = known("advection", "variant", variant, VARIANTS)
        self.beta = real_number("advection", "beta", beta, -LARGEST_BETA, LARGEST_BETA)
        self.frames = whole_number("advection", "frames", frames, FRAMES)
        self.scheme = known("advection", "scheme", scheme, SCHEMES)
        self.device = torch_device("advection", device)
        self.times = np.linspace(0.0, FINAL_TIME, self.frames)
        channels = (Channel("u"),)
        self.axis = Axis("x", boundary=("periodic", "periodic"))
        time_step = FINAL_TIME / (self.frames - 1)
        self.meta = FieldMeta("advection", channels, channels, (self.axis,), time_step=time_step)
        self.fields = {"u": StoredField("state", "", (self.frames, self.resolution))}

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        finite_volumes = "MUSCL, monotonised central limiter, upwind flux, midpoint rule, float64"
        return {
            "recipe": "advection",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "u_t + beta u_x = 0 in (0, 1), periodic",
            "beta": self.beta,
            "initial_condition": "two of the waves 1 to 4, A sin(2 pi n x + phi), A in [0, 1]; probability 0.1 each of "
            "the absolute value and of a window with edges of width 0.01; random sign",
            "wave_period": self._wave_period,
            "final_time": FINAL_TIME,
            "frames": self.frames,
            "solver": "exact shift, float64" if self.scheme == "exact" else finite_volumes,
            "solver_tolerance": 0.0,
            "courant_number": 0.0 if self.scheme == "exact" else COURANT_NUMBER,
            "scheme": self.scheme,
            "native_resolution": self.resolution,
            "downsampling": "none",
            "domain": "(0, 1)",
            "grid": "cell_centres",
            "boundary": "periodic",
            "notes": NOTES[self.variant],
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`; quality holds ``mean_drift`` and ``rejected``."""
        block = samples_per_block(self.resolution, self.device)

        def attempt(drawn: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            u = np.empty((len(drawn), self.frames, self.resolution), dtype=np.float32)
            drift = np.empty(len(drawn))
            for start in range(0, len(drawn), block):
                part = slice(start, start + block)
                initial = [
                    self.initial_condition(seed, int(index), int(redraw))
                    for index, redraw in zip(drawn[part], redraws[part], strict=True)
                ]
                solution = self._exact(initial) if self.scheme == "exact" else self._finite_volumes(initial)
                u[part] = solution
                mean = solution.mean(axis=2)
                drift[part] = np.abs(mean - mean[:, :1]).max(axis=1)
            return Samples({"u": u}, {}, {"mean_drift": drift}), np.ones(len(drawn), dtype=bool)

        return accepted_samples("advection", indices, attempt)

    def initial_condition(self, seed: int, index: int, redraw: int = 0) -> SineSuperposition:
        """The initial condition of one sample, a function of x."""
        return draw_sine_superposition(random_stream(f"advection/{self.variant}", seed, index, redraw), self.variant)

    @property
    def _wave_period(self) -> float:
        return 1.0 if self.scheme == "exact" else 1.0 - 1.0 / self.resolution

    def _exact(self, initial: list[SineSuperposition]) -> np.ndarray:
        origin = np.mod(self.axis.coordinates(self.resolution) - self.beta * self.times[:, None], 1.0)
        return np.stack([condition(origin) for condition in initial])

    def _finite_volumes(self, initial: list[SineSuperposition]) -> np.ndarray:
        x = self.axis.coordinates(self.resolution)
        u = np.stack([condition(x, self._wave_period) for condition in initial])
        solution = solve_conservation_law(
            torch.from_numpy(u).to(self.device),
            self.frames,
            FINAL_TIME / (self.frames - 1),
            linear_upwind_flux(self.beta),
            lambda now: now.new_full((len(now),), abs(self.beta)),
            COURANT_NUMBER,
        )
        return solution.cpu().numpy()
