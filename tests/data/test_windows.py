"""Window arithmetic: exactly the allowed windows, never a frame outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data.windows import Window, WindowIndex, index_windows
from katops.errors import UserError

bounded = settings(max_examples=50, deadline=None)
windows = st.builds(
    Window,
    n_in=st.integers(1, 5),
    n_out=st.integers(1, 5),
    gap=st.integers(0, 3),
    stride=st.integers(1, 4),
    every=st.integers(1, 4),
)


def _frames(window: Window, start: int) -> list[int]:
    inputs = [start + i * window.every for i in range(window.n_in)]
    targets = [start + window.target_offset + j * window.every for j in range(window.n_out)]
    return inputs + targets


def test_the_default_window_is_the_pair_of_neighbouring_frames():
    window = Window()
    assert _frames(window, 3) == [3, 4]
    assert (window.span, window.lead) == (2, 1)
    assert list(window.starts(5)) == [0, 1, 2, 3]


def test_a_window_with_a_gap_and_thinned_frames_is_what_the_formula_says():
    window = Window(n_in=2, n_out=2, gap=1, stride=3, every=2)
    assert _frames(window, 0) == [0, 2, 6, 8]
    assert (window.span, window.lead) == (9, 6)
    assert list(window.starts(15)) == [0, 3, 6]


@bounded
@given(windows, st.integers(1, 60))
def test_starts_are_all_the_allowed_ones_and_no_other(window, frames):
    allowed = [s for s in range(0, frames, window.stride) if max(_frames(window, s)) < frames]
    assert list(window.starts(frames)) == allowed


@bounded
@given(windows, st.integers(1, 60))
def test_span_and_lead_are_the_distances_of_frames(window, start):
    frames = _frames(window, start)
    assert frames[-1] - frames[0] + 1 == window.span
    assert frames[-1] - frames[window.n_in - 1] == window.lead
    assert frames == sorted(set(frames))


@bounded
@given(windows, st.lists(st.integers(0, 20), min_size=1, max_size=8))
def test_flat_indices_enumerate_the_windows_of_ragged_trajectories_in_order(window, extra):
    frames = [window.span + more for more in extra]
    index = index_windows(window, frames)
    expected = [(m, s) for m, length in enumerate(frames) for s in window.starts(length)]
    sample, start = index.locate(np.arange(len(index)))
    assert list(zip(sample.tolist(), start.tolist(), strict=True)) == expected


@bounded
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.data())
def test_windows_of_samples_are_those_whose_sample_is_asked_for(counts, data):
    index = WindowIndex(counts, stride=2)
    samples = data.draw(st.lists(st.integers(0, len(counts) - 1), unique=True))
    flat = index.of_samples(samples)
    assert flat.tolist() == [sum(counts[:m]) + k for m in samples for k in range(counts[m])]
    assert set(index.locate(flat)[0].tolist()) == {m for m in samples if counts[m]}


def test_inputs_only_windows_reach_to_the_end_of_the_trajectory():
    assert list(Window(n_in=2, n_out=3).starts(5, inputs_only=True)) == [0, 1, 2, 3]


def test_a_window_longer_than_a_trajectory_names_both_numbers():
    with pytest.raises(UserError, match=r"spans 12 frames.*trajectory 1 has 11"):
        index_windows(Window(n_in=2, n_out=10), [20, 11])


def test_short_trajectories_are_counted_and_named_and_the_window_that_fits_is_told():
    with pytest.raises(
        UserError, match=r"sample 2! has 5 \(and 1 more of 4 are too short\); make the window at most 5"
    ):
        index_windows(Window(n_in=8), [20, 7, 5, 60], name="sample {}!".format)


@bounded
@given(windows, st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=8))
def test_trajectories_that_are_left_out_have_no_window_and_keep_their_number(window, trajectories):
    frames = [length + window.span if used else length for length, used in trajectories]
    included = np.array([used for _, used in trajectories])
    index = index_windows(window, frames, included=included)
    sample, start = index.locate(np.arange(len(index)))
    expected = [(m, s) for m, length in enumerate(frames) if included[m] for s in window.starts(length)]
    assert list(zip(sample.tolist(), start.tolist(), strict=True)) == expected


@pytest.mark.parametrize("flat", [-1, 6])
def test_an_index_outside_is_an_error_and_does_not_wrap_around(flat):
    with pytest.raises(IndexError, match="outside 0 to 5"):
        WindowIndex([3, 3]).locate(np.array([flat]))
    with pytest.raises(IndexError, match="outside 0 to 1"):
        WindowIndex([3, 3]).of_samples(np.array([-1]))


@pytest.mark.parametrize(("name", "value"), [("n_in", 0), ("n_out", 0), ("gap", -1), ("stride", 0), ("every", 1.5)])
def test_impossible_windows_are_refused(name, value):
    with pytest.raises(UserError, match=f"window.{name} must be"):
        Window(**{name: value})
