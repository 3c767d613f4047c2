"""How many grids a multigrid cycle has, how often it smooths on each, and in which order it visits them."""

from collections.abc import Sequence

from katops.errors import UserError, did_you_mean
from katops.layers.boundary import Sides

Schedule = Sequence[Sequence[int]]
CYCLES = ("v", "w", "f")
DEFAULT_SMOOTHING = (1, 1)
# Where nothing is known about the grid: 64 points give levels of 64, 32, 16, 8 and 4 points.
DEFAULT_LEVELS = 5
# A coarsest grid of that many points is seen whole by one 3-wide stencil and its neighbours.
COARSEST_POINTS = 4
# Up to here a coarsest grid is small enough to end the hierarchy early for the sake of exact shift-equivariance.
COARSEST_PERIODIC_POINTS = 8


def smoothing_schedule(
    schedule: Schedule | None,
    levels: int | None,
    smoothing: Sequence[int] | None,
    grid: Sequence[int] | None,
    boundary: Sides,
) -> tuple[tuple[int, int], ...]:
    """(pre, post) smoothing steps of each level, finest first.

    Args:
        schedule: the answer itself, where somebody gives it.
        levels: number of grids; by default what ``grid`` asks for, see :func:`levels_of_grid`.
        smoothing: (pre, post) of every level but the coarsest, which has ``max(2, pre + post)`` steps in one go;
            (1, 1) where it is not given.
        grid: lengths of the axes.
        boundary: (lower, upper) condition of each axis.

    Raises:
        UserError: ``schedule`` stands beside ``levels`` or ``smoothing``; a number is too small; the schedule begins
            without pre-smoothing.
    """
    if schedule is not None:
        if levels is not None:
            raise UserError(f"schedule {schedule!r} has its own number of levels; leave levels={levels} out")
        if smoothing is not None:
            raise UserError(f"schedule {schedule!r} has its own smoothing steps; leave smoothing={smoothing!r} out")
        check_schedule(schedule)
        return tuple((pre, post) for pre, post in schedule)
    smoothing = DEFAULT_SMOOTHING if smoothing is None else smoothing
    if len(smoothing) != 2 or min(smoothing) < 0:
        raise UserError(f"smoothing {smoothing!r}: give (pre, post) steps >= 0")
    if levels is None:
        levels = DEFAULT_LEVELS if grid is None else levels_of_grid(grid, boundary)
    if levels < 1:
        raise UserError(f"levels must be at least 1, got {levels}")
    pre, post = smoothing
    complete = (*((pre, post),) * (levels - 1), (max(2, pre + post), 0))
    check_schedule(complete)
    return complete


def levels_of_grid(grid: Sequence[int], boundary: Sides) -> int:
    """Number of grids from ``grid`` down to one whose longest axis has at most 4 points.

    Coarsening n -> ceil(n / 2) of a periodic axis of odd length breaks the equivariance under shifts. Where a periodic
    axis becomes odd on a grid of at most 8 points per axis, the hierarchy ends there; where it does so earlier, the
    reach of the coarse grids counts for more.

    Args:
        grid: lengths of the axes.
        boundary: (lower, upper) condition of each axis.

    Raises:
        UserError: ``grid`` has another number of axes than ``boundary``, or an empty one.
    """
    if len(grid) != len(boundary) or min(grid) < 1:
        raise UserError(
            f"grid {list(grid)!r}: give the number of points, at least 1, of each of the {len(boundary)} axes"
        )
    sizes, levels, shifts = list(grid), 1, True
    while max(sizes) > COARSEST_POINTS:
        odd = any(size % 2 and size > 1 and side[0] == "periodic" for size, side in zip(sizes, boundary, strict=True))
        if odd and shifts and max(sizes) <= COARSEST_PERIODIC_POINTS:
            break
        shifts = shifts and not odd
        sizes = [-(-size // 2) for size in sizes]
        levels += 1
    return levels


def level_widths(channels: int, growth: float, levels: int) -> list[int]:
    """Channels on each level, round(channels (1 + growth l)).

    Raises:
        UserError: ``growth`` is negative.
    """
    if growth < 0:
        raise UserError(f"channel_growth must be at least 0, got {growth}")
    return [round(channels * (1 + growth * level)) for level in range(levels)]


def check_schedule(schedule: Schedule) -> None:
    """Raises :class:`UserError` unless a schedule is a list of (pre, post) pairs that begins with pre-smoothing."""
    wrong = [pair for pair in schedule if len(pair) != 2 or min(pair) < 0]
    if not schedule or wrong:
        raise UserError(
            f"schedule {schedule!r}: give (pre, post) smoothing steps >= 0 for at least one level, finest first"
        )
    if schedule[0][0] < 1:
        raise UserError(f"schedule {schedule!r}: the finest level needs at least one pre-smoothing step, u = S f")


def check_cycle(cycle: str) -> None:
    """Raises :class:`UserError` unless ``cycle`` is a known one."""
    if cycle not in CYCLES:
        raise UserError(f"unknown cycle {cycle!r}{did_you_mean(cycle, CYCLES)} Allowed: {', '.join(CYCLES)}.")


def visits(cycle: str, *, to_coarsest: bool) -> tuple[str, ...]:
    """The cycles on the next coarser level, in order, that make up a cycle (Trottenberg et al., Multigrid, 2.4).

    V: one; W: two; F: an F-cycle and then a V-cycle. The coarsest level is visited once each time.
    """
    if to_coarsest or cycle == "v":
        return (cycle,)
    return ("w", "w") if cycle == "w" else ("f", "v")
