"""Facts about the figures: they show the numbers they claim to show, in the right place."""

import ast
import math

import numpy as np
import pytest

from katops.drawing import cell_ends, limits_of
from katops.fields import Axis, Channel, FieldMeta
from katops.report.drawing import DPI, ERROR, WIDTH, Plane, new_figure, to_png
from katops.report.field_figures import error_map_figure, example_figure, trajectory_figure
from katops.report.figures import histogram_figure, loss_figure, read_log, spectrum_figure
from katops.report.frame_figures import steps_figure

LOG = """epoch,step,train_loss,validation_relative_l2,learning_rate,seconds
1,10,0.5,0.6,0.001,1.0
2,20,0.3,0.4,0.002,1.0
3,30,0.2,nan,0.001,1.0
"""


def meta_of(*names):
    return FieldMeta("m", (Channel("u"),), (Channel("u"),), tuple(Axis(name) for name in names))


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text")))


def images(figure):
    return [image for axes in figure.axes for image in axes.images]


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def size_of(png):
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


@pytest.mark.parametrize("names", [("x", "y"), ("y", "x")])
def test_the_axis_called_x_lies_horizontally_whatever_the_order_in_the_array(names):
    shape = (4, 3)
    field = np.broadcast_to(np.arange(shape[names.index("x")])[:, None] if names[0] == "x" else np.arange(3), shape)
    axes = new_figure(2).add_subplot()
    image = Plane.of(meta_of(*names), shape).draw(axes, field, (0, 3), "viridis")
    assert axes.get_xlabel() == "x"
    shown = image.get_array()
    assert (shown == shown[:1]).all()  # the field depends on x alone: all rows are alike
    assert (np.diff(shown[0]) == 1).all()


def test_the_lower_end_of_the_vertical_axis_is_at_the_bottom():
    axes = new_figure(2).add_subplot()
    image = Plane.of(meta_of("x", "y"), (2, 3)).draw(axes, np.zeros((2, 3)), (0, 1), "viridis")
    assert image.origin == "lower"
    assert axes.get_ylim()[0] < axes.get_ylim()[1]


@pytest.mark.parametrize(
    ("grid", "expected"),
    [("cell_centres", (0.0, 2.0)), ("nodes", (-0.25, 2.25)), ("periodic_nodes", (-0.2, 1.8))],
)
def test_cells_are_centred_on_the_grid_points(grid, expected):
    assert cell_ends(Axis("x", grid, 0.0, 2.0), 5)[[0, -1]] == pytest.approx(expected)


def test_a_long_domain_keeps_its_proportions_and_a_very_long_one_is_stretched():
    def plane(length):
        axes = (Axis("x", upper=length), Axis("y"))
        return Plane.of(FieldMeta("m", (Channel("u"),), (Channel("u"),), axes), (8, 8))

    assert plane(2.0).equal
    assert plane(2.0).ratio == pytest.approx(0.5)
    assert not plane(50.0).equal


def test_of_three_axes_the_middle_of_the_last_is_drawn():
    meta = meta_of("x", "y", "z")
    field = np.broadcast_to(np.arange(5), (3, 4, 5))
    plane = Plane.of(meta, field.shape)
    image = plane.draw(new_figure(2).add_subplot(), field, (0, 5), "viridis")
    assert (image.get_array() == 2).all()
    assert plane.note == "slice at z = 0.5"


@pytest.mark.parametrize("value", [0.0, 3.0, -1e-9, 1e12])
def test_a_constant_field_lies_in_the_middle_of_its_colours(value):
    low, high = limits_of(np.full(7, value))
    assert low < value < high
    assert (low + high) / 2 == pytest.approx(value)


def test_limits_ignore_what_is_not_finite():
    assert limits_of(np.array([math.nan, 1.0, math.inf, 2.0])) == (1.0, 2.0)
    assert limits_of(np.array([-3.0, 1.0]), symmetric=True) == (-3.0, 3.0)
    assert limits_of(np.array([math.nan])) == (0.0, 1.0)


def test_examples_show_input_truth_prediction_and_their_difference(make_evaluation):
    evaluation = make_evaluation(2)
    figure = example_figure(evaluation, 0)
    drawn = [image for image in images(figure) if image.get_array().shape == (10, 16)]
    assert len(drawn) == 4 * 3
    for row, example in enumerate(evaluation.examples):
        x, truth, prediction, error = drawn[4 * row : 4 * row + 4]
        np.testing.assert_array_equal(x.get_array(), example.x[-1, 0].T)
        np.testing.assert_array_equal(truth.get_array(), example.target[-1, 0].T)
        np.testing.assert_array_equal(prediction.get_array(), example.prediction[-1, 0].T)
        np.testing.assert_array_equal(error.get_array(), (example.prediction - example.target)[-1, 0].T)
        assert truth.get_clim() == prediction.get_clim()
        assert error.get_clim()[0] == -error.get_clim()[1]
        assert f"{example.role}: sample {example.index[1]}" in texts(figure)
    assert "u [m/s]" in texts(figure)
    assert "x [m]" in texts(figure)


def test_examples_of_one_axis_are_curves(make_evaluation):
    evaluation = make_evaluation(1)
    _, middle, right = example_figure(evaluation, 0).axes[-3:]
    worst = evaluation.examples[-1]
    points = evaluation.meta.axes[0].coordinates(24)
    np.testing.assert_array_equal(lines(middle)["truth"].get_xydata(), np.stack([points, worst.target[0, 0]], 1))
    np.testing.assert_array_equal(lines(middle)["prediction"].get_ydata(), worst.prediction[0, 0])
    np.testing.assert_array_equal(right.lines[-1].get_ydata(), (worst.prediction - worst.target)[0, 0])


def test_a_trajectory_of_one_axis_is_drawn_over_space_and_frame(make_evaluation):
    evaluation = make_evaluation(1, steps=6)
    figure = trajectory_figure(evaluation, 0)
    example = next(e for e in evaluation.examples if e.role == "median")
    truth = images(figure)[0]
    np.testing.assert_array_equal(truth.get_array(), example.target[:, 0])
    assert truth.get_extent() == pytest.approx([0, 2, 0.5, 6.5])


def test_a_trajectory_of_two_axes_shows_the_first_and_the_last_frame(make_evaluation):
    figure = trajectory_figure(make_evaluation(2, steps=9), 0)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [f"frame {frame} of 9" for frame in (1, 3, 5, 7, 9)]


def test_the_error_map_starts_at_zero(make_evaluation):
    evaluation = make_evaluation(2, channels=(("u", "m/s"), ("p", "Pa")))
    figure = error_map_figure(evaluation, [0, 1])
    first, second = (image for image in images(figure) if image.get_array().shape == (10, 16))
    np.testing.assert_array_equal(first.get_array(), evaluation.error_map[0].T)
    np.testing.assert_array_equal(second.get_array(), evaluation.error_map[1].T)
    assert first.get_clim()[0] == 0


def test_the_histogram_counts_every_sample_and_marks_the_baselines(make_evaluation):
    evaluation = make_evaluation(samples=30)
    (axes,) = histogram_figure(evaluation).axes
    assert sum(bar.get_height() for bar in axes.patches) == 30
    marked = lines(axes)
    assert marked["mean predictor, mean 50.0 %"].get_xdata()[0] == pytest.approx(0.5)
    low, high = axes.get_xlim()
    assert low < 0.01
    assert high > 0.5


def test_the_histogram_says_what_it_leaves_out(make_evaluation):
    figure = histogram_figure(make_evaluation(broken=True))
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 4
    assert "1 with error zero or not finite not shown" in texts(figure)


def test_the_error_of_every_frame_is_drawn(make_evaluation):
    evaluation = make_evaluation(1, steps=4)
    drawn = lines(steps_figure(evaluation).axes[0])
    np.testing.assert_allclose(drawn["model"].get_ydata(), evaluation.steps["model"])
    np.testing.assert_array_equal(drawn["mean predictor"].get_xdata(), [1, 2, 3, 4])


def test_the_spectrum_is_drawn_from_one_to_the_last_whole_wavenumber(make_evaluation):
    evaluation = make_evaluation(2)
    drawn = lines(spectrum_figure(evaluation, [0]).axes[0])
    resolved = evaluation.spectra.resolved
    assert resolved == 8  # 16 points over the longest side, 10 over the half as long one: 8 against 10
    np.testing.assert_array_equal(drawn["truth"].get_xdata(), np.arange(1, resolved + 1))
    # one wave along x and one along y, twice as short, of the half as long side: |k|² = 1 + 4; all else is rounding
    for name in ("truth", "prediction", "error"):
        shown = drawn[name].get_ydata()
        assert np.nanargmax(shown) + 1 == round(math.sqrt(5))
        assert np.nanmax(shown) == getattr(evaluation.spectra, name)[0, 2]
        assert np.nansum(shown) < 1.001 * np.nanmax(shown)


def test_loss_curves_come_from_the_log_and_mark_the_kept_epoch(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(LOG)
    log = read_log(path)
    np.testing.assert_array_equal(log["epoch"], [1, 2, 3])
    above, below = loss_figure(log, best_epoch=2).axes
    drawn = lines(above)
    np.testing.assert_array_equal(drawn["training loss"].get_ydata(), [0.5, 0.3, 0.2])
    np.testing.assert_array_equal(drawn["validation relative L2"].get_ydata(), [0.6, 0.4, math.nan])
    assert drawn["kept: epoch 2"].get_xdata()[0] == 2
    assert drawn["kept: epoch 2"].get_color() == ERROR
    assert above.get_yscale() == "log"
    np.testing.assert_array_equal(below.lines[0].get_ydata(), [0.001, 0.002, 0.001])


@pytest.mark.parametrize("text", ["", "epoch,train_loss,learning_rate\n"])
def test_an_empty_log_has_no_curves(tmp_path, text):
    path = tmp_path / "log.csv"
    path.write_text(text)
    assert read_log(path) == {}
    assert "no data" in texts(loss_figure(read_log(path)))


def test_a_missing_log_has_no_curves(tmp_path):
    assert read_log(None) == {}
    assert read_log(tmp_path / "log.csv") == {}


def test_a_run_of_one_epoch_without_validation_has_a_figure(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,step,train_loss,validation_relative_l2,learning_rate\n1,3,0.5,nan,0.001\n")
    figure = loss_figure(read_log(path))
    assert list(lines(figure.axes[0])) == ["training loss"]
    assert to_png(figure).startswith(b"\x89PNG")


def test_constant_fields_and_perfect_predictions_are_told_in_words(make_evaluation):
    evaluation = make_evaluation(2, samples=1, constant=True, factor=0.0)
    assert "the fields are constant in space" in texts(spectrum_figure(evaluation, [0]))
    assert "no error is positive and finite" in texts(histogram_figure(evaluation))


def test_a_figure_without_finite_values_says_so(make_evaluation):
    evaluation = make_evaluation(2, samples=1, broken=True)
    assert "no finite prediction" in texts(spectrum_figure(evaluation, [0]))
    assert "no finite prediction" in texts(error_map_figure(evaluation, [0]))
    example = images(example_figure(evaluation, 0))[2]
    assert example.get_array().mask.sum() == 1


def test_png_files_have_the_stated_size_and_are_reproducible(make_evaluation):
    evaluation = make_evaluation(1)
    first, second = (to_png(histogram_figure(evaluation)) for _ in range(2))
    assert first == second
    assert size_of(first) == (int(WIDTH * DPI), int(3.0 * DPI))


def test_names_with_dollar_signs_are_not_taken_for_mathematics(make_evaluation):
    evaluation = make_evaluation(1, channels=(("$price", "US$"),))
    assert to_png(spectrum_figure(evaluation, [0])).startswith(b"\x89PNG")


def test_drawing_does_not_use_pyplot(repository):
    files = list((repository / "katops" / "report").glob("*.py"))
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    imported = {alias.name for node in nodes if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}
    assert "Figure" in imported  # the search finds imports
    assert not any("pyplot" in name for name in imported)
