"""Facts about the report of a classification: complete, self-contained, honest, and the same numbers everywhere."""

import base64
import csv
import io
import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from torch import nn

from katops.errors import UserError
from katops.evaluation.activations import record_activations
from katops.evaluation.classification import evaluate_classifier
from katops.layers.group_rational import GroupRational, GroupRationalKAN
from katops.report.classification import verdict, write_classification_report
from katops.report.classification_activations import activation_figures, activation_rows, panel_rows
from katops.report.classification_figures import (
    confusion_figure,
    examples_figure,
    learning_figure,
    reliability_figure,
)
from katops.report.classification_tables import (
    Trial,
    class_rows,
    confused_rows,
    print_classification,
    score_rows,
    share,
    trial_rows,
)
from katops.report.classification_warnings import chance_level, far_inputs, warnings_about
from katops.report.drawing import DPI, WIDTH
from katops.report.figures import read_log

LOG = """epoch,step,train_loss,validation_accuracy,learning_rate,seconds
1,10,2.1,0.4,0.001,1.0
2,20,1.3,0.6,0.002,1.0
3,30,0.9,0.7,0.001,1.0
"""
SUMMARY = {
    "title": "kat on <b>digits</b>",
    "data": {"name": "digits"},
    "model": {"name": "kat_tiny", "parameters": 1234567},
    "training": {"best_epoch": 2, "epochs_run": 3, "monitor": "validation_accuracy", "best_value": 0.6},
    "versions": {"torch": "2.14"},
}
TRIALS = [
    Trial("kat", 0, 1200, 0.97, 10.0, 4000.0),
    Trial("kat", 1, 1200, 0.98, 12.0, 5000.0),
    Trial("vit", 0, 1100, 0.96, 9.0, 6000.0),
    Trial("vit", 1, 1100, 0.96, 9.0, 6000.0),
]


def evaluation_of(labels, logits, classes=None, **others):
    """Of a model that gives these logits to images which say where they are; other predictors give theirs."""
    labels = torch.as_tensor(labels)
    channels = torch.arange(len(labels)).float()
    images = channels[:, None, None, None].expand(-1, 3, 4, 5).clone()
    tables = {"model": logits, **others}

    def predictor(table):
        return lambda x: torch.as_tensor(table)[x[:, 0, 0, 0].long()]

    classes = classes or [f"class {k}" for k in range(torch.as_tensor(logits).shape[1])]
    return evaluate_classifier({name: predictor(table) for name, table in tables.items()}, [(images, labels)], classes)


def mostly_right(n_classes, samples=200, seed=0, strength=4.0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(samples) % n_classes
    return labels, torch.randn(samples, n_classes, generator=generator) + strength * nn.functional.one_hot(
        labels, n_classes
    )


def records_of(model, scale=1.0):
    x = scale * torch.randn(64, 3, 8)
    return record_activations(model, [(x, torch.zeros(64, dtype=torch.int64))])


class Transformer(nn.Module):
    """As many blocks as asked for, with the names that timm gives them."""

    def __init__(self, depth):
        super().__init__()
        self.blocks = nn.Sequential(*(nn.ModuleDict({"mlp": GroupRationalKAN(8, 8)}) for _ in range(depth)))

    def forward(self, x):
        for block in self.blocks:
            x = x + block["mlp"](x)
        return x


@pytest.fixture(scope="module")
def few():
    """Three classes with awkward names, and a baseline."""
    labels, logits = mostly_right(3)
    names = ["<b>cat</b>", "dog & $co$", "</td><script>alert(1)</script>"]
    return evaluation_of(labels, logits, names, linear=logits + 2 * torch.randn(200, 3))


@pytest.fixture(scope="module")
def many():
    """Forty classes, of which two are confused."""
    labels, logits = mostly_right(40, 400)
    logits[labels == 7, 8] += 50
    return evaluation_of(labels, logits)


@pytest.fixture(scope="module")
def written(few, many, tmp_path_factory):
    """Folder of the report on both."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("run")
    (folder / "log.csv").write_text(LOG)
    path = write_classification_report(
        folder / "report",
        evaluations={"digits <i>": few, "many": many},
        summary=SUMMARY,
        activations=records_of(Transformer(5)),
        trials=TRIALS,
        log_csv=folder / "log.csv",
        config_yaml="name: '<&>'\n",
    )
    assert path == folder / "report" / "report.html"
    return folder / "report"


def page_of(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def texts(figure):
    return [text.get_text() for text in figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


def test_every_figure_is_a_png_of_the_reports_width_and_lies_in_the_page(written):
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page_of(written))]
    files = {path.name: path.read_bytes() for path in (written / "figures").iterdir()}
    assert sorted(embedded) == sorted(files.values())
    sets = {f"{prefix}{name}.png" for prefix in ("", "set2_") for name in ("confusion", "examples", "reliability")}
    assert set(files) == sets | {"training.png", "activations_1.png", "activations_2.png"}
    for png in files.values():
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(png[16:20], "big") == int(WIDTH * DPI)


def test_the_page_needs_no_network_and_no_script(written):
    page = page_of(written)
    assert "<script" not in page
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert re.findall(r"url\(|@import", page) == []


def test_names_are_escaped_in_the_page(written):
    page = page_of(written)
    for name in ("&lt;b&gt;cat&lt;/b&gt;", "dog &amp; $co$", "&lt;/td&gt;&lt;script&gt;", "digits &lt;i&gt;"):
        assert name in page
    for raw in ("<b>cat", "<b>digits", "digits <i>", "name: '<&>'"):
        assert raw not in page


def test_the_page_states_the_numbers(written, few, many):
    page = page_of(written)
    assert verdict(few, "digits <i>").replace("<i>", "&lt;i&gt;") in page
    for evaluation in (few, many):
        for scores in evaluation.scores.values():
            assert share(scores.accuracy) in page
            assert f"{scores.cross_entropy:.4f}" in page
    for heading in ("Compared models", "Learned activations", "Training", "Configuration", "What the metrics mean"):
        assert f"<h2>{heading}</h2>" in page
    assert "97.50 ± 0.71 %" in page
    assert "the best by validation accuracy (0.6)" in page


def test_the_summary_holds_everything(written, few):
    summary = json.loads((written / "summary.json").read_text(encoding="utf-8"))
    assert {key: summary[key] for key in SUMMARY} == SUMMARY
    assert summary["evaluations"]["digits <i>"] == json.loads(json.dumps(few.to_dict()))
    assert [trial["accuracy"] for trial in summary["trials"]] == [0.97, 0.98, 0.96, 0.96]
    assert len(summary["activations"]) == 10
    assert summary["activations"][0]["name"] == "blocks.0.mlp.act1"


def test_the_csv_file_has_full_precision(written, few):
    with open(written / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    (row,) = [r for r in rows if (r["test_set"], r["predictor"], r["metric"]) == ("digits <i>", "model", "accuracy")]
    scores = few.scores["model"]
    assert float(row["value"]) == scores.accuracy
    assert (float(row["lower_95"]), float(row["upper_95"])) == scores.interval
    recalls = [r for r in rows if (r["test_set"], r["predictor"], r["metric"]) == ("digits <i>", "linear", "recall")]
    assert [r["class"] for r in recalls] == list(few.classes)
    np.testing.assert_array_equal([float(r["value"]) for r in recalls], few.scores["linear"].recall)


def test_no_partial_file_is_left(written):
    assert [path for path in written.rglob("*") if "partial" in path.name] == []


def test_the_same_inputs_give_the_same_bytes(few, tmp_path):
    torch.manual_seed(0)
    given_again = {"evaluations": {"test": few}, "summary": SUMMARY, "activations": records_of(Transformer(1))}
    for name in "ab":
        write_classification_report(tmp_path / name, trials=TRIALS, **given_again)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) >= 7
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


@pytest.mark.usefixtures("undrawn_figures")
def test_everything_but_the_evaluation_may_be_missing(few, tmp_path):
    page = write_classification_report(tmp_path, evaluations={"test": few}, summary={}).read_text(encoding="utf-8")
    assert "<h1>Classification of test</h1>" in page
    for heading in ("Compared models", "Learned activations", "Training", "Configuration"):
        assert f"<h2>{heading}</h2>" not in page
    assert 'role="alert"' not in page


def test_a_report_on_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no evaluation to report on"):
        write_classification_report(tmp_path, evaluations={}, summary={})


@pytest.mark.usefixtures("undrawn_figures")
def test_shuffled_labels_raise_the_alarm_and_right_ones_do_not(tmp_path):
    labels, logits = mostly_right(10, 500)
    shuffled = labels[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    assert warnings_about(evaluation_of(labels, logits), "test") == []
    evaluation = evaluation_of(shuffled, logits)
    assert "guessing among 10 classes gives 10.0 %" in warnings_about(evaluation, "test")[0]
    page = write_classification_report(tmp_path, evaluations={"test": evaluation}, summary={}).read_text()
    assert 'role="alert"' in page
    assert "weights or label order" in page


@given(st.integers(2, 5000))
def test_chance_level_is_twice_chance_unless_that_would_be_a_fair_result(n_classes):
    level = chance_level(n_classes)
    assert 1 / n_classes < level <= 2 / n_classes
    assert level < 0.6
    if n_classes >= 10:
        assert level == 2 / n_classes


def test_a_model_no_better_than_the_majority_class_is_warned_of():
    labels = torch.tensor([0] * 8 + [1] * 2)
    (majority, unused) = warnings_about(evaluation_of(labels, torch.tensor([[1.0, 0.0]] * 10)), "test")
    assert "(top-1 80.0 %) is not better than always giving the most frequent class (80.0 %)" in majority
    assert "class class 1 has test images, but the model never predicts it" in unused


def test_logits_that_are_not_finite_and_classes_without_images_are_warned_of():
    labels, logits = mostly_right(3, 60)
    logits[5] = math.nan
    logits = torch.cat([logits, torch.full((60, 7), -50.0)], 1)
    nonfinite, unseen = warnings_about(evaluation_of(labels, logits), "test")
    assert "NaN or infinity in the logits of 1 of 60 images; these count as wrong" in nonfinite
    assert "classes class 3, class 4, class 5, class 6, class 7 and 2 more have no test image" in unseen


def test_only_inputs_far_outside_the_fitted_range_are_told_of():
    torch.manual_seed(0)
    model = nn.Sequential(GroupRational(8), nn.Linear(8, 8))
    assert far_inputs(records_of(model)) == ""
    sentence = far_inputs(records_of(model, scale=10.0))
    assert "1 of 1 rational activations see more than 1 % of their inputs beyond ±10" in sentence
    assert far_inputs([]) == ""


def test_the_verdict_names_interval_majority_and_compared_models(few):
    low, high = few.scores["model"].interval
    sentence = verdict(few, "test")
    assert sentence.startswith(f"Top-1 accuracy on test: {share(few.scores['model'].accuracy)} (95 % interval ")
    assert f"{100 * low:.1f} to {100 * high:.1f} %; majority class 33.5 %; linear " in sentence


def test_the_best_of_each_row_is_marked(few):
    rows = {row.cells[0]: row for row in score_rows(few).rows}
    assert rows["top-1 accuracy"].best == 1
    assert rows["cross-entropy"].best == 1  # the smallest is the best
    assert rows["95 % interval"].best == -1
    assert "top-5 accuracy" not in rows


def test_of_many_classes_the_worst_and_the_most_confused_are_listed(many, few):
    rows = class_rows(many).rows
    assert len(rows) == 20
    assert rows[0].cells[0] == "class 7"
    f1 = [float(row.cells[-1].split()[0]) for row in rows]
    assert f1 == sorted(f1)
    assert confused_rows(many).rows[0].cells == ["class 7", "class 8", "10", "100.0 %"]
    assert len(class_rows(few).rows) == 3


def test_means_and_deviations_over_the_seeds_are_stated_and_the_best_mean_is_marked():
    table = trial_rows(TRIALS)
    assert [row.cells[0] for row in table.rows] == ["kat", "kat", "kat, mean", "vit", "vit", "vit, mean"]
    mean = table.rows[2]
    assert mean.cells == ["kat, mean", "2 runs", "1,200", "97.50 ± 0.71 %", "11.0 ± 1.4 s", "4,500 ± 707"]
    assert [row.best for row in table.rows] == [-1, -1, table.head.index("top-1 accuracy"), -1, -1, -1]
    assert len(trial_rows(TRIALS[:1]).rows) == 1


def test_the_confusion_matrix_is_drawn_with_its_counts(few, many):
    figure = confusion_figure(few)
    confusion = few.scores["model"].confusion
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(shown, confusion / confusion.sum(1, keepdims=True))
    written_in = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in figure.axes[0].texts}
    assert written_in == {tuple(place): str(confusion[tuple(place)]) for place in np.argwhere(confusion)}
    assert not confusion_figure(many).axes[0].texts
    assert confusion_figure(many).axes[0].images[0].get_array().shape == (40, 40)


def test_the_reliability_diagram_shows_the_bins(few):
    above, below = reliability_figure(few).axes
    scores = few.scores["model"]
    used = scores.bin_counts > 0
    assert [bar.get_height() for bar in above.patches] == pytest.approx(scores.bin_accuracy[used].tolist())
    assert [bar.get_height() for bar in below.patches] == scores.bin_counts.tolist()


def test_without_finite_logits_the_figures_say_so_and_the_report_is_written(tmp_path):
    evaluation = evaluation_of([0, 1, 0], torch.full((3, 2), math.nan))
    assert "no data: no image had finite logits" in texts(reliability_figure(evaluation))
    page = write_classification_report(tmp_path, evaluations={"test": evaluation}, summary={}).read_text()
    assert "Top-1 accuracy on test: 0.0 %" in page
    assert "not finite" in page


def test_examples_show_their_images_and_what_the_model_says(few):
    figure = examples_figure(few)
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == len(few.examples) == 12
    for axes, example in zip(drawn, few.examples, strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), example.image.transpose(1, 2, 0))
        assert f"{100 * example.probability:.0f} %" in axes.get_title(loc="left")


def test_learning_curves_come_from_the_log_and_mark_the_kept_epoch(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    log = read_log(tmp_path / "log.csv")
    loss, accuracy, rate = learning_figure(log, best_epoch=2).axes
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), [2.1, 1.3, 0.9])
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), [0.4, 0.6, 0.7])
    assert accuracy.lines[1].get_xdata()[0] == 2
    np.testing.assert_array_equal(rate.lines[0].get_ydata(), [0.001, 0.002, 0.001])
    log.pop("validation_accuracy")
    assert "no data: no validation accuracy was logged" in texts(learning_figure(log))


def test_activations_of_a_block_stand_side_by_side_four_blocks_to_a_figure():
    records = records_of(Transformer(12))
    assert [[record.name for record in row] for row in panel_rows(records)[:2]] == [
        ["blocks.0.mlp.act1", "blocks.0.mlp.act2"],
        ["blocks.1.mlp.act1", "blocks.1.mlp.act2"],
    ]
    figures = activation_figures(records)
    assert [names for names, _ in figures] == [
        f"blocks.{first}.mlp.act1 to blocks.{first + 3}.mlp.act2" for first in (0, 4, 8)
    ]
    titles = [axes.get_title(loc="left") for _, figure in figures for axes in figure.axes]
    assert [title for title in titles if title] == [record.name for record in records]
    assert activation_figures([]) == []


def test_lone_activations_fill_both_columns():
    model = nn.Sequential(GroupRational(8), GroupRational(8, groups=2), GroupRational(8, groups=1))
    assert [len(row) for row in panel_rows(records_of(model))] == [2, 1]


def test_each_group_is_drawn_over_its_own_inputs_beside_the_initial_shape():
    torch.manual_seed(0)
    model = nn.Sequential(GroupRational(8, groups=4))
    with torch.no_grad():
        model[0].weight_denominator.add_(torch.rand(4, 4))
    (record,) = records_of(model)
    ((_, figure),) = activation_figures([record])
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left"))
    curves = [line for line in panel.lines if len(line.get_xdata()) > 2]
    assert len(curves) == 4 + 1
    for group, line in enumerate(curves[:4]):
        x, y = line.get_xdata(), line.get_ydata()
        assert (x[0], x[-1]) == tuple(record.quantiles[group])
        channels = model(torch.from_numpy(x).float()[:, None].expand(-1, 8)).detach()
        np.testing.assert_allclose(y, channels[:, 2 * group], atol=1e-5)
    np.testing.assert_array_equal(curves[4].get_ydata(), record.initial_curve(curves[4].get_xdata()))


def test_groups_beyond_the_palette_and_constant_inputs_have_a_figure():
    x = torch.full((4, 32), 2.0)
    model = nn.Sequential(GroupRational(32, groups=16))
    records = record_activations(model, [(x, torch.zeros(4))])
    ((_, figure),) = activation_figures(records)
    assert {"group 1", "group 16"} <= set(texts(figure))
    assert activation_rows(records).rows[0].cells[1:4] == ["1.5 to 2.5", "0.0 %", "0.0 %"]


def test_a_diverged_activation_is_told_in_words_and_the_report_is_written(few, tmp_path):
    model = nn.Sequential(GroupRational(8))
    with torch.no_grad():
        model[0].weight_numerator.fill_(math.nan)
        model[0].weight_denominator.fill_(math.nan)
    records = records_of(model, scale=20.0)
    ((_, figure),) = activation_figures(records)
    assert "no data: coefficients of 0 are not finite" in texts(figure)
    page = write_classification_report(tmp_path, evaluations={"test": few}, summary={}, activations=records)
    assert "rational activations see more than 1 %" in page.read_text(encoding="utf-8")


def test_a_group_that_saw_nothing_finite_has_no_curve():
    x = torch.randn(20, 4)
    x[:, :2] = math.nan
    records = record_activations(nn.Sequential(GroupRational(4, groups=2)), [(x, torch.zeros(20))])
    ((_, figure),) = activation_figures(records)
    panel = next(axes for axes in figure.axes if axes.get_title(loc="left"))
    assert len([line for line in panel.lines if len(line.get_xdata()) > 2]) == 1 + 1


def test_the_terminal_shows_the_numbers_and_leaves_brackets_alone(few):
    stream = io.StringIO()
    print_classification(Console(file=stream, width=140), few, title="test [bold]")
    text = stream.getvalue()
    assert "test [bold]" in text
    assert share(few.scores["model"].accuracy) in text
    assert "linear" in text
    assert "warning" not in text


def test_the_terminal_warns_of_a_model_at_chance_level():
    labels, logits = mostly_right(10, 100)
    stream = io.StringIO()
    print_classification(Console(file=stream, width=400), evaluation_of(labels.flip(0), logits), title="test")
    assert "warning: On test, the top-1 accuracy is" in stream.getvalue()
