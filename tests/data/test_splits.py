"""Shares of samples and published splits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data.splits import PRESETS, preset_split, split
from katops.errors import DataWarning, UserError


@settings(max_examples=50, deadline=None)
@given(st.integers(10, 300), st.integers(1, 5), st.floats(0.0, 0.5), st.integers(0, 3), st.booleans())
def test_parts_are_disjoint_and_the_rest_completes_them(n, validation, test, seed, shuffle):
    parts = split(n, train=None, validation=validation, test=test, seed=seed, shuffle=shuffle)
    assert sorted(np.concatenate([parts.train, parts.validation, parts.test]).tolist()) == list(range(n))
    assert len(parts.validation) == validation
    assert len(parts.test) == int(test * n + 1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 500), st.sampled_from([(0.8, 0.1, 0.1), (0.7, 0.2, 0.1), (1.0, 0.0, 0.0)]))
def test_shares_that_add_up_to_one_use_every_sample(n, shares):
    train, validation, test = shares
    parts = split(n, train=train, validation=validation, test=test)
    assert sum(map(len, (parts.train, parts.validation, parts.test))) == n


def test_a_share_is_not_short_of_a_sample_by_rounding():
    assert len(split(10, train=0.3, validation=0.3, test=0.3).train) == 3


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    first, again, other = (split(100, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train, again.train)
    assert np.array_equal(first.test, again.test)
    assert not np.array_equal(first.test, other.test)


def test_validation_and_test_do_not_depend_on_the_number_of_training_samples():
    few, many = (split(100, train=train, validation=10, test=20, seed=5) for train in (7, 70))
    assert np.array_equal(few.test, many.test)
    assert np.array_equal(few.validation, many.validation)
    assert set(few.train) <= set(many.train)


def test_the_split_of_today_is_the_split_of_tomorrow():
    parts = split(12, train=None, validation=3, test=3, seed=0)
    assert (parts.validation.tolist(), parts.test.tolist()) == ([0, 4, 7], [5, 9, 10])


def test_without_shuffling_the_parts_are_stretches_of_the_file():
    parts = split(10, train=4, validation=2, test=3, shuffle=False)
    assert parts.train.tolist() == [0, 1, 2, 3]
    assert parts.validation.tolist() == [5, 6]
    assert parts.test.tolist() == [7, 8, 9]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train": 900, "validation": 200, "test": 200}, r"train 900 \+ validation 200 \+ test 200 = 1300.*1200"),
        ({"train": None, "validation": 600, "test": 600}, "no training sample of the 1200"),
        ({"train": 1.5}, "train is 1.5; a float is a share"),
        ({"train": -1}, "given: -1"),
        ({"train": True}, "given: True"),
        ({"train": None, "test": None}, "train and test open"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, message):
    with pytest.raises(UserError, match=message):
        split(1200, **parts)


def _ends(part: np.ndarray) -> tuple[int, int] | None:
    """First and last sample of a stretch without holes."""
    assert part.dtype == np.int64
    if not len(part):
        return None
    assert part.tolist() == list(range(part[0], part[-1] + 1))
    return int(part[0]), int(part[-1])


@pytest.mark.parametrize(
    ("name", "n", "train", "validation", "test"),
    [
        ("pdebench", 10000, (0, 8999), None, (9000, 9999)),
        ("pdebench", 1001, (0, 900), None, (901, 1000)),
        ("fno", 1200, (0, 999), None, (1000, 1199)),
        ("fno", 5000, (0, 999), None, (4800, 4999)),
        ("poseidon", 20000, (0, 19639), (19640, 19759), (19760, 19999)),
        ("mgno", 1200, (0, 999), (1000, 1099), (1100, 1199)),
        ("mgno_darcy", 1400, (0, 1279), (1280, 1391), None),
        ("mgno_helmholtz", 10000, (0, 3999), (8200, 8399), (8000, 8199)),
    ],
)
def test_published_splits_are_those_of_the_papers(name, n, train, validation, test):
    parts = preset_split(name, n)
    assert (_ends(parts.train), _ends(parts.validation), _ends(parts.test)) == (train, validation, test)


@pytest.mark.filterwarnings("ignore:.*was published with:katops.errors.DataWarning")
@pytest.mark.parametrize("name", PRESETS)
def test_published_splits_are_disjoint_at_their_smallest_and_refuse_less(name):
    least = PRESETS[name][0]
    parts = preset_split(name, least)
    assert len(parts.train)
    together = np.concatenate([parts.train, parts.validation, parts.test])
    assert len(set(together.tolist())) == len(together)
    with pytest.raises(UserError, match=f"{name!r} needs at least {least} samples, but there are {least - 1}"):
        preset_split(name, least - 1)


@pytest.mark.parametrize(
    ("name", "train", "validation", "test"),
    [
        ("NS-PwC", (0, 19639), (19640, 19759), (19760, 19999)),
        ("NS-SL", (0, 39639), (39640, 39759), (39760, 39999)),
        ("CE-RM", (0, 1029), (1030, 1129), (1130, 1259)),
        ("Wave-Gauss", (0, 10211), (10212, 10271), (10272, 10511)),
        ("ACE", (0, 14699), (14700, 14759), (14760, 14999)),
        ("SE-AF", (0, 10508), (10509, 10628), (10629, 10868)),
        ("Helmholtz", (0, 19034), (19035, 19162), (19163, 19674)),
    ],
)
def test_data_sets_of_poseidon_are_split_by_their_own_counts(name, train, validation, test):
    parts = preset_split(name, test[1] + 1)
    assert (_ends(parts.train), _ends(parts.validation), _ends(parts.test)) == (train, validation, test)


def test_a_partial_download_is_split_by_the_same_counts_from_its_end_with_a_warning():
    with pytest.warns(DataWarning, match=r"ACE was published with 15000 samples and there are 500: the last 240.*60"):
        parts = preset_split("ACE", 500)
    assert (_ends(parts.train), _ends(parts.validation), _ends(parts.test)) == ((0, 199), (200, 259), (260, 499))


def test_more_samples_than_were_published_are_refused():
    with pytest.raises(UserError, match=r"'NS-PwC' is one of 20000 samples, but there are 40000; take another preset"):
        preset_split("NS-PwC", 40000)


def test_the_first_training_samples_of_a_published_split_leave_the_other_parts_as_they_are():
    few, all_of_them = preset_split("NS-PwC", 20000, 128), preset_split("NS-PwC", 20000)
    assert _ends(few.train) == (0, 127)
    assert np.array_equal(few.validation, all_of_them.validation)
    assert np.array_equal(few.test, all_of_them.test)
    assert len(preset_split("fno", 1200, 0.5).train) == 500
    for wrong in (1001, 0):
        with pytest.raises(UserError, match=f"asks for {wrong} samples, but 1000 are left for training by .* 'fno'"):
            preset_split("fno", 1200, wrong)


def test_an_unknown_published_split_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"'posseidon'; did you mean 'poseidon'\?.*pdebench, fno"):
        preset_split("posseidon", 1000)
