"""Resampling of periodic fields through their Fourier coefficients."""

from collections.abc import Sequence

import torch
from torch import Tensor

from katops.errors import UserError


def spectral_resample(x: Tensor, space: Sequence[int]) -> Tensor:
    """The trigonometric interpolant of a field on another grid, (batch, channel, \\*n) -> (batch, channel, \\*space).

        u(s) = Re sum_k c_k exp(2 pi i k s),   -floor(m / 2) <= k < ceil(m / 2),   m = min(n, length)   on each axis

    with s the position as a fraction of the box. Values at points that both grids share are kept where the field has
    no higher wavenumbers. At the highest wavenumber of an even m only the negative one is taken, as published for
    scOT; the real part makes the field real.

    Args:
        x: real, any precision; half precision is transformed in float32.
        space: lengths of the axes of the result, one per axis of space of x, odd ones and unequal ones included.

    Raises:
        UserError: the number of axes differs, or a length is not positive.
    """
    if len(space) != x.ndim - 2 or min(space) < 1:
        raise UserError(f"spectral_resample: give a positive length for each axis of {tuple(x.shape[2:])}, got {space}")
    if tuple(space) == tuple(x.shape[2:]):
        return x
    dims = tuple(range(2, x.ndim))
    half = x.dtype in (torch.float16, torch.bfloat16)
    spectrum = torch.fft.fftn(x.float() if half else x, dim=dims, norm="forward")
    for dim, length in zip(dims, space, strict=True):
        spectrum = _with_length(spectrum, dim, length)
    return torch.fft.ifftn(spectrum, dim=dims, norm="forward").real.to(x.dtype).contiguous()


def _with_length(spectrum: Tensor, dim: int, length: int) -> Tensor:
    """The lowest wavenumbers of one axis, and zeros for those that only the new grid has."""
    present = spectrum.shape[dim]
    if present == length:
        return spectrum
    kept = min(present, length)
    parts = [spectrum.narrow(dim, 0, kept - kept // 2)]
    if length > kept:
        shape = list(spectrum.shape)
        shape[dim] = length - kept
        parts.append(spectrum.new_zeros(shape))
    parts.append(spectrum.narrow(dim, present - kept // 2, kept // 2))
    return torch.cat(parts, dim)
