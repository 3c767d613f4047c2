"""Facts about the report of several frames: tables, sentences, marks, drift, the moving picture."""

import base64
import csv
import io
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from katops.evaluation import evaluate
from katops.fields import Axis, Channel, FieldMeta, FieldSample
from katops.report import animation as moving
from katops.report import print_metrics, write_report
from katops.report.animation import animation
from katops.report.drift_figures import energy_figure, frame_spectrum_figure, mean_figure
from katops.report.field_figures import trajectory_figure
from katops.report.frame_figures import steps_figure
from katops.report.frame_tables import drift_line, group_rows
from katops.report.html import _figures, verdict
from katops.report.tables import ranges, useful_frames, warnings_about

CHANNELS = (
    Channel("velocity_x", "m/s", "velocity", (0,)),
    Channel("velocity_y", "m/s", "velocity", (1,)),
    Channel("pressure", "Pa"),
    Channel("tracer"),
)
SPACES = {1: (24,), 2: (16, 12), 3: (6, 5, 4)}


def make_flow(n_axes=2, steps=6, samples=4, broken=0):
    """Model errors per frame of 10, 20, 30, ... percent, half of it for pressure; persistence 35; the tracer masked."""
    torch.manual_seed(0)
    axes = tuple(Axis(name, unit="m") for name in "xyz"[:n_axes])
    meta = FieldMeta("flow", CHANNELS, CHANNELS, axes, steps_out=steps, time_step=0.5, time_unit="s")
    y = torch.randn(samples, steps, 4, *SPACES[n_axes]) + 1
    growth = 0.1 * torch.arange(1, steps + 1).view(steps, 1, *[1] * n_axes)
    prediction = y * (1 + growth * torch.tensor([1.0, 1.0, 0.5, 9.0]).view(4, *[1] * n_axes))
    if broken:
        prediction[0, broken - 1 :] = torch.nan
    mask = torch.tensor([[False, False, False, True]] * samples)
    sample = FieldSample(y[:, :1], y, time=torch.full((samples,), 0.5 * steps), mask=mask)
    return evaluate({"model": lambda x, time: prediction, "persistence": lambda x, time: 1.35 * y}, [sample], meta)


@pytest.fixture(scope="module")
def flow():
    return make_flow()


def legend(axes):
    return {line.get_label(): line for line in axes.lines}


@pytest.mark.usefixtures("undrawn_figures")
def test_frames_csv_has_a_row_per_predictor_group_frame_and_metric(flow, tmp_path):
    write_report(tmp_path, evaluations={"test": flow}, summary={})
    with open(tmp_path / "frames.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 6 * 2  # predictors, judged groups, frames, metrics
    row = next(r for r in rows if (r["predictor"], r["group"], r["frame"]) == ("model", "pressure", "4"))
    assert float(row["mean"]) == pytest.approx(0.2, rel=1e-5)
    assert float(row["lead_time"]) == pytest.approx(2.0)
    assert row["samples"] == "4"
    assert {r["group"] for r in rows} == {"velocity", "pressure"}


def test_the_table_of_groups_shows_all_predictors_in_some_frames_and_marks_the_best(flow):
    table = group_rows(flow, 2)
    assert table.head == [
        "channels",
        "frame (lead time)",
        *("L2, model", "L2, persistence", "L1, model", "median L2", "median L1"),
    ]
    cells = [row.cells[:4] for row in table.rows]
    assert cells == [
        ["velocity", "1 (0.5 s)", "10.0 %", "35.0 %"],
        ["velocity", "6 (3 s)", "60.0 %", "35.0 %"],
        ["pressure", "1 (0.5 s)", "5.00 %", "35.0 %"],
        ["pressure", "6 (3 s)", "30.0 %", "35.0 %"],
        ["mean of groups", "1 (0.5 s)", "7.50 %", "35.0 %"],
        ["mean of groups", "6 (3 s)", "45.0 %", "35.0 %"],
    ]
    assert table.rows[0].cells[4:] == ["10.0 %"] * 3
    assert [row.best for row in table.rows] == [2, 3, 2, 2, 2, 3]
    assert table.caption.endswith("Left out, because masked or zero in all samples: tracer.")


def test_the_first_frame_worse_than_persistence_is_named_with_its_time_and_by_group(flow):
    assert flow.worse_frames["persistence"] == [5, 6]
    (sentence,) = warnings_about(flow, "flow.h5")
    assert sentence == (
        "On flow.h5, the first frame in which the model is worse than the persistence predictor is frame 5 (after "
        "2.5 s); it is worse in frames 5–6 of 6; by channels: velocity worse in frames 4–6, pressure worse in no frame."
    )
    stream = io.StringIO()
    print_metrics(Console(file=stream, width=400), flow, title="flow.h5")
    assert sentence in stream.getvalue()
    assert "mean of groups" in stream.getvalue()
    assert drift_line(flow) in stream.getvalue()


def test_a_group_that_persistence_predicts_better_is_told_where_all_channels_together_hide_it():
    meta = FieldMeta("flow", CHANNELS[1:3], CHANNELS[1:3], (Axis("x"),), steps_out=2)
    y = torch.ones(2, 2, 2, 8) * torch.tensor([100.0, 1.0]).view(2, 1)
    prediction = y * torch.tensor([[1.1, 1.1], [1.1, 3.0]]).view(2, 2, 1)
    sample = FieldSample(y[:, :1], y)
    found = evaluate({"model": lambda x, time: prediction, "persistence": lambda x, time: 1.3 * y}, [sample], meta)
    assert found.worse_frames == {"persistence": []}
    assert warnings_about(found, "test") == [
        "On test, over all channels together, the model is worse than the persistence predictor in no frame; by "
        "channels: velocity_y worse in no frame, pressure worse in frame 2."
    ]


@pytest.fixture
def incompressible():
    """Density 1, predicted with 1 % too much; the model's velocity is worse than persistence in the second frame."""
    channels = (Channel("density", "kg/m³"), *CHANNELS[:3])
    meta = FieldMeta("flow", channels, channels, (Axis("x"),), steps_out=3, time_step=0.5)
    torch.manual_seed(0)
    y = torch.randn(2, 3, 4, 8)
    y[:, :, 0] = 1.0
    factors = torch.tensor([[1.01, 1.1, 1.1, 1.1], [1.01, 1.3, 1.3, 1.1], [1.01, 1.1, 1.1, 1.1]])
    still = torch.tensor([1.0, 1.2, 1.2, 1.4]).view(4, 1) * y
    predictors = {"model": lambda x, time: factors[..., None] * y, "persistence": lambda x, time: still}
    return evaluate(predictors, [FieldSample(y[:, :1], y)], meta)


def test_nobody_is_worse_than_a_baseline_at_what_does_not_change(incompressible):
    assert incompressible.groups.worse_frames("model", "persistence") == {"velocity": [2], "pressure": []}
    (sentence,) = warnings_about(incompressible, "test")
    assert sentence.endswith("by channels: velocity worse in frame 2, pressure worse in no frame.")
    _, density, velocity, _ = (axes for axes in steps_figure(incompressible).axes if axes.axison)
    assert not density.patches
    assert len(velocity.patches) == 1
    assert "persistence predictor, exact" in legend(density)


def test_the_only_group_that_changes_is_named_in_the_warning():
    channels = (Channel("density"), Channel("tracer"))
    meta = FieldMeta("flow", channels, channels, (Axis("x"),), steps_out=2)
    y = torch.ones(2, 2, 2, 8) * torch.tensor([100.0, 1.0]).view(2, 1)
    y[..., :4] *= torch.tensor([1.0, 2.0]).view(2, 1)
    prediction = y * torch.tensor([1.0, 1.5]).view(2, 1)
    still = y * torch.tensor([[1.0, 1.6], [1.0, 1.4]]).view(2, 2, 1)
    found = evaluate(
        {"model": lambda x, time: prediction, "persistence": lambda x, time: still}, [FieldSample(y[:, :1], y)], meta
    )
    (sentence,) = warnings_about(found, "test")
    assert sentence.endswith("by channels: tracer worse in frame 2.")


def test_what_is_constant_in_space_does_not_flatter_the_mean_of_groups(incompressible):
    table = group_rows(incompressible, 2)
    means = [row.cells[:4] for row in table.rows if row.cells[0] == "mean of groups"]
    assert means == [["mean of groups", "1", "10.0 %", "30.0 %"], ["mean of groups", "3", "10.0 %", "30.0 %"]]
    assert table.caption.endswith("Not in the mean of groups, because constant in space: density.")


def test_what_is_constant_in_space_is_named_beside_the_verdict_and_has_no_pictures(incompressible):
    assert verdict(incompressible, "test").endswith(
        "It counts density, constant in space; the others by themselves are below."
    )
    titles = [title for _, title, _, _ in _figures(incompressible)]
    assert "Examples of pressure" in titles
    assert "Examples of density" not in titles


def test_what_has_no_energy_in_the_last_frame_has_no_ratio_to_it():
    meta = FieldMeta("decay", CHANNELS[3:], CHANNELS[3:], (Axis("x"),), steps_out=2)
    y = torch.ones(2, 2, 1, 8)
    y[:, 1] = 0.0
    found = evaluate({"model": lambda x, time: y + 0.1}, [FieldSample(y[:, :1], y)], meta)
    assert drift_line(found).endswith("tracer without meaning, without meaning in its small scales")


def test_frames_of_the_trajectory_have_their_lead_times(flow):
    titles = [axes.get_title() for axes in trajectory_figure(flow, 0).axes if axes.get_title()]
    assert titles[0] == "frame 1 of 6\nafter 0.5 s"
    assert titles[-1] == "frame 6 of 6\nafter 3 s"


def test_energy_has_its_unit_and_the_band_around_the_means_is_seen_whole(flow):
    velocity, pressure = energy_figure(flow).axes[:2]
    assert velocity.get_ylabel() == "mean square [(m/s)²]"
    assert pressure.get_ylabel() == "mean square [Pa²]"
    (mean,) = mean_figure(flow, [2]).axes
    low, high = mean.get_ylim()
    truth, off = flow.drift.mean["truth"][:, 2], flow.drift.mean_error[:, 2]
    assert low < (truth - off).min()
    assert high > (truth + off).max()


def test_small_scales_of_what_is_constant_have_no_entry_in_the_legend(incompressible):
    ratios = energy_figure(incompressible).axes[3]
    assert set(legend(ratios)) >= {"velocity", "pressure"}
    assert "density" not in legend(ratios)


def test_a_baseline_that_is_better_at_first_only_is_told_so():
    meta = FieldMeta("flow", CHANNELS[2:3], CHANNELS[2:3], (Axis("x"),), steps_out=3)
    y = torch.ones(2, 3, 1, 8)
    growing = torch.tensor([1.01, 1.2, 1.3]).view(3, 1, 1)
    sample = FieldSample(y[:, :1], y)
    found = evaluate({"model": lambda x, time: 1.1 * y, "persistence": lambda x, time: growing * y}, [sample], meta)
    assert useful_frames(found).endswith("better than persistence predictor except in frame 1 of 3")


def test_numbers_are_joined_to_ranges():
    assert ranges([1, 2, 3, 7, 9, 10]) == "1–3, 7, 9–10"


def test_a_panel_per_group_shades_and_names_the_frames_that_persistence_predicts_better(flow):
    everything, velocity, pressure = (axes for axes in steps_figure(flow).axes if axes.axison)
    np.testing.assert_allclose(legend(velocity)["model"].get_ydata(), 0.1 * np.arange(1, 7), rtol=1e-5)
    np.testing.assert_allclose(legend(velocity)["model"].get_xdata(), 0.5 * np.arange(1, 7), rtol=1e-5)
    mark = legend(velocity)["worse than persistence: frame 4 (after 2 s)"]
    assert mark.get_xdata()[0] == pytest.approx(2.0)
    assert len(velocity.patches) == 3
    assert not pressure.patches
    assert len(everything.patches) == 2
    assert velocity.get_xlabel() == "lead time [s]"


def test_the_first_frame_that_is_not_finite_is_marked():
    drawn = legend(steps_figure(make_flow(broken=3)).axes[0])
    assert drawn["not finite: frame 3 (after 1.5 s)"].get_xdata()[0] == pytest.approx(1.5)


def test_energy_means_and_spectra_are_drawn_as_measured(flow):
    velocity, pressure, ratios = energy_figure(flow).axes[:3]
    np.testing.assert_array_equal(legend(velocity)["truth"].get_ydata(), flow.drift.energy["truth"][:, 0])
    np.testing.assert_array_equal(legend(pressure)["prediction"].get_ydata(), flow.drift.energy["prediction"][:, 1])
    np.testing.assert_allclose(legend(ratios)["velocity"].get_ydata(), (1 + 0.1 * np.arange(1, 7)) ** 2, rtol=1e-5)
    (mean,) = mean_figure(flow, [2]).axes
    np.testing.assert_array_equal(legend(mean)["prediction"].get_ydata(), flow.drift.mean["prediction"][:, 2])
    spectra = legend(frame_spectrum_figure(flow, [2]).axes[0])
    shells = slice(1, flow.drift.resolved + 1)
    for frame, name in ((0, "frame 1 (after 0.5 s)"), (2, "frame 3 (after 1.5 s)"), (5, "frame 6 (after 3 s)")):
        shown = spectra[f"prediction, {name}"].get_ydata()
        np.testing.assert_array_equal(shown, flow.drift.power["prediction"][frame, 2, shells])


@pytest.mark.usefixtures("undrawn_figures")
@pytest.mark.parametrize("n_axes", [1, 2, 3])
def test_the_animation_has_a_picture_per_frame_and_lies_in_the_page(n_axes, tmp_path):
    page = write_report(tmp_path, evaluations={"test": make_flow(n_axes, steps=5)}, summary={}).read_text(
        encoding="utf-8"
    )
    file = tmp_path / "figures" / "animation.webp"
    (embedded,) = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    assert base64.b64decode(embedded) == file.read_bytes()
    with Image.open(file) as picture:
        assert (picture.format, picture.n_frames) == ("WEBP", 5)
        pictures = []
        for frame in range(5):
            picture.seek(frame)
            pictures.append(np.asarray(picture.convert("RGB"), dtype=float))
    assert all(np.abs(a - b).max() > 50 for a, b in pairwise(pictures))


def test_an_animation_stays_within_its_size_and_its_number_of_pictures(monkeypatch):
    evaluation = make_flow(steps=60, samples=1)
    with Image.open(io.BytesIO(animation(evaluation, [0, 1, 2]))) as picture:
        assert picture.n_frames == 50
    monkeypatch.setattr(moving, "MAX_BYTES", 100_000)
    small = animation(evaluation, [0, 1, 2])
    assert len(small) <= 100_000
    with Image.open(io.BytesIO(small)) as picture:
        assert 3 <= picture.n_frames < 50


def test_the_animation_shows_the_channels_that_move(monkeypatch):
    seen = []
    draw = moving._draw_all
    monkeypatch.setattr(moving, "_draw_all", lambda *given: seen.append(given[2]) or draw(*given))
    evaluation = make_flow(steps=3)
    for example in evaluation.examples:
        example.target[:, 0] = 1.0
    animation(evaluation, [0, 1, 2])
    assert seen == [[1, 2]]


@pytest.mark.parametrize("steps", [1, 2])
def test_fewer_than_three_frames_are_not_animated(steps):
    assert animation(make_flow(steps=steps), [0]) is None


def test_a_prediction_that_breaks_is_animated_and_drawn():
    assert animation(make_flow(broken=2), [0, 1]) is not None
