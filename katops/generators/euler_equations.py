"""The compressible Euler equations of an ideal gas in two dimensions: variables, wave speeds, fluxes."""

import torch
from torch import Tensor

GAMMA = 1.4


class EulerEquations:
    """Conserved (rho, rho u, rho v, E) and primitive (rho, u, v, p), E = p/(gamma - 1) + rho (u^2 + v^2)/2.

    Args:
        gamma: ratio of specific heats, above 1.
    """

    positive = (0, 3)

    def __init__(self, gamma: float = GAMMA) -> None:
        self.gamma = gamma

    def primitive(self, conserved: Tensor) -> Tensor:
        """(4, \\*n) -> (4, \\*n)."""
        density, momentum_x, momentum_y, energy = conserved
        u, v = momentum_x / density, momentum_y / density
        pressure = (self.gamma - 1) * (energy - 0.5 * (momentum_x * u + momentum_y * v))
        return torch.stack((density, u, v, pressure))

    def conserved(self, primitive: Tensor) -> Tensor:
        """Inverse of :meth:`primitive`."""
        density, u, v, pressure = primitive
        energy = pressure / (self.gamma - 1) + 0.5 * density * (u * u + v * v)
        return torch.stack((density, density * u, density * v, energy))

    def speeds(self, primitive: Tensor) -> tuple[Tensor, Tensor]:
        """The fastest wave along x and along y, |u| + c and |v| + c."""
        density, u, v, pressure = primitive
        sound = torch.sqrt(self.gamma * pressure / density)
        return u.abs() + sound, v.abs() + sound

    def flux(self, before: Tensor, behind: Tensor, normal: int) -> Tensor:
        """HLLC flux through faces; it is exact for a contact or a shear layer that does not move.

        The wave speeds are Einfeldt's: the smallest and the largest of those of the two states and of Roe's mean.

        Args:
            before, behind: (4, \\*faces), primitive.
            normal: the row of the velocity through the face, 1 or 2.

        Source: Toro, Spruce, Speares, Shock Waves 4 (1994) 25-34; Einfeldt, SIAM J. Numer. Anal. 25 (1988) 294-318;
        Batten, Clarke, Lambert, Causon, SIAM J. Sci. Comput. 18 (1997) 1553-1570.
        """
        slowest, fastest = self._wave_speeds(before, behind, normal)
        inflow = before[0] * (slowest - before[normal])
        outflow = behind[0] * (fastest - behind[normal])
        contact = behind[3] - before[3] + before[normal] * inflow - behind[normal] * outflow
        contact = contact / (inflow - outflow)

        from_left = contact >= 0
        density, u, v, pressure = torch.where(from_left, before, behind)
        velocity, transverse = (u, v) if normal == 1 else (v, u)
        wave = torch.where(from_left, slowest, fastest)
        # Behind the fastest wave the flux is that of the state itself: the jump counts with speed 0.
        clipped = torch.where(from_left, slowest.clamp(max=0), fastest.clamp(min=0))

        energy = pressure * (1 / (self.gamma - 1)) + 0.5 * density * (u * u + v * v)
        relative = wave - velocity
        relative_mass = density * relative
        narrowed = 1 / (wave - contact)
        squeezed = relative_mass * narrowed
        star_pressure = pressure + relative_mass * (contact - velocity)
        star_energy = (relative * energy - pressure * velocity + star_pressure * contact) * narrowed
        momentum = density * velocity
        mass = momentum + clipped * (squeezed - density)
        along = momentum * velocity + pressure + clipped * (squeezed * contact - momentum)
        across = mass * transverse
        total = velocity * (energy + pressure) + clipped * (star_energy - energy)
        return torch.stack((mass, along, across, total) if normal == 1 else (mass, across, along, total))

    def _wave_speeds(self, before: Tensor, behind: Tensor, normal: int) -> tuple[Tensor, Tensor]:
        """Bounds of all signals: (slowest, fastest)."""
        root, other = torch.sqrt(before[0]), torch.sqrt(behind[0])
        weight = root / (root + other)
        rest = 1 - weight
        squared = self.gamma * before[3] / before[0], self.gamma * behind[3] / behind[0]
        sound = torch.sqrt(squared[0]), torch.sqrt(squared[1])
        jump = behind[normal] - before[normal]
        # c^2 of Roe's mean state of a flow along the normal: a jump of the transverse velocity is left to the contact.
        roe_sound = torch.sqrt(
            weight * squared[0] + rest * squared[1] + 0.5 * (self.gamma - 1) * weight * rest * jump * jump
        )
        roe_velocity = weight * before[normal] + rest * behind[normal]
        slowest = torch.minimum(before[normal] - sound[0], roe_velocity - roe_sound)
        fastest = torch.maximum(behind[normal] + sound[1], roe_velocity + roe_sound)
        return slowest, fastest
