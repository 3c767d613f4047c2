"""Incompressible Navier-Stokes equations on the unit torus: the forced vorticity data of FNO and Poseidon's flows."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from katops.data.writing import StoredField
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.block_size import samples_per_block
from katops.generators.flow_stepping import Advance, CrankNicolsonEuler, IntegratingFactorRK4, StrongStabilityRK3
from katops.generators.navier_stokes_initial import central_disc
from katops.generators.navier_stokes_variants import VARIANTS
from katops.generators.options import known, real_number, torch_device, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.spectral_flow import SpectralFlow, wave_numbers
from katops.registry import PROBLEMS

NAME = "navier_stokes"
RESOLUTIONS = range(8, 2049)
SCHEMES = ("accurate", "reference")
COURANT = 1.8
LONGEST_STEP = 0.1
STABLE_COURANT = 2.5  # of the accurate scheme, whose advection is stable up to 2.8
REFERENCE_COURANT = 0.5
REFERENCE_STEP = 1e-4


@PROBLEMS.register(
    NAME,
    summary="incompressible Navier-Stokes on the torus: FNO's forced vorticity, Poseidon's initial states",
    paper="Li et al., ICLR 2021 (fno_*); Herde et al., Poseidon, NeurIPS 2024 (the others)",
)
class NavierStokes:
    """u_t + u . grad u + grad p = -d(-i grad) u + F, div u = 0, periodic on (0, 1)^2.

    Solved for the vorticity w = v_x - u_y: w_t + u . grad w = -d(-i grad) w + curl F; the mean velocity is constant.
    Nodes are (i/n, j/n), the first axis is x.

    =========================  ========================================================  ======  =============  ======
    variant                    initial state                                             native  frames         stored
    =========================  ========================================================  ======  =============  ======
    fno_1e-3                   Gaussian random vorticity, viscosity 1e-3                 64      0, 1 ... 50    w
    fno_1e-4                   the same, viscosity 1e-4                                  128     0, 1 ... 30    w
    fno_1e-5                   the same, viscosity 1e-5                                  256     0, 1 ... 20    w
    sines                      10 x 10 sine waves                                        128     0, .05 ... 1   u, v
    gaussians                  100 vortices                                              128     0, .05 ... 1   u, v
    piecewise_constant         constant vorticity in 10 x 10 cells, 10 U[-1, 1]          128     0, .05 ... 1   u, v
    brownian_bridge            fractional Brownian bridge, after a time of 1/2           128     0, .05 ... 1   u, v
    shear_layer                two shear layers with a random shift                      128     0, .05 ... 1   u, v
    vortex_sheet               smoothed vortex sheet                                     128     0, .05 ... 1   u, v
    tracer                     piecewise_constant, and a tracer c, 1 on a disc           128     0, .05 ... 1   u, v, c
    kolmogorov                 piecewise_constant, with F = 0.1 (cos, sin) 2 pi (x + y)  128     0, .05 ... 1   u, v
    =========================  ========================================================  ======  =============  ======

    fno_*: d = viscosity * (2 pi |k|)^2 and curl F = 0.1 (sin + cos)(2 pi (x + y)). The published files were solved on
    256 x 256 points and hold every fourth; frame 0 is their ``a``, the others are their ``u``.

    The others: spectral viscosity d = 0.05 / N (2 pi |k|)^2 (1 - exp(-(|k| / sqrt N)^18)), N = ``native_resolution``,
    so that N is part of the equation. piecewise_constant_literal, tracer_literal and kolmogorov_literal have the
    vorticity U[-1, 1] that is printed, a tenth of what the published files hold; shear_layer_literal shifts the border
    between the layers only, as printed, and not the layers.

    Space: Fourier-Galerkin without aliasing, waves |k| <= N/3 (fno_*) or < N/2 per axis. Time: "accurate" is the
    integrating-factor Runge-Kutta method of order 4 with steps chosen per sample and frame; "reference" the published
    one, Crank-Nicolson with forward Euler and a step of 1e-4, order 1 (fno_*), or SSP-RK3 with a step of
    0.5 / (N max |u|), order 3. ``quality`` holds ``courant``, the largest step times 2 pi K max(|u| + |v|), and
    ``enstrophy_tail``, the largest share of the enstrophy of a frame in the shortest tenth of the waves.

    Source: Li et al., "Fourier neural operator for parametric partial differential equations", ICLR 2021, appendix
    A.3.3, and the code that made its data; Herde et al., "Poseidon: efficient foundation models for PDEs", NeurIPS
    2024, appendix B, and its solver AZEBAN.

    Args:
        resolution: points along each axis that are stored, 8 to 2048.
        variant: one of the table.
        native_resolution: N, points along each axis of the solver, a multiple of ``resolution``, of which every
            (N / resolution)-th is stored; by default the least that is not below that of the table.
        final_time: last frame, by default that of the table; the frames stay as far apart.
        scheme: "accurate" or "reference".
        device: "cpu", "cuda", "cuda:1", ... or "auto"; where to compute. Not a part of the recipe.

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 64,
        variant: str = "fno_1e-3",
        native_resolution: int | None = None,
        final_time: float | None = None,
        scheme: str = "accurate",
        device: str = "cpu",
    ) -> None:
        self.resolution = whole_number(NAME, "resolution", resolution, RESOLUTIONS)
        self.variant = known(NAME, "variant", variant, VARIANTS)
        self.scheme = known(NAME, "scheme", scheme, SCHEMES)
        self.constants = VARIANTS[variant]
        self.native_resolution = self._native(native_resolution)
        self.times = self._times(final_time)
        names = {"velocity_x": (0,), "velocity_y": (1,)} if self.constants.stores_velocity else {"vorticity": ()}
        if self.constants.tracer:
            names["tracer"] = ()
        channels = tuple(
            Channel(name, quantity="velocity" if component else "", component=component)
            for name, component in names.items()
        )
        axes = tuple(Axis(name, "periodic_nodes", boundary=("periodic", "periodic")) for name in "xy")
        step = self.constants.frame_interval
        self.meta = FieldMeta(name=NAME, inputs=channels, outputs=channels, axes=axes, time_step=step)
        shape = (len(self.times), self.resolution, self.resolution)
        self.fields = {channel.name: StoredField.of(channel, "state", shape) for channel in channels}
        self.device = torch_device(NAME, device)
        self._flow = self._spectral_flow(self.device)
        self._advance = self._time_stepping()

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        constants = self.constants
        if constants.spectral_viscosity:
            damping = "0.05 / N (2 pi |k|)^2 (1 - exp(-(|k| / sqrt N)^18)), N = native_resolution"
        else:
            damping = f"{constants.viscosity:g} (2 pi |k|)^2"
        return {
            "recipe": NAME,
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "u_t + u . grad u + grad p = -d(k) u + F, div u = 0"
            + (", c_t + u . grad c = -d(k) c" if constants.tracer else ""),
            "damping": f"d(k) = {damping}",
            "curl_of_force": f"{constants.force:.17g} (sin + cos)(2 pi (x + y))" if constants.force else "0",
            "initial_state": constants.description,
            "initial_time": -constants.spin_up,
            "final_time": float(self.times[-1]),
            "frame_interval": constants.frame_interval,
            "solver": f"Fourier-Galerkin, waves up to {self._flow.waves} on {self._flow.points} points, float64",
            "solver_tolerance": 1e-5 if self.scheme == "accurate" else 1e-3,
            "scheme": f"{self.scheme}: {self._scheme()}",
            "native_resolution": self.native_resolution,
            "downsampling": "none" if self.native_resolution == self.resolution else "stride",
            "domain": "(0, 1)^2",
            "grid": "periodic_nodes",
            "boundary": "periodic",
            "notes": constants.notes,
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`; quality: ``courant``, ``enstrophy_tail``."""
        indices = list(indices)
        block = samples_per_block(self._flow.points**2, self.device)
        attempt = partial(self._solve, seed)
        parts = [
            accepted_samples(NAME, indices[start : start + block], attempt) for start in range(0, len(indices), block)
        ]
        joined = [{name: np.concatenate([part[i][name] for part in parts]) for name in parts[0][i]} for i in range(3)]
        return Samples(*joined)

    def initial_state(self, seed: int, index: int, redraw: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Vorticity (and tracer) of one sample, (fields, N, N), and its mean velocity, (2,)."""
        rng = random_stream(f"{NAME}/{self.variant}", seed, index, redraw)
        vorticity, mean = self.constants.initial(rng, self.native_resolution)
        fields = [vorticity, central_disc(self.native_resolution)] if self.constants.tracer else [vorticity]
        return np.stack(fields), mean

    @torch.no_grad()
    def _solve(self, seed: int, indices: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
        """Samples and which of them were solved with stable steps."""
        drawn = [self.initial_state(seed, int(i), int(redraw)) for i, redraw in zip(indices, redraws, strict=True)]
        state = self._flow.from_grid(np.stack([fields for fields, _ in drawn], axis=1))
        means = np.stack([mean for _, mean in drawn], axis=1)
        mean = torch.as_tensor(means, dtype=torch.complex128, device=self._flow.device) if means.any() else None
        shape = (len(indices), len(self.times), self.resolution, self.resolution)
        fields = {name: np.empty(shape, dtype=np.float32) for name in self.fields}
        courant = torch.zeros(len(indices), dtype=torch.float64, device=self._flow.device)
        tail = torch.zeros_like(courant)
        for frame, interval in enumerate((self.constants.spin_up, *np.diff(self.times).tolist())):
            if interval:
                state, used = self._advance(self._flow, state, mean, interval)
                courant = torch.maximum(courant, used)
            tail = torch.maximum(tail, self._flow.enstrophy_tail(state[0]))
            for name, values in zip(self.fields, self._stored(state, mean), strict=True):
                fields[name][:, frame] = values
        quality = {"courant": courant.cpu().numpy(), "enstrophy_tail": tail.cpu().numpy()}
        return Samples(fields, {}, quality), quality["courant"] <= STABLE_COURANT

    def _stored(self, state: torch.Tensor, mean: torch.Tensor | None) -> np.ndarray:
        """The stored fields of one frame, (fields, batch, n, n), float32."""
        waves = self._flow.velocity_waves(state[0], mean) if self.constants.stores_velocity else state[:1]
        if self.constants.tracer:
            waves = torch.cat((waves, state[1:]))
        stride = self.native_resolution // self.resolution
        values = self._flow.to_grid(waves, self.native_resolution)[..., ::stride, ::stride]
        return values.to(torch.float32).cpu().numpy()

    def _native(self, given: int | None) -> int:
        if given is None:
            least = -(-self.constants.native_resolution // self.resolution)
            return max(1, least) * self.resolution
        native = whole_number(NAME, "native_resolution", given, RESOLUTIONS)
        if native % self.resolution:
            raise UserError(
                f"{NAME}: native_resolution {native} is not a multiple of resolution {self.resolution}, "
                "so that no stride leads from the one to the other"
            )
        return native

    def _times(self, final_time: float | None) -> np.ndarray:
        interval, final = self.constants.frame_interval, self.constants.final_time
        if final_time is not None:
            final = real_number(NAME, "final_time", final_time, interval, 1000.0)
        steps = round(final / interval)
        if abs(steps * interval - final) > 1e-9 * final:
            raise UserError(f"{NAME}: final_time {final:g} is not a multiple of {interval:g}, the time between frames")
        return np.arange(steps + 1) * final / steps

    def _spectral_flow(self, device: torch.device) -> SpectralFlow:
        n = self.native_resolution
        spectral = self.constants.spectral_viscosity
        waves, points = ((n - 1) // 2, 3 * n // 2) if spectral else ((n - 1) // 3, n)
        k1, k2 = wave_numbers(waves, points)
        square = k1**2 + k2**2
        if spectral:
            damping = 0.05 / n * 4 * np.pi**2 * square * -np.expm1(-((square / n) ** 9))
        else:
            damping = self.constants.viscosity * 4 * np.pi**2 * square
        force = None
        if self.constants.force:  # sin t + cos t = Re (1 - i) e^(it)
            force = np.zeros((points, waves + 1), dtype=np.complex128)
            force[1, 1] = self.constants.force * (1 - 1j) / 2
        return SpectralFlow(waves, points, damping, force, device)

    def _time_stepping(self) -> Advance:
        if self.scheme == "accurate":
            return IntegratingFactorRK4(COURANT, STABLE_COURANT, LONGEST_STEP)
        if self.constants.spectral_viscosity:
            return StrongStabilityRK3(REFERENCE_COURANT, self.native_resolution)
        return CrankNicolsonEuler(REFERENCE_STEP)

    def _scheme(self) -> str:
        if self.scheme == "accurate":
            return f"integrating-factor Runge-Kutta 4, step * wave speed <= {COURANT}, step <= {LONGEST_STEP}"
        if self.constants.spectral_viscosity:
            return f"SSP-RK3, step {REFERENCE_COURANT} / (N max |u|)"
        return f"Crank-Nicolson and forward Euler, step {REFERENCE_STEP}"
