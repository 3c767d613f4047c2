"""The shallow water equations over a flat bottom: variables, wave speeds, fluxes."""

import torch
from torch import Tensor


class ShallowWaterEquations:
    """Conserved (h, h u, h v) and primitive (h, u, v).

    Args:
        gravity: g, positive.
    """

    positive = (0,)

    def __init__(self, gravity: float = 1.0) -> None:
        self.gravity = gravity

    def primitive(self, conserved: Tensor) -> Tensor:
        """(3, \\*n) -> (3, \\*n)."""
        height = conserved[0]
        return torch.stack((height, conserved[1] / height, conserved[2] / height))

    def conserved(self, primitive: Tensor) -> Tensor:
        """Inverse of :meth:`primitive`."""
        height, u, v = primitive
        return torch.stack((height, height * u, height * v))

    def speeds(self, primitive: Tensor) -> tuple[Tensor, Tensor]:
        """The fastest wave along x and along y, |u| + c and |v| + c with c^2 = g h."""
        height, u, v = primitive
        celerity = torch.sqrt(self.gravity * height)
        return u.abs() + celerity, v.abs() + celerity

    def flux(self, before: Tensor, behind: Tensor, normal: int) -> Tensor:
        """HLLC flux through faces: HLL for mass and normal momentum, the transverse velocity goes with the mass.

        The wave speeds are Einfeldt's, which makes a rarefaction through the critical point smooth (no entropy fix).

        Args:
            before, behind: (3, \\*faces), primitive.
            normal: the row of the velocity through the face, 1 or 2.

        Source: Toro, Shock-Capturing Methods for Free-Surface Shallow Flows, Wiley 2001, section 10.4.
        """
        slowest, fastest = self._wave_speeds(before, behind, normal)
        slowest, fastest = slowest.clamp(max=0), fastest.clamp(min=0)
        span = fastest - slowest
        speed, other = before[normal], behind[normal]
        discharge, other_discharge = before[0] * speed, behind[0] * other
        momentum = discharge * speed + 0.5 * self.gravity * before[0] * before[0]
        other_momentum = other_discharge * other + 0.5 * self.gravity * behind[0] * behind[0]
        product = slowest * fastest
        mass = (fastest * discharge - slowest * other_discharge + product * (behind[0] - before[0])) / span
        along = (fastest * momentum - slowest * other_momentum + product * (other_discharge - discharge)) / span
        across = mass * torch.where(mass >= 0, before[3 - normal], behind[3 - normal])
        return torch.stack((mass, along, across) if normal == 1 else (mass, across, along))

    def _wave_speeds(self, before: Tensor, behind: Tensor, normal: int) -> tuple[Tensor, Tensor]:
        """Bounds of all signals: (slowest, fastest)."""
        root, other = torch.sqrt(before[0]), torch.sqrt(behind[0])
        velocity = (root * before[normal] + other * behind[normal]) / (root + other)
        celerity = torch.sqrt(0.5 * self.gravity * (before[0] + behind[0]))
        scale = self.gravity**0.5
        slowest = torch.minimum(before[normal] - scale * root, velocity - celerity)
        fastest = torch.maximum(behind[normal] + scale * other, velocity + celerity)
        return slowest, fastest
