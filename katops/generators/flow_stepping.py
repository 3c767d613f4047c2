"""Time stepping of :class:`~katops.generators.spectral_flow.SpectralFlow`; every sample chooses its own steps."""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

from katops.generators.spectral_flow import SpectralFlow

MAX_STEPS = 100_000
"""Steps between two frames; a sample that needs more is given up, and its state becomes NaN."""

Advance = Callable[[SpectralFlow, Tensor, Tensor | None, float], tuple[Tensor, Tensor]]
"""``advance(flow, state, mean, time)`` -> the state later and the largest (batch,) time step times wave speed."""


class IntegratingFactorRK4:
    """Runge-Kutta of order four for the advection and the force, the damping exact; fixed steps between two frames.

    Each sample takes the same number of steps until the next frame, so many that the step times the speed of the
    shortest wave (:meth:`SpectralFlow.wave_speed`) is at most ``courant`` at the frame before; samples that need the
    same number advance together. The advection is stable up to 2.8; where the flow got so fast that the bound
    ``largest_courant`` does not hold at the next frame, the sample goes back and takes twice as many steps.

    Source: Cox, Matthews, J. Comput. Phys. 176, 2002, section 2 (integrating factor).

    Args:
        courant: the aim for the step times the wave speed.
        largest_courant: what it may grow to.
        longest_step: no step is longer.
    """

    def __init__(self, courant: float, largest_courant: float, longest_step: float) -> None:
        self.courant, self.largest_courant, self.longest_step = courant, largest_courant, longest_step

    def __call__(self, flow: SpectralFlow, state: Tensor, mean: Tensor | None, time: float) -> tuple[Tensor, Tensor]:
        before = flow.wave_speed(state, mean)
        counts = [self._steps(time, speed) for speed in before.tolist()]
        later, courant = torch.full_like(state, torch.nan), torch.full_like(before, torch.nan)
        waiting = [i for i, count in enumerate(counts) if count]
        while waiting:
            for count in sorted({counts[i] for i in waiting}):
                members = torch.tensor([i for i in waiting if counts[i] == count], device=flow.device)
                own_mean = None if mean is None else mean[:, members]
                new = self._run(flow, state[:, members], own_mean, time / count, count)
                later[:, members] = new
                courant[members] = time / count * torch.maximum(before[members], flow.wave_speed(new, own_mean))
            used = courant.tolist()
            waiting = [i for i in waiting if not used[i] <= self.largest_courant and counts[i] < MAX_STEPS]
            for i in waiting:
                counts[i] *= 2
        return later, courant

    def _steps(self, time: float, speed: float) -> int:
        """The number of steps, 0 if there is none; rounded up to 2^j or 3 * 2^j, so that samples share it."""
        if not speed < self.courant * MAX_STEPS / time:  # NaN too
            return 0
        wanted = ceil(time * max(speed / self.courant, 1 / self.longest_step) - 1e-9)
        power = 1 << (wanted - 1).bit_length()
        return max(1, 3 * power // 4 if power >= 4 and wanted <= 3 * power // 4 else power)

    @staticmethod
    def _run(flow: SpectralFlow, state: Tensor, mean: Tensor | None, step: float, count: int) -> Tensor:
        half = torch.exp(-step / 2 * flow.damping)[..., None].repeat_interleave(2, -1)
        first, sixth = step / 2 * half, step / 6 * half
        state = torch.view_as_real(state)

        def rate(state: Tensor) -> Tensor:
            return torch.view_as_real(flow.rate(torch.view_as_complex(state), mean))

        for _ in range(count):
            decayed = half * state
            k1 = rate(state)
            k2 = rate(decayed + first * k1)
            k3 = rate(torch.add(decayed, k2, alpha=step / 2))
            k4 = rate(half * torch.add(decayed, k3, alpha=step))
            middle = torch.add(decayed, k2.add_(k3), alpha=step / 3).add_(sixth * k1)
            state = torch.add(half * middle, k4, alpha=step / 6)
        return torch.view_as_complex(state)


class StrongStabilityRK3:
    """The third-order SSP Runge-Kutta scheme for everything, with the published step courant / (N max |u|).

    Source: Shu, Osher, J. Comput. Phys. 77, 1988; Rohner, Mishra, "Efficient computation of large-scale statistical
    solutions to incompressible fluid flows", 2024, for the step.

    Args:
        courant: the step times N times the largest velocity.
        points: N.
    """

    def __init__(self, courant: float, points: int) -> None:
        self.courant, self.points = courant, points

    def __call__(self, flow: SpectralFlow, state: Tensor, mean: Tensor | None, time: float) -> tuple[Tensor, Tensor]:
        left = torch.full((state.shape[1],), time, dtype=torch.float64, device=flow.device)
        largest = torch.zeros_like(left)
        for _ in range(MAX_STEPS):
            speed = flow.velocity(state[0], mean).square().sum(0).amax((-2, -1)).sqrt()
            step = torch.minimum(self.courant / (self.points * speed), left)
            largest = torch.maximum(largest, step * flow.wave_speed(state, mean))
            state = torch.where((left > 0)[:, None, None], self._step(flow, state, mean, step[:, None, None]), state)
            left = left - step
            if not (left > 0).any():  # NaN has finished, too
                return state, largest
        return torch.where((left > 0)[:, None, None], torch.nan, state), largest

    @staticmethod
    def _step(flow: SpectralFlow, state: Tensor, mean: Tensor | None, step: Tensor) -> Tensor:
        def euler(state: Tensor) -> Tensor:
            return state + step * (flow.rate(state, mean) - flow.damping * state)

        second = 0.75 * state + 0.25 * euler(euler(state))
        return (state + 2 * euler(second)) / 3


class CrankNicolsonEuler:
    """The damping by Crank-Nicolson, advection and force by a forward Euler step; order one.

    Source: the published code of Li et al., "Fourier neural operator for parametric partial differential equations",
    ICLR 2021. It also keeps the waves above N/3 in the vorticity that it advects, which are absent here.

    Args:
        step: the time step; 1e-4 as published. It is shortened a little where it does not divide a frame.
    """

    def __init__(self, step: float) -> None:
        self.step = step

    def __call__(self, flow: SpectralFlow, state: Tensor, mean: Tensor | None, time: float) -> tuple[Tensor, Tensor]:
        count = ceil(time / self.step - 1e-9)
        step = time / count
        before = flow.wave_speed(state, mean)
        kept = (1 - step / 2 * flow.damping) / (1 + step / 2 * flow.damping)
        new = step / (1 + step / 2 * flow.damping)
        for _ in range(count):
            state = kept * state + new * flow.rate(state, mean)
        return state, step * torch.maximum(before, flow.wave_speed(state, mean))
