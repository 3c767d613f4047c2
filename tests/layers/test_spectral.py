"""Spectral resampling."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.layers.spectral import spectral_resample


def waves(rows, columns, highest=4):
    """A field of wavenumbers up to ``highest``, the same function on every grid."""
    generator = torch.Generator().manual_seed(1)
    x = torch.arange(rows, dtype=torch.float64)[:, None] / rows
    y = torch.arange(columns, dtype=torch.float64)[None] / columns
    field = torch.zeros(rows, columns, dtype=torch.float64)
    for k in range(-highest, highest + 1):
        for m in range(highest + 1):
            a, phase = torch.rand(2, generator=generator, dtype=torch.float64)
            field += a * torch.cos(2 * torch.pi * (k * x + m * y + phase))
    return field[None, None]


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.integers(9, 24)] * 4))
def test_band_limited_field_is_resampled_exactly_between_any_two_grids(sizes):
    rows, columns, new_rows, new_columns = sizes
    resampled = spectral_resample(waves(rows, columns), (new_rows, new_columns))
    torch.testing.assert_close(resampled, waves(new_rows, new_columns), rtol=0, atol=1e-10)


def test_published_sizes_there_and_back_in_float32():
    x = waves(96, 96, highest=20).float()
    torch.testing.assert_close(spectral_resample(spectral_resample(x, (128, 128)), (96, 96)), x, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("size", "new"), [(8, 6), (8, 12), (6, 8)])
def test_even_square_grids_are_resampled_as_published(size, new):
    x = torch.randn(1, 1, size, size, dtype=torch.float64)
    centred = torch.fft.fftshift(torch.fft.fft2(x, norm="forward"), dim=(-2, -1))
    if new < size:
        cut = (size - new) // 2
        centred = centred[..., cut : cut + new, cut : cut + new]
    else:
        centred = torch.nn.functional.pad(centred, [(new - size) // 2] * 4)
    expected = torch.fft.ifft2(torch.fft.ifftshift(centred, dim=(-2, -1)), norm="forward").real
    torch.testing.assert_close(spectral_resample(x, (new, new)), expected)


def test_same_grid_is_returned_as_it_is_and_half_precision_stays():
    x = torch.randn(1, 2, 5, 7)
    assert spectral_resample(x, (5, 7)) is x
    assert spectral_resample(x.bfloat16(), (6, 7)).dtype == torch.bfloat16


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match="give a positive length for each axis"):
        spectral_resample(torch.randn(1, 1, 4, 4), (4,))
    with pytest.raises(UserError, match="give a positive length for each axis"):
        spectral_resample(torch.randn(1, 1, 4, 4), (4, 0))
