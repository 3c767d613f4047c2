"""Diffusion and FitzHugh-Nagumo reaction of two substances, from white noise to patterns."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from katops.data.writing import StoredField
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.block_mean import block_mean
from katops.generators.block_size import samples_per_block
from katops.generators.fitzhugh_nagumo import Constants, solve_by_runge_kutta, solve_with_fixed_steps, steps_of_frames
from katops.generators.options import known, torch_device, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.registry import PROBLEMS

VARIANTS = ("pdebench",)
SCHEMES = ("fast", "reference")
RESOLUTIONS = range(4, 1025)
LOWER, UPPER = -1.0, 1.0
FINAL_TIME = 5.0
FRAMES = 101
CONSTANTS = Constants()
LARGEST_VALUE = 10.0
"""White noise starts below 6 and the reaction brings everything below 2; larger values are a failure."""


@PROBLEMS.register(
    "diffusion_reaction",
    summary="two substances that diffuse and react, activator and inhibitor -> activator and inhibitor",
    paper="Takamoto et al., PDEBench: an extensive benchmark for scientific machine learning, NeurIPS 2022",
)
class DiffusionReaction:
    """u_t = 0.001 Laplace u + u - u^3 - 0.005 - v, v_t = 0.005 Laplace v + u - v on (-1, 1)^2, 0 <= t <= 5, 101 frames.

    The activator u and the inhibitor v have zero normal derivatives on the boundary. At time 0 both are independent
    standard normal numbers in every cell: the distribution depends on the native grid, which is that of the published
    data, 128 x 128, unless another one is asked for. Coarser files hold means of its cells.

    Five-point differences (order 2) at the cell centres. "fast" takes classical Runge-Kutta steps (order 4) of fixed
    length, shorter ones while the noise decays; its relative error in time is below 1e-5 at 128 x 128. "reference" is
    the published method, SciPy's adaptive RK45 with its default tolerances, on the CPU.

    Args:
        resolution: s, number of stored cells along each axis, 4 to 1024; it divides ``native_resolution``.
        variant: "pdebench".
        native_resolution: number of cells of the solver along each axis, 4 to 1024.
        scheme: "fast" or "reference".
        device: where "fast" is solved: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.

    Source: Takamoto et al., "PDEBench", NeurIPS 2022, appendix D.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 64,
        variant: str = "pdebench",
        native_resolution: int = 128,
        scheme: str = "fast",
        device: str = "cpu",
    ) -> None:
        name = "diffusion_reaction"
        self.resolution = whole_number(name, "resolution", resolution, RESOLUTIONS)
        self.variant = known(name, "variant", variant, VARIANTS)
        self.native = whole_number(name, "native_resolution", native_resolution, RESOLUTIONS)
        if self.native % self.resolution:
            raise UserError(f"{name}: resolution {self.resolution} does not divide native_resolution {self.native}")
        self.scheme = known(name, "scheme", scheme, SCHEMES)
        self.device = torch_device(name, device)
        self.times = np.linspace(0.0, FINAL_TIME, FRAMES)
        self.interval = FINAL_TIME / (FRAMES - 1)
        axes = tuple(Axis(axis, "cell_centres", LOWER, UPPER, ("neumann", "neumann")) for axis in "xy")
        channels = (Channel("activator"), Channel("inhibitor"))
        self.meta = FieldMeta(name, channels, channels, axes, time_step=self.interval)
        shape = (FRAMES, self.resolution, self.resolution)
        self.fields = {channel.name: StoredField("state", "", shape) for channel in channels}

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        fast = self.scheme == "fast"
        solver = "classical Runge-Kutta, fixed steps" if fast else "SciPy solve_ivp RK45, rtol 1e-3, atol 1e-6"
        return {
            "recipe": "diffusion_reaction",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "u_t = diffusivity_u Laplace u + u - u^3 - k - v, v_t = diffusivity_v Laplace v + u - v "
            "in (-1, 1)^2, zero normal derivatives on the boundary",
            **CONSTANTS._asdict(),
            "initial_condition": "standard normal numbers in every cell of the native grid",
            "final_time": FINAL_TIME,
            "frames": FRAMES,
            "solver": f"{solver}, float64",
            "solver_tolerance": 0.0 if fast else 1e-3,
            "steps": sum(self._steps) if fast else 0,
            "scheme": self.scheme,
            "native_resolution": self.native,
            "downsampling": "block_mean",
            "domain": "(-1, 1)^2",
            "grid": "cell_centres",
            "boundary": "neumann",
            "notes": "the published data are white noise on 128 x 128 cells at time 0; another native_resolution is "
            "another distribution",
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`.

        Quality holds ``largest_value``, of both substances after time 0, and ``rejected``.
        """
        block = samples_per_block(self.native**2, self.device)
        solve = self._fast if self.scheme == "fast" else self._reference

        def attempt(drawn: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            fields = {
                name: np.empty((len(drawn), *field.shape), dtype=np.float32) for name, field in self.fields.items()
            }
            largest = np.zeros(len(drawn))
            for start in range(0, len(drawn), block):
                part = slice(start, start + block)
                initial = [
                    self.initial_condition(seed, int(index), int(redraw))
                    for index, redraw in zip(drawn[part], redraws[part], strict=True)
                ]
                for name, solution in zip(fields, solve(np.stack(initial, axis=1)), strict=True):
                    fields[name][part] = block_mean(solution, self.native // self.resolution).cpu().numpy()
                    # NaN stays NaN in both maxima and is refused.
                    largest[part] = np.maximum(largest[part], solution[:, 1:].abs().amax((1, 2, 3)).cpu().numpy())
            return Samples(fields, {}, {"largest_value": largest}), largest <= LARGEST_VALUE

        return accepted_samples("diffusion_reaction", indices, attempt)

    def initial_condition(self, seed: int, index: int, redraw: int = 0) -> np.ndarray:
        """Activator and inhibitor of one sample at time 0, (2, native, native), float64."""
        rng = random_stream(f"diffusion_reaction/{self.variant}", seed, index, redraw)
        return rng.standard_normal((2, self.native, self.native))

    @property
    def _steps(self) -> list[int]:
        return steps_of_frames(FRAMES, self.interval, self.native, UPPER - LOWER, CONSTANTS)

    def _fast(self, initial: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        u, v = torch.from_numpy(initial).to(self.device)
        return solve_with_fixed_steps(u, v, UPPER - LOWER, self.interval, self._steps, CONSTANTS)

    def _reference(self, initial: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        solutions = [
            solve_by_runge_kutta(u, v, UPPER - LOWER, self.times, CONSTANTS) for u, v in initial.swapaxes(0, 1)
        ]
        u, v = (torch.from_numpy(np.stack(frames)) for frames in zip(*solutions, strict=True))
        return u, v
