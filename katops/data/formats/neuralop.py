"""The files of the neuraloperator package: a dictionary of tensors ``x`` and ``y``, saved with torch.

Published at https://zenodo.org/records/12784353 (Darcy) and 12825163 (Navier-Stokes); Burgers comes with the package.
"""

from __future__ import annotations

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.fno import channel_of
from katops.data.formats.plain import per_sample
from katops.data.layout import FileLayout, Statement, check_array
from katops.data.storage import StoredArray, StoredTree
from katops.fields import Axis

_PERIODIC = ("periodic", "periodic")


def recognise_darcy(tree: StoredTree) -> bool:
    """Whether ``x`` and ``y`` have the same shape (N, n, n).

    Published coefficients are of type bool. A coefficient of floats may as well be the forcing of a Navier-Stokes file.
    """
    return _pair(tree) is not None


def recognise_navier_stokes(tree: StoredTree) -> bool:
    """Whether ``x`` and ``y`` have the same shape (N, n, n) and ``x`` holds floats."""
    pair = _pair(tree)
    return pair is not None and np.dtype(pair[0].dtype).kind == "f"


def recognise_burgers(tree: StoredTree) -> bool:
    """Whether ``x`` is (N, n), ``y`` is (N, T, n) and ``visc`` is one number."""
    x, y, viscosity = (tree.find(name) for name in ("x", "y", "visc"))
    if tree.container != "torch" or x is None or y is None or viscosity is None or viscosity.size != 1:
        return False
    samples, *space = x.logical_shape or (0,)
    return len(space) == 1 and len(y.logical_shape) == 3 and y.logical_shape[::2] == (samples, *space)


def describe_darcy(tree: StoredTree, statement: Statement) -> FileLayout:
    """Which of two values the coefficient has, to the pressure: nodes i/n of [0, 1)^2, zero boundary."""
    note = "the coefficient is stored as high (1) or low (0); the file does not say which values those are"
    is_flag = np.dtype(tree.array("x").dtype).kind in "bu"
    axes = [Axis(name, "periodic_nodes") for name in "xy"]
    return _steady(tree, statement, "darcy", ("coefficient", "pressure"), axes, [note] if is_flag else [])


def describe_navier_stokes(tree: StoredTree, statement: Statement) -> FileLayout:
    """Forcing to vorticity on the periodic unit square, nodes i/n."""
    axes = [Axis(name, "periodic_nodes", boundary=_PERIODIC) for name in "xy"]
    return _steady(tree, statement, "navier_stokes", ("forcing", "vorticity"), axes, [])


def describe_burgers(tree: StoredTree, statement: Statement) -> FileLayout:
    """Velocity on [0, 1), periodic, nodes i/n; ``x`` is the first frame of ``y``."""
    x, y = (check_array(tree.path, tree.array(name)) for name in ("x", "y"))
    n_samples, frames, points = y.logical_shape
    viscosity, _ = per_sample(tree, ["visc"], n_samples)
    draft = Draft(
        format="neuraloperator_burgers",
        name="neuraloperator_burgers",
        channels=[
            channel_of(y, "velocity", ("sample", "time", "x")),
            channel_of(x, "initial_velocity", ("sample", "x")),
        ],
        axes=[Axis("x", "periodic_nodes", boundary=_PERIODIC)],
        space=(points,),
        frames=np.full(n_samples, frames),
        parameters={"viscosity": viscosity["visc"]},
        inputs=("velocity",),
        outputs=("velocity",),
        constants=(),
        aliases={"x": "initial_velocity", "y": "velocity"},
        notes=["the file does not say what time the frames have: they count as 1 apart; state data.time_step"],
    )
    return finish(tree, statement, draft)


def _pair(tree: StoredTree) -> tuple[StoredArray, StoredArray] | None:
    """``x`` and ``y`` of a steady problem in the plane."""
    x, y = tree.find("x"), tree.find("y")
    if tree.container != "torch" or x is None or y is None or not (x.is_real and y.is_real):
        return None
    return (x, y) if len(x.shape) == 3 and x.logical_shape == y.logical_shape else None


def _steady(
    tree: StoredTree, statement: Statement, problem: str, names: tuple[str, str], axes: list[Axis], notes: list[str]
) -> FileLayout:
    x, y = (check_array(tree.path, tree.array(name)) for name in ("x", "y"))
    draft = Draft(
        format=f"neuraloperator_{problem}",
        name=f"neuraloperator_{problem}",
        channels=[channel_of(array, name, ("sample", "x", "y")) for array, name in zip((x, y), names, strict=True)],
        axes=axes,
        space=x.logical_shape[1:],
        frames=np.ones(x.logical_shape[0], dtype=np.int64),
        inputs=names[:1],
        outputs=names[1:],
        constants=(),
        aliases=dict(zip("xy", names, strict=True)),
        notes=notes,
    )
    return finish(tree, statement, draft)
