"""u_t + f(u)_x = viscosity u_xx on a periodic interval by finite volumes, with a time step for every sample."""

from collections.abc import Callable
from math import ceil

import torch
from torch import Tensor

from katops.generators.heat_semigroup import HeatSemigroup
from katops.generators.muscl import Flux, muscl_step


def solve_conservation_law(
    u: Tensor,
    frames: int,
    interval: float,
    flux: Flux,
    largest_speed: Callable[[Tensor], Tensor],
    courant_number: float,
    viscosity: float = 0.0,
    explicit_diffusion: bool = False,
) -> Tensor:
    """Solve on the unit interval; second order in space and time where u is smooth.

    The steps of a sample are equally long within a frame, the longest that respect the Courant number at its
    beginning. They depend on the sample alone, so that the rest of the batch does not change a bit. The viscous term is
    either exact in time and split from the flux (Strang: half a step, a step of the flux, half a step), without a
    limit on the step, or part of the flux, which is explicit and limits the step to courant_number h^2 / (2 viscosity).

    Args:
        u: (n, cells) float64, cell averages at time 0.
        frames: number of frames, the first of which is ``u``.
        interval: time between two frames.
        flux: see :data:`~katops.generators.muscl.Flux`.
        largest_speed: (n, cells) -> (n,), largest \\|f'(u)\\| of each sample; it must not grow within a frame.
        courant_number: largest speed * time step / cell width, at most 0.5.
        viscosity: of u_xx.
        explicit_diffusion: whether the viscous term is part of the flux.

    Returns:
        (n, frames, cells).

    Source: Strang, "On the construction and comparison of difference schemes", SIAM J. Numer. Anal. 5, 1968;
    :func:`~katops.generators.muscl.muscl_step`.
    """
    n, cells = u.shape
    heat = HeatSemigroup((cells,), (1 / cells,), u.device) if viscosity and not explicit_diffusion else None
    explicit_rate = 2 * viscosity * cells**2 if explicit_diffusion else 0.0
    u = u.clone()
    found = u.new_empty((n, frames, cells))
    found[:, 0] = u
    for frame in range(1, frames):
        rates = [max(speed * cells, explicit_rate) for speed in largest_speed(u).tolist()]
        steps = [max(1, ceil(interval * rate / courant_number)) for rate in rates]
        # The samples with the most steps come first: those that are not done are a slice, which costs no copy.
        order = sorted(range(n), key=lambda sample: -steps[sample])
        steps = [steps[sample] for sample in order]
        index = torch.tensor(order, device=u.device)
        step = torch.tensor([interval / count for count in steps], dtype=u.dtype, device=u.device)[:, None]
        u[index] = _steps(u[index], steps, step, flux, viscosity, heat)
        found[:, frame] = u
    return found


def _steps(
    u: Tensor, steps: list[int], step: Tensor, flux: Flux, viscosity: float, heat: HeatSemigroup | None
) -> Tensor:
    """``steps[i]``, not increasing in i, steps of length ``step[i]`` of sample i; u is overwritten."""
    cells = u.shape[-1]
    courant = step * cells
    explicit = viscosity * step * cells**2 if viscosity and heat is None else None
    half, whole = (heat.factors(share * viscosity * step)[0] for share in (0.5, 1.0)) if heat else (None, None)
    if heat:
        u = heat(u, [half])
    active = len(steps)
    for done in range(steps[0]):
        now = slice(active)
        moved = muscl_step(u[now], courant[now], flux, None if explicit is None else explicit[now])
        going_on = active
        while going_on and steps[going_on - 1] == done + 1:
            going_on -= 1
        if heat:
            # Half a step of diffusion ends this step and another begins the next one; the last step has one only.
            factor = whole[now] if going_on == active else torch.cat((whole[:going_on], half[going_on:active]))
            moved = heat(moved, [factor])
        u[now] = moved
        active = going_on
    return u
