"""Where the knots of B-splines lie, and how coefficients follow them: grids from samples, knot insertion, refit.

Grids belong to inputs: knots are (inputs, intervals + 2 degree + 1), coefficients (inputs, intervals + degree, curves).
"""

import torch
from torch import Tensor

from katops.ops.bspline import bspline_basis

# No interval is narrower than this part of the range: its neighbours' slopes would grow as its inverse.
NARROWEST = 1e-3
# A range below this many roundings of its largest number, per interval, is a constant with rounding errors.
_ROUNDINGS = 64
# Weight of the range itself beside the samples in a refit, which they may leave empty in places.
_WEIGHT_OF_RANGE = 1e-4


def uniform_knots(low: Tensor, high: Tensor, intervals: int, degree: int) -> Tensor:
    """Knots at equal distances h = (high - low) / intervals, with ``degree`` ghost knots beyond either end.

    Args:
        low, high: (inputs,).

    Returns:
        (inputs, intervals + 2 degree + 1).
    """
    steps = torch.arange(intervals + 1, dtype=low.dtype, device=low.device) / intervals
    return with_ghost_knots(torch.lerp(low[:, None], high[:, None], steps), degree)


def with_ghost_knots(inner: Tensor, degree: int) -> Tensor:
    """Inner knots (inputs, intervals + 1) with ghost knots at the mean distance of the inner ones."""
    step = (inner[:, -1:] - inner[:, :1]) / (inner.shape[1] - 1)
    counts = torch.arange(1, degree + 1, dtype=inner.dtype, device=inner.device)
    return torch.cat([inner[:, :1] - step * counts.flip(0), inner, inner[:, -1:] + step * counts], 1)


def inner_knots(knots: Tensor, degree: int) -> Tensor:
    """The knots without the ghosts."""
    return knots[:, degree : knots.shape[1] - degree]


def quantile_knots(x: Tensor, intervals: int, degree: int, uniform_share: float = 0.02) -> Tensor:
    """Knots that follow the samples: t = share u + (1 - share) q, with u at equal distances and q at quantiles.

    The quantiles are those of the distinct values, so that a column which is zero in most rows spends its knots on the
    others; a column with fewer distinct values than two per interval has u alone. No interval is narrower than 0.001 of
    the range. A constant column x has the range [x - 1/2, x + 1/2], a wider one where x is so large that this is
    rounding.

    Args:
        x: samples, (rows, inputs), finite, at least one row.
        uniform_share: between 0 and 1.

    Returns:
        (inputs, intervals + 2 degree + 1).
    """
    rounding = torch.finfo(x.dtype).eps
    columns = [_inner_of_column(column, intervals, uniform_share, rounding) for column in x.detach().double().cpu().T]
    return with_ghost_knots(torch.stack(columns), degree).to(x)


def _inner_of_column(column: Tensor, intervals: int, uniform_share: float, rounding: float) -> Tensor:
    values = torch.unique(column)
    low, high = values[0], values[-1]
    rounding = rounding * values.abs().max()
    if high - low <= _ROUNDINGS * intervals * rounding:
        middle, half = (low + high) / 2, (_ROUNDINGS * intervals * rounding).clamp_min(0.5)
        low, high = middle - half, middle + half
    steps = torch.arange(intervals + 1, dtype=column.dtype) / intervals
    inner = torch.lerp(low, high, steps)
    if len(values) >= 2 * intervals:
        places = (steps * len(values)).floor().long().clamp_max(len(values) - 1)
        mixed = uniform_share * inner + (1 - uniform_share) * values[places]
        # The ends without rounding: the largest sample lies within the range.
        inner = torch.cat([inner[:1], mixed[1:-1], inner[-1:]])
    return _widened(inner, 4 * rounding)


def _widened(inner: Tensor, smallest: Tensor) -> Tensor:
    """The same ends with no gap below the narrowest allowed one; the wide gaps pay for it."""
    gaps, width = inner.diff(), inner[-1] - inner[0]
    least = torch.maximum(NARROWEST * width, smallest)
    if gaps.min() >= least:
        return inner
    surplus = (gaps - least).clamp_min(0)
    gaps = least + surplus * (width - least * len(gaps)) / surplus.sum()
    return torch.cat([inner[:1], inner[0] + gaps.cumsum(0)[:-1], inner[-1:]])


def refined_inner_knots(inner: Tensor, intervals: int) -> Tensor:
    """Inner knots interpolated in their index to another number of intervals: what was dense stays dense."""
    places = torch.arange(intervals + 1, dtype=torch.float64) * (inner.shape[1] - 1) / intervals
    left = places.floor().long().clamp_max(inner.shape[1] - 2)
    share = (places - left).to(inner)
    left = left.to(inner.device)
    return torch.lerp(inner[:, left], inner[:, left + 1], share)


def insertion_matrix(knots: Tensor, finer: Tensor, degree: int) -> Tensor:
    """The matrix from coefficients to those of the same splines on finer knots, exact on the range of the grid.

    A coefficient on the finer knots t' is the blossom of the polynomial piece there, F(t'_{j+1}, ..., t'_{j+p}): de
    Boor's triangle with another argument in each of its steps (Goldman 1990; de Boor 1978, chapter XI).

    Args:
        knots: (inputs, intervals + 2 degree + 1).
        finer: (inputs, ...), inner knots of which those of ``knots`` are a part.

    Returns:
        (inputs, finer functions, functions).
    """
    functions, finer_functions = knots.shape[1] - degree - 1, finer.shape[1] - degree - 1
    # A piece of the finer grid under each finer function, within the range, and the coarse piece that holds its middle.
    pieces = torch.arange(finer_functions, device=knots.device).clamp(degree, finer_functions - 1)
    middles = (finer[:, pieces] + finer[:, pieces + 1]) / 2
    spans = torch.searchsorted(knots.contiguous(), middles.contiguous(), right=True) - 1
    spans = spans.clamp(degree, functions - 1)
    window = spans[..., None] + torch.arange(-degree, 1, device=knots.device)
    triangle = torch.nn.functional.one_hot(window, functions).to(knots)
    for step in range(1, degree + 1):
        places = torch.arange(finer_functions, device=knots.device) + step
        argument = finer[:, places, None]
        index = window[..., step:]
        start = _gathered(knots, index)
        end = _gathered(knots, index + degree + 1 - step)
        share = ((argument - start) / (end - start)).unsqueeze(-1)
        triangle = (1 - share) * triangle[..., :-1, :] + share * triangle[..., 1:, :]
    return triangle.squeeze(-2)


def _gathered(knots: Tensor, index: Tensor) -> Tensor:
    return torch.gather(knots, 1, index.flatten(1)).view(index.shape)


def refit(
    knots: Tensor,
    coefficients: Tensor,
    new_knots: Tensor,
    degree: int,
    extrapolation: str,
    x: Tensor | None = None,
    was: Tensor | None = None,
) -> Tensor:
    """Coefficients on other knots that reproduce the splines at the samples, by least squares.

    Points spread over the new range take part with a small weight, so that the problem is well posed whatever the
    samples are, and the splines stay what they were where there are none. One problem per input, all curves at once, in
    float64.

    Args:
        coefficients: (inputs, intervals + degree, curves).
        x: (rows, inputs); the range alone where it is not given.
        was: where the splines had these values before, if not at ``x``.

    Returns:
        (inputs, new functions, curves).
    """
    before, after = knots.detach().double().cpu(), new_knots.detach().double().cpu()
    functions = after.shape[1] - degree - 1
    low, high = after[:, degree], after[:, -1 - degree]
    spread = torch.lerp(low, high, torch.linspace(0, 1, 8 * functions, dtype=torch.float64)[:, None])
    inner = inner_knots(after, degree).T
    within = [torch.lerp(inner[:-1], inner[1:], (part + 0.5) / (degree + 1)) for part in range(degree + 1)]
    points = sources = torch.cat([spread, *within])
    weights = torch.full((len(points),), _WEIGHT_OF_RANGE / len(points), dtype=torch.float64)
    if x is not None:
        samples = [x.detach().double().cpu(), (x if was is None else was).detach().double().cpu()]
        points, sources = (torch.cat([points, each]) for each in samples)
        weights = torch.cat([weights, torch.full((len(x),), 1 / len(x), dtype=torch.float64)])
    old = bspline_basis(sources, before, degree, extrapolation).transpose(0, 1)
    new = bspline_basis(points, after, degree, extrapolation).transpose(0, 1)
    roots = weights.sqrt()[:, None]
    values = old @ coefficients.detach().double().cpu()
    return torch.linalg.lstsq(roots * new, roots * values, driver="gels").solution.to(coefficients)
