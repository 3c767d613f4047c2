"""The Darcy recipe: its coefficient, its scale, its gates and its independence of batch, order and threads."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.errors import UserError
from katops.fields import FieldMeta
from katops.generators import darcy
from katops.generators.darcy import Darcy
from katops.registry import PROBLEMS


@pytest.fixture(scope="module")
def many():
    """200 samples of the default variant."""
    return Darcy(resolution=32).samples(seed=0, indices=range(200))


def test_darcy_is_registered():
    assert PROBLEMS["darcy"].factory is Darcy


@pytest.mark.parametrize(("variant", "values"), [("smooth", [3, 12]), ("rough", [2, 12])])
def test_the_coefficient_has_the_two_published_values(variant, values):
    fields = Darcy(16, variant).samples(0, range(4)).fields
    np.testing.assert_array_equal(np.unique(fields["coefficient"]), values)


def test_half_of_the_area_has_the_larger_coefficient(many):
    """The share of one sample scatters by 0.06, so the mean of 200 by 0.004."""
    share = (many.fields["coefficient"] == 12).mean(axis=(1, 2))
    assert abs(share.mean() - 0.5) < 0.02
    assert 0.03 < share.std() < 0.09


def test_the_pressure_has_the_published_scale(many):
    """At 421 x 421 the maximum of a sample is about 1.3e-2 and the mean about 5.6e-3; 32 x 32 is 2 % away from it."""
    pressure = many.fields["pressure"]
    assert abs(pressure.max(axis=(1, 2)).mean() - 1.31e-2) < 0.05e-2
    assert abs(pressure.mean() - 5.65e-3) < 0.2e-3


def test_the_mean_pressure_lies_between_those_of_the_two_pure_phases(many):
    """The compliance int f u falls when a grows anywhere; 0.0351442539 is its value for a = 1."""
    mean = many.fields["pressure"].mean(axis=(1, 2), dtype=np.float64)
    assert (mean > 0.0351442539 / 12).all()
    assert (mean < 0.0351442539 / 3).all()


def test_the_pressure_is_positive_and_every_sample_passes_the_gate(many):
    assert many.fields["pressure"].min() > 0
    assert many.quality["residual"].max() <= 1e-9
    assert not many.quality["rejected"].any()


def test_fields_are_float32_in_the_announced_shapes(many):
    for name, field in Darcy(resolution=32).fields.items():
        assert many.fields[name].dtype == np.float32
        assert many.fields[name].shape == (200, *field.shape)


@given(st.lists(st.integers(0, 199), min_size=1, max_size=40))
@settings(max_examples=25, deadline=None)
def test_a_sample_is_the_same_bits_in_any_batch_and_order(many, indices):
    some = Darcy(resolution=32).samples(0, indices)
    for group, arrays in some._asdict().items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, getattr(many, group)[name][indices])


@pytest.mark.parametrize("points", [1, 5000, 10**7])
@pytest.mark.parametrize("resolution", [21, 64])
def test_the_size_of_a_solver_block_does_not_change_a_bit(monkeypatch, points, resolution):
    reference = Darcy(resolution).samples(3, range(10))
    monkeypatch.setattr(darcy, "POINTS_PER_BLOCK", points)
    again = Darcy(resolution).samples(3, range(10))
    np.testing.assert_array_equal(again.fields["pressure"], reference.fields["pressure"])
    np.testing.assert_array_equal(again.quality["residual"], reference.quality["residual"])


def test_threads_that_share_a_problem_do_not_disturb_each_other(many):
    problem = Darcy(resolution=32)
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda start: problem.samples(0, range(start, start + 25)), range(0, 200, 25)))
    together = np.concatenate([part.fields["pressure"] for part in parts])
    np.testing.assert_array_equal(together, many.fields["pressure"])


def test_seeds_samples_and_variants_differ():
    coefficients = [
        Darcy(16, variant).coefficient(seed, index)
        for variant in ("smooth", "rough")
        for seed in (0, 1)
        for index in (0, 1)
    ]
    phases = [(a > 5).tobytes() for a in coefficients]
    assert len(set(phases)) == len(phases)


def test_the_scheme_does_not_change_the_coefficient_but_the_pressure():
    arithmetic, harmonic = (Darcy(32, scheme=scheme).samples(0, range(3)) for scheme in ("arithmetic", "harmonic"))
    np.testing.assert_array_equal(arithmetic.fields["coefficient"], harmonic.fields["coefficient"])
    difference = np.linalg.norm(arithmetic.fields["pressure"] - harmonic.fields["pressure"])
    assert 1e-3 < difference / np.linalg.norm(harmonic.fields["pressure"]) < 0.1


def test_finer_grids_show_the_same_coefficient():
    """A finer grid adds small modes only: few points of the coarse grid change their phase."""
    coarse = np.stack([Darcy(32).coefficient(0, i) for i in range(10)])
    fine = np.stack([Darcy(128).coefficient(0, i) for i in range(10)])
    blocks = fine.reshape(10, 32, 4, 32, 4).mean(axis=(2, 4))
    assert np.mean((blocks > 7.5) != (coarse > 7.5)) < 0.03


def test_a_failed_sample_is_drawn_again_and_counted(monkeypatch):
    problem = Darcy(16)
    bad = problem.coefficient(0, 2)
    solve = darcy.solve_diffusion

    def fails_on_one_coefficient(coefficient, *args):
        solution = solve(coefficient, *args)
        solution.residual[[np.array_equal(a, bad) for a in coefficient]] = np.nan
        return solution

    reference = problem.samples(0, range(5))
    monkeypatch.setattr(darcy, "solve_diffusion", fails_on_one_coefficient)
    samples = problem.samples(0, range(5))
    np.testing.assert_array_equal(samples.quality["rejected"], [0, 0, 1, 0, 0])
    np.testing.assert_array_equal(samples.fields["coefficient"][2], problem.coefficient(0, 2, redraw=1))
    others = [0, 1, 3, 4]
    np.testing.assert_array_equal(samples.fields["pressure"][others], reference.fields["pressure"][others])
    assert np.isfinite(samples.quality["residual"]).all()


def test_a_solver_that_never_succeeds_ends_in_an_error(monkeypatch):
    monkeypatch.setattr(darcy, "RESIDUAL_LIMIT", 0.0)
    solve, calls = darcy.solve_diffusion, []
    monkeypatch.setattr(darcy, "solve_diffusion", lambda *arguments: calls.append(1) or solve(*arguments))
    with pytest.raises(UserError, match="20 draws of sample 0 were refused"):
        Darcy(8).samples(0, [0])
    assert len(calls) == 20


def test_the_description_survives_json():
    problem = Darcy(32)
    assert FieldMeta.from_dict(json.loads(json.dumps(problem.meta.to_dict()))) == problem.meta
    assert json.loads(json.dumps(problem.recipe)) == problem.recipe
    assert problem.meta.in_channels == problem.meta.out_channels == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 3}, "resolution 3 is out of range; allowed: 4 to 8192"),
        ({"resolution": 10**6}, "resolution 1000000 is out of range"),
        ({"resolution": 64.0}, "resolution must be a whole number; given: 64.0"),
        ({"resolution": "64"}, "resolution must be a whole number; given: '64'"),
        ({"resolution": True}, "resolution must be a whole number"),
        ({"variant": "smoth"}, "unknown variant 'smoth'; did you mean 'smooth'"),
        ({"variant": None}, "unknown variant None"),
        ({"variant": ["smooth"]}, "unknown variant"),
        ({"scheme": "geometric"}, "unknown scheme 'geometric'.*Allowed: arithmetic, harmonic"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        Darcy(**options)
