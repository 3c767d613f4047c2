"""The advection recipe: the exact shift, the finite volumes beside it, independence of batch, order and threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from katops.errors import UserError
from katops.generators.advection import Advection
from katops.registry import PROBLEMS


def test_advection_is_registered():
    assert PROBLEMS["advection"].factory is Advection


@pytest.mark.parametrize("variant", ["pdebench", "pdebench_printed"])
def test_after_a_whole_period_the_initial_condition_is_back(variant):
    """beta = 1: the period is 1, half of the final time."""
    u = Advection(64, variant, beta=1.0, frames=21).samples(0, range(10)).fields["u"]
    np.testing.assert_allclose(u[:, 10], u[:, 0], atol=1e-6)
    np.testing.assert_allclose(u[:, 20], u[:, 0], atol=1e-6)


@pytest.mark.parametrize("beta", [0.5, -0.5])
def test_a_shift_by_whole_cells_moves_the_values(beta):
    u = Advection(32, beta=beta, frames=5).samples(0, range(10)).fields["u"]  # 0.25 per frame, 8 cells
    for frame in range(5):
        np.testing.assert_allclose(u[:, frame], np.roll(u[:, 0], int(16 * beta) * frame, axis=1), atol=1e-6)


def test_a_finer_grid_shows_the_same_function():
    coarse, fine = (Advection(cells, frames=3).samples(0, range(5)).fields["u"] for cells in (33, 99))
    np.testing.assert_allclose(fine[:, :, 1::3], coarse, atol=1e-6)


def test_the_reference_scheme_converges_to_the_exact_shift():
    """Smooth conditions: neither folded nor cut, and the period of the waves tends to 1 with order 1."""
    problem = Advection(64)
    smooth = [
        i for i in range(12) if not (problem.initial_condition(0, i).absolute or problem.initial_condition(0, i).window)
    ]
    errors = []
    for cells in (64, 128, 256):
        options = {"resolution": cells, "frames": 3, "beta": 0.2}
        exact = Advection(**options).samples(0, smooth).fields["u"]
        reference = Advection(**options, scheme="reference").samples(0, smooth)
        errors.append(np.abs(exact - reference.fields["u"]).mean())
        assert reference.quality["mean_drift"].max() < 1e-14
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 0.9).all(), orders


@pytest.mark.parametrize("scheme", ["exact", "reference"])
def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(scheme):
    problem = Advection(32, frames=3, scheme=scheme)
    many = problem.samples(7, range(12)).fields["u"]
    np.testing.assert_array_equal(problem.samples(7, [5]).fields["u"], many[[5]])
    np.testing.assert_array_equal(problem.samples(7, [9, 0, 4]).fields["u"], many[[9, 0, 4]])
    with ThreadPoolExecutor(2) as threads:
        halves = list(threads.map(lambda start: problem.samples(7, range(start, start + 6)).fields["u"], (0, 6)))
    np.testing.assert_array_equal(np.concatenate(halves), many)


def test_seeds_samples_and_variants_differ():
    u = [
        Advection(16, variant, frames=2).samples(seed, range(2)).fields["u"][index].tobytes()
        for variant in ("pdebench", "pdebench_printed")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    assert len(set(u)) == 8


def test_the_description_is_plain_and_has_the_announced_shapes():
    problem = Advection(16, frames=5)
    assert json.loads(json.dumps(problem.recipe)) == problem.recipe
    np.testing.assert_allclose(problem.times, [0, 0.5, 1, 1.5, 2])
    samples = problem.samples(0, range(2))
    assert samples.fields["u"].shape == (2, *problem.fields["u"].shape)
    assert samples.fields["u"].dtype == np.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 4}, "advection: resolution 4 is out of range; allowed: 8 to 65536"),
        ({"beta": "1"}, "advection: beta must be a number; given: '1'"),
        ({"beta": 1000.0}, "advection: beta 1000 is out of range; allowed: -100 to 100"),
        ({"variant": "pdebnch"}, "advection: unknown variant 'pdebnch'; did you mean 'pdebench'"),
        ({"scheme": "fast"}, "advection: unknown scheme 'fast'.*Allowed: exact, reference"),
        ({"frames": 1}, "advection: frames 1 is out of range"),
        ({"device": "abacus"}, "advection: device 'abacus' cannot be used"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Advection(**options)
