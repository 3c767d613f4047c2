"""Gaussian functions of period 1: their covariance is that of the spectrum, and the grid does not matter."""

import numpy as np
import pytest

from katops.generators.periodic_line_field import periodic_line_field, periodic_line_spectrum
from katops.generators.random_stream import random_stream

CONSTANTS = {"sigma": 25.0, "gamma": 2.0, "tau": 5.0}


@pytest.fixture(scope="module")
def fields():
    """2000 functions on 64 nodes."""
    coefficients = [periodic_line_field(random_stream("test", 0, i), 20, **CONSTANTS) for i in range(2000)]
    return 64 * np.fft.irfft(coefficients, 64)


def test_the_covariance_is_that_of_the_spectrum(fields):
    """Within 4 standard errors at every lag: sum of 2 sigma_k^2 cos(2 pi k lag)."""
    waves = np.arange(1, 21)
    for lag in (0, 1, 5, 16, 32):
        expected = np.sum(2 * periodic_line_spectrum(20, **CONSTANTS) ** 2 * np.cos(2 * np.pi * waves * lag / 64))
        per_sample = (fields * np.roll(fields, lag, axis=1)).mean(axis=1)
        assert abs(per_sample.mean() - expected) < 4 * per_sample.std() / np.sqrt(len(fields))


def test_the_functions_have_mean_zero_and_the_published_standard_deviation(fields):
    assert np.abs(fields.mean(axis=1)).max() < 1e-14
    assert abs(np.sqrt(2 * np.sum(periodic_line_spectrum(4096, **CONSTANTS) ** 2)) - 0.594) < 5e-4


def test_more_modes_only_add_waves():
    few, many = (periodic_line_field(random_stream("test", 0, 0), modes, **CONSTANTS) for modes in (10, 50))
    np.testing.assert_array_equal(few, many[:11])
