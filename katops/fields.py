"""What the numbers in an array mean: channels, units, axes, boundaries, times.

Every width in the library is derived from a :class:`FieldMeta`, so that no configuration repeats a number of channels.
This module needs numpy only; it is read by the command line before torch is imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

BOUNDARIES = ("dirichlet", "neumann", "periodic")
GRIDS = ("cell_centres", "nodes", "periodic_nodes")

Side = str
Boundary = str | Sequence[str | Sequence[str]]


def normalise_boundary(boundary: Boundary, n_axes: int) -> tuple[tuple[Side, Side], ...]:
    """Spell a boundary condition out as (lower side, upper side) for each axis.

    Args:
        boundary: one name for all sides (``"periodic"``), or one entry per axis, each a name or a pair of names
            (``["periodic", ["dirichlet", "neumann"]]``).
        n_axes: the number of spatial axes.

    Raises:
        UserError: a name is unknown, the number of entries is not the number of axes, or only one side is periodic.
    """
    entries = [boundary] * n_axes if isinstance(boundary, str) else list(boundary)
    if len(entries) != n_axes:
        raise UserError(f"boundary {boundary!r} has {len(entries)} entries; give one for each of the {n_axes} axes")
    sides = tuple((entry, entry) if isinstance(entry, str) else tuple(entry) for entry in entries)
    for axis in sides:
        if len(axis) != 2:
            raise UserError(f"boundary {axis!r} is not a (lower side, upper side) pair")
        for side in axis:
            if side not in BOUNDARIES:
                raise UserError(
                    f"unknown boundary {side!r}{did_you_mean(str(side), BOUNDARIES)} Allowed: {', '.join(BOUNDARIES)}."
                )
        if (axis[0] == "periodic") != (axis[1] == "periodic"):
            raise UserError(f"boundary {axis!r}: an axis is periodic on both sides or on neither")
    return sides


@dataclass(frozen=True)
class Channel:
    """One scalar field: its name and its unit ("" where unknown or dimensionless)."""

    name: str
    unit: str = ""


@dataclass(frozen=True)
class Axis:
    """One spatial axis.

    Attributes:
        name: "x", "y", "z", or the name in the file.
        grid: where the n points lie in [lower, upper]:
            ``cell_centres`` lower + (i + 1/2) h, h = L/n;
            ``nodes`` lower + i h, h = L/(n - 1), both ends included;
            ``periodic_nodes`` lower + i h, h = L/n, the upper end left out.
        lower, upper: the ends of the domain, in ``unit``.
        boundary: condition on the lower and on the upper side.
        unit: unit of length, "" where unknown or dimensionless.
    """

    name: str
    grid: str = "cell_centres"
    lower: float = 0.0
    upper: float = 1.0
    boundary: tuple[Side, Side] = ("dirichlet", "dirichlet")
    unit: str = ""

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise UserError(
                f"axis {self.name!r}: unknown grid {self.grid!r}{did_you_mean(self.grid, GRIDS)} "
                f"Allowed: {', '.join(GRIDS)}."
            )
        if not self.lower < self.upper:
            raise UserError(f"axis {self.name!r}: lower end {self.lower} is not below upper end {self.upper}")
        object.__setattr__(self, "boundary", normalise_boundary([self.boundary], 1)[0])

    def coordinates(self, size: int) -> np.ndarray:
        """The ``size`` grid points, float64."""
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
        time_step: time between neighbouring frames, ``None`` for steady problems.
        time_unit: unit of ``time_step``.
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

    def __post_init__(self) -> None:
        for kind, channels in (("input", self.inputs), ("output", self.outputs)):
            names = [channel.name for channel in channels]
            # Outputs may be absent: a file that is only predicted from has none.
            if (kind == "input" and not names) or len(set(names)) != len(names):
                raise UserError(f"{self.name}: {kind} channels must be named, each once; given: {names}")
        if not 1 <= len(self.axes) <= 3:
            raise UserError(f"{self.name}: 1 to 3 spatial axes are supported; given: {len(self.axes)}")

    @property
    def in_channels(self) -> int:
        """Width of the model's input: frames are folded into channels, frame slowest."""
        return self.steps_in * len(self.inputs)

    @property
    def out_channels(self) -> int:
        """Width of the model's output."""
        return self.steps_out * len(self.outputs)

    @property
    def boundary(self) -> tuple[tuple[Side, Side], ...]:
        """(lower, upper) condition of each axis."""
        return tuple(axis.boundary for axis in self.axes)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FieldMeta:
        """Inverse of :meth:`to_dict`, also after a trip through JSON."""
        channels = {key: tuple(Channel(**c) for c in values[key]) for key in ("inputs", "outputs", "parameters")}
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
        index: provenance (sample, first frame), (\\*batch, 2), int64.
    """

    x: Tensor
    y: Tensor | None = None
    time: Tensor | None = None
    parameters: Tensor | None = None
    index: Tensor | None = field(default=None, repr=False)

    def to(self, device: Any, *, non_blocking: bool = False) -> FieldSample:
        """The same sample on another device."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> FieldSample:
        """The same sample in page-locked memory, for overlapping copies to a GPU."""
        return self.map(lambda tensor: tensor.pin_memory())

    def map(self, function: Any) -> FieldSample:
        """The same sample with a function applied to every tensor in it."""
        values = (self.x, self.y, self.time, self.parameters, self.index)
        return FieldSample(*(None if value is None else function(value) for value in values))
