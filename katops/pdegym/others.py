"""The data sets of PDEgym that are not fluids in time: waves, Allen-Cahn, a steady airfoil, Poisson, Helmholtz."""

from __future__ import annotations

from typing import Any

from katops.fields import Channel
from katops.pdegym.published_set import POINTS, PublishedSet

_SOLUTION = Channel("solution")


def _wave(name: str, code: str, frames: int, **facts: Any) -> PublishedSet:
    """The wave equation with a speed that varies in space; it is fed, and not predicted."""
    values = {
        "file": f"{name}.nc",
        "variables": {"solution": (10512, frames, *POINTS), "c": (10512, *POINTS)},
        "kind": "pdegym_wave",
        "boundary": "open",
        "inputs": (_SOLUTION,),
        "outputs": (_SOLUTION,),
        "constants": ("wave_speed",),
        "frames": frames,
        "n_train": 10212,
        "n_validation": 60,
    }
    return PublishedSet(name=name, code=f"wave.{code}", **values | facts)


def _steady(name: str, code: str, **facts: Any) -> PublishedSet:
    """One field to another."""
    values = {
        "end_time": None,
        "normalising_frames": None,
        "frames": 1,
        "training_frames": (),
        "out_frames": (),
        "test_pair": None,
        "out_pair": None,
        "rollout_steps": None,
        "out_rollout_steps": None,
    }
    return PublishedSet(name=name, code=code, **values | facts)


OTHERS = (
    _wave(
        "Wave-Layer",
        "Layer",
        21,
        equation="wave equation, layers of different speed",
        statistics={
            "solution": (0.03467443221585092, 0.10442421752963911),
            "wave_speed": (3498.5644380917424, 647.843958567462),
        },
    ),
    _wave(
        "Wave-Gauss",
        "Gaussians",
        16,
        equation="wave equation, speeds that are sums of Gaussians",
        statistics={"solution": (0.0334376316, 0.1171879068), "wave_speed": (2618.4593933, 601.51658913)},
        normalising_frames=15,
        # The published code allows frames up to 15, so that its own test (0, 20) always fails.
        out_frames=(),
        out_pair=None,
        out_rollout_steps=None,
        # The card says 15 frames, the size of the file 16: with either, frame i is at time i / 15.
        time_step=1 / 15,
    ),
    PublishedSet(
        name="ACE",
        code="reaction_diffusion.AllenCahn",
        equation="Allen-Cahn equation",
        file="ACE.nc",
        variables={"solution": (15000, 20, *POINTS)},
        kind="pdegym_allen_cahn",
        boundary="periodic",
        inputs=(_SOLUTION,),
        outputs=(_SOLUTION,),
        statistics={"solution": (0.002484262, 0.65351176)},
        end_time=2e-4,
        normalising_frames=19,
        frames=20,
        # There is no frame 20, so that the published test (0, 20) always fails.
        out_frames=tuple(range(0, 19, 2)),
        out_pair=None,
        out_rollout_steps=None,
        n_train=14700,
        n_validation=60,
    ),
    _steady(
        "SE-AF",
        "fluids.compressible.steady.Airfoil",
        equation="steady Euler around an airfoil",
        file="SE-AF.nc",
        variables={"solution": (10869, 2, *POINTS)},
        kind="pdegym_airfoil",
        boundary="none",
        inputs=(Channel("airfoil"),),
        outputs=(Channel("density"),),
        mask={"density": "airfoil"},
        statistics={"airfoil": (0.0, 1.0), "density": (0.92984116, 0.10864315)},
        n_train=10509,
    ),
    _steady(
        "Poisson-Gauss",
        "elliptic.poisson.Gaussians",
        equation="Poisson equation, sources that are sums of Gaussians",
        file="Poisson-Gauss.nc",
        variables={"source": (20000, *POINTS), "solution": (20000, *POINTS)},
        kind="pdegym_poisson",
        boundary="dirichlet",
        inputs=(Channel("source"),),
        outputs=(_SOLUTION,),
        statistics={
            "source": (0.014822142414492256, 4.755138816607612),
            "solution": (0.0005603458434937093, 0.02401226126952699),
        },
        n_train=19640,
    ),
    _steady(
        "Helmholtz",
        "elliptic.Helmholtz",
        equation="Helmholtz equation with a coefficient that varies in space",
        file="Helmholtz.h5",
        variables={"a": POINTS, "u": POINTS, "bc": ()},
        kind="pdegym_helmholtz",
        boundary="dirichlet",
        inputs=(Channel("coefficient"),),
        outputs=(_SOLUTION,),
        condition=("boundary_value",),
        statistics={
            "coefficient": (1.0, 1.0),
            "boundary_value": (0.0, 1.0),
            "solution": (0.11523915668552, 0.8279975746000605),
        },
        n_train=19035,
        n_validation=128,
        n_test=512,
    ),
)
