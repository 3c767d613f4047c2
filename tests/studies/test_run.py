"""A study from the command line's side: fits, files, report, resuming, predictions."""

import csv as csv_module
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import katops
from katops.errors import UserError
from katops.studies import runner


@pytest.fixture(scope="module")
def finished(csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run."""
    folder = tmp_path_factory.mktemp("study") / "run"
    katops.train(study_of(csv, folder))
    return folder


def study_of(csv: Path, folder: Path) -> dict:
    return {
        "task": "tables",
        "name": "samples",
        "output": str(folder),
        "data": {"file": str(csv), "target": "y", "features": {"drop": ["good"]}},
        "folds": {"schemes": ["random", "lab"], "splits": 3},
        "model": {"name": "kan", "hidden": [], "ensemble": 2, "epochs": 15},
        "compare": ["dummy", {"name": "linear", "label": "ridge"}],
        "report": {"learning_curve": [0.5]},
    }


def test_a_run_leaves_model_report_scores_and_held_out_predictions(finished: Path, table: pd.DataFrame) -> None:
    summary = json.loads((finished / "summary.json").read_text(encoding="utf-8"))
    models = summary["schemes"]["lab"]["models"]
    assert set(models) == {"kan", "dummy", "ridge"}
    assert models["kan"]["scores"]["y"]["r2"]["mean"] > models["dummy"]["scores"]["y"]["r2"]["mean"]
    assert len(summary["schemes"]["lab"]["digest"]) == 64
    with (finished / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv_module.DictReader(file))
    assert {row["scheme"] for row in rows} == {"random", "lab"}
    held_out = pd.read_csv(finished / "held_out.csv")
    errors = held_out["predicted y, lab"] - table["y"]
    # the report's R² is the mean over folds; that of all rows together is near it
    pooled = 1 - (errors**2).sum() / ((table["y"] - table["y"].mean()) ** 2).sum()
    assert pooled == pytest.approx(models["kan"]["scores"]["y"]["r2"]["mean"], abs=0.15)


def test_the_report_is_one_page_that_names_all_models_and_where_the_kan_is_behind(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for words in ("ridge", "unseen values of lab", "Where the KAN is behind", "data:image/png;base64", "Nadeau"):
        assert words in page
    assert "<script" not in page
    assert "http" not in page.split("</style>")[1].replace("https://doi.org", "")


def test_a_finished_fit_is_not_repeated(finished: Path, csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed = next((finished / "folds").glob("lab-ridge-*fold_1.fit.json"))
    removed.unlink()
    fitted = []
    fit = runner.fit_candidate

    def counting(study, candidate, *arguments, **options):
        fitted.append(candidate.label)
        return fit(study, candidate, *arguments, **options)

    monkeypatch.setattr(runner, "fit_candidate", counting)
    katops.train(study_of(csv, finished), resume=True)
    assert fitted == ["ridge"]
    assert removed.is_file()


def test_a_fit_of_other_data_is_not_taken_for_one_of_these(
    finished: Path, csv: Path, table: pd.DataFrame, tmp_path: Path
) -> None:
    changed = tmp_path / csv.name
    table.assign(a=table["a"] * 2).to_csv(changed, index=False)
    study = runner.Study.__module__  # the study is opened as the run does
    assert study == "katops.studies.study"
    from katops.config import parse_config
    from katops.studies.study import open_study

    opened = open_study(parse_config(study_of(changed, finished)))
    path = runner.result_path(finished, "lab", opened.folds["lab"][0], opened.candidates[0])
    assert path.is_file()
    identity = runner._identity(opened, opened.identity(), opened.folds["lab"][0], opened.candidates[0])
    assert json.loads(path.read_text(encoding="utf-8"))["identity"] != identity


def test_predictions_have_intervals_and_flags(finished: Path, csv: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    rows = table.drop(columns=["y", "good", "name", "lab"]).head(6).copy()
    rows.loc[2, "a"] = 50.0
    rows.to_csv(tmp_path / "rows.csv", index=False)
    output = katops.predict(finished, tmp_path / "rows.csv", tmp_path / "out.csv")
    found = pd.read_csv(output)
    assert (found["lower y"] < found["predicted y"]).all()
    assert (found["predicted y"] < found["upper y"]).all()
    assert found["trusted"].tolist() == [True, True, False, True, True, True]
    same = katops.load(finished).predict(rows)
    np.testing.assert_allclose(found["predicted y"], same, rtol=1e-12)


def test_rows_with_truths_are_scored_and_those_of_the_training_are_refused(
    finished: Path, csv: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="holds the rows of the training"):
        katops.evaluate(finished, csv)
    found = katops.evaluate(finished, csv, split="all", output=tmp_path / "scores")
    assert found.scores["y"]["r2"] > 0.8
    assert json.loads((tmp_path / "scores" / "summary.json").read_text(encoding="utf-8"))["coverage"]["y"] > 0.5


def test_a_missing_column_is_named(finished: Path, tmp_path: Path) -> None:
    pd.DataFrame({"A": [0.1], "b (mm)": [1.0], "kind": ["cast"]}).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(UserError, match="there is no column 'a'"):
        katops.predict(finished, tmp_path / "rows.csv", tmp_path / "out.csv")


def test_classes_with_tuning_are_reported_and_predicted(csv: Path, table: pd.DataFrame, tmp_path: Path) -> None:
    values = {
        **study_of(csv, tmp_path / "run"),
        "data": {"file": str(csv), "target": "good", "positive": "yes", "features": {"drop": ["y"]}},
        "folds": {"schemes": ["random"], "splits": 2},
        "compare": [{"name": "linear", "tune": {"C": [0.1, 10.0]}}, "dummy"],
        "report": {"learning_curve": []},
    }
    console = Console(file=io.StringIO(), width=200)
    result = katops.train(values, console=console)
    assert "F1 of good" in console.file.getvalue()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    chosen = summary["schemes"]["random"]["models"]["linear"]["chosen"]
    assert {option["C"] for option in chosen} <= {0.1, 10.0}
    assert len(chosen) == 2
    table.drop(columns=["good"]).to_csv(tmp_path / "rows.csv", index=False)
    found = pd.read_csv(katops.predict(result.directory, tmp_path / "rows.csv", tmp_path / "out.csv"))
    assert (found["predicted good"] == table["good"]).mean() > 0.8
    np.testing.assert_allclose(found["probability of no"] + found["probability of yes"], 1)
    scored = katops.evaluate(result.directory, csv, split="all", console=console)
    assert scored.scores["good"]["f1"] > 0.8
    assert scored.coverage["good"] > 0.7


def test_an_element_of_no_training_row_is_refused_whatever_the_features_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    amounts = random.integers(1, 9, (24, 3))
    rows = pd.DataFrame({"alloy": [f"Co{a}Cr{b}Ni{c}" for a, b, c in amounts], "y": amounts[:, 0] / amounts.sum(1)})
    rows.to_csv(tmp_path / "alloys.csv", index=False)
    katops.train(
        {
            **study_of(tmp_path / "alloys.csv", tmp_path / "run"),
            "data": {
                "file": str(tmp_path / "alloys.csv"),
                "target": "y",
                "formula": "alloy",
                "features": {"fractions": False, "descriptors": ["valence_electron_concentration", "size_mismatch"]},
            },
            "folds": {"schemes": ["random"], "splits": 2},
            "compare": ["dummy"],
            "report": {"learning_curve": []},
        }
    )
    for formula in ("XeKr", "CoCrNiXe"):
        pd.DataFrame({"alloy": ["CoCr", formula]}).to_csv(tmp_path / "new.csv", index=False)
        with pytest.raises(UserError, match=r"row 1 holds .*Xe.*, which no training row did"):
            katops.predict(tmp_path / "run", tmp_path / "new.csv", tmp_path / "out.csv")


def test_whole_numbers_are_classes_with_gaps_too_and_the_smallest_share_has_every_class(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"a": random.uniform(-1, 1, 40), "lab": np.arange(40) % 8})
    rows["phase"] = (rows["a"] > 0.4).astype(int)
    rows.to_csv(tmp_path / "rows.csv", index=False)
    katops.train(
        {
            **study_of(tmp_path / "rows.csv", tmp_path / "run"),
            "data": {"file": str(tmp_path / "rows.csv"), "target": "phase", "problem": "classification"},
            "folds": {"schemes": ["random"], "splits": 2},
            "compare": ["dummy"],
            "report": {"learning_curve": [0.05]},
        }
    )
    rows["phase"] = rows["phase"].where(rows.index != 3)
    rows.to_csv(tmp_path / "gaps.csv", index=False)
    assert katops.evaluate(tmp_path / "run", tmp_path / "gaps.csv", split="all").rows == 39
