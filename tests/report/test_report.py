"""Facts about the report: complete, self-contained, honest, and the same numbers everywhere."""

import base64
import csv
import io
import json
import re

import numpy as np
import pytest
from rich.console import Console

from katops.errors import UserError
from katops.evaluation import defined
from katops.fields import Axis
from katops.registry import METRICS
from katops.report import print_metrics, write_report
from katops.report.cards import card, data_card
from katops.report.drawing import DPI, WIDTH
from katops.report.html import tested_epoch as sentence_on_the_epoch
from katops.report.html import verdict
from katops.report.tables import metric_rows, metric_text, percent, worst_rows

CASES = {
    "one axis": {"n_axes": 1},
    "one axis, frames": {"n_axes": 1, "steps": 4},
    "two axes, frames, channels": {"n_axes": 2, "steps": 3, "channels": (("u", "m/s"), ("p", "Pa"))},
    "three axes": {"n_axes": 3},
    "one constant sample": {"n_axes": 2, "samples": 1, "constant": True},
    "not finite, no baseline": {"n_axes": 2, "broken": True, "baseline": False},
}
SUMMARY = {
    "title": "mgno on <b>darcy</b>",
    "data": {"file": "data/darcy.h5", "split": {"train": 8, "test": 5}, "fingerprint": "3f9a"},
    "model": {"name": "mgno_small", "parameters": 1234567},
    "training": {"best_epoch": 7, "epochs_run": 9, "monitor": "validation_relative_l2", "best_value": 0.0213},
    "versions": {"torch": "2.14"},
}


@pytest.fixture(scope="module", params=CASES, ids=lambda name: name.replace(" ", "_"))
def written(request, make_evaluation, tmp_path_factory):
    """(evaluation, folder of its report)"""
    evaluation = make_evaluation(**CASES[request.param])
    folder = tmp_path_factory.mktemp("run") / "report"
    path = write_report(folder, evaluations={"test": evaluation}, summary=SUMMARY, config_yaml="seed: 0\n")
    assert path == folder / "report.html"
    return evaluation, folder


def test_every_figure_is_a_png_of_the_reports_width_and_lies_in_the_page(written):
    _, folder = written
    page = (folder / "report.html").read_text(encoding="utf-8")
    embedded = [base64.b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    files = [path.read_bytes() for path in (folder / "figures").glob("*.png")]
    assert sorted(embedded) == sorted(files)
    assert len(files) >= 4
    for png in files:
        assert png.startswith(b"\x89PNG\r\n\x1a\n")
        assert int.from_bytes(png[16:20], "big") == int(WIDTH * DPI)


def test_the_page_needs_no_network_and_no_script(written):
    page = (written[1] / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "http" not in re.sub(r"base64,[^\"]+", "", page)
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert re.findall(r"url\(|@import", page) == []


def test_the_page_states_the_errors_of_model_and_baselines(written):
    evaluation, folder = written
    page = (folder / "report.html").read_text(encoding="utf-8")
    for predictor, means in evaluation.metrics.items():
        assert percent(means["relative_l2"]) in page, predictor
    for record in METRICS:
        assert record.summary in page


def test_names_are_escaped_in_the_page(written):
    page = (written[1] / "report.html").read_text(encoding="utf-8")
    assert "mgno on &lt;b&gt;darcy&lt;/b&gt;" in page
    assert "<b>darcy" not in page


def test_the_summary_holds_what_was_given_and_every_evaluation(written):
    evaluation, folder = written
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert {key: summary[key] for key in SUMMARY} == SUMMARY
    assert summary["evaluations"]["test"] == json.loads(json.dumps(evaluation.to_dict()))


def test_the_csv_file_has_a_row_per_predictor_and_metric_with_full_precision(written):
    evaluation, folder = written
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(evaluation.errors) * len(METRICS)
    for row in rows:
        errors = defined(evaluation.errors[row["predictor"]][row["metric"]])
        assert int(row["samples"]) == len(errors)
        if row["samples"] == "0":
            assert row["mean"] == row["maximum"] == "nan"
            continue
        assert float(row["mean"]) == errors.mean()
        assert float(row["maximum"]) == errors.max()
        assert float(row["median"]) in errors


def test_no_partial_file_is_left(written):
    assert [path for path in written[1].rglob("*") if "partial" in path.name] == []


def test_the_same_evaluation_gives_the_same_page(make_evaluation, tmp_path):
    evaluation = make_evaluation(1, samples=2)
    first, second = (
        write_report(tmp_path / name, evaluations={"test": evaluation}, summary={}).read_bytes() for name in "ab"
    )
    assert first == second


@pytest.mark.usefixtures("undrawn_figures")
def test_everything_but_the_evaluation_may_be_missing(make_evaluation, tmp_path):
    path = write_report(tmp_path, evaluations={"test": make_evaluation(1, samples=2)}, summary={})
    page = path.read_text(encoding="utf-8")
    assert "<h1>waves</h1>" in page
    assert "<h2>Configuration</h2>" not in page
    assert "<h2>Training</h2>" not in page
    assert "weights of epoch" not in page


@pytest.mark.usefixtures("undrawn_figures")
def test_several_test_sets_with_hostile_names_have_files_of_their_own(make_evaluation, tmp_path):
    sets = {"../<i>fine</i>": make_evaluation(1, samples=2), "darcy & co": make_evaluation(1, samples=3)}
    log = tmp_path / "log.csv"
    log.write_text("epoch,train_loss,validation_relative_l2,learning_rate\n1,0.5,0.4,0.1\n2,0.4,0.3,0.1\n")
    path = write_report(tmp_path / "run", evaluations=sets, summary=SUMMARY, log_csv=log, config_yaml="name: '<&>'\n")
    page = path.read_text(encoding="utf-8")
    assert "Errors on ../&lt;i&gt;fine&lt;/i&gt;" in page
    assert "Errors on darcy &amp; co" in page
    assert "name: &#39;&lt;&amp;&gt;&#39;" in page
    names = {file.name for file in (tmp_path / "run" / "figures").iterdir()}
    assert {"loss.png", "spectrum.png", "set2_spectrum.png"} <= names
    assert {file.name for file in tmp_path.iterdir()} == {"run", "log.csv"}


def test_a_report_on_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no evaluation to report on"):
        write_report(tmp_path, evaluations={}, summary={})


@pytest.mark.usefixtures("undrawn_figures")
def test_a_model_that_does_not_beat_a_baseline_is_warned_of(make_evaluation, tmp_path):
    # errors of 60 and 120 percent against a baseline of 50
    page = write_report(tmp_path, evaluations={"test": make_evaluation(1, samples=2, factor=60.0)}, summary={})
    text = page.read_text(encoding="utf-8")
    assert 'role="alert"' in text
    assert "On test, the model (relative L2 90.0 %) is not better than the mean predictor (50.0 %)" in text


@pytest.mark.usefixtures("undrawn_figures")
def test_a_good_model_is_not_warned_of(make_evaluation, tmp_path):
    page = write_report(tmp_path, evaluations={"test": make_evaluation(1, samples=2)}, summary={})
    assert 'role="alert"' not in page.read_text(encoding="utf-8")


@pytest.mark.usefixtures("undrawn_figures")
def test_warnings_of_the_run_are_shown(make_evaluation, tmp_path):
    summary = {"warnings": ["the loss was not finite in epoch 3"]}
    page = write_report(tmp_path, evaluations={"test": make_evaluation(1, samples=2)}, summary=summary)
    assert "the loss was not finite in epoch 3" in page.read_text(encoding="utf-8")


def test_the_verdict_names_the_baselines(make_evaluation):
    assert verdict(make_evaluation(1), "test") == "Relative L2 error on test: 3.00 % (mean predictor 50.0 %)."
    assert verdict(make_evaluation(1, baseline=False), "test") == "Relative L2 error on test: 3.00 %."


@pytest.mark.parametrize(
    ("training", "sentence"),
    [
        (
            SUMMARY["training"],
            "Tested with the weights of epoch 7 of 9: the best by validation relative L2 (0.0213).",
        ),
        (
            {"best_epoch": 9, "epochs": 9, "monitor": None},
            "Tested with the weights of epoch 9 of 9: the last one, for want of validation data to choose by.",
        ),
        ({}, ""),
    ],
)
def test_the_tested_epoch_is_stated(training, sentence):
    assert sentence_on_the_epoch(training) == sentence


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0231, "2.31 %"),
        (0.51, "51.0 %"),
        (1.0, "100 %"),
        (0.0, "0 %"),
        (np.inf, "not finite"),
        (np.nan, "not defined"),
    ],
)
def test_ratios_are_told_in_percent_with_three_digits(value, text):
    assert percent(value) == text


@pytest.mark.usefixtures("undrawn_figures")
def test_a_metric_without_a_meaning_is_said_to_have_none_and_why(make_evaluation, tmp_path):
    evaluation = make_evaluation(2, samples=2, constant=True, channels=(("u", "m/s"), ("p", "Pa")))
    table = metric_rows(evaluation)
    (row,) = [row for row in table.rows if row.cells[0] == "VRMSE"]
    assert row.cells[1:] == ["not defined", "not defined"]
    assert row.best == -1
    reason = "Constant in space: u, p. VRMSE leaves out such channels, which have no deviation to compare with;"
    assert reason in table.caption
    stream = io.StringIO()
    print_metrics(Console(file=stream, width=200), evaluation, title="waves")
    assert reason in stream.getvalue()
    write_report(tmp_path, evaluations={"test": evaluation}, summary={})
    with open(tmp_path / "metrics.csv", newline="", encoding="utf-8") as file:
        (written,) = [r for r in csv.DictReader(file) if (r["predictor"], r["metric"]) == ("model", "vrmse")]
    assert (written["samples"], written["mean"], written["median"]) == ("0", "nan", "nan")


def test_absolute_errors_carry_their_unit():
    assert metric_text("rmse", 0.5, "Pa") == "0.500 Pa"
    assert metric_text("h1", 0.5, "Pa") == "50.0 %"


def test_the_worst_samples_are_named_by_their_place_in_the_file(make_evaluation):
    assert [row.cells for row in worst_rows(make_evaluation(1), 2).rows] == [["14", "5.00 %"], ["13", "4.00 %"]]


def test_the_data_card_describes_the_fields(make_evaluation):
    axes = (Axis("x", "nodes", 0, 2, ("periodic", "periodic"), "m"), Axis("y", boundary=("dirichlet", "neumann")))
    evaluation = make_evaluation(2, axes=axes, steps=2, channels=(("u", "m/s"), ("p", "Pa")))
    rows = dict(data_card(evaluation, {"file": "a.h5"}).rows)
    assert rows["input"] == "u [m/s], p [Pa]"
    assert rows["output"] == "u [m/s], p [Pa]; 2 frames"
    assert rows["grid"] == "16 × 10 points, x: nodes, y: cell centres"
    assert rows["domain"] == "x in [0, 2] m, y in [0, 1]"
    assert rows["boundary"] == "x: periodic, y: dirichlet below, neumann above"
    assert rows["time step"] == "0.1"
    assert rows["file"] == "a.h5"


def test_cards_group_digits_and_leave_out_what_is_empty():
    values = {"parameters": 1234567, "seconds": 187.2, "seed": 20000, "note": "", "boundary": [["a", "b"], ["c", "d"]]}
    assert card("Model", values).rows == [
        ("parameters", "1,234,567"),
        ("seconds", "3.1 min"),
        ("seed", "20000"),
        ("boundary", "(a, b), (c, d)"),
    ]


def test_the_terminal_shows_the_numbers_and_leaves_brackets_alone(make_evaluation):
    stream = io.StringIO()
    evaluation = make_evaluation(1, channels=(("u", "[m]"),))
    print_metrics(Console(file=stream, width=120), evaluation, title="test [bold]")
    text = stream.getvalue()
    assert "test [bold]: 5 samples" in text
    assert "3.00 %" in text
    assert "[m]" in text
    assert "warning" not in text


def test_the_terminal_warns_of_a_useless_model(make_evaluation):
    stream = io.StringIO()
    print_metrics(Console(file=stream, width=200), make_evaluation(1, factor=60.0), title="test")
    assert "warning: On test, the model" in stream.getvalue()


def test_no_pyplot_figure_is_left_open(written):
    import matplotlib.pyplot

    assert matplotlib.pyplot.get_fignums() == []
