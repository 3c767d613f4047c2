"""Wavenumbers and the radial (isotropic) power spectrum of fields on a regular grid, 1-D to 3-D.

Only half of a real field's Fourier coefficients is computed, since the other half is its complex conjugate; sums over
all wavenumbers weight the coefficients by :func:`multiplicity`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def wavenumbers(sizes: Sequence[int], *, device: torch.device | None = None) -> list[Tensor]:
    """Integer wavenumbers, in cycles per box, of each axis of ``torch.fft.rfftn``'s result.

    Args:
        sizes: points per axis.

    Returns:
        one float64 tensor per axis, |k_i| shaped so that the tensors broadcast to the half spectrum.
    """
    n_axes = len(sizes)
    result = []
    for axis, size in enumerate(sizes):
        last = axis == n_axes - 1
        frequencies = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(
            size, d=1 / size, dtype=torch.float64, device=device
        )
        result.append(frequencies.abs().reshape([-1 if other == axis else 1 for other in range(n_axes)]))
    return result


def multiplicity(last_size: int, *, device: torch.device | None = None) -> Tensor:
    """How many coefficients of the full spectrum each entry along rfftn's last axis stands for: 1 or 2, float64.

    The zero wavenumber and, for an even size, the Nyquist wavenumber are their own conjugates.
    """
    weight = torch.full((last_size // 2 + 1,), 2.0, dtype=torch.float64, device=device)
    weight[0] = 1.0
    if last_size % 2 == 0:
        weight[-1] = 1.0
    return weight


def radial_spectrum(field: Tensor, *, n_axes: int, lengths: Sequence[float] | None = None) -> Tensor:
    r"""Power per shell of wavenumbers, without windowing.

    .. math:: E(\kappa) = \sum_{\kappa - 1/2 \le |k| < \kappa + 1/2} |\hat u_k|^2, \qquad
              \hat u_k = \frac{1}{n} \sum_j u_j e^{-2\pi i\, k \cdot j / n}

    so that the sum of E over all shells is the mean of u² (Parseval). The unit of |k| is one cycle per longest side of
    the box: :math:`|k|^2 = \sum_i (k_i L_{max} / L_i)^2` with integer k_i. A field that is not periodic leaks power
    into high wavenumbers, about as :math:`\kappa^{-2}`, in the truth as in the prediction.

    Args:
        field: (\*leading, \*space), real.
        n_axes: number of spatial axes.
        lengths: lengths of the sides, in one unit; all equal if ``None``.

    Returns:
        (\*leading, shells): entry κ holds E(κ), in the field's unit squared; the last shells lie in the corners of the
        box of wavenumbers, above :func:`resolved_wavenumber`.
    """
    sizes = field.shape[-n_axes:]
    coefficients = torch.fft.rfftn(field, dim=tuple(range(-n_axes, 0)), norm="forward")
    power = (coefficients.abs().square() * multiplicity(sizes[-1], device=field.device)).flatten(-n_axes)
    scales = _scales(n_axes, lengths)
    radius = sum((k * s).square() for k, s in zip(wavenumbers(sizes, device=field.device), scales, strict=True)).sqrt()
    shell = (radius + 0.5).floor().long().flatten()
    spectrum = power.new_zeros((*power.shape[:-1], int(shell.max()) + 1))
    return spectrum.index_add_(-1, shell, power)


def resolved_wavenumber(sizes: Sequence[int], lengths: Sequence[float] | None = None) -> int:
    """The highest shell that lies whole on the grid: the smallest of the axes' Nyquist wavenumbers, in |k|'s unit."""
    scales = _scales(len(sizes), lengths)
    return math.floor(min(size // 2 * scale for size, scale in zip(sizes, scales, strict=True)))


def _scales(n_axes: int, lengths: Sequence[float] | None) -> list[float]:
    """Cycles per longest side, for one cycle per side."""
    lengths = lengths or [1.0] * n_axes
    return [max(lengths) / length for length in lengths]
