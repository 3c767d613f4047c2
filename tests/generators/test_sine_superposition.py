"""The initial conditions of PDEBench: the printed law and what the script draws."""

import numpy as np
import pytest

from katops.generators.random_stream import random_stream
from katops.generators.sine_superposition import draw_sine_superposition

X = (np.arange(64) + 0.5) / 64


@pytest.fixture(scope="module", params=["pdebench", "pdebench_printed"])
def drawn(request):
    return request.param, [draw_sine_superposition(random_stream("test", 0, i), request.param) for i in range(4000)]


def test_one_in_ten_is_folded_and_one_in_ten_is_cut_and_half_are_negative(drawn):
    """4000 draws: standard errors 0.0047 and 0.008."""
    _, conditions = drawn
    assert abs(np.mean([condition.absolute for condition in conditions]) - 0.1) < 0.019
    assert abs(np.mean([condition.window is not None for condition in conditions]) - 0.1) < 0.019
    assert abs(np.mean([condition.sign for condition in conditions])) < 0.064


def test_the_printed_law_has_two_waves_and_the_script_four_with_constants(drawn):
    variant, conditions = drawn
    if variant == "pdebench_printed":
        assert {len(condition.waves) for condition in conditions} == {2}
        counts = np.bincount(np.concatenate([condition.waves for condition in conditions]), minlength=5)
        assert counts[0] == 0
        assert (np.abs(counts[1:] / 8000 - 0.25) < 0.02).all()
    else:
        # Two draws of 1 ... 4: the periods add up to those drawn, a wave drawn twice has twice its number.
        assert {np.count_nonzero(condition.waves) for condition in conditions} == {1, 2}
        twice = [condition.waves.max() for condition in conditions if np.count_nonzero(condition.waves) == 1]
        assert abs(len(twice) / 4000 - 0.25) < 0.028
        assert set(twice) == {2, 4, 6, 8}


def test_the_mean_square_is_that_of_the_amplitudes(drawn):
    """A wave has mean square E[A^2] / 2 = 1/6, a constant A sin(phi) too: 2 / 6 printed; the script has 4 or, where
    one wave was drawn twice, 4 as well. Two equal printed waves interfere, with mean zero."""
    variant, conditions = drawn
    whole = [condition for condition in conditions if condition.window is None]
    squares = np.array([np.mean(condition(X) ** 2) for condition in whole])
    expected = 4 / 6 if variant == "pdebench" else 2 / 6
    assert abs(squares.mean() - expected) < 4 * squares.std() / np.sqrt(len(squares))


def test_windows_of_the_script_are_all_equally_long_and_start_early(drawn):
    variant, conditions = drawn
    start, end = np.array([condition.window for condition in conditions if condition.window]).T
    assert start.min() >= 0.1
    assert end.max() <= 0.9
    if variant == "pdebench":
        np.testing.assert_allclose(end - start, 0.45)
        assert start.max() < 0.135
    else:
        assert start.max() > 0.4
        assert abs(np.corrcoef(start, end)[0, 1]) < 0.2


def test_outside_of_a_window_nothing_is_left(drawn):
    _, conditions = drawn
    condition = next(condition for condition in conditions if condition.window)
    start, end = condition.window
    outside = (start - 0.08 > X) | (end + 0.08 < X)
    assert np.abs(condition(X)[outside]).max() < 1e-6
    assert np.abs(condition(X)).max() > 0.1


def test_folded_conditions_have_one_sign(drawn):
    _, conditions = drawn
    for condition in [condition for condition in conditions if condition.absolute][:50]:
        assert (condition.sign * condition(X) >= 0).all()


def test_waves_have_the_period_that_is_asked_for(drawn):
    _, conditions = drawn
    condition = next(condition for condition in conditions if condition.window is None)
    np.testing.assert_allclose(condition(X + 0.9, 0.9), condition(X, 0.9), atol=1e-12)
