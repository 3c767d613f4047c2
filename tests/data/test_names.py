"""Channels are chosen by name: their own, an alias, or that of the vector they belong to."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.data.formats.names import ALIASES, canonical, in_order, select, vector
from katops.errors import UserError
from katops.fields import Channel

CHANNELS = (
    *vector("velocity"),
    Channel("temperature"),
    *(Channel(f"D_{a}{b}", "", "D", (i, j)) for i, a in enumerate("xy") for j, b in enumerate("xy")),
    Channel("density"),
)


def _names(*wanted: str) -> list[str]:
    return [channel.name for channel in select(Path("file.h5"), CHANNELS, wanted)]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("density", ["density"]),
        ("rho", ["density"]),
        ("Vx", ["velocity_x"]),
        ("vy", ["velocity_y"]),
        ("velocity", ["velocity_x", "velocity_y", "velocity_z"]),
        ("D", ["D_xx", "D_xy", "D_yx", "D_yy"]),
    ],
)
def test_a_name_stands_for_a_channel_or_for_the_components_of_a_vector(wanted, found):
    assert _names(wanted) == found


def test_the_order_is_the_one_that_is_asked_for():
    assert _names("temperature", "velocity_y", "density") == ["temperature", "velocity_y", "density"]


def test_an_own_name_goes_before_an_alias():
    channels = (Channel("density"), Channel("rho"))
    assert select(Path("f"), channels, ["rho"]) == channels[1:]


def test_aliases_of_a_format_go_before_the_common_ones():
    assert canonical("p", {"p": "power"}) == "power"
    assert canonical("p") == "pressure"
    assert canonical("whatever") == "whatever"


def test_an_unknown_name_gets_the_nearest_one_and_the_list():
    with pytest.raises(
        UserError, match=r"file\.h5 has no channel 'velocty'; did you mean 'velocity'\? Its channels: v"
    ):
        _names("velocty")


@settings(deadline=None, max_examples=50)
@given(st.permutations(CHANNELS))
def test_the_canonical_order_is_scalars_then_vectors_then_tensors_however_they_are_stored(channels):
    names = [channel.name for channel in in_order(channels)]
    assert names == [
        *("density", "temperature", "velocity_x", "velocity_y", "velocity_z", "D_xx", "D_xy", "D_yx", "D_yy")
    ]


def test_no_alias_leads_to_another():
    assert not set(ALIASES) & set(ALIASES.values())
