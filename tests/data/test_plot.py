"""Pictures of samples: whatever the fields are like, every channel is drawn once and labelled."""

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from katops.data.formats import describe
from katops.data.inspection.plot import picture, plot
from katops.data.writing import StoredField, create_layout, layout_file
from katops.drawing import upwards
from katops.fields import Axis


@pytest.fixture
def fields_of(tmp_path):
    """``fields_of(space, frames, fill=..., channels=...)``: a file with a state, a constant and an output."""

    def write(space, frames=9, fill=None, channels=1, uneven=False, times=None):
        rng = np.random.default_rng(0)
        grid = {"grid": "uneven", "points": np.linspace(0.0, 1.0, space[0]) ** 2} if uneven else {}
        axes = [Axis("x", unit="m", **grid), *(Axis(name, upper=2.0, unit="m") for name in "yz"[: len(space) - 1])]
        moving = (frames, *space) if frames else tuple(space)
        fields = {f"state {n}": StoredField("state" if frames else "input", "m/s", moving) for n in range(channels)}
        fields["answer $"] = StoredField("output", "", moving)
        if frames:
            fields["mask"] = StoredField("constant", "", space, per_sample=False)
        path = tmp_path / "fields.h5"
        with layout_file(path) as file:
            times = np.arange(frames) * 0.1 if times is None else times
            arrays = create_layout(
                file.hdf5, name="f", samples=3, fields=fields, axes=axes, times=times if frames else None, time_unit="s"
            )
            for dataset in arrays.values():
                dataset[...] = rng.normal(size=dataset.shape) if fill is None else fill
        return describe(path)

    return write


def _texts(figure) -> str:
    figure.canvas.draw()
    shown = (text for text in figure.findobj(Text) if text.get_visible())
    return " | ".join(text.get_text() for text in shown if text.get_text())


@pytest.mark.parametrize(
    ("space", "frames", "uneven"),
    [
        *(((40,), *times) for times in [(0, False), (1, True), (4, False), (30, False), (30, True)]),
        *(((12, 20), *times) for times in [(0, False), (4, False), (30, True)]),
        *(((8, 12, 10), *times) for times in [(1, True), (30, False)]),
    ],
)
def test_every_channel_is_drawn_with_its_unit_and_the_axes_with_theirs(fields_of, space, frames, uneven):
    text = _texts(picture(fields_of(space, frames, uneven=uneven)))
    for part in ("state 0 [m/s]", r"answer \$", "x [m]", "sample 0", "3 samples on"):
        assert part in text
    assert ("mask" in text) == bool(frames)


@pytest.mark.parametrize(
    ("space", "fill"),
    [((40,), 0.0), ((40,), np.nan), ((12, 20), 3.0), ((12, 20), np.nan), ((12, 20), np.inf), ((12, 20), -1e30)],
)
def test_constant_and_bad_fields_are_drawn_too(fields_of, space, fill):
    text = _texts(picture(fields_of(space, fill=fill)))
    assert ("not finite" in text) == (not np.isfinite(fill))


def test_values_that_are_not_finite_have_a_colour_of_their_own(fields_of, tmp_path):
    plot(fields_of((12, 20), fill=np.nan), tmp_path / "bad.png")
    plot(fields_of((12, 20)), tmp_path / "good.png")
    magenta = [
        (np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")) == (255, 0, 255)).all(-1).mean()
        for name in ("bad", "good")
    ]
    assert magenta[0] > 0.3
    assert magenta[1] == 0.0


def test_fields_with_both_signs_are_coloured_around_zero_and_alike_at_all_times(fields_of):
    images = [image for axes in picture(fields_of((12, 20))).axes for image in axes.images]
    limits = {image.get_clim() for image in images if image.get_cmap().name == "RdBu_r"}
    assert limits
    assert all(low == -high for low, high in limits)
    assert len(limits) == 3  # one for each channel


def test_first_middle_and_last_frame_are_drawn(fields_of):
    text = _texts(picture(fields_of((12, 20), frames=9)))
    for time in ("t = 0 s", "t = 0.4 s", "t = 0.8 s"):
        assert f"sample 0, {time}" in text


def test_three_planes_of_a_volume_are_drawn(fields_of):
    text = _texts(picture(fields_of((8, 12, 10))))
    for place in ("x = 0.562 m", "y = 1.08 m", "z = 1.1 m"):
        assert place in text


def test_of_very_many_channels_the_first_ones_are_drawn(fields_of):
    assert "the first 8 of 22 channels" in _texts(picture(fields_of((12, 20), channels=20)))


def test_a_value_is_drawn_where_its_coordinates_are(fields_of):
    """The picture is not transposed: x lies horizontally and increases to the right, y upwards."""
    layout = fields_of((12, 20), frames=0)
    image = picture(layout).axes[0].images[0]
    values = image.get_array()
    assert values.shape == (20, 12)
    assert tuple(image.get_extent()) == (0.0, 1.0, 0.0, 2.0)
    assert image.origin == "lower"


@pytest.mark.parametrize("ending", ["png", "pdf", "svg", "anything"])
def test_the_ending_decides_the_kind_of_picture(fields_of, tmp_path, ending):
    path = plot(fields_of((40,)), tmp_path / f"picture.{ending}")
    head = {"pdf": b"%PDF", "svg": b"<?xml"}.get(ending, b"\x89PNG")
    assert path.read_bytes().startswith(head)


@pytest.mark.parametrize("names", [("lat", "lon"), ("lon", "lat")])
@pytest.mark.parametrize("falling", [False, True])
def test_north_is_up_on_maps(tmp_path, names, falling):
    latitudes = np.linspace(-80.0, 80.0, 12) ** 3 / 80**2
    axes = {
        "lat": Axis("lat", "uneven", -80, 80, ("none", "none"), points=latitudes[::-1] if falling else latitudes),
        "lon": Axis("lon", "periodic_nodes", 0, 360, ("periodic", "periodic")),
    }
    sizes = {"lat": 12, "lon": 20}
    shape = tuple(sizes[name] for name in names)
    with layout_file(tmp_path / "map.h5") as file:
        fields = {"t": StoredField("input", "K", shape), "u": StoredField("output", "K", shape)}
        kept = [axes[name] for name in names]
        arrays = create_layout(file.hdf5, name="map", samples=2, fields=fields, axes=kept)
        for array in arrays.values():
            array[...] = np.random.default_rng(0).normal(size=array.shape)
    panel = picture(describe(tmp_path / "map.h5")).axes[0]
    assert panel.get_ylim()[0] < -70 < 70 < panel.get_ylim()[1]
    assert panel.get_xlim()[1] > 300


def test_angles_from_the_north_pole_increase_downwards():
    assert not upwards(Axis("theta", upper=np.pi), "spherical")
    assert upwards(Axis("theta", lower=-np.pi / 2, upper=np.pi / 2), "spherical")
    assert upwards(Axis("theta", upper=np.pi), "polar")
