"""The MATLAB files of the Fourier neural operator, and those in the same form of MgNO and Geo-FNO.

They name no axis, no grid and no boundary; what is known of them is written here. Sources: Li et al., ICLR 2021,
arXiv:2010.08895; He, Liu, Xu, MgNO, ICLR 2024, arXiv:2310.19809; Li et al., Geo-FNO, JMLR 2023, arXiv:2207.05209.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from katops.data.formats.assembling import Draft, finish
from katops.data.formats.coordinates import check_increasing
from katops.data.layout import ChannelArray, FileLayout, Statement, check_array
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError
from katops.fields import Axis

_MATLAB = ("matlab5", "matlab73")
_PERIODIC = ("periodic", "periodic")
_CORRECT_IT = "state data.boundary, data.grid and data.domain if this file is another one"


def recognise_burgers(tree: StoredTree) -> bool:
    """Whether ``a`` and ``u`` have the same shape (N, n)."""
    a, u = _shape(tree, "a"), _shape(tree, "u")
    return tree.container in _MATLAB and a is not None and a == u and len(a) == 2


def recognise_darcy(tree: StoredTree) -> bool:
    """Whether ``coeff`` and ``sol`` have the same shape (N, n, n)."""
    coeff, sol = _shape(tree, "coeff"), _shape(tree, "sol")
    return tree.container in _MATLAB and coeff is not None and coeff == sol and len(coeff) == 3


def recognise_navier_stokes(tree: StoredTree) -> bool:
    """Whether ``u`` has four axes, beside the initial state ``a`` with three or the times ``t``."""
    u, a, t = (_shape(tree, name) for name in "uat")
    beside = (a is not None and len(a) == 3) or t is not None
    return tree.container in _MATLAB and u is not None and len(u) == 4 and beside


def recognise_plasticity(tree: StoredTree) -> bool:
    """Whether ``output`` is (N, n, m, T, components) and ``input`` is (N, n)."""
    given, sought = _shape(tree, "input"), _shape(tree, "output")
    ours = tree.container in _MATLAB and given is not None and sought is not None
    return ours and len(sought) == 5 and given == sought[:2]


def describe_burgers(tree: StoredTree, statement: Statement) -> FileLayout:
    """The state ``a`` at time 0 and ``u`` at time 1, periodic on [0, 1) with nodes at i/n."""
    note = f"taken for the Burgers set of FNO: periodic, nodes i/n of [0, 1); {_CORRECT_IT}"
    axes = [Axis("x", "periodic_nodes", boundary=_PERIODIC)]
    return _steady(tree, statement, "fno_burgers", axes, {"a": "a", "u": "u"}, note)


def describe_darcy(tree: StoredTree, statement: Statement) -> FileLayout:
    """Coefficient to pressure on the unit square, zero on the boundary, nodes with both ends."""
    note = f"taken for a Darcy set of FNO or MgNO: nodes of [0, 1]^2 with both ends, zero boundary; {_CORRECT_IT}"
    names = {"coeff": "coefficient", "sol": "pressure"}
    return _steady(tree, statement, "fno_darcy", [Axis("x", "nodes"), Axis("y", "nodes")], names, note)


def describe_navier_stokes(tree: StoredTree, statement: Statement) -> FileLayout:
    """Vorticity on the periodic unit square, nodes at i/n; time is the last axis as published, or the second one.

    The initial state ``a`` lies one step before the first frame of ``u`` and is no part of the trajectories.
    """
    u = check_array(tree.path, tree.array("u"))
    axes = _axes_of_trajectories(tree, u, statement)
    sizes = dict(zip(axes, u.logical_shape, strict=True))
    notes = [f"taken for a Navier-Stokes set of FNO: periodic, nodes i/n of [0, 1)^2; {_CORRECT_IT}"]
    if tree.find("a"):
        notes.append("'a' is the vorticity one step before the first frame of 'u'; it is no part of the trajectories")
    frames = np.full(sizes["sample"], sizes["time"])
    times = None
    if tree.find("t") and statement.time_step is None:
        times = check_increasing(tree.path, "t", tree.values("t").ravel(), frames)
    draft = Draft(
        format="fno_navier_stokes",
        name="fno_navier_stokes",
        channels=[channel_of(u, "vorticity", axes)],
        axes=[Axis(name, "periodic_nodes", boundary=_PERIODIC) for name in "xy"],
        space=(sizes["x"], sizes["y"]),
        frames=frames,
        times=times,
        aliases={"u": "vorticity"},
        notes=notes,
    )
    return finish(tree, statement, draft)


def describe_plasticity(tree: StoredTree, statement: Statement) -> FileLayout:
    """Shape of the die to the motion of the mesh: ``input`` (N, n), ``output`` (N, n, m, T, components)."""
    given, sought = (check_array(tree.path, tree.array(name)) for name in ("input", "output"))
    n_samples, *space, frames, count = sought.logical_shape
    axes = ("sample", "x", "y", "time", "channel")
    parts = [channel_of(sought, f"output[{place}]", axes, component=(place,)) for place in range(count)]
    draft = Draft(
        format="geo_fno_plasticity",
        name="geo_fno_plasticity",
        channels=[channel_of(given, "input", ("sample", "x")), *parts],
        axes=[Axis(name, "nodes", boundary=("none", "none")) for name in "xy"],
        space=tuple(space),
        frames=np.full(n_samples, frames),
        inputs=("input",),
        outputs=tuple(part.name for part in parts),
        constants=(),
        notes=["the axes count mesh nodes, which move; the file does not say where they are nor what time they have"],
    )
    return finish(tree, statement, draft)


def channel_of(array: StoredArray, name: str, axes: tuple[str, ...], **more: tuple[int, ...]) -> ChannelArray:
    """A channel of an array whose axes are given in the order in which its author counts them."""
    stored = axes[::-1] if array.column_major else axes
    return ChannelArray(name=name, datasets=(array.path,), dtype=array.dtype, axes=stored, shape=array.shape, **more)


def _steady(
    tree: StoredTree, statement: Statement, format: str, axes: list[Axis], names: Mapping[str, str], note: str
) -> FileLayout:
    """One array to another; arrays of the same shape beside them can be chosen too."""
    given, sought = names
    shape = tree.array(sought).logical_shape
    alike = [array for array in tree.members().values() if array.is_real and array.logical_shape == shape]
    roles = ("sample", *(axis.name for axis in axes))
    draft = Draft(
        format=format,
        name=format,
        channels=[channel_of(array, names.get(array.name, array.name), roles) for array in alike],
        axes=axes,
        space=shape[1:],
        frames=np.ones(shape[0], dtype=np.int64),
        inputs=(names[given],),
        outputs=(names[sought],),
        constants=(),
        aliases=names,
        notes=[note],
    )
    return finish(tree, statement, draft)


def _axes_of_trajectories(tree: StoredTree, u: StoredArray, statement: Statement) -> tuple[str, ...]:
    """(sample, x, y, time) or (sample, time, x, y), whichever fits what lies beside ``u``."""
    readings = {place: ("sample", *"xy"[: place - 1], "time", *"xy"[place - 1 :]) for place in (3, 1)}
    initial, times = tree.find("a"), tree.find("t")
    shape = u.logical_shape
    fitting = [
        axes
        for place, axes in readings.items()
        if (initial is None or initial.logical_shape == shape[:place] + shape[place + 1 :])
        and (times is None or times.size == shape[place])
    ]
    beside = ", ".join(f"{array.name} {array.logical_shape}" for array in (u, initial, times) if array is not None)
    if not fitting:
        raise UserError(
            f"{tree.path}: the arrays do not fit one another ({beside}); expected are u (N, x, y, T), a (N, x, y) and "
            f"T times t, so state data.format: plain and describe the arrays"
        )
    if statement.axes in fitting:
        return statement.axes
    offers = " or ".join(f"data.axes: [{', '.join(axes)}]" for axes in fitting)
    if statement.axes is not None:
        raise UserError(f"{tree.path}: data.axes does not fit the arrays ({beside}); possible: {offers}")
    if len(fitting) > 1:
        raise UserError(f"{tree.path}: it is not clear which axis of u is time ({beside}); state {offers}")
    return fitting[0]


def _shape(tree: StoredTree, name: str) -> tuple[int, ...] | None:
    """Of an array of real numbers with that name; ``None`` where there is none."""
    array = tree.find(name)
    return array.logical_shape if array is not None and array.is_real else None
