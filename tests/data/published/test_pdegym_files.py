"""A file in the layout of every data set of PDEgym is read as its preset says: channels, values, times, constants."""

import numpy as np
import pytest

from katops.data.containers.probe import probe
from katops.data.formats import describe
from katops.data.formats.pdegym import kind_of
from katops.pdegym import SETS, preset

KINDS = ("inputs", "outputs", "constants")
NS = {"velocity_x": ("velocity", 0), "velocity_y": ("velocity", 1)}
GAS = {"density": 0, "velocity_x": 1, "velocity_y": 2, "pressure": 3}
CE = {name: ("data", place) for name, place in GAS.items()}
KF = {name: ("solution", place) for name, (_, place) in NS.items()}
RM = {name: ("solution", place) for name, place in GAS.items()}
WAVE = {"solution": ("solution", None), "wave_speed": ("c", None)}
# Name: the place of every channel that is fed, and the time of the last frame.
ROWS = {
    **dict.fromkeys(("NS-Sines", "NS-Gauss", "NS-PwC", "NS-SVS", "NS-BB", "NS-SL"), (NS, 1.0)),
    **dict.fromkeys(("CE-RP", "CE-CRP", "CE-KH", "CE-Gauss", "CE-RPUI"), (CE, 1.0)),
    "NS-Tracer-PwC": ({**NS, "tracer": ("velocity", 2)}, 1.0),
    "FNS-KF": (KF, 1.0),
    "CE-RM": (RM, 2.0),
    "GCE-RT": ({**RM, "potential": ("solution", 5)}, 5.0),
    "Wave-Layer": (WAVE, 1.0),
    "Wave-Gauss": (WAVE, 1.0),
    "ACE": ({"solution": ("solution", None)}, 2e-4),
    "SE-AF": ({"airfoil": ("solution", 0), "density": ("solution", 1)}, None),
    "Poisson-Gauss": ({"source": ("source", None), "solution": ("solution", None)}, None),
    "Helmholtz": ({"coefficient": ("a", None), "solution": ("u", None)}, None),
}


def _stated(name):
    """What the preset says about the file, without the channels that it lacks."""
    values = preset(name)
    fill = values.get("fill", {})
    channels = {kind: [entry for entry in values.get(kind, ()) if entry not in fill] for kind in KINDS}
    return {**channels, "axes": values.get("axes"), "time_step": values.get("time_step")}


def test_every_set_is_tried():
    assert set(ROWS) == set(SETS)


@pytest.mark.parametrize("name", ROWS)
def test_a_file_is_recognised_by_its_arrays(write_set, name):
    path, _ = write_set(name)
    layout = describe(path)
    assert layout.format == "pdegym"
    assert layout.meta.name == SETS[name].kind == kind_of(probe(path))
    assert layout.meta.licence == "CC-BY-NC-4.0"
    assert {side for axis in layout.meta.axes for side in axis.boundary} == {SETS[name].boundary}
    [hint] = [note for note in layout.notes if note.startswith("data.preset: NAME")]
    assert name in hint.removesuffix(".").replace(",", "").split()


@pytest.mark.parametrize("name", ROWS)
def test_every_channel_that_is_fed_holds_the_values_of_its_place_in_the_file(write_set, read_all, name):
    path, arrays = write_set(name)
    layout = describe(path, **_stated(name))
    places, _ = ROWS[name]
    order = [channel.name for channel in (*SETS[name].inputs, *SETS[name].outputs)] + list(SETS[name].constants)
    assert [array.name for array in (*layout.inputs, *layout.outputs, *layout.constants)] == [
        channel for channel in order if channel in places
    ]
    for kind in KINDS:
        channels = getattr(layout, kind)
        read = np.stack(read_all(layout, kind)) if channels else np.empty(0)
        for position, channel in enumerate(channels):
            key, place = places[channel.name]
            stored = arrays[key] if place is None else np.take(arrays[key], place, axis=-3)
            stored = stored if stored.ndim == 4 else stored[:, None]
            expected = stored.swapaxes(-1, -2) if name == "NS-SL" else stored
            np.testing.assert_array_equal(read[:, :, position], expected.astype(np.float32))


@pytest.mark.parametrize("name", ROWS)
def test_frames_have_the_published_times(write_set, name):
    entry, (_, end) = SETS[name], ROWS[name]
    layout = describe(write_set(name)[0], **_stated(name))
    if end is None:
        assert not layout.time_dependent
        assert layout.times is None
        return
    assert set(layout.frames) == {entry.frames}
    np.testing.assert_allclose(layout.times, np.linspace(0, end, entry.frames), rtol=1e-12)
    first, last = entry.test_pair
    lead = (layout.times[last] - layout.times[first]) / entry.time_scale
    assert lead == pytest.approx(last / {"GCE-RT": 10, "Wave-Gauss": 15, "ACE": 19}.get(name, 20), rel=1e-12)


@pytest.mark.parametrize("frames", [15, 16])
def test_frames_of_wave_gauss_are_a_fifteenth_apart_whether_there_are_15_or_16(write_pdegym, frames):
    rng = np.random.default_rng(0)
    arrays = {"solution": rng.normal(size=(3, frames, 12, 20)), "c": rng.normal(size=(3, 12, 20))}
    layout = describe(write_pdegym(**arrays), **_stated("Wave-Gauss"))
    np.testing.assert_allclose(layout.times, np.arange(frames) / 15)
    assert not any("count as 1 apart" in note for note in layout.notes)


def test_the_value_on_the_boundary_of_helmholtz_is_a_parameter_of_the_sample(write_set):
    path, arrays = write_set("Helmholtz", samples=12)
    layout = describe(path, **_stated("Helmholtz"))
    assert [channel.name for channel in layout.meta.parameters] == preset("Helmholtz")["condition"]
    np.testing.assert_array_equal(layout.parameters[:, 0], arrays["bc"])


def test_components_of_the_velocity_belong_together_in_the_files_as_in_the_table(write_set):
    for name in ("NS-Tracer-PwC", "FNS-KF", "GCE-RT"):
        layout = describe(write_set(name)[0], **_stated(name))
        told = {array.name: array.channel.quantity for array in layout.outputs}
        table = {channel.name: channel.quantity for channel in SETS[name].outputs if channel.name in told}
        assert told == table
