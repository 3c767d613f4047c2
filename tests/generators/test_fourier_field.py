"""The Gaussian field on the torus against its spectrum and itself on a finer grid."""

import numpy as np
import pytest

from katops.generators.fourier_field import fourier_field, fourier_spectrum, half_plane
from katops.generators.random_stream import random_stream


def test_the_half_plane_holds_one_of_every_pair_of_waves_and_coarse_grids_come_first():
    modes = half_plane(6)
    both = {tuple(k) for k in modes.tolist()} | {tuple(k) for k in (-modes).tolist()}
    assert len(both) == 2 * len(modes) == 13**2 - 1
    coarse = half_plane(4)
    np.testing.assert_array_equal(modes[: len(coarse)], coarse)


@pytest.mark.parametrize("size", [16, 17])
def test_a_finer_grid_only_adds_waves(size):
    coarse = fourier_field(random_stream("test", 0, 0), size, 2.5, 7.0)
    fine = np.fft.fft2(fourier_field(random_stream("test", 0, 0), 3 * size, 2.5, 7.0), norm="forward")
    largest = (size - 1) // 2
    waves = np.arange(-largest, largest + 1)
    cut = np.zeros((size, size), dtype=complex)
    cut[np.ix_(waves, waves)] = fine[np.ix_(waves, waves)]
    np.testing.assert_allclose(np.fft.ifft2(cut, norm="forward").real, coarse, atol=1e-14)


def test_mean_square_and_every_shell_have_the_closed_form():
    size, n = 16, 2500
    fields = np.stack([fourier_field(random_stream("test", 0, i), size, 2.5, 7.0) for i in range(n)])
    k = np.fft.fftfreq(size, 1 / size)
    k1, k2 = np.meshgrid(k, k, indexing="ij")
    shell = np.maximum(np.abs(k1), np.abs(k2))
    variances = np.where(shell < size / 2, fourier_spectrum(k1, k2, 2.5, 7.0) ** 2, 0)
    energy = np.mean(np.abs(np.fft.fft2(fields, norm="forward")) ** 2, axis=0)
    assert abs(np.mean(fields**2) - variances.sum()) < 3 * np.sqrt(2 * np.sum(variances**2) / n)
    for s in range(1, size // 2):
        expected = variances[shell == s]
        assert abs(energy[shell == s].sum() - expected.sum()) < 4 * np.sqrt(2 * np.sum(expected**2) / n)


def test_the_rms_of_the_published_vorticity_is_the_one_of_the_first_code():
    k = np.arange(-128, 129)
    variance = np.sum(fourier_spectrum(k[:, None], k[None, :], 2.5, 7.0) ** 2)
    assert np.sqrt(variance) == pytest.approx(0.26196, abs=1e-4)
