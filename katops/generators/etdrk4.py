"""Exponential time differencing of fourth order, for stiff equations that are diagonal in Fourier space."""

from collections.abc import Callable

import torch
from torch import Tensor

CONTOUR_POINTS = 32


class ETDRK4:
    """One step of v' = L v + N(v), L diagonal and exact, N by the fourth-order Runge-Kutta method of Cox and Matthews.

    The coefficients are (e^z - 1) / z and its relatives, which cancel near z = 0; they are means over a circle of
    radius 1 around z = L h (Kassam and Trefethen).

    Args:
        linear: L, any shape that broadcasts with v, real, float64.
        step: h > 0.

    Source: Cox, Matthews, "Exponential time differencing for stiff systems", J. Comput. Phys. 176, 2002, equations
    (26)-(29); Kassam, Trefethen, "Fourth-order time-stepping for stiff PDEs", SIAM J. Sci. Comput. 26, 2005.
    """

    def __init__(self, linear: Tensor, step: float) -> None:
        z = step * linear
        angles = torch.pi * (torch.arange(CONTOUR_POINTS, dtype=torch.float64, device=z.device) + 0.5) / CONTOUR_POINTS
        # The circle is symmetric about the real axis: half of it, and the real part.
        points = z[..., None] + torch.polar(torch.ones_like(angles), angles)
        exponential = torch.exp(points)

        def mean(values: Tensor) -> Tensor:
            return step * values.mean(-1).real

        self.full = torch.exp(z)
        self.half = torch.exp(z / 2)
        self.stage = mean((torch.exp(points / 2) - 1) / points)
        self.first = mean((-4 - points + exponential * (4 - 3 * points + points**2)) / points**3)
        self.middle = mean((2 + points + exponential * (points - 2)) / points**3)
        self.last = mean((-4 - 3 * points - points**2 + exponential * (4 - points)) / points**3)

    def __call__(self, v: Tensor, nonlinear: Callable[[Tensor], Tensor]) -> Tensor:
        """v one step later."""
        n_v = nonlinear(v)
        half_way = self.half * v
        a = half_way + self.stage * n_v
        n_a = nonlinear(a)
        b = half_way + self.stage * n_a
        n_b = nonlinear(b)
        c = self.half * a + self.stage * (2 * n_b - n_v)
        return self.full * v + self.first * n_v + 2 * self.middle * (n_a + n_b) + self.last * nonlinear(c)
