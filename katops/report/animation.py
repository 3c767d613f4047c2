"""A moving picture of one sample: truth, prediction and error, frame after frame, as an animated WebP."""

import io

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image, features

from katops.drawing import axis_label, channel_label, limits_of
from katops.evaluation import Evaluation, Example
from katops.fields import FieldMeta
from katops.report.drawing import ERROR, PREDICTION, TEXT, TRUTH, Plane, colour_bar, new_figure, tidy
from katops.report.field_figures import truth_prediction_error
from katops.report.tables import frame_name

LEAST_FRAMES = 3  # of fewer, the figures show all there is
MAX_FRAMES = 50
MAX_ROWS = 2
MAX_BYTES = 1_500_000
SECONDS = 6.0  # one run through a long trajectory
DPI = 75
QUALITY = 75  # of WebP, a fifth of a GIF's size at the colours of the map


def animation(evaluation: Evaluation, channels: list[int]) -> bytes | None:
    """The median example over the output frames as an animated WebP file of at most 1.5 MB.

    Of long trajectories every second (third, ...) frame is taken, and the last one; of many channels those that change
    most, measured in standard deviations.

    Args:
        evaluation: with examples.
        channels: positions of the output channels to choose from.

    Returns:
        ``None`` where there is no example, there are fewer than three frames, or Pillow was built without WebP.
    """
    example = next((e for e in evaluation.examples if e.role == "median"), None)
    if example is None or evaluation.meta.steps_out < LEAST_FRAMES or not features.check("webp"):
        return None
    movement = [_movement(example.target[:, channel]) for channel in channels]
    moving = sorted(np.argsort(movement, kind="stable")[::-1][:MAX_ROWS])
    frames = _frames(evaluation.meta.steps_out, MAX_FRAMES)
    drawn = _draw_all(evaluation, example, [channels[place] for place in moving], frames)
    encoded = _encode(drawn)
    while len(encoded) > MAX_BYTES and len(drawn) > LEAST_FRAMES:
        drawn = [drawn[place] for place in _frames(len(drawn), max(LEAST_FRAMES, len(drawn) * 2 // 3))]
        encoded = _encode(drawn)
    return encoded


def _movement(values: np.ndarray) -> float:
    """Root of the mean square change since the first frame, in standard deviations of the field."""
    deviation = float(values.std())
    return float(np.sqrt(np.mean((values - values[:1]) ** 2))) / deviation if deviation > 0 else 0.0


def _frames(count: int, most: int) -> list[int]:
    """At most ``most`` positions, evenly spread over ``count``, the first and the last one among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int)).tolist()


def _draw_all(evaluation: Evaluation, example: Example, channels: list[int], frames: list[int]) -> list[Image.Image]:
    meta = evaluation.meta
    plane = Plane.of(meta, evaluation.space) if len(meta.axes) > 1 else None
    height = 2.3 if plane is None else 0.7 + float(np.clip(2.7 * plane.ratio, 0.9, 4.5))
    figure = new_figure(height * len(channels) + 0.3)
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    rows = figure.subplots(len(channels), 2 if plane is None else 3, squeeze=False)
    moving: list[tuple[Artist, np.ndarray]] = []
    for row, channel in zip(rows, channels, strict=True):
        of_row = _lines(row, example, meta, channel) if plane is None else _images(row, example, meta, channel, plane)
        moving += of_row
    title = figure.suptitle(frame_name(evaluation, frames[-1] + 1), fontsize=TEXT + 1)
    for artist in (title, *(artist for artist, _ in moving)):
        artist.set_animated(True)
    # What does not move is drawn once: axes and labels take most of the time.
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    pictures = []
    for frame in frames:
        canvas.restore_region(background)
        title.set_text(frame_name(evaluation, frame + 1))
        figure.draw_artist(title)
        for artist, values in moving:
            _show(artist, values[frame], plane)
            artist.axes.draw_artist(artist)
        pictures.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3]))
    return pictures


def _show(artist: Artist, values: np.ndarray, plane: Plane | None) -> None:
    artist.set_ydata(values) if plane is None else artist.set_data(plane.shown(values))


def _images(
    panels: list[Axes], example: Example, meta: FieldMeta, channel: int, plane: Plane
) -> list[tuple[Artist, np.ndarray]]:
    moving = []
    label = channel_label(meta.outputs[channel])
    for axes, (name, values, limits, colours) in zip(panels, _kinds(example, channel), strict=True):
        image = plane.draw(axes, values[-1], limits, colours)
        axes.set_title(f"{name}, {label}", fontsize=TEXT)
        axes.label_outer()
        colour_bar(image, "", values)
        moving.append((image, values))
    return moving


def _lines(panels: list[Axes], example: Example, meta: FieldMeta, channel: int) -> list[tuple[Artist, np.ndarray]]:
    points = meta.axes[0].coordinates(example.target.shape[-1])
    (_, truth, limits, _), (_, prediction, _, _), (_, error, around_zero, _) = _kinds(example, channel)
    left, right = panels
    margin = 0.15 * (limits[1] - limits[0])
    tidy(left).set(ylim=(limits[0] - margin, limits[1] + margin), ylabel=channel_label(meta.outputs[channel]))
    tidy(right).set(ylim=(1.1 * around_zero[0], 1.1 * around_zero[1]))
    left.set_title("truth (black), prediction (blue, dashed)", fontsize=TEXT)
    right.set_title("error (prediction − truth)", fontsize=TEXT)
    for axes in panels:
        axes.set_xlabel(axis_label(meta.axes[0]))
    (first,) = left.plot(points, truth[-1], color=TRUTH)
    (second,) = left.plot(points, prediction[-1], "--", color=PREDICTION)
    (third,) = right.plot(points, error[-1], color=ERROR)
    return [(first, truth), (second, prediction), (third, error)]


def _kinds(example: Example, channel: int) -> list:
    """Truth, prediction, error; a blow-up of the prediction does not flatten the error before it."""
    truth, prediction, (name, error, _, colours) = truth_prediction_error(
        example.target[:, channel], example.prediction[:, channel]
    )
    low, high = truth[2]
    finite = np.abs(error[np.isfinite(error)])
    largest = min(float(finite.max()), high - low) if finite.size else high - low
    return [truth, prediction, (name, error, limits_of(np.array([largest]), symmetric=True), colours)]


def _encode(pictures: list[Image.Image]) -> bytes:
    """A file that runs for ever."""
    file = io.BytesIO()
    duration = int(np.clip(1000 * SECONDS / len(pictures), 80, 400))
    first, *rest = pictures
    first.save(file, "WEBP", save_all=True, append_images=rest, duration=duration, loop=0, quality=QUALITY, method=2)
    return file.getvalue()
