"""The Darcy variant of PDEBench, the source and the native grid."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erf

from katops.generators import Darcy
from katops.generators.darcy import VARIANTS
from katops.generators.random_stream import random_stream

BUMPS = VARIANTS["pdebench"].coefficient


def test_the_threshold_is_the_expected_mean_of_the_sum_of_bumps():
    def squared(width):
        mean = np.sqrt(np.pi * width) * erf(1 / np.sqrt(width)) - width * (1 - np.exp(-1 / width))
        return mean**2

    expected = BUMPS.bumps * quad(squared, 0, BUMPS.width, epsabs=1e-14)[0] / BUMPS.width
    assert abs(BUMPS.threshold - expected) < 1e-12


def test_the_mean_of_many_samples_is_the_threshold():
    points = (np.arange(32) + 0.5) / 32
    means = [BUMPS.field(random_stream("darcy/pdebench", 0, i), points).mean() for i in range(1000)]
    assert abs(np.mean(means) - BUMPS.threshold) < 4 * np.std(means) / np.sqrt(1000)


def test_the_coefficient_has_the_two_published_values():
    fields = Darcy(32, "pdebench").samples(0, range(4)).fields
    np.testing.assert_array_equal(np.unique(fields["coefficient"]), np.float32([0.1, 1.0]))


def test_finer_grids_show_the_same_coefficient():
    coarse, fine = (Darcy(n, "pdebench").coefficient(0, 0) for n in (21, 63))
    np.testing.assert_array_equal(coarse, fine[1::3, 1::3])


@pytest.mark.parametrize("variant", ["smooth", "pdebench"])
@pytest.mark.parametrize("scheme", ["arithmetic", "matlab_spline"])
def test_the_pressure_is_proportional_to_the_source(variant, scheme):
    one, ten = (Darcy(16, variant, scheme, source=source).samples(0, range(3)) for source in (1.0, 10.0))
    np.testing.assert_array_equal(one.fields["coefficient"], ten.fields["coefficient"])
    np.testing.assert_allclose(ten.fields["pressure"], 10 * one.fields["pressure"], rtol=1e-5)
    assert Darcy(16, source=10.0).recipe["source_term"] == 10.0


def test_a_finer_native_grid_is_stored_at_the_centres_of_the_coarse_cells():
    fine, kept = Darcy(63), Darcy(21, native_resolution=63)
    samples = kept.samples(0, range(3)).fields
    reference = fine.samples(0, range(3)).fields
    for name, values in samples.items():
        np.testing.assert_array_equal(values, reference[name][:, 1::3, 1::3])
    np.testing.assert_allclose(kept.meta.axes[0].coordinates(21), fine.meta.axes[0].coordinates(63)[1::3])
    assert kept.recipe["downsampling"] == "stride"
