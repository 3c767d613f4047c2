"""Acoustic waves in a medium of variable speed: u_tt = c^2 Laplace u on a square, finite differences, absorbing layers.

The layers are perfectly matched, with one auxiliary field for each axis: Grote, Sim, "Efficient PML for the wave
equation", arXiv:1001.0319 (2010). With the damping a(x) and b(y), zero inside,

.. math::
    u_{tt} + (a + b) u_t + a b u = c^2 (\\Delta u + \\partial_x \\phi + \\partial_y \\psi), \\quad
    \\phi_t = -a \\phi + (b - a) u_x, \\quad \\psi_t = -b \\psi + (a - b) u_y .
"""

from math import ceil, log
from typing import NamedTuple

import torch
from torch import Tensor

SCHEMES = ("fourth_order", "leapfrog")
REFLECTION = 1e-5
"""What a wave of normal incidence keeps of its amplitude in a layer and back."""
_GHOSTS = 2


class Layers(NamedTuple):
    """Damping in the absorbing layers.

    Attributes:
        cells: of a layer, on every side of the grid.
        width: of a layer in spacings of the grid, at most ``cells``; it need not be a whole number.
        strength: (n,) damping at the outer end; it grows quadratically from 0.
    """

    cells: int
    width: float
    strength: Tensor

    @classmethod
    def matched(cls, width: float, spacing: float, fastest: Tensor) -> "Layers":
        """Layers that absorb all but :data:`REFLECTION`.

        Args:
            width: of a layer.
            spacing: of the grid.
            fastest: (n,) the largest speed of each sample.
        """
        return cls(layer_cells(width, spacing), width / spacing, fastest * (1.5 * log(1 / REFLECTION) / width))


def layer_cells(width: float, spacing: float) -> int:
    """Cells that a layer of that width needs."""
    return ceil(width / spacing - 1e-9)


def propagate(
    start: Tensor, speed: Tensor, spacing: float, times: tuple[float, int, int], layers: Layers, scheme: str
) -> Tensor:
    """Fields at evenly spaced times; the first is ``start``, at rest. Outside the layers u = 0.

    Samples do not influence one another, to the bit: everything is done element by element.

    ``leapfrog`` is of second order in space and time. ``fourth_order`` has the fourth-order Laplacian, and
    dt^2 / 12 c^2 Laplace(c^2 Laplace u) in place of the leading error in time (Dablain, Geophysics 51, 1986); of fourth
    order where c is smooth.

    Args:
        start: (n, s, s) float64, with the layers.
        speed: (n, s, s).
        spacing: of the grid.
        times: distance of the frames, number of frames, steps from one frame to the next.
        layers: the damping; with 0 cells the ends reflect.
        scheme: one of :data:`SCHEMES`.

    Returns:
        (frames, n, s, s); infinite or NaN where the steps are too large.
    """
    distance, frames, steps = times
    waves = _Waves(start, speed, spacing, distance / steps, layers, scheme)
    found = torch.empty((frames, *start.shape), dtype=start.dtype, device=start.device)
    found[0] = start
    for frame in range(1, frames):
        for _ in range(steps):
            waves.step()
        found[frame] = waves.field
    return found


class _Waves:
    """State of :func:`propagate`; arrays have two ghost cells on every side, which stay 0."""

    def __init__(self, start: Tensor, speed: Tensor, spacing: float, dt: float, layers: Layers, scheme: str) -> None:
        self.spacing, self.dt, self.fourth = spacing, dt, scheme == "fourth_order"
        self.now, self.before = _with_ghosts(start), None
        self.c2 = speed**2
        size = start.shape[-1]
        centres = torch.arange(size, dtype=start.dtype, device=start.device)
        at_centres = _damping(centres, size, layers)  # (n, s)
        at_faces = _damping(centres[:-1] + 0.5, size, layers)
        a, b = at_centres[:, :, None], at_centres[:, None, :]
        self.product = a * b
        self.forward, self.backward = 1 + (a + b) * (dt / 2), 1 - (a + b) * (dt / 2)
        # phi lies on the faces between cells along x, psi on those along y.
        self.auxiliary = []
        for axis, faces in ((1, at_faces[:, :, None]), (2, at_faces[:, None, :])):
            other = b if axis == 1 else a
            keep = (1 - faces * (dt / 2)) / (1 + faces * (dt / 2))
            gain = (other - faces) * (dt / spacing) / (1 + faces * (dt / 2))
            self.auxiliary.append((axis, keep, gain, torch.zeros_like(gain.expand(_faces(start.shape, axis)))))
        self.layered = layers.cells > 0

    @property
    def field(self) -> Tensor:
        """u without the ghost cells."""
        return _inside(self.now)

    def step(self) -> None:
        """One time step."""
        now = self.field
        change = self._laplace(self.now)
        if self.layered:
            change += self._absorption()
        change *= self.c2
        if self.fourth:
            change += self.c2 * _second_order(_with_ghosts(change), self.spacing) * (self.dt**2 / 12)
        change -= self.product * now
        change *= self.dt**2
        if self.before is None:  # at rest: the field before is the field after, and the layers take nothing yet
            after = now + change / 2
        else:
            after = (2 * now - self.backward * _inside(self.before) + change) / self.forward
        self.before, self.now = self.now, _with_ghosts(after)

    def _laplace(self, field: Tensor) -> Tensor:
        return _fourth_order(field, self.spacing) if self.fourth else _second_order(field, self.spacing)

    def _absorption(self) -> Tensor:
        """Divergence of (phi, psi) now; they are stepped from half a step before to half a step after."""
        now, total = self.field, torch.zeros_like(self.field)
        for place, (axis, keep, gain, before) in enumerate(self.auxiliary):
            after = keep * before + gain * now.diff(dim=axis)
            if self.before is None:  # zero at the start: half of a step, and as much the other way before
                after = after / 2
                middle = torch.zeros_like(after)
            else:
                middle = (before + after) / 2
            self.auxiliary[place] = (axis, keep, gain, after)
            size = now.shape[axis]
            total.narrow(axis, 0, size - 1).add_(middle, alpha=1 / self.spacing)
            total.narrow(axis, 1, size - 1).sub_(middle, alpha=1 / self.spacing)
        return total


def _damping(cells: Tensor, size: int, layers: Layers) -> Tensor:
    """(n, len(cells)) at distances ``cells`` from the first cell; zero between the layers."""
    if layers.cells == 0:
        return torch.zeros((len(layers.strength), len(cells)), dtype=cells.dtype, device=cells.device)
    ends = layers.cells - 0.5, size - layers.cells - 0.5
    depth = torch.maximum(ends[0] - cells, cells - ends[1]).clamp(min=0) / layers.width
    return layers.strength[:, None] * depth**2


def _with_ghosts(field: Tensor) -> Tensor:
    return torch.nn.functional.pad(field, (_GHOSTS,) * 4)


def _inside(field: Tensor, shift_x: int = 0, shift_y: int = 0) -> Tensor:
    rows, columns = field.shape[-2] - 2 * _GHOSTS, field.shape[-1] - 2 * _GHOSTS
    return field.narrow(-2, _GHOSTS + shift_x, rows).narrow(-1, _GHOSTS + shift_y, columns)


def _neighbours(field: Tensor, distance: int) -> Tensor:
    """Sum of the four values that far away along the axes."""
    total = _inside(field, distance) + _inside(field, -distance)
    total += _inside(field, 0, distance)
    total += _inside(field, 0, -distance)
    return total


def _second_order(field: Tensor, spacing: float) -> Tensor:
    return (_neighbours(field, 1) - 4 * _inside(field)) / spacing**2


def _fourth_order(field: Tensor, spacing: float) -> Tensor:
    total = _neighbours(field, 1) * (4 / 3)
    total -= _neighbours(field, 2) * (1 / 12)
    total -= _inside(field) * 5
    total /= spacing**2
    return total


def _faces(shape: torch.Size, axis: int) -> tuple[int, ...]:
    return tuple(size - (place == axis) for place, size in enumerate(shape))
