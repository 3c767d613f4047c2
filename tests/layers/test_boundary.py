"""Ghost cells against the index rule of each boundary condition."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.fields import normalise_boundary
from katops.layers.boundary import add_ghost_cells

SIDES = st.one_of(st.just(("periodic", "periodic")), st.tuples(*[st.sampled_from(["dirichlet", "neumann"])] * 2))


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        ("dirichlet", [0, 1, 2, 3, 0]),
        ("neumann", [1, 1, 2, 3, 3]),
        ("periodic", [3, 1, 2, 3, 1]),
        ([("dirichlet", "neumann")], [0, 1, 2, 3, 3]),
        ([("neumann", "dirichlet")], [1, 1, 2, 3, 0]),
    ],
)
def test_ghost_cells_of_one_axis_follow_the_condition_of_their_side(boundary, expected):
    x = torch.tensor([[[1.0, 2.0, 3.0]]])
    padded = add_ghost_cells(x, normalise_boundary(boundary, 1), [1], [1])
    assert padded.flatten().tolist() == expected


@settings(max_examples=40, deadline=None)
@given(data=st.data(), n_axes=st.integers(1, 3))
def test_ghost_cells_of_any_field_are_those_of_each_axis_in_any_order(data, n_axes):
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=n_axes, max_size=n_axes))
    boundary = tuple(data.draw(st.lists(SIDES, min_size=n_axes, max_size=n_axes)))
    lower = data.draw(st.lists(st.integers(0, 1), min_size=n_axes, max_size=n_axes))
    upper = data.draw(st.lists(st.integers(0, 1), min_size=n_axes, max_size=n_axes))
    x = torch.randn(2, 3, *sizes)
    at_once = add_ghost_cells(x, boundary, lower, upper)
    assert at_once.shape[2:] == torch.Size(n + a + b for n, a, b in zip(sizes, lower, upper, strict=True))
    reverse = x
    for axis in reversed(range(n_axes)):
        only = [int(other == axis) for other in range(n_axes)]
        reverse = add_ghost_cells(
            reverse,
            boundary,
            [a * o for a, o in zip(lower, only, strict=True)],
            [b * o for b, o in zip(upper, only, strict=True)],
        )
    torch.testing.assert_close(at_once, reverse, rtol=0, atol=0)


def test_a_field_without_ghost_cells_is_returned_as_it_is():
    x = torch.randn(1, 1, 4, 4)
    assert add_ghost_cells(x, normalise_boundary("periodic", 2), [0, 0], [0, 0]) is x
