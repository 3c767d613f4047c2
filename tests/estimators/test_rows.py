"""Which rows are trained on and which are held out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.estimators.rows import distinct, held_out


def table(seed: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return random.integers(0, 4, size=(rows, 2)).astype(float), random.integers(0, 2, size=(rows, 1)).astype(float)


@given(seed=st.integers(0, 1000), rows=st.integers(1, 30))
@settings(deadline=None, max_examples=40)
def test_repeated_and_shuffled_rows_are_weighted_rows_to_the_last_bit(seed, rows):
    x, y = table(seed, rows)
    random = np.random.default_rng(seed + 1)
    weight = random.integers(0, 4, size=rows)
    weight[0] = 1
    order = random.permutation(weight.sum())
    one = distinct(x, y, weight.astype(float), None)
    other = distinct(x.repeat(weight, 0)[order], y.repeat(weight, 0)[order], np.ones(weight.sum()), None)
    for name in ("inputs", "targets", "weight", "groups"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    assert one.weight.mean() == pytest.approx(1)


@given(
    seed=st.integers(0, 1000),
    rows=st.integers(1, 80),
    members=st.integers(1, 7),
    fraction=st.sampled_from([0.0, 0.1, 0.2, 0.34, 0.5]),
    labelled=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_no_group_and_no_pair_of_equal_rows_is_ever_divided(seed, rows, members, fraction, labelled):
    x, y = table(seed, rows)
    groups = np.random.default_rng(seed).integers(0, 25, size=rows) if labelled else None
    kept = distinct(x, y, np.ones(rows), groups)
    out = held_out(kept, members, fraction, np.random.default_rng(seed))
    for group in np.unique(kept.groups):
        of_group = out[kept.groups == group]
        assert (of_group == of_group[:1]).all()
    if fraction == 0:
        assert not out.any()
    assert not out.all(axis=0).any()


def test_the_members_hold_out_every_row_once():
    x = np.arange(100.0)[:, None]
    out = held_out(distinct(x, x, np.ones(100), None), 5, 0.2, np.random.default_rng(0))
    assert (out.sum(axis=1) == 1).all()
    assert (out.sum(axis=0) == 20).all()


@given(seed=st.integers(0, 1000), rows=st.integers(12, 60))
@settings(deadline=None, max_examples=40)
def test_every_class_is_trained_on_by_every_member(seed, rows):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 1))
    classes = (random.random((rows, 1)) < 0.1).astype(float)
    kept = distinct(x, classes, np.ones(rows), None)
    out = held_out(kept, 5, 0.2, random, kept.targets[:, 0])
    for single in np.unique(classes):
        assert (~out[kept.targets[:, 0] == single]).any(axis=0).all()


def test_classes_have_their_share_in_each_part():
    x = np.arange(100.0)[:, None]
    classes = (np.arange(100) < 20).astype(float)[:, None]
    kept = distinct(x, classes, np.ones(100), None)
    out = held_out(kept, 5, 0.2, np.random.default_rng(0), kept.targets[:, 0])
    assert (out[kept.targets[:, 0] == 1].sum(axis=0) == 4).all()
