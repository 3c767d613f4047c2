"""Burgers' equation in one dimension, in the two published settings of operator learning."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from katops.data.writing import StoredField
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.generators import sine_superposition
from katops.generators.block_size import samples_per_block
from katops.generators.conservation_law import solve_conservation_law
from katops.generators.muscl import burgers_roe_flux
from katops.generators.options import known, real_number, torch_device, whole_number
from katops.generators.periodic_line_field import periodic_line_field
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.sine_superposition import draw_sine_superposition
from katops.generators.spectral_burgers import retained_modes, solve_spectral_burgers
from katops.registry import PROBLEMS

SCHEMES = ("fast", "reference")
NATIVE_RESOLUTIONS = range(8, 2**16 + 1)
MEAN_DRIFT_LIMIT = 1e-10
FINITE_VOLUME_FINAL_TIME = 2.0
FINITE_VOLUME_FRAMES = 201
SMALLEST_EPSILON, LARGEST_EPSILON = 1e-4, 10.0
COURANT_NUMBERS = {"fast": 0.4, "reference": 0.25}


@dataclass(frozen=True)
class GaussianVariant:
    """The published constants of a data set with Gaussian initial conditions, and the steps of the two schemes."""

    sigma: float
    gamma: float
    tau: float
    viscosity: float
    frames: int
    """Stored times after 0; 1 is a map from the initial to the final value."""
    fast_steps: int
    reference_steps: int = 10_000
    final_time: float = 1.0


GAUSSIAN_VARIANTS = {
    "fno": GaussianVariant(sigma=25.0, gamma=2.0, tau=5.0, viscosity=0.1, frames=1, fast_steps=400),
    "fno_v1000": GaussianVariant(sigma=49.0, gamma=2.5, tau=7.0, viscosity=1e-3, frames=200, fast_steps=1000),
}
VARIANTS = (*GAUSSIAN_VARIANTS, *sine_superposition.VARIANTS)


@PROBLEMS.register(
    "burgers",
    summary="viscous Burgers' equation on a circle, initial velocity -> velocity",
    paper="Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021",
)
class Burgers:
    """u_t + u u_x = nu u_xx on (0, 1), periodic.

    ================  ====  =========  ===================================================  ========================
    variant           T     nu         initial condition                                    published with
    ================  ====  =========  ===================================================  ========================
    fno               1     0.1        N(0, 25^2 (-d^2/dx^2 + 5^2)^-2), only u(1) stored    Li et al., ICLR 2021
    fno_v1000         1     0.001      N(0, 49^2 (-d^2/dx^2 + 7^2)^-2.5), 201 frames        the repository of the FNO
    pdebench          2     eps / pi   two sine waves as the script draws them, 201 frames  Takamoto et al., 2022
    pdebench_printed  2     eps / pi   two sine waves as the paper prints them, 201 frames  Takamoto et al., 2022
    ================  ====  =========  ===================================================  ========================

    Gaussian variants live on the nodes i / s; see :func:`~katops.generators.periodic_line_field.periodic_line_field`.
    They are solved by :func:`~katops.generators.spectral_burgers.solve_spectral_burgers` (spectral in space, order 4 in
    time), with waves below a third of the native resolution, and stored at every (native / s)-th node. "fast" takes 400
    steps (fno) or 1000 (fno_v1000), with an error in time below 1e-6, "reference" the published step 1e-4. Published
    natively at 8192 (fno) and 1024 (fno_v1000), without the removal of aliasing.

    PDEBench variants live at the cell centres (i + 1/2) / s; see
    :func:`~katops.generators.sine_superposition.draw_sine_superposition`. They are solved by
    :func:`~katops.generators.conservation_law.solve_conservation_law` (piecewise linear reconstruction, Roe's flux,
    order 2 where u is smooth, 1 at shocks) and stored as means of native / s cells. "fast" splits the viscous term and
    takes Courant number 0.4, "reference" is the published method: explicit viscous term, which needs about
    eps native^2 steps, Courant number 0.25, and waves of period 1 - 1 / native. Published at 1024, with eps 0.001,
    0.002, 0.004, 0.01, 0.02, 0.04, 0.1, 0.2, 0.4, 1, 2, 4.

    Args:
        resolution: s, the number of stored points; it divides ``native_resolution``.
        variant: one of the table.
        native_resolution: number of points of the solver, 8 to 65536; by default 2048 for the Gaussian variants and
            1024 for those of PDEBench, or ``resolution`` where it is larger.
        epsilon: eps = pi nu of the PDEBench variants, 0.0001 to 10; by default 0.01.
        scheme: "fast" or "reference".
        device: where it is solved: "cpu", "cuda", "cuda:N" or "auto".

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown, or does not belong to the variant.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 256,
        variant: str = "fno",
        native_resolution: int | None = None,
        epsilon: float | None = None,
        scheme: str = "fast",
        device: str = "cpu",
    ) -> None:
        self.resolution = whole_number("burgers", "resolution", resolution, NATIVE_RESOLUTIONS)
        self.variant = known("burgers", "variant", variant, VARIANTS)
        self.scheme = known("burgers", "scheme", scheme, SCHEMES)
        self.gaussian = GAUSSIAN_VARIANTS.get(variant)
        if native_resolution is None:
            native_resolution = max(2048 if self.gaussian else 1024, self.resolution)
        self.native = whole_number("burgers", "native_resolution", native_resolution, NATIVE_RESOLUTIONS)
        if self.native % self.resolution:
            raise UserError(f"burgers: resolution {self.resolution} does not divide native_resolution {self.native}")
        if self.gaussian and epsilon is not None:
            raise UserError(f"burgers: epsilon belongs to the pdebench variants; variant {variant!r} has its viscosity")
        self.epsilon = real_number(
            "burgers", "epsilon", 0.01 if epsilon is None else epsilon, SMALLEST_EPSILON, LARGEST_EPSILON
        )
        self.viscosity = self.gaussian.viscosity if self.gaussian else self.epsilon / np.pi
        self.device = torch_device("burgers", device)
        self._describe()

    def _describe(self) -> None:
        """Set ``times``, ``meta`` and ``fields``."""
        final_time = self.gaussian.final_time if self.gaussian else FINITE_VOLUME_FINAL_TIME
        frames = self.gaussian.frames + 1 if self.gaussian else FINITE_VOLUME_FRAMES
        grid = "periodic_nodes" if self.gaussian else "cell_centres"
        axes = (Axis("x", grid, boundary=("periodic", "periodic")),)
        if frames == 2:
            self.times = None
            inputs, outputs = (Channel("initial_velocity"),), (Channel("velocity"),)
            self.meta = FieldMeta("burgers", inputs, outputs, axes)
            roles = {"initial_velocity": "input", "velocity": "output"}
            self.fields = {name: StoredField(role, "", (self.resolution,)) for name, role in roles.items()}
        else:
            self.times = np.linspace(0.0, final_time, frames)
            channels = (Channel("velocity"),)
            self.meta = FieldMeta("burgers", channels, channels, axes, time_step=final_time / (frames - 1))
            self.fields = {"velocity": StoredField("state", "", (frames, self.resolution))}

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        return {
            "recipe": "burgers",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "u_t + u u_x = viscosity u_xx in (0, 1), periodic",
            "viscosity": self.viscosity,
            **(self._gaussian_recipe() if self.gaussian else self._finite_volume_recipe()),
            "scheme": self.scheme,
            "native_resolution": self.native,
            "domain": "(0, 1)",
            "boundary": "periodic",
        }

    def _gaussian_recipe(self) -> dict[str, Any]:
        constants = asdict(self.gaussian)
        del constants["fast_steps"], constants["reference_steps"]
        return {
            "random_field": "sigma (-d^2/dx^2 + tau^2)^(-gamma / 2) white noise, periodic, zero mean",
            **constants,
            "solver": "Fourier-Galerkin, 2/3 dealiasing, ETDRK4, float64",
            "solver_tolerance": 0.0,
            "time_step": self.gaussian.final_time / self._spectral_steps,
            "grid": "periodic_nodes",
            "downsampling": "stride",
            "notes": "published with Chebfun's spin (ETDRK4, step 1e-4) without dealiasing; here the waves above a "
            "third of the native resolution are left out",
        }

    def _finite_volume_recipe(self) -> dict[str, Any]:
        viscous = "explicit central differences" if self.scheme == "reference" else "Strang splitting, exact in time"
        return {
            "epsilon": self.epsilon,
            "initial_condition": "two of the waves 1 to 4, A sin(2 pi n x + phi), A in [0, 1]; probability 0.1 each of "
            "the absolute value and of a window with edges of width 0.01; random sign",
            "wave_period": self._wave_period,
            "final_time": FINITE_VOLUME_FINAL_TIME,
            "frames": FINITE_VOLUME_FRAMES,
            "solver": "MUSCL, monotonised central limiter, Roe flux, midpoint rule; viscous term: " + viscous,
            "solver_tolerance": 0.0,
            "courant_number": COURANT_NUMBERS[self.scheme],
            "grid": "cell_centres",
            "downsampling": "block_mean",
            "notes": sine_superposition.NOTES[self.variant],
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`.

        Quality holds ``mean_drift``, the largest change of the mean in time, which both schemes conserve to round-off,
        and ``rejected``; for Gaussian variants also ``spectral_tail``, the share of the last tenth of the waves in the
        norm of the final u.
        """
        solve = self._spectral if self.gaussian else self._finite_volumes
        block = samples_per_block(self.native, self.device)

        def attempt(drawn: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            parts = []
            for start in range(0, len(drawn), block):
                part = slice(start, start + block)
                streams = [
                    random_stream(f"burgers/{self.variant}", seed, int(index), int(redraw))
                    for index, redraw in zip(drawn[part], redraws[part], strict=True)
                ]
                parts.append(solve(streams))
            fields, _, quality = (
                {name: np.concatenate([part[group][name] for part in parts]) for name in parts[0][group]}
                for group in range(3)
            )
            return Samples(fields, {}, quality), quality["mean_drift"] <= MEAN_DRIFT_LIMIT

        return accepted_samples("burgers", indices, attempt)

    @property
    def _spectral_steps(self) -> int:
        return self.gaussian.fast_steps if self.scheme == "fast" else self.gaussian.reference_steps

    @property
    def _wave_period(self) -> float:
        return 1.0 if self.scheme == "fast" else 1.0 - 1.0 / self.native

    def _spectral(self, streams: list[np.random.Generator]) -> Samples:
        variant, modes = self.gaussian, retained_modes(self.native)
        drawn = [periodic_line_field(rng, modes, variant.sigma, variant.gamma, variant.tau) for rng in streams]
        steps = [frame * self._spectral_steps // variant.frames for frame in range(variant.frames + 1)]
        spectra = solve_spectral_burgers(
            torch.from_numpy(np.stack(drawn)).to(self.device),
            self.native,
            variant.viscosity,
            variant.final_time / self._spectral_steps,
            steps,
        )
        stride = self.native // self.resolution
        u = torch.fft.irfft(spectra, self.native, norm="forward")[..., ::stride].float().cpu().numpy()
        energy = (spectra[:, -1].abs() ** 2).cpu().numpy()
        tail = np.sqrt(energy[:, -max(1, modes // 10) :].sum(axis=1) / energy.sum(axis=1))
        quality = {"mean_drift": spectra[..., 0].abs().amax(1).cpu().numpy(), "spectral_tail": tail}
        if self.times is None:
            return Samples({"initial_velocity": u[:, 0], "velocity": u[:, 1]}, {}, quality)
        return Samples({"velocity": u}, {}, quality)

    def _finite_volumes(self, streams: list[np.random.Generator]) -> Samples:
        x = self.meta.axes[0].coordinates(self.native)
        initial = [draw_sine_superposition(rng, self.variant)(x, self._wave_period) for rng in streams]
        solution = solve_conservation_law(
            torch.from_numpy(np.stack(initial)).to(self.device),
            FINITE_VOLUME_FRAMES,
            FINITE_VOLUME_FINAL_TIME / (FINITE_VOLUME_FRAMES - 1),
            burgers_roe_flux,
            lambda now: now.abs().amax(-1),
            COURANT_NUMBERS[self.scheme],
            self.viscosity,
            explicit_diffusion=self.scheme == "reference",
        )
        solution = solution.cpu().numpy()
        mean = solution.mean(axis=2)
        cells = solution.reshape(*solution.shape[:2], self.resolution, -1).mean(axis=3)
        drift = np.abs(mean - mean[:, :1]).max(axis=1)
        return Samples({"velocity": cells.astype(np.float32)}, {}, {"mean_drift": drift})
