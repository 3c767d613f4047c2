"""NaN and infinity are found, and nothing else, with and without machine code."""

import copy
import pickle

import numpy as np
import pytest

from katops.data.reading import finite
from katops.data.reading.finite import FiniteCheck


@pytest.fixture(params=["numpy", "machine code"])
def is_finite(request, monkeypatch) -> FiniteCheck:
    monkeypatch.setattr(finite, "_CALLS_BEFORE", 1 if request.param == "machine code" else 10**9)
    monkeypatch.setattr(finite, "_LOOK", 256)
    check = FiniteCheck()
    check(np.zeros(3, "f4"))
    assert (check._largest is not None) == (request.param == "machine code")
    return check


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 63, 64, 1000, 1002])
def test_one_value_that_is_not_finite_is_found_wherever_it_is(is_finite, dtype, bad, place):
    values = np.random.default_rng(5).normal(size=1003).astype(dtype)
    assert is_finite(values)
    values[place] = bad
    assert not is_finite(values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_and_smallest_numbers_are_finite(is_finite, dtype):
    limits = np.finfo(dtype)
    values = np.array([limits.max, limits.min, limits.tiny, -limits.smallest_subnormal, -0.0, 0.0] * 40, dtype)
    assert is_finite(values)
    assert is_finite(values[:0])


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda check: pickle.loads(pickle.dumps(check))])
def test_a_copy_checks_too(is_finite, duplicate):
    assert not duplicate(is_finite)(np.array([1.0, np.nan]))
