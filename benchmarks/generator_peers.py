"""The solvers behind the generators beside those of other libraries, on the same data to the same accuracy."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from katops.benchmark.machine import versions
from katops.benchmark.timing import WallClock, time_interleaved
from katops.generators.flow_stepping import IntegratingFactorRK4
from katops.generators.fourier_field import fourier_field
from katops.generators.random_stream import random_stream
from katops.generators.spectral_burgers import retained_modes, solve_spectral_burgers
from katops.generators.spectral_flow import SpectralFlow, wave_numbers
from katops.hardware import device_name

SAMPLES = 16
ERROR_LIMIT = 1e-6

Solver = Callable[[np.ndarray, float], np.ndarray]
"""``solve(initial values, time step) -> final values``, both (n, \\*space) float64."""


class NotHere(Exception):
    """A library that is not installed, or does not run here."""


@dataclass(frozen=True)
class SolverMeasurement:
    """One row: a solver.

    Attributes:
        milliseconds_per_sample: median over the rounds; everything is compiled before.
        ratio_to_katops: the time over that of katops.
        step: the longest time step of those tried whose error is below the limit; ``None`` where the solver chooses it.
        error: relative L2 distance to the solution with the shortest step.
        reason: why there are no numbers.
    """

    problem: str
    solver: str
    milliseconds_per_sample: float | None
    ratio_to_katops: float | None
    step: float | None
    error: float | None
    spread: float | None
    device: str
    versions: str
    reason: str = ""


# Navier-Stokes: vorticity on 64 x 64, viscosity 1e-3, no force, from time 0 to 1, FNO's random initial vorticity.
_POINTS, _VISCOSITY = 64, 1e-3


def navier_stokes_data() -> np.ndarray:
    """(n, 64, 64)."""
    return np.stack(
        [fourier_field(random_stream("benchmark", 0, i), _POINTS, alpha=2.5, tau=7.0) for i in range(SAMPLES)]
    )


def navier_stokes_katops(w: np.ndarray, step: float) -> np.ndarray:
    """The integrating-factor Runge-Kutta method, one thread per core as the generator runs it."""
    waves = (_POINTS - 1) // 3
    k1, k2 = wave_numbers(waves, _POINTS)
    damping = _VISCOSITY * 4 * np.pi**2 * (k1**2 + k2**2)
    flow = SpectralFlow(waves, _POINTS, damping, None, torch.device("cpu"))
    advance = IntegratingFactorRK4(np.inf, np.inf, step)

    def solve(part: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            state, _ = advance(flow, flow.from_grid(part)[None], None, 1.0)
            return flow.to_grid(state[0], _POINTS).numpy()

    return _in_threads(solve, w, 4)


def navier_stokes_exponax(w: np.ndarray, step: float) -> np.ndarray:
    """exponax' ETDRK4, all samples in one vmap, float64."""
    jax, exponax = _jax(), _imported("exponax")
    # With the default scale of 1 its flow turns the other way round than the vorticity says.
    stepper = exponax.stepper.NavierStokesVorticity(
        2, 1.0, _POINTS, step, diffusivity=_VISCOSITY, vorticity_convection_scale=-1.0, order=4
    )
    return np.asarray(_compiled(jax, ("exponax", step), exponax.repeat(stepper, round(1 / step)))(w[:, None]))[:, 0]


def navier_stokes_jax_cfd(w: np.ndarray, step: float) -> np.ndarray:
    """jax-cfd's pseudo-spectral method with Crank-Nicolson and low-storage Runge-Kutta 4, float64."""
    jax = _jax()
    grids, equations = _imported("jax_cfd.base.grids"), _imported("jax_cfd.spectral.equations")
    stepping = _imported("jax_cfd.spectral.time_stepping")
    grid = grids.Grid((_POINTS, _POINTS), domain=((0, 1), (0, 1)))
    equation = equations.NavierStokes2D(_VISCOSITY, grid, drag=0.0, smooth=True)
    advance = stepping.crank_nicolson_rk4(equation, step)

    def run(values):
        waves = jax.numpy.fft.rfftn(values)
        later = jax.lax.fori_loop(0, round(1 / step), lambda _, state: advance(state), waves)
        return jax.numpy.fft.irfftn(later)

    return np.asarray(_compiled(jax, ("jax-cfd", step), run)(w))


# Burgers: 1024 points, viscosity 0.1 as published by FNO, from time 0 to 1.
_LINE, _BURGERS_VISCOSITY = 1024, 0.1


def burgers_data() -> np.ndarray:
    """(n, 1024), smooth waves of unit size."""
    x = np.arange(_LINE) / _LINE
    waves = np.arange(1, 9)
    rows = []
    for i in range(SAMPLES):
        amplitudes, phases = random_stream("benchmark", 1, i).standard_normal((2, len(waves)))
        rows.append((amplitudes / waves) @ np.sin(2 * np.pi * waves[:, None] * x + phases[:, None]))
    return np.stack(rows)


def burgers_katops(u: np.ndarray, step: float) -> np.ndarray:
    """The exponential Runge-Kutta method, one thread per core."""

    def solve(part: np.ndarray) -> np.ndarray:
        modes = retained_modes(_LINE)
        spectrum = torch.fft.rfft(torch.from_numpy(part), norm="forward")[..., : modes + 1]
        found = solve_spectral_burgers(spectrum, _LINE, _BURGERS_VISCOSITY, step, [round(1 / step)])
        return torch.fft.irfft(found[:, 0], _LINE, norm="forward").numpy()

    return _in_threads(solve, u, 8)


def burgers_exponax(u: np.ndarray, step: float) -> np.ndarray:
    """exponax' ETDRK4, all samples in one vmap, float64."""
    jax, exponax = _jax(), _imported("exponax")
    stepper = exponax.stepper.Burgers(1, 1.0, _LINE, step, diffusivity=_BURGERS_VISCOSITY, order=4)
    return np.asarray(_compiled(jax, ("burgers", step), exponax.repeat(stepper, round(1 / step)))(u[:, None]))[:, 0]


PEERS: dict[str, tuple[Callable[[], np.ndarray], dict[str, Solver], Sequence[float]]] = {
    "navier_stokes": (
        navier_stokes_data,
        {"katops": navier_stokes_katops, "exponax": navier_stokes_exponax, "jax-cfd": navier_stokes_jax_cfd},
        (0.1, 0.05, 0.025, 0.0125, 0.00625, 0.003125),
    ),
    "burgers": (
        burgers_data,
        {"katops": burgers_katops, "exponax": burgers_exponax},
        (0.02, 0.01, 0.005, 0.0025, 0.00125, 0.000625),
    ),
}
"""Problem -> its data, the solvers, katops first, and the time steps to try, the longest first."""


def measure(problem: str, rounds: int) -> list[SolverMeasurement]:
    """Choose the time steps, then time all solvers in interleaved rounds."""
    make, solvers, steps = PEERS[problem]
    data = make()
    reference = solvers["katops"](data, steps[-1] / 2)
    chosen: dict[str, tuple[float, float]] = {}
    reasons: dict[str, str] = {}
    for name, solve in solvers.items():
        try:
            chosen[name] = _longest_step(solve, data, reference, steps)
        except NotHere as reason:
            reasons[name] = str(reason)
    calls = {name: partial(lambda name: [partial(solvers[name], data, chosen[name][0])], name) for name in chosen}
    timings = time_interleaved(calls, WallClock(), rounds, warm_up=1).timings
    rows = []
    for name in solvers:
        timing = timings.get(name)
        step, error = chosen.get(name, (None, None))
        rows.append(
            SolverMeasurement(
                problem, name,
                milliseconds_per_sample=1e3 * timing.median / len(data) if timing else None,
                ratio_to_katops=timing.median / timings["katops"].median if timing else None,
                step=step, error=error, spread=timing.spread if timing else None,
                device=device_name(torch.device("cpu")), versions=versions(), reason=reasons.get(name, ""),
            )
        )  # fmt: skip
    return rows


def _longest_step(
    solve: Solver, data: np.ndarray, reference: np.ndarray, steps: Sequence[float]
) -> tuple[float, float]:
    """The time step and its error.

    Raises:
        NotHere: the library is absent, or no step is accurate enough.
    """
    error = np.inf
    for step in steps:
        error = float(np.linalg.norm(solve(data, step) - reference) / np.linalg.norm(reference))
        if error <= ERROR_LIMIT:
            return step, error
    raise NotHere(f"error {error:.1e} with a step of {steps[-1]:g}")


def _in_threads(solve: Callable[[np.ndarray], np.ndarray], values: np.ndarray, block: int) -> np.ndarray:
    """Blocks of samples, one thread per core, torch's own threads off, as the writer does it."""
    parts = [values[start : start + block] for start in range(0, len(values), block)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.concatenate(list(pool.map(solve, parts)))


_FUNCTIONS: dict[tuple[str, float], Callable[[np.ndarray], object]] = {}


def _compiled(jax, key: tuple[str, float], function: Callable) -> Callable[[np.ndarray], object]:
    """The batched function, compiled once."""
    if key not in _FUNCTIONS:
        _FUNCTIONS[key] = jax.jit(jax.vmap(function))
    return _FUNCTIONS[key]


def _jax():
    jax = _imported("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def _imported(name: str):
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotHere(f"not installed ({error})") from error
