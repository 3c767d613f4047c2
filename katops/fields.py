"""What the numbers in an array mean: channels, units, axes, boundaries, times.

Every width in the library is derived from a :class:`FieldMeta`, so that no configuration repeats a number of channels.
This module needs numpy only; it is read by the command line before torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

BOUNDARIES = ("dirichlet", "neumann", "periodic", "wall", "open", "none")
"""What holds at the end of an axis: a value, a zero normal derivative, the other end of the axis; and what published
files say that is not one condition for all fields: a wall (no flow through it), open (outflow), none (a cut-out)."""
STENCIL_BOUNDARIES = ("dirichlet", "neumann", "periodic")
"""Those that a stencil can honour without knowing more."""
GRIDS = ("cell_centres", "nodes", "periodic_nodes", "uneven")
COORDINATES = ("cartesian", "polar", "spherical", "log_spherical")

Side = str
Boundary = str | Sequence[str | Sequence[str]] | Mapping[str, str | Sequence[str]]
AXIS_NAMES = ("x", "y", "z")


def normalise_boundary(
    boundary: Boundary, n_axes: int, allowed: Sequence[str] = BOUNDARIES, names: Sequence[str] = AXIS_NAMES
) -> tuple[tuple[Side, Side], ...]:
    """Spell a boundary condition out as (lower side, upper side) for each axis.

    Args:
        boundary: one name for all sides (``"periodic"``), or one entry per axis, each a name or a pair of names
            (``["periodic", ["dirichlet", "neumann"]]``, or ``{"x": "periodic", "y": ["dirichlet", "neumann"]}``).
        n_axes: the number of spatial axes.
        allowed: the names that may occur.
        names: of the axes.

    Raises:
        UserError: a name is unknown, the number of entries is not the number of axes, or only one side is periodic.
    """
    entries = _boundary_entries(boundary, n_axes, names[:n_axes])
    if len(entries) != n_axes:
        raise UserError(f"boundary {boundary!r} has {len(entries)} entries; give one for each of the {n_axes} axes")
    sides = tuple((entry, entry) if isinstance(entry, str) else tuple(entry) for entry in entries)
    for axis in sides:
        if len(axis) != 2:
            raise UserError(f"boundary {axis!r} is not a (lower side, upper side) pair")
        for side in axis:
            if side not in allowed:
                raise UserError(
                    f"unknown boundary {side!r}{did_you_mean(str(side), allowed)} Allowed: {', '.join(allowed)}."
                )
        if (axis[0] == "periodic") != (axis[1] == "periodic"):
            raise UserError(f"boundary {axis!r}: an axis is periodic on both sides or on neither")
    return sides


def _boundary_entries(boundary: Boundary, n_axes: int, names: Sequence[str]) -> list[str | Sequence[str]]:
    if isinstance(boundary, str):
        return [boundary] * n_axes
    if not isinstance(boundary, Mapping):
        return list(boundary)
    if set(boundary) != set(names):
        raise UserError(f"boundary {dict(boundary)!r} must have one entry for each of the axes {', '.join(names)}")
    return [boundary[name] for name in names]


@dataclass(frozen=True)
class Channel:
    """One scalar field or one scalar parameter.

    Attributes:
        name: unique among its kind, "velocity_x".
        unit: "" where unknown or dimensionless.
        quantity: the vector or tensor that it is a component of, "velocity"; "" for a scalar.
        component: its position in it, one number per tensor order: (0,) of a vector, (0, 1) of a tensor.
        shift: where the values lie beside the grid points, in grid spacings per axis, on staggered grids: (0.5, 0.0);
            empty where they lie on them.
    """

    name: str
    unit: str = ""
    quantity: str = ""
    component: tuple[int, ...] = ()
    shift: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # JSON makes lists of tuples.
        object.__setattr__(self, "component", tuple(self.component))
        object.__setattr__(self, "shift", tuple(self.shift))


@dataclass(frozen=True)
class Axis:
    """One spatial axis.

    Attributes:
        name: "x", "y", "z", or the name in the file.
        grid: where the n points lie in [lower, upper]:
            ``cell_centres`` lower + (i + 1/2) h, h = L/n;
            ``nodes`` lower + i h, h = L/(n - 1), both ends included;
            ``periodic_nodes`` lower + i h, h = L/n, the upper end left out;
            ``uneven`` at ``points`` (Chebyshev, Gauss-Legendre, logarithmic, ...).
        lower, upper: the ends of the domain, in ``unit``.
        boundary: condition on the lower and on the upper side.
        unit: unit of length, "" where unknown or dimensionless.
        points: the n coordinates of an ``uneven`` grid, increasing or decreasing; empty for the others.
    """

    name: str
    grid: str = "cell_centres"
    lower: float = 0.0
    upper: float = 1.0
    boundary: tuple[Side, Side] = ("dirichlet", "dirichlet")
    unit: str = ""
    points: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "points", tuple(self.points))
        if (self.grid == "uneven") != bool(self.points):
            raise UserError(f"axis {self.name!r}: grid 'uneven' needs points, and the other grids have none")
        if self.grid not in GRIDS:
            raise UserError(
                f"axis {self.name!r}: unknown grid {self.grid!r}{did_you_mean(self.grid, GRIDS)} "
                f"Allowed: {', '.join(GRIDS)}."
            )
        if not self.lower < self.upper:
            raise UserError(f"axis {self.name!r}: lower end {self.lower} is not below upper end {self.upper}")
        object.__setattr__(self, "boundary", normalise_boundary([self.boundary], 1)[0])

    def coordinates(self, size: int) -> np.ndarray:
        """The ``size`` grid points, float64.

        Raises:
            UserError: the grid is uneven and has another number of points.
        """
        if self.grid == "uneven":
            if size != len(self.points):
                raise UserError(f"axis {self.name!r} has {len(self.points)} uneven points; asked for: {size}")
            return np.array(self.points, dtype=np.float64)
        length = self.upper - self.lower
        if self.grid == "nodes":
            return np.linspace(self.lower, self.upper, size)
        offset = 0.5 if self.grid == "cell_centres" else 0.0
        return self.lower + length * (np.arange(size) + offset) / size


@dataclass(frozen=True)
class FieldMeta:
    """The description of an operator-learning data set; it travels with the model file.

    Attributes:
        name: name of the data set.
        inputs, outputs: channels in the order in which they are stacked.
        axes: the spatial axes in array order.
        parameters: scalars per sample (viscosity, Mach number, ...).
        steps_in, steps_out: frames per input and per output window; 1 and 1 for steady problems.
        time_step: time between neighbouring frames, ``None`` for steady problems and uneven times.
        time_unit: unit of ``time_step``.
        constants: channels that do not change in time beside inputs that do (a force, a mask, a speed of sound); they
            are handed out once, not in every frame.
        condition: names of the constants that are parameters, spread over the grid so that a model sees them.
        scalars: numbers per frame (a driving force, a flow rate).
        coordinates: one of :data:`COORDINATES`; what the axes measure.
        licence, citation: of the data, "" where unknown.
    """

    name: str
    inputs: tuple[Channel, ...]
    outputs: tuple[Channel, ...]
    axes: tuple[Axis, ...]
    parameters: tuple[Channel, ...] = ()
    steps_in: int = 1
    steps_out: int = 1
    time_step: float | None = None
    time_unit: str = ""
    constants: tuple[Channel, ...] = ()
    scalars: tuple[Channel, ...] = ()
    coordinates: str = "cartesian"
    licence: str = ""
    citation: str = ""
    condition: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "condition", tuple(self.condition))
        inputs = (*self.inputs, *self.constants)
        for kind, channels in (("input", inputs), ("output", self.outputs)):
            names = [channel.name for channel in channels]
            # Outputs may be absent: a file that is only predicted from has none.
            if (kind == "input" and not names) or len(set(names)) != len(names):
                raise UserError(f"{self.name}: {kind} channels must be named, each once; given: {names}")
        if not 1 <= len(self.axes) <= 3:
            raise UserError(f"{self.name}: 1 to 3 spatial axes are supported; given: {len(self.axes)}")
        if self.coordinates not in COORDINATES:
            raise UserError(
                f"{self.name}: unknown coordinates {self.coordinates!r}"
                f"{did_you_mean(self.coordinates, COORDINATES)} Allowed: {', '.join(COORDINATES)}."
            )

    @property
    def in_channels(self) -> int:
        """Width of the model's input: frames are folded into channels, frame slowest; then the constants."""
        return self.steps_in * len(self.inputs) + len(self.constants)

    @property
    def out_channels(self) -> int:
        """Width of the model's output."""
        return self.steps_out * len(self.outputs)

    @property
    def output_groups(self) -> dict[str, tuple[int, ...]]:
        """Output channels that are measured together, by their positions: {"velocity": (1, 2), "pressure": (3,)}.

        Components of one quantity are one group, called by the quantity; every other channel is one of its own. A
        component whose fellows are not among the outputs keeps its own name.
        """
        keys = [channel.quantity or channel.name for channel in self.outputs]
        members = {key: tuple(i for i, other in enumerate(keys) if other == key) for key in keys}
        return {self.outputs[who[0]].name if len(who) == 1 else key: who for key, who in members.items()}

    @property
    def boundary(self) -> tuple[tuple[Side, Side], ...]:
        """(lower, upper) condition of each axis."""
        return tuple(axis.boundary for axis in self.axes)

    @property
    def stencil_boundary(self) -> tuple[tuple[Side, Side], ...]:
        """:attr:`boundary` for models: a zero normal derivative where the data name no condition on the fields.

        Walls, open ends and cut-outs mean different things for different channels; without a value to prescribe, a
        zero normal derivative is the one that lets a constant pass.
        """
        sides = [["neumann" if side not in STENCIL_BOUNDARIES else side for side in axis] for axis in self.boundary]
        return tuple((lower, upper) for lower, upper in sides)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FieldMeta:
        """Inverse of :meth:`to_dict`, also after a trip through JSON."""
        kinds = ("inputs", "outputs", "parameters", "constants", "scalars")
        channels = {key: tuple(Channel(**c) for c in values.get(key, ())) for key in kinds}
        axes = tuple(Axis(**{**axis, "boundary": tuple(axis["boundary"])}) for axis in values["axes"])
        return cls(**{**values, **channels, "axes": axes})


@dataclass
class FieldSample:
    """One sample, or a batch of samples with one more leading axis.

    Attributes:
        x: input, (\\*batch, steps_in, input channels, \\*space).
        y: target, (\\*batch, steps_out, output channels, \\*space); ``None`` where there is nothing to compare with.
        time: lead time from the last input frame to the last output frame, (\\*batch); ``None`` for steady problems.
        parameters: (\\*batch, number of parameters); ``None`` where there are none.
        index: provenance (file, sample in the file, first frame, distance of frames), (\\*batch, 4), int64.
        constants: channels that do not change in time, (\\*batch, constant channels, \\*space); ``None`` where there
            are none.
        times_in, times_out: times of the frames of x and y, (\\*batch, steps_in) and (\\*batch, steps_out); ``None``
            for steady problems.
        scalars_in, scalars_out: numbers per frame, (\\*batch, steps, number of scalars); ``None`` where there are none.
        mask: bool, (\\*batch, output channels) or (\\*batch, output channels, \\*space): true where the target is
            neither learned nor judged; ``None`` where everything counts.
    """

    x: Tensor
    y: Tensor | None = None
    time: Tensor | None = None
    parameters: Tensor | None = None
    index: Tensor | None = field(default=None, repr=False)
    constants: Tensor | None = None
    times_in: Tensor | None = None
    times_out: Tensor | None = None
    scalars_in: Tensor | None = None
    scalars_out: Tensor | None = None
    mask: Tensor | None = None

    def to(self, device: Any, *, non_blocking: bool = False) -> FieldSample:
        """The same sample on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> FieldSample:
        """The same sample in page-locked memory, for overlapping copies to a GPU."""
        return self.map(lambda tensor: tensor.pin_memory())

    def map(self, function: Any) -> FieldSample:
        """The same sample with a function applied to every tensor in it."""
        values = (getattr(self, entry.name) for entry in fields(self))
        return FieldSample(*(None if value is None else function(value) for value in values))
