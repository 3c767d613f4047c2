"""Shallow water equations: a circular dam breaks."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.data.writing import StoredField
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.block_mean import block_mean
from katops.generators.hyperbolic_reconstruction import LIMITERS
from katops.generators.hyperbolic_solver import FLOOR, HyperbolicSolver, samples_per_block
from katops.generators.options import known, torch_device, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.shallow_water_equations import ShallowWaterEquations
from katops.registry import PROBLEMS

FRAMES = 101
END = 1.0
HALF_WIDTH = 2.5
GRAVITY = 1.0
INNER_HEIGHT, OUTER_HEIGHT = 2.0, 1.0
RADII = (0.3, 0.7)
COURANT = 0.8
RESOLUTIONS = range(16, 2049)
REFINEMENTS = range(1, 17)
VARIANTS = ("radial_dam_break",)


@PROBLEMS.register(
    "shallow_water",
    summary="two-dimensional shallow water equations, radial dam break",
    paper="Takamoto et al., PDEBench: an extensive benchmark for scientific machine learning, NeurIPS 2022",
)
class ShallowWater:
    """h_t + div(h u) = 0, (h u)_t + div(h u u + g h^2 / 2) = 0 on (-2.5, 2.5)^2 over a flat bottom, g = 1.

    The water is at rest, h = 2 where r < R and 1 elsewhere, R ~ U[0.3, 0.7], as in the radial dam break of PDEBench;
    waves leave through the boundary (zero-order extrapolation). 101 frames of h on [0, 1] are stored; R is a parameter.

    Solved by :class:`~katops.generators.hyperbolic_solver.HyperbolicSolver` (MUSCL, HLLC, SSP-RK2; second order where
    smooth, first order at the bore; the water is conserved to round-off until waves reach the boundary) on (refinement
    resolution)^2 cells, of which block means are stored. The published set was solved at 128 x 128 with Clawpack's
    Riemann solver of Roe and the same limiter: ``resolution=128``.

    Source: Takamoto et al., arXiv 2210.07182, section 4 and appendix D.

    Args:
        resolution: stored cells along each axis, 16 to 2048.
        variant: "radial_dam_break".
        refinement: cells solved along each axis for one stored cell, 1 to 16; the cost grows with its third power.
        limiter: slope limiter, "mc" or the more diffusive "van_leer".
        device: where to solve, "auto", "cpu", "cuda", ...; not part of the recipe.

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 64,
        variant: str = "radial_dam_break",
        refinement: int = 1,
        limiter: str = "mc",
        device: str = "cpu",
    ) -> None:
        self.resolution = whole_number("shallow_water", "resolution", resolution, RESOLUTIONS)
        self.variant = known("shallow_water", "variant", variant, VARIANTS)
        self.refinement = whole_number("shallow_water", "refinement", refinement, REFINEMENTS)
        self.limiter = known("shallow_water", "limiter", limiter, LIMITERS)
        self.device = torch_device("shallow_water", device)
        self.cells = self.resolution * self.refinement
        self.times = np.linspace(0.0, END, FRAMES)
        sides = {"lower": -HALF_WIDTH, "upper": HALF_WIDTH, "boundary": ("open", "open")}
        channels = (Channel("height"),)
        self.meta = FieldMeta(
            name="shallow_water",
            inputs=channels,
            outputs=channels,
            axes=(Axis("x", **sides), Axis("y", **sides)),
            parameters=(Channel("dam_radius"),),
            time_step=END / (FRAMES - 1),
        )
        shape = (FRAMES, self.resolution, self.resolution)
        self.fields = {channel.name: StoredField.of(channel, "state", shape) for channel in channels}
        spacing = 2 * HALF_WIDTH / self.cells
        law = ShallowWaterEquations(GRAVITY)
        self._solver = HyperbolicSolver(law, (spacing, spacing), "outflow", limiter, COURANT)

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        return {
            "recipe": "shallow_water",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "h_t + div(h u) = 0, (h u)_t + div(h u u + g h^2 / 2) = 0",
            "gravity": GRAVITY,
            "initial_state": f"at rest, h = {INNER_HEIGHT} where r < R, else {OUTER_HEIGHT}, R ~ U{list(RADII)}",
            "notes": "the published set was solved by Clawpack (Riemann solver of Roe), this one by HLLC fluxes",
            "solver": "SSP-RK2 with the time step of each sample, float64",
            "solver_tolerance": FLOOR,
            "courant_number": COURANT,
            "scheme": f"unsplit MUSCL finite volumes on height and velocity, {self.limiter} limiter, HLLC flux; zero "
            "slopes, then smaller steps, where the height falls below the tolerance",
            "native_resolution": self.cells,
            "downsampling": "block_mean" if self.refinement > 1 else "none",
            "domain": f"(-{HALF_WIDTH}, {HALF_WIDTH})^2",
            "grid": "cell_centres",
            "boundary": "open",
            "end_time": END,
            "frames": FRAMES,
        }

    def dam_radius(self, seed: int, index: int, redraw: int = 0) -> float:
        """R of one sample."""
        return random_stream(f"shallow_water/{self.variant}", seed, index, redraw).uniform(*RADII)

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`.

        Quality: ``repaired_steps``, how many steps were done again to keep the height positive.
        """

        def attempt(chosen: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            return self._attempt(seed, chosen, redraws)

        return accepted_samples("shallow_water", indices, attempt)

    def _attempt(self, seed: int, indices: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
        """One draw of each sample, in blocks of bounded memory."""
        pairs = zip(indices, redraws, strict=True)
        radius = np.array([self.dam_radius(seed, int(index), int(redraw)) for index, redraw in pairs])
        height = np.empty((len(indices), FRAMES, self.resolution, self.resolution), dtype=np.float32)
        repaired, failed = np.empty(len(indices)), np.empty(len(indices), dtype=bool)
        block = samples_per_block(self.cells, self.device)
        for start in range(0, len(indices), block):
            part = slice(start, start + block)
            repaired[part], failed[part] = self._solve(self._water_at_rest(radius[part]), height[part])
        return Samples({"height": height}, {"dam_radius": radius}, {"repaired_steps": repaired}), ~failed

    def _water_at_rest(self, radius: np.ndarray) -> Tensor:
        """(3, n, cells, cells) height and velocity at the cell centres."""
        centres = Axis("x", lower=-HALF_WIDTH, upper=HALF_WIDTH).coordinates(self.cells)
        inside = np.hypot(centres[:, None], centres[None, :]) < radius[:, None, None]
        height = np.where(inside, INNER_HEIGHT, OUTER_HEIGHT)
        return torch.from_numpy(np.stack((height, 0 * height, 0 * height)))

    def _solve(self, primitive: Tensor, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fill (n, frames, s, s) ``frames``; returns repaired steps and failures of the n samples."""
        state = self._solver.start(primitive.to(self.device))
        for number in range(FRAMES):
            if number:
                state = self._solver.advance(state, float(self.times[number] - self.times[number - 1]))
            frames[:, number] = block_mean(state.conserved[0], self.refinement).to(torch.float32).cpu().numpy()
        return state.repaired.cpu().numpy(), state.failed.cpu().numpy()
