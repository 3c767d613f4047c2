"""The published data sets of incompressible flow: initial states, viscosities, forces and times."""

from dataclasses import dataclass, replace
from math import pi

from katops.generators import navier_stokes_initial as initial
from katops.generators.navier_stokes_initial import Draw


@dataclass(frozen=True)
class Variant:
    """One data set.

    Attributes:
        initial: draws the initial state.
        description: what it draws, for the recipe.
        native_resolution: points along each axis of the solver.
        final_time, frame_interval: of the frames, from time 0.
        viscosity: of the Laplacian; not used with ``spectral_viscosity``.
        spectral_viscosity: Poseidon's, which spares the long waves.
        force: amplitude of the curl of the force, (sin + cos)(2 pi (x + y)).
        spin_up: time between the initial state and the first frame.
        tracer: whether a tracer is advected.
        stores_velocity: instead of the vorticity.
        notes: where the printed recipe and the published files disagree, and what is known of it.
    """

    initial: Draw
    description: str
    native_resolution: int
    final_time: float
    frame_interval: float
    viscosity: float = 0.0
    spectral_viscosity: bool = False
    force: float = 0.0
    spin_up: float = 0.0
    tracer: bool = False
    stores_velocity: bool = False
    notes: str = ""


def _fno(viscosity: float, final_time: float, native_resolution: int) -> Variant:
    return Variant(
        initial.gaussian_random,
        "vorticity N(0, 2 * 7^3 (-Laplace + 49)^(-2.5)) without mean, rms 0.262",
        native_resolution,
        final_time,
        frame_interval=1.0,
        viscosity=viscosity,
        force=0.1,
        notes="The covariance printed in the paper is smaller; this is the one of the code that made the published "
        "files, which were solved on 256 x 256 points. Frame 0 is 'a' of these files, the others are 'u'.",
    )


def _poseidon(draw: Draw, description: str, notes: str = "") -> Variant:
    return Variant(draw, description, 128, 1.0, 0.05, spectral_viscosity=True, stores_velocity=True, notes=notes)


_TENFOLD = "The vorticity is ten times the printed one, which the statistics of the published files show."
_AS_PRINTED = "As printed; the statistics of the published files show ten times this vorticity."
_FORCE = (
    " The force is 0.1 (cos, sin)(2 pi (x + y)) as in the published solver; the printed scalar one is ambiguous, and "
    "the same in both directions it would be a gradient and have no effect."
)
_CELLS = _poseidon(initial.piecewise_constant, "vorticity 10 U[-1, 1] in 10 x 10 cells", _TENFOLD)
_CELLS_LITERAL = _poseidon(initial.piecewise_constant_literal, "vorticity U[-1, 1] in 10 x 10 cells", _AS_PRINTED)

VARIANTS = {
    "fno_1e-3": _fno(1e-3, 50.0, 64),
    "fno_1e-4": _fno(1e-4, 30.0, 128),
    "fno_1e-5": _fno(1e-5, 20.0, 256),
    "sines": _poseidon(initial.sines, "velocity of 10 x 10 sine waves with coefficients U[-1, 1], projected"),
    "gaussians": _poseidon(initial.gaussians, "vorticity of 100 Gaussians of widths U[0.01, 0.1]"),
    "piecewise_constant": _CELLS,
    "piecewise_constant_literal": _CELLS_LITERAL,
    "brownian_bridge": replace(
        _poseidon(
            initial.brownian_bridge,
            "velocity of a fractional Brownian bridge, Hurst exponent 1/2, projected",
            "The amplitudes, 4 inside and 2 on the axes of wave space, are those of the published solver.",
        ),
        spin_up=0.5,
    ),
    "shear_layer": _poseidon(
        initial.shear_layer,
        "velocity of two tanh layers with a random shift",
        "The shift moves the layers, as in the published solver; printed, it moves the border between them only.",
    ),
    "shear_layer_literal": _poseidon(
        initial.shear_layer_literal,
        "velocity of two tanh layers with a random border between them",
        "As printed; the published solver moves the layers too. These layers are flat, and the flow hardly changes.",
    ),
    "vortex_sheet": _poseidon(initial.vortex_sheet, "a vortex sheet smoothed over a radius of 5/128"),
    "tracer": replace(_CELLS, tracer=True),
    "tracer_literal": replace(_CELLS_LITERAL, tracer=True),
    "kolmogorov": replace(_CELLS, force=0.2 * pi, notes=_TENFOLD + _FORCE),
    "kolmogorov_literal": replace(_CELLS_LITERAL, force=0.2 * pi, notes=_AS_PRINTED + _FORCE),
}
