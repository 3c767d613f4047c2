"""Fewer grid points: crop, then every r-th point, the mean of r cells, or the lowest Fourier modes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from katops.errors import UserError, did_you_mean
from katops.fields import Axis, Channel

METHODS = ("stride", "block_mean", "spectral")


@dataclass(frozen=True)
class Resample:
    """What is done to the spatial axes of every field before it is handed out.

    First the crop keeps points first, ..., stop - 1 of an axis, then the factor r makes one point of r:

    - ``stride``: points 0, r, 2 r, ...; r need not divide the number of points unless a period would be cut.
    - ``block_mean``: means of r neighbouring cells, which are the cell averages of the coarse grid. A field of nested
      finite-volume grids is coarsened this way; taking every r-th cell would shift it by (r - 1) h / 2.
    - ``spectral``: the Fourier series of a periodic axis, cut off above mode m/2 and evaluated at the m = n/r coarse
      points, exact where the field has no higher mode. In cell-centred grids the coarse points are the coarse cell
      centres, (r - 1) h / 2 to the right of the fine ones. The modes m/2 and -m/2 are one mode on m points and are
      added (as ``scipy.signal.resample`` does): real fields stay real, and nothing above mode m/2 is folded back.

    A description that was made by hand knows nothing of the grid: :meth:`on` checks it against the axes and returns the
    one to work with; :class:`~katops.data.dataset.FieldDataset` does so.

    Attributes:
        factors: r of each axis, or one for all.
        method: one of :data:`METHODS`.
        crop: (first, stop) of each axis in points of the file, ``None`` for an axis that is kept whole.
        cells: whether the points of each axis are cell centres; set by :meth:`on`.

    Raises:
        UserError: a factor is not a positive integer, a crop is empty, or the method is unknown.
    """

    factors: int | tuple[int, ...] = 1
    method: str = "stride"
    crop: tuple[tuple[int, int] | None, ...] | None = None
    cells: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.factors, int):
            object.__setattr__(self, "factors", tuple(self.factors))
        for factor in (self.factors,) if isinstance(self.factors, int) else self.factors:
            if not isinstance(factor, int) or isinstance(factor, bool) or factor < 1:
                raise UserError(
                    f"data.subsample must be an integer of at least 1, or one for each axis; given: {factor!r}"
                )
        if self.method not in METHODS:
            raise UserError(
                f"unknown data.subsample_method {self.method!r}{did_you_mean(str(self.method), METHODS)} "
                f"Allowed: {', '.join(METHODS)}."
            )
        if self.crop is not None:
            # Configurations have lists.
            object.__setattr__(self, "crop", tuple(None if ends is None else _ends(ends) for ends in self.crop))

    @property
    def identity(self) -> bool:
        """Whether every point is handed out as it is."""
        return not self._factors_above_one and (self.crop is None or all(ends is None for ends in self.crop))

    def on(self, axes: Sequence[Axis], sizes: Sequence[int]) -> Resample:
        """The same for these axes: one factor for each, whole axes not cropped, the kind of grid known.

        Raises:
            UserError: it does not fit the axes; the message names the axis and says what would.
        """
        self.axes(axes, sizes)
        crop = tuple(
            None if ends == (0, size) else ends for ends, size in zip(self._crops(len(axes)), sizes, strict=True)
        )
        return replace(
            self,
            factors=self._per_axis(len(axes)),
            crop=None if all(ends is None for ends in crop) else crop,
            cells=tuple(axis.grid == "cell_centres" for axis in axes),
        )

    def space(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the axes that are handed out, for the sizes of those in the file."""
        cropped = (
            size if ends is None else ends[1] - ends[0]
            for size, ends in zip(sizes, self._crops(len(sizes)), strict=True)
        )
        return tuple(-(-size // factor) for size, factor in zip(cropped, self._per_axis(len(sizes)), strict=True))

    def axes(self, axes: Sequence[Axis], sizes: Sequence[int]) -> tuple[Axis, ...]:
        """The axes of the points that are handed out; ``coordinates`` gives exactly these points.

        An axis of a cut-out has the boundary condition "none" where it was cut; a cropped period has it on both sides.

        Raises:
            UserError: see :meth:`on`.
        """
        resampled = []
        for axis, size, factor, ends in zip(
            axes, sizes, self._per_axis(len(axes)), self._crops(len(axes)), strict=True
        ):
            cut, kept = (axis, size) if ends in (None, (0, size)) else _cropped_axis(axis, size, *ends)
            resampled.append(_coarse_axis(cut, kept, factor, self.method))
        return tuple(resampled)

    def channel(self, channel: Channel) -> Channel:
        """The channel with the offset of its points from the grid points in coarse spacings."""
        if not channel.shift:
            return channel
        factors = self._per_axis(len(channel.shift))
        return replace(channel, shift=tuple(s / r for s, r in zip(channel.shift, factors, strict=True)))

    def apply(self, values: np.ndarray, n_axes: int) -> np.ndarray:
        """Resample the last ``n_axes`` axes.

        Args:
            values: (..., \\*sizes) float32 or float64.
            n_axes: number of spatial axes.

        Returns:
            (..., \\*space) of the same element type; a view where the method allows.
        """
        factors, last = self._per_axis(n_axes), values.ndim - n_axes
        whole = (slice(None),) * last
        values = values[(*whole, *(slice(None) if ends is None else slice(*ends) for ends in self._crops(n_axes)))]
        if self.method == "stride":
            return values[(*whole, *(slice(None, None, factor) for factor in factors))]
        for axis, factor in enumerate(factors):
            if factor > 1 and self.method == "block_mean":
                values = _block_mean(values, last + axis, factor)
            elif factor > 1:
                values = _cut_off(values, last + axis, factor, bool(self.cells) and self.cells[axis])
        return values

    @property
    def _factors_above_one(self) -> bool:
        return any(factor > 1 for factor in ((self.factors,) if isinstance(self.factors, int) else self.factors))

    def _per_axis(self, n_axes: int) -> tuple[int, ...]:
        factors = (self.factors,) * n_axes if isinstance(self.factors, int) else self.factors
        if len(factors) != n_axes:
            raise UserError(
                f"data.subsample has {len(factors)} entries; give one number, or one for each of the {n_axes} axes"
            )
        return factors

    def _crops(self, n_axes: int) -> tuple[tuple[int, int] | None, ...]:
        crop = (None,) * n_axes if self.crop is None else self.crop
        if len(crop) != n_axes:
            raise UserError(f"data.crop has {len(crop)} entries; give [first, stop] or null for each of {n_axes} axes")
        return crop


def _ends(ends: Sequence[int]) -> tuple[int, int]:
    pair = tuple(ends)
    if len(pair) != 2 or not all(isinstance(end, int) and not isinstance(end, bool) for end in pair):
        raise UserError(f"an entry of data.crop is a pair of integers [first, stop]; given: {ends!r}")
    if not 0 <= pair[0] < pair[1]:
        raise UserError(f"an entry [first, stop] of data.crop must have 0 <= first < stop; given: {list(pair)}")
    return pair


def _cropped_axis(axis: Axis, size: int, first: int, stop: int) -> tuple[Axis, int]:
    """The axis of points first, ..., stop - 1, and their number."""
    if stop > size:
        raise UserError(f"data.crop [{first}, {stop}] of axis {axis.name!r} goes beyond its {size} points")
    if stop - first < 2:
        raise UserError(f"data.crop [{first}, {stop}] leaves one point of axis {axis.name!r}; at least 2")
    cut = (first > 0, stop < size)
    if axis.grid == "uneven":
        return _cropped_uneven_axis(axis, first, stop), stop - first
    periodic = axis.boundary[0] == "periodic"
    boundary = tuple("none" if periodic or gone else side for gone, side in zip(cut, axis.boundary, strict=True))
    length = axis.upper - axis.lower
    spacing, last = (length / (size - 1), stop - 1) if axis.grid == "nodes" else (length / size, stop)
    lower, upper = axis.lower + first * spacing, axis.lower + last * spacing
    return replace(axis, lower=lower, upper=upper, boundary=boundary), stop - first


def _cropped_uneven_axis(axis: Axis, first: int, stop: int) -> Axis:
    points = axis.points[first:stop]
    cut = (first > 0, stop < len(axis.points))
    if points[0] > points[-1]:
        # Numbered from the upper end: the first points lie at the upper side.
        cut = cut[::-1]
    periodic = axis.boundary[0] == "periodic"
    boundary = tuple("none" if periodic or gone else side for gone, side in zip(cut, axis.boundary, strict=True))
    lower = min(points) if cut[0] else axis.lower
    upper = max(points) if cut[1] else axis.upper
    return replace(axis, points=points, lower=lower, upper=upper, boundary=boundary)


def _coarse_axis(axis: Axis, size: int, factor: int, method: str) -> Axis:
    """The axis with one point for ``factor`` points."""
    if factor == 1:
        return axis
    kept = -(-size // factor)
    if kept < 2:
        raise UserError(
            f"data.subsample {factor} leaves {kept} of the {size} points of axis {axis.name!r}; at least 2 are needed"
        )
    check = {"stride": _check_stride, "block_mean": _check_block_mean, "spectral": _check_spectral}[method]
    check(axis, size, factor)
    if method == "spectral":
        return axis
    if method == "block_mean":
        # The coarse cells fill the same domain; where the points stand at the left ends, means lie further right.
        shift = 0.0 if axis.grid == "cell_centres" else (factor - 1) * (axis.upper - axis.lower) / size / 2
        return replace(axis, lower=axis.lower + shift, upper=axis.upper + shift)
    return _strided_axis(axis, size, factor)


def _strided_axis(axis: Axis, size: int, factor: int) -> Axis:
    """The axis of every ``factor``-th point, the first one included.

    For ``nodes`` and a factor that divides n - 1, and for ``periodic_nodes`` and one that divides n, its ends are the
    old ones. Cell centres move: the first kept point lies h/2 from the end instead of factor * h/2, so the new lower
    end is lower - (factor - 1) h / 2.
    """
    if axis.grid == "uneven":
        return replace(axis, points=axis.points[::factor])
    kept, length = -(-size // factor), axis.upper - axis.lower
    if axis.grid == "nodes":
        return replace(axis, upper=axis.lower + (kept - 1) * factor * length / (size - 1))
    spacing = length / size
    lower = axis.lower - (factor - 1) * spacing / 2 if axis.grid == "cell_centres" else axis.lower
    return replace(axis, lower=lower, upper=lower + kept * factor * spacing)


def _check_stride(axis: Axis, size: int, factor: int) -> None:
    """A period must stay a period: the distance from the last kept point to the first is that of the others."""
    period = size - 1 if axis.grid == "nodes" else size
    if axis.boundary[0] == "periodic" and axis.grid != "uneven" and period % factor:
        raise UserError(
            f"data.subsample {factor} does not divide the {size} points of the periodic axis {axis.name!r}"
            f"{' (both ends included)' if axis.grid == 'nodes' else ''}; choose {_divisors(period)}"
        )


def _check_block_mean(axis: Axis, size: int, factor: int) -> None:
    if axis.grid in ("nodes", "uneven"):
        raise UserError(
            f"subsample_method block_mean averages equal cells, but the points of axis {axis.name!r} are "
            f"{'nodes with both ends included' if axis.grid == 'nodes' else 'uneven'}; use stride"
        )
    if size % factor:
        raise UserError(
            f"data.subsample {factor} (block_mean) does not divide the {size} points of axis {axis.name!r}; "
            f"choose {_divisors(size)}"
        )


def _check_spectral(axis: Axis, size: int, factor: int) -> None:
    if axis.boundary[0] != "periodic" or axis.grid not in ("cell_centres", "periodic_nodes"):
        raise UserError(
            f"subsample_method spectral needs a whole periodic axis with even spacing; axis {axis.name!r} is "
            f"{'/'.join(dict.fromkeys(axis.boundary))} with {axis.grid}; use stride or block_mean"
        )
    if size % factor:
        raise UserError(
            f"data.subsample {factor} (spectral) does not divide the {size} points of axis {axis.name!r}; "
            f"choose {_divisors(size)}"
        )


def _divisors(size: int) -> str:
    """The divisors that leave at least two points, as an advice."""
    divisors = [str(factor) for factor in range(2, size // 2 + 1) if size % factor == 0]
    return f"one of {', '.join(divisors)}" if divisors else "1, there is no other divisor"


def _block_mean(values: np.ndarray, axis: int, factor: int) -> np.ndarray:
    shape = values.shape
    blocks = values.reshape(*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :])
    return blocks.mean(axis=axis + 1, dtype=values.dtype)


def _cut_off(values: np.ndarray, axis: int, factor: int, cells: bool) -> np.ndarray:
    """The Fourier series along a periodic axis up to mode m/2, at m = n / factor points."""
    from scipy import fft  # a third of a second to import; few files are resampled this way

    fine = values.shape[axis]
    coarse = fine // factor
    modes = np.moveaxis(fft.rfft(values, axis=axis), axis, -1)[..., : coarse // 2 + 1]
    if cells:
        # The first coarse centre lies (factor - 1) / 2 fine spacings to the right of the first fine one.
        phase = np.pi * (factor - 1) / fine * np.arange(coarse // 2 + 1)
        modes = modes * np.exp(1j * phase).astype(modes.dtype)
    if coarse % 2 == 0:
        # irfft counts mode m/2 once; the series has it and its conjugate.
        modes = np.concatenate([modes[..., :-1], 2 * modes[..., -1:].real], axis=-1)
    return np.moveaxis(fft.irfft(modes / factor, n=coarse, axis=-1), -1, axis).astype(values.dtype, copy=False)
