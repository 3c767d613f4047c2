"""A robust finite-volume method for systems of conservation laws in two dimensions, many samples at once."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from katops.generators.hyperbolic_reconstruction import LIMITERS, PADDINGS, face_states

FLOOR = 1e-6
SMALLEST_STEP = 2.0**-10
CELLS_PER_BLOCK = {"cpu": 2**13, "cuda": 2**22}
X, Y = -2, -1


def samples_per_block(cells: int, device: torch.device) -> int:
    """How many samples of cells x cells to solve at once: more leave the cache of a CPU, fewer do not fill a GPU."""
    return max(1, CELLS_PER_BLOCK.get(device.type, CELLS_PER_BLOCK["cpu"]) // cells**2)


class HyperbolicSystem(Protocol):
    """q_t + f(q)_x + g(q)_y = 0; row 0 is a density, rows 1 and 2 belong to the velocity.

    Attributes:
        positive: the primitive rows that must be positive.
    """

    positive: tuple[int, ...]

    def primitive(self, conserved: Tensor) -> Tensor: ...

    def conserved(self, primitive: Tensor) -> Tensor: ...

    def speeds(self, primitive: Tensor) -> tuple[Tensor, Tensor]: ...

    def flux(self, before: Tensor, behind: Tensor, normal: int) -> Tensor: ...


class State(NamedTuple):
    """Where a batch of samples has come to.

    Attributes:
        conserved, primitive: (variables, samples, nx, ny), cell means and the primitive variables that belong to them.
        repaired: (samples,), steps so far that had to be done again with zero slopes or in smaller steps.
        failed: (samples,) bool, where even the smallest step left the physical states; the sample stands still.
    """

    conserved: Tensor
    primitive: Tensor
    repaired: Tensor
    failed: Tensor


class HyperbolicSolver:
    """Unsplit MUSCL on primitive variables with SSP-RK2 (Heun) in time; second order where the solution is smooth.

    A face value is the cell's mean plus half of a limited slope; the law's approximate Riemann solver gives the flux.
    The step is dt = courant / max(s_x / dx + s_y / dy) of each sample by itself, shortened so that equal steps end at
    the wanted time. A sample's numbers therefore do not depend on the other samples of the batch: those that are ahead
    wait. A step after which a positive quantity is below 1e-6 is done again with zero slopes in 5 x 5 cells around the
    trouble, and where that is not enough with half the step; the conserved variables are never clipped.

    Args:
        law: the equations.
        spacing: (dx, dy).
        boundary: "periodic" or "outflow".
        limiter: a name in :data:`~katops.generators.hyperbolic_reconstruction.LIMITERS`.
        courant: Courant number, stable up to 1.

    Source: van Leer, J. Comput. Phys. 32 (1979) 101-136; Shu and Osher, J. Comput. Phys. 77 (1988) 439-471.
    """

    def __init__(
        self,
        law: HyperbolicSystem,
        spacing: tuple[float, float],
        boundary: str = "periodic",
        limiter: str = "mc",
        courant: float = 0.8,
    ) -> None:
        self.law = law
        self.spacing = spacing
        self.pad = PADDINGS[boundary]
        self.limiter = LIMITERS[limiter]
        self.courant = courant

    def start(self, primitive: Tensor) -> State:
        """The state at the beginning, from (variables, samples, nx, ny) primitive cell values."""
        samples = primitive.shape[1]
        conserved = self.law.conserved(primitive)
        repaired = torch.zeros(samples, dtype=primitive.dtype, device=primitive.device)
        return State(conserved, self.law.primitive(conserved), repaired, ~self._admissible(primitive))

    def advance(self, state: State, duration: float) -> State:
        """The state of every sample ``duration`` later."""
        conserved, primitive, repaired, failed = (values.clone() for values in state)
        remaining = torch.full_like(repaired, duration).masked_fill_(failed, 0.0)
        fraction = torch.ones_like(remaining)  # of the stable step
        running = ~failed
        active = slice(None)
        while True:
            flags = running.tolist()
            if not any(flags):
                return State(conserved, primitive, repaired, failed)
            if not all(flags):
                active = torch.nonzero(running).flatten()
            now, now_primitive = conserved[:, active], primitive[:, active]
            left = remaining[active]
            steps = torch.ceil(left / (self._stable_step(now_primitive) * fraction[active])).clamp_(min=1)
            dt = left / steps
            conserved[:, active], primitive[:, active], good, again = self._safe_step(now, now_primitive, dt)
            repaired[active] += again
            fraction[active] = torch.where(good, (fraction[active] * 2).clamp_(max=1), fraction[active] / 2)
            failed[active] = fraction[active] < SMALLEST_STEP
            # The last step covers the rest exactly, whatever the rounding.
            remaining[active] = torch.where(good, torch.where(steps == 1, 0.0, left - dt), left)
            running = (remaining > 0) & ~failed

    def _safe_step(self, conserved: Tensor, primitive: Tensor, dt: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """A step, done again with care where it fails, and not done where that fails too.

        Returns:
            Conserved and primitive variables; (samples,) whether the step was done, and whether it needed care.
        """
        new, new_primitive, good = self._step(conserved, primitive, dt)
        needs_care = ~good
        if bool(needs_care.any()):
            again = torch.nonzero(needs_care).flatten()
            careful = self._step(conserved[:, again], primitive[:, again], dt[again], careful=True)
            new[:, again], new_primitive[:, again], good[again] = careful
            new = torch.where(good[:, None, None], new, conserved)
            new_primitive = torch.where(good[:, None, None], new_primitive, primitive)
        return new, new_primitive, good, needs_care

    def _stable_step(self, primitive: Tensor) -> Tensor:
        """(samples,), the longest step of each."""
        along_x, along_y = self.law.speeds(primitive)
        rate = along_x / self.spacing[0] + along_y / self.spacing[1]
        return self.courant / rate.amax((X, Y))

    def _step(
        self, conserved: Tensor, primitive: Tensor, dt: Tensor, careful: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Heun's step: conserved, primitive, and (samples,) whether both stages are physical states."""
        dt = dt[:, None, None]
        middle, middle_primitive = self._stage(conserved, primitive, dt, careful)
        start = (conserved + middle) * 0.5
        end, end_primitive = self._stage(start, middle_primitive, dt * 0.5, careful)
        return end, end_primitive, self._admissible(middle_primitive) & self._admissible(end_primitive)

    def _stage(self, base: Tensor, primitive: Tensor, dt: Tensor, careful: bool) -> tuple[Tensor, Tensor]:
        """base + dt * rate(primitive), conserved and primitive."""
        new = base + dt * self._rate(primitive)
        new_primitive = self.law.primitive(new)
        if careful:
            new = base + dt * self._rate(primitive, self._steep(new_primitive))
            new_primitive = self.law.primitive(new)
        return new, new_primitive

    def _rate(self, primitive: Tensor, keep: Tensor | None = None) -> Tensor:
        """dq/dt of the cell means."""
        along_x = self._outflow(primitive, X, keep) / self.spacing[0]
        along_y = self._outflow(primitive, Y, keep) / self.spacing[1]
        return -(along_x + along_y)

    def _outflow(self, primitive: Tensor, axis: int, keep: Tensor | None) -> Tensor:
        """Flux out of each cell along one axis."""
        padded_keep = None if keep is None else self.pad(keep, axis, 1)
        before, behind = face_states(self.pad(primitive, axis), axis, self.limiter, padded_keep)
        flux = self.law.flux(before, behind, normal=1 if axis == X else 2)
        cells = primitive.shape[axis]
        return flux.narrow(axis, 1, cells) - flux.narrow(axis, 0, cells)

    def _steep(self, primitive: Tensor) -> Tensor:
        """(samples, nx, ny): 0 within two cells of a state that is not physical, else 1."""
        bad = (~self._physical(primitive)).to(primitive.dtype)
        padded = self.pad(self.pad(bad, X), Y)
        return 1 - functional.max_pool2d(padded[:, None], kernel_size=5, stride=1)[:, 0]

    def _physical(self, primitive: Tensor) -> Tensor:
        """(samples, nx, ny) bool; a number that is not one is not physical."""
        return torch.stack([primitive[row] > FLOOR for row in self.law.positive]).all(0)

    def _admissible(self, primitive: Tensor) -> Tensor:
        """(samples,) bool."""
        return self._physical(primitive).flatten(1).all(1)
