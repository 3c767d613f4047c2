"""The Gaussian field against its definition, its spectrum and itself on a finer grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from katops.generators.gaussian_field import cosine_field, cosine_spectrum, shell_order
from katops.generators.random_stream import random_stream


def coefficients(field):
    """The coefficients sigma xi of a field, read back from its values."""
    return fft.dctn(field, type=2, norm="ortho") / len(field)


@given(st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=50, deadline=None)
def test_the_modes_of_a_coarse_grid_are_the_first_modes_of_a_fine_grid(size, more):
    coarse, fine = shell_order(size), shell_order(size + more)
    np.testing.assert_array_equal(np.sort(coarse, axis=None), np.arange(size**2))
    np.testing.assert_array_equal(fine[:size, :size], coarse)


@given(st.integers(2, 40), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_a_field_truncated_from_the_doubled_grid_is_the_field(size, index):
    coarse = cosine_field(random_stream("test", 0, index), size, alpha=2.0, tau=3.0)
    fine = cosine_field(random_stream("test", 0, index), 2 * size, alpha=2.0, tau=3.0)
    truncated = size * coefficients(fine)[:size, :size]
    np.testing.assert_allclose(fft.idctn(truncated, type=2, norm="ortho"), coarse, atol=1e-12)


@pytest.mark.parametrize("size", [4, 9])
def test_a_field_is_the_sum_of_cosines_of_its_docstring(size):
    alpha, tau = 2.0, 5.0
    normals = random_stream("test", 1, 2).standard_normal(size**2)
    points = (np.arange(size) + 0.5) / size
    expected = np.zeros((size, size))
    position = 0
    for shell in range(size):
        for k1, k2 in [(shell, k) for k in range(shell + 1)] + [(k, shell) for k in range(shell)]:
            sigma = tau ** (alpha - 1) * (np.pi**2 * (k1**2 + k2**2) + tau**2) ** (-alpha / 2)
            waves = [np.sqrt(2 if k else 1) * np.cos(np.pi * k * points) for k in (k1, k2)]
            if shell > 0:
                expected += sigma * normals[position] * np.outer(*waves)
            position += 1
    field = cosine_field(random_stream("test", 1, 2), size, alpha, tau)
    np.testing.assert_allclose(field, expected, atol=1e-13)


@pytest.mark.parametrize(("alpha", "tau"), [(2.0, 3.0), (2.0, 5.0)])
def test_mean_square_and_spectrum_are_those_of_the_closed_form(alpha, tau):
    size, n = 16, 2500
    fields = np.stack([cosine_field(random_stream("test", 0, i), size, alpha, tau) for i in range(n)])
    variances = cosine_spectrum(size, alpha, tau) ** 2
    standard_error = np.sqrt(2 * np.sum(variances**2) / n)  # of the mean of sum sigma^2 xi^2
    assert abs(np.mean(fields**2) - variances.sum()) < 3 * standard_error

    energy = np.mean([coefficients(field) ** 2 for field in fields], axis=0)
    shell = np.floor(np.sqrt(shell_order(size))).astype(int)
    for k in range(1, size):
        expected = variances[shell == k]
        assert abs(energy[shell == k].sum() - expected.sum()) < 4 * np.sqrt(2 * np.sum(expected**2) / n)


def test_the_mean_of_a_field_is_zero():
    assert abs(cosine_field(random_stream("test", 0, 0), 33, 2.0, 3.0).mean()) < 1e-15


def test_the_normal_derivative_at_the_boundary_vanishes():
    """The difference across the boundary of the even extension is 0, the first one inside is small beside others."""
    fields = np.stack([cosine_field(random_stream("test", 0, i), 128, 3.0, 3.0) for i in range(40)])
    steps = np.sqrt(np.mean(np.diff(fields, axis=1) ** 2, axis=(0, 2)))
    assert steps[0] < 0.1 * steps[32:96].mean()
    assert steps[-1] < 0.1 * steps[32:96].mean()
