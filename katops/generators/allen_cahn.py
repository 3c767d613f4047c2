"""The Allen-Cahn equation: phases that separate and move by curvature."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy import fft
from torch import Tensor

from katops.data.writing import StoredField
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.block_size import samples_per_block
from katops.generators.heat_semigroup import HeatSemigroup
from katops.generators.options import known, torch_device, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.registry import PROBLEMS

EPSILON = 220.0
FINAL_TIME = 2e-4
FRAMES = 20
STEPS_PER_FRAME = 10
WAVES = (16, 32)
DECAY = (0.7, 1.0)
RESOLUTIONS = range(8, 4097)
NATIVE_RESOLUTIONS = range(WAVES[1] + 8, 4097)


@dataclass(frozen=True)
class Variant:
    """The initial condition is the sum over the waves times K^-prefactor_power, K being their number on each axis."""

    prefactor_power: int


VARIANTS = {"fitted": Variant(1), "literal": Variant(2)}


@PROBLEMS.register(
    "allen_cahn",
    summary="Allen-Cahn equation on a torus, phase -> phase",
    paper="Herde et al., Poseidon: efficient foundation models for PDEs, NeurIPS 2024",
)
class AllenCahn:
    """u_t = Laplace u - eps^2 u (u^2 - 1) on (0, 1)^2, periodic, eps = 220, 0 <= t <= 2e-4, 20 frames; the state is u.

    u(x, y, 0) = K^-p sum_{i,j <= K} a_ij (i^2 + j^2)^-r sin(pi i x) sin(pi j y), K uniform in 16 ... 32, r in [0.7, 1],
    a_ij in [-1, 1]. The sines of odd i are not smooth where the period ends. The paper prints p = 2 ("literal"), with
    which the standard deviation over all times is 0.37; that of the published data, 0.65, follows from p = 1
    ("fitted").

    Five-point differences on the nodes i / native, as published; in time Strang splitting (order 2) of the reaction and
    of the discrete heat equation, both exact, 10 steps per frame. Since both keep the bounds -1 and 1, so does the
    method. The interfaces are sqrt(2) / eps = 0.0064 wide, less than a cell of the published grid of 128 x 128: on
    finer grids the solution is a different one at the interfaces.

    Args:
        resolution: s, number of stored nodes along each axis, 8 to 4096; it divides ``native_resolution``.
        variant: "fitted" or "literal".
        native_resolution: number of nodes of the solver along each axis, 40 to 4096.
        device: where it is solved: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self, resolution: int = 128, variant: str = "fitted", native_resolution: int = 128, device: str = "cpu"
    ) -> None:
        self.resolution = whole_number("allen_cahn", "resolution", resolution, RESOLUTIONS)
        self.variant = known("allen_cahn", "variant", variant, VARIANTS)
        self.native = whole_number("allen_cahn", "native_resolution", native_resolution, NATIVE_RESOLUTIONS)
        if self.native % self.resolution:
            raise UserError(f"allen_cahn: resolution {self.resolution} does not divide native_resolution {self.native}")
        self.device = torch_device("allen_cahn", device)
        self.times = np.linspace(0.0, FINAL_TIME, FRAMES)
        axes = tuple(Axis(name, "periodic_nodes", boundary=("periodic", "periodic")) for name in "xy")
        channels = (Channel("u"),)
        self.meta = FieldMeta("allen_cahn", channels, channels, axes, time_step=FINAL_TIME / (FRAMES - 1))
        self.fields = {"u": StoredField("state", "", (FRAMES, self.resolution, self.resolution))}

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        return {
            "recipe": "allen_cahn",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "u_t = Laplace u - epsilon^2 u (u^2 - 1) in (0, 1)^2, periodic",
            "epsilon": EPSILON,
            "initial_condition": "K^-prefactor_power sum a_ij (i^2 + j^2)^-r sin(pi i x) sin(pi j y), K in 16 ... 32, "
            "r in [0.7, 1], a in [-1, 1]",
            **asdict(VARIANTS[self.variant]),
            "final_time": FINAL_TIME,
            "frames": FRAMES,
            "solver": "Strang splitting, exact reaction, exact discrete heat equation, float64",
            "solver_tolerance": 0.0,
            "time_step": FINAL_TIME / (FRAMES - 1) / STEPS_PER_FRAME,
            "scheme": "five-point differences",
            "native_resolution": self.native,
            "downsampling": "stride",
            "domain": "(0, 1)^2",
            "grid": "periodic_nodes",
            "boundary": "periodic",
            "notes": "the paper prints the prefactor K^-2 (literal); K^-1 (fitted) agrees with the standard deviation "
            "of the published data; the reaction rate is epsilon^2 = 48400",
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`.

        Quality holds ``energy_growth``, the largest growth of the energy from one frame to the next as a share of the
        initial energy (negative where it falls everywhere), and ``rejected``.
        """
        block = samples_per_block(self.native**2, self.device)
        stride = self.native // self.resolution

        def attempt(drawn: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            u = np.empty((len(drawn), *self.fields["u"].shape), dtype=np.float32)
            growth = np.empty(len(drawn))
            for start in range(0, len(drawn), block):
                part = slice(start, start + block)
                initial = [
                    self.initial_condition(seed, int(index), int(redraw))
                    for index, redraw in zip(drawn[part], redraws[part], strict=True)
                ]
                frames = solve_allen_cahn(
                    torch.from_numpy(np.stack(initial)).to(self.device),
                    EPSILON**2,
                    FINAL_TIME / (FRAMES - 1),
                    FRAMES,
                    STEPS_PER_FRAME,
                )
                u[part] = frames[..., ::stride, ::stride].cpu().numpy()
                growth[part] = _energy_growth(energy(frames, EPSILON**2).cpu().numpy())
            return Samples({"u": u}, {}, {"energy_growth": growth}), np.ones(len(drawn), dtype=bool)

        return accepted_samples("allen_cahn", indices, attempt)

    def initial_condition(self, seed: int, index: int, redraw: int = 0) -> np.ndarray:
        """u at time 0 of one sample on the nodes of the solver, (native, native), float64."""
        rng = random_stream(f"allen_cahn/{self.variant}", seed, index, redraw)
        waves = int(rng.integers(WAVES[0], WAVES[1] + 1))
        decay = rng.uniform(*DECAY)
        amplitudes = rng.uniform(-1.0, 1.0, (waves, waves))
        numbers = np.arange(1, waves + 1)
        amplitudes *= (numbers[:, None] ** 2 + numbers**2) ** -decay
        amplitudes *= float(waves) ** -VARIANTS[self.variant].prefactor_power
        inner = np.zeros((self.native - 1, self.native - 1))
        inner[:waves, :waves] = amplitudes / 4  # the sine transform of type I has a factor 2 on each axis
        u = np.zeros((self.native, self.native))
        u[1:, 1:] = fft.dstn(inner, type=1)
        return u


def react(u: Tensor, rate: float, time: float) -> Tensor:
    """The solution of u' = rate (u - u^3) after ``time``."""
    square = u * u
    return u * torch.rsqrt(square + (1 - square) * float(np.exp(-2 * rate * time)))


def solve_allen_cahn(u: Tensor, rate: float, interval: float, frames: int, steps_per_frame: int) -> Tensor:
    """Solve u_t = Laplace u + rate (u - u^3) on the unit torus by Strang splitting.

    Args:
        u: (n, s, s) float64, values on the nodes i / s at time 0.
        rate: eps^2.
        interval: time between two frames.
        frames: number of frames, the first of which is ``u``.
        steps_per_frame: steps of each interval.

    Returns:
        (n, frames, s, s).

    Source: Strang, "On the construction and comparison of difference schemes", SIAM J. Numer. Anal. 5, 1968.
    """
    sizes = tuple(u.shape[1:])
    heat = HeatSemigroup(sizes, tuple(1 / size for size in sizes), u.device)
    step = interval / steps_per_frame
    factors = heat.factors(step)
    found = u.new_empty((len(u), frames, *sizes))
    found[:, 0] = u
    for frame in range(1, frames):
        u = react(u, rate, step / 2)
        for done in range(1, steps_per_frame + 1):
            u = heat(u, factors)
            u = react(u, rate, step if done < steps_per_frame else step / 2)
        found[:, frame] = u
    return found


def energy(u: Tensor, rate: float) -> Tensor:
    """Integral of \\|grad u\\|^2 / 2 + rate (1 - u^2)^2 / 4 over the unit torus, (\\*batch, s, s) -> (\\*batch)."""
    gradient = ((torch.roll(u, -1, -1) - u) * u.shape[-1]) ** 2 + ((torch.roll(u, -1, -2) - u) * u.shape[-2]) ** 2
    return (gradient / 2 + rate / 4 * (1 - u * u) ** 2).mean((-2, -1))


def _energy_growth(energies: np.ndarray) -> np.ndarray:
    return np.diff(energies, axis=1).max(axis=1) / energies[:, 0]
