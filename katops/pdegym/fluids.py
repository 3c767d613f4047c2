"""The data sets of fluids in PDEgym: incompressible (NS, FNS) and compressible (CE, GCE).

All incompressible sets are fed as a compressible fluid of density 1, whose pressure is unknown: it is filled with 0 and
neither learned nor judged. Means and standard deviations are those of the base class for fluids in the published data
code, unless the class of the set has its own. Numbers of channels of NS-Sines, NS-Gauss and NS-BB follow from the size
of their files.
"""

from __future__ import annotations

from typing import Any

from katops.fields import Channel
from katops.pdegym.published_set import POINTS, PublishedSet

_DENSITY, _PRESSURE, _TRACER = Channel("density"), Channel("pressure"), Channel("tracer")
_VELOCITY = tuple(Channel(f"velocity_{axis}", "", "velocity", (place,)) for place, axis in enumerate("xy"))
_FLUID = (_DENSITY, *_VELOCITY, _PRESSURE)
_EVERY_SECOND = tuple(range(0, 21, 2))
_COMMON = {"density": (0.80, 0.31), "velocity_x": (0.0, 0.391), "velocity_y": (0.0, 0.356), "pressure": (0.0, 0.185)}
_TRACER_STATISTICS = {"tracer": (0.19586183, 0.37)}


def _incompressible(name: str, code: str, *, samples: int = 20000, stored: int = 3, **facts: Any) -> PublishedSet:
    """Velocities, and mostly a tracer; what differs is in ``facts``."""
    values = {
        "file": f"{name}.nc",
        "variables": {"velocity": (samples, 21, stored, *POINTS)},
        "kind": "pdegym_incompressible",
        "boundary": "periodic",
        "inputs": _FLUID,
        "outputs": _FLUID,
        "fill": {"density": 1.0, "pressure": 0.0},
        "mask": ("pressure",),
        "statistics": _COMMON,
        "n_train": samples - 360,
    }
    return PublishedSet(name=name, code=f"fluids.incompressible.{code}", **values | facts)


def _compressible(name: str, code: str, pressure: float, **facts: Any) -> PublishedSet:
    """A gas whose energy is stored but not fed; ``pressure`` is what the published code subtracts first."""
    offset, std = _COMMON["pressure"]
    values = {
        "file": f"{name}.nc",
        "variables": {"data": (10000, 21, 5, *POINTS)},
        "kind": "pdegym_compressible",
        "boundary": "periodic",
        "inputs": _FLUID,
        "outputs": _FLUID,
        "statistics": _COMMON | {"pressure": (offset + pressure, std)},
        "n_train": 9640,
    }
    return PublishedSet(name=name, code=f"fluids.compressible.{code}", **values | facts)


_PRETRAINING = {"pretraining": True, "training_frames": _EVERY_SECOND}

FLUIDS = (
    _incompressible("NS-Sines", "Sines", equation="Navier-Stokes from sums of sines", **_PRETRAINING),
    _incompressible("NS-Gauss", "Gaussians", equation="Navier-Stokes from Gaussian vortices", **_PRETRAINING),
    _compressible("CE-RP", "Riemann", 0.215, equation="Euler, four-quadrant Riemann problems", **_PRETRAINING),
    _compressible("CE-CRP", "RiemannCurved", 0.553, equation="Euler, curved Riemann problems", **_PRETRAINING),
    _compressible("CE-KH", "KelvinHelmholtz", 1.0, equation="Euler, Kelvin-Helmholtz instability", **_PRETRAINING),
    _compressible("CE-Gauss", "Gaussians", 2.513, equation="Euler from Gaussian vortices", **_PRETRAINING),
    _incompressible("NS-PwC", "PiecewiseConstants", equation="Navier-Stokes from piecewise constant vorticity"),
    _incompressible("NS-SVS", "VortexSheet", equation="Navier-Stokes, sinusoidal vortex sheets"),
    _incompressible("NS-BB", "BrownianBridge", equation="Navier-Stokes from Brownian bridges"),
    _incompressible(
        "NS-SL",
        "ShearLayer",
        equation="Navier-Stokes, double shear layers",
        samples=40000,
        stored=2,
        # Only the class of this set swaps the two axes of space on reading; u and v stay as they are.
        axes=("sample", "time", "channel", "y", "x"),
    ),
    _incompressible(
        "NS-Tracer-PwC",
        "PiecewiseConstants.tracer",
        equation="Navier-Stokes from piecewise constant vorticity, with a passive tracer",
        file="NS-PwC.nc",
        inputs=(*_FLUID, _TRACER),
        outputs=(*_FLUID, _TRACER),
        statistics=_COMMON | _TRACER_STATISTICS,
    ),
    _incompressible(
        "FNS-KF",
        "forcing.KolmogorovFlow",
        equation="Navier-Stokes with the force of a Kolmogorov flow",
        variables={"solution": (20000, 21, 2, *POINTS)},
        kind="pdegym_kolmogorov",
        constants=("forcing",),
        fill={"density": 1.0, "pressure": 0.0, "forcing": "kolmogorov_forcing"},
        statistics={
            "density": (0.80, 0.31),
            "velocity_x": (-2.2424793e-13, 0.22017328),
            "velocity_y": (4.1510376e-12, 0.22078253),
            "pressure": (0.0, 0.185),
            "forcing": (-1.2996679288335145e-09, 0.0707106739282608),
        },
    ),
    _compressible("CE-RPUI", "RiemannKelvinHelmholtz", 1.33, equation="Euler, Riemann problems, uncertain interfaces"),
    _compressible(
        "CE-RM",
        "RichtmyerMeshkov",
        0.0,
        equation="Euler, Richtmyer-Meshkov instability",
        variables={"solution": (1260, 21, 5, *POINTS)},
        kind="pdegym_richtmyer_meshkov",
        statistics={
            "density": (1.1964245, 0.5543239),
            "velocity_x": (-7.164812e-06, 0.24304213),
            "velocity_y": (2.8968952e-06, 0.2430597),
            "pressure": (1.5648036, 0.89639103),
        },
        end_time=2.0,
        n_train=1030,
        n_validation=100,
        n_test=130,
    ),
    _compressible(
        "GCE-RT",
        "gravity.RayleighTaylor",
        0.0,
        equation="Euler with gravity, Rayleigh-Taylor instability",
        variables={"solution": (1260, 11, 6, *POINTS)},
        kind="pdegym_rayleigh_taylor",
        boundary="none",
        inputs=(*_FLUID, Channel("potential")),
        outputs=(*_FLUID, Channel("potential")),
        statistics={
            "density": (0.8970493, 0.12857835),
            "velocity_x": (4.0316996e-13, 0.014896976),
            "velocity_y": (-1.3858967e-13, 0.014896975),
            "pressure": (0.7133829, 0.21293919),
            "potential": (-1.7055787, 0.40131348),
        },
        end_time=5.0,
        normalising_frames=10,
        frames=11,
        training_frames=tuple(range(8)),
        out_frames=tuple(range(11)),
        test_pair=(0, 7),
        out_pair=(0, 10),
        rollout_steps=3,
        out_rollout_steps=5,
        n_train=1030,
        n_validation=100,
        n_test=130,
    ),
)
"""In the order of the tables of the paper: pretraining first."""
