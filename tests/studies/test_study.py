"""From a table to features, targets and folds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from katops.config import load_config, parse_config
from katops.errors import UserError
from katops.studies.compositions import symbol_of
from katops.studies.study import open_study
from katops.studies.table import read_csv


def changed(values: dict, **data: object) -> dict:
    return {**values, "data": {**values["data"], **data}}


def test_columns_without_another_role_are_features_and_names_of_rows_are_not(values: dict) -> None:
    study = open_study(parse_config(values))
    assert list(study.design.frame.columns) == ["a", "b (mm)", "kind"]
    assert str(study.design.frame["kind"].dtype) == "category"
    assert any("name is not used" in note for note in study.design.notes)


def test_numbers_of_rows_are_no_features_unless_they_are_asked_for(
    values: dict, table: pd.DataFrame, tmp_path: Path
) -> None:
    numbered = table.assign(id=np.arange(90)[::-1] * 7, place=range(1, 91), year=range(1900, 1990))
    numbered.loc[3, "y"] = np.nan  # a row that is left out leaves a gap in the numbers
    numbered.to_csv(tmp_path / "numbered.csv", index=True)
    given = changed(values, file=str(tmp_path / "numbered.csv"))
    design = open_study(parse_config(given)).design
    assert list(design.frame.columns) == ["a", "b (mm)", "kind", "year"]
    assert [note.split(" is ")[0] for note in design.notes if "it numbers the rows" in note] == [
        "Unnamed: 0",
        "id",
        "place",
    ]
    asked = changed(given, features={"columns": ["a", "place"]})
    assert list(open_study(parse_config(asked)).design.frame.columns) == ["a", "place"]


def test_a_short_series_is_a_feature(values: dict, tmp_path: Path) -> None:
    pd.DataFrame({"t": range(12), "y": np.linspace(0.1, 1, 12)}).to_csv(tmp_path / "series.csv", index=False)
    study = open_study(parse_config({**changed(values, file=str(tmp_path / "series.csv"), features={}), "folds": {}}))
    assert list(study.design.frame.columns) == ["t"]


def test_no_group_is_on_both_sides_and_every_row_is_held_out_once(values: dict) -> None:
    study = open_study(parse_config(values))
    labs = study.table.frame["lab"].to_numpy()
    for scheme, folds in study.folds.items():
        assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(90))
        if scheme == "lab":
            assert all(not set(labs[fold.train]) & set(labs[fold.test]) for fold in folds)


def test_folds_do_not_depend_on_the_order_of_the_rows(values: dict, table: pd.DataFrame, tmp_path: Path) -> None:
    table.sample(frac=1, random_state=3).to_csv(tmp_path / "shuffled.csv", index=False)
    other = changed(values, file=str(tmp_path / "shuffled.csv"))
    assert open_study(parse_config(other)).digests == open_study(parse_config(values)).digests
    third = {**values, "folds": {**values["folds"], "seed": 1}}
    assert open_study(parse_config(third)).digests != open_study(parse_config(values)).digests


def test_equal_inputs_are_never_divided(values: dict, table: pd.DataFrame, tmp_path: Path) -> None:
    doubled = pd.concat([table, table.assign(y=table["y"] + 0.1)])
    doubled.to_csv(tmp_path / "doubled.csv", index=False)
    study = open_study(parse_config(changed(values, file=str(tmp_path / "doubled.csv"))))
    for fold in study.folds["random"]:
        assert {row % 90 for row in fold.test}.isdisjoint(row % 90 for row in fold.train)


def test_text_and_few_whole_numbers_are_classes_and_folds_are_stratified(values: dict) -> None:
    study = open_study(parse_config(changed(values, target="good", positive="no", features={"drop": ["y"]})))
    assert study.problem == "classification"
    assert study.classes == ("no", "yes")
    assert study.positive == 0
    shares = [study.target[fold.test].mean() for fold in study.folds["random"]]
    assert max(shares) - min(shares) < 0.1


def test_steps_that_were_left_out_are_missing_values(values: dict, tmp_path: Path) -> None:
    pd.DataFrame({"T": [0, 800, 900, 0] * 5, "t": [0, 1, 2, 3] * 5, "y": range(20)}).to_csv(tmp_path / "steps.csv")
    features = {"columns": ["T", "t"], "absent_at_zero": "T", "log1p": "t"}
    other = {**changed(values, file=str(tmp_path / "steps.csv"), features=features), "folds": {"splits": 2}}
    frame = open_study(parse_config(other)).design.frame
    assert frame["T"].isna().sum() == 10
    assert frame["log1p t"].max() == pytest.approx(np.log(4))


def test_formulas_become_fractions_and_descriptors(values: dict, tmp_path: Path) -> None:
    formulas = ["CoCrFeNi", "Co1 Cr1 Fe1 Ni1", "AlCoCrFeNi", "MoNbTaVW", "HfNbTaTiZr", "NbTaTiZr"]
    pd.DataFrame({"alloy": formulas, "y": range(6)}).to_csv(tmp_path / "alloys.csv", index=False)
    data = {
        "file": str(tmp_path / "alloys.csv"),
        "formula": "alloy",
        "problem": "regression",
        "features": {"descriptors": ["size_mismatch", "phase"]},
    }
    folds = {"schemes": ["composition"], "splits": 3}
    study = open_study(parse_config({**changed(values, **data), "folds": folds}))
    frame = study.design.frame
    assert frame[["Co", "Cr", "Fe", "Ni"]].iloc[0].tolist() == [0.25] * 4
    assert frame["size_mismatch"].iloc[4] == pytest.approx(4.0341, abs=1e-3)
    assert study.design.units["size_mismatch"] == "%"
    assert all((0 in fold.test) == (1 in fold.test) for fold in study.folds["composition"])


@pytest.mark.parametrize(("column", "symbol"), [("Al_at_pct", "Al"), ("C", "C"), ("Co", "Co"), ("Ni (at.%)", "Ni")])
def test_a_column_with_amounts_is_named_after_its_element(column: str, symbol: str) -> None:
    assert symbol_of(column) == symbol


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"file": "nowhere.csv"}, "no table 'nowhere.csv'"),
        ({"target": "yy"}, "data.target: there is no column 'yy'; did you mean 'y'"),
        ({"target": "name", "problem": "regression"}, "holds text, which is no target of a regression"),
        ({"features": {"columns": ["aa"]}}, "data.features.columns: there is no column 'aa'; did you mean 'a'"),
        (
            {"features": {"columns": ["aa", "x9"]}},
            "data.features.columns: there is no column 'aa' or 'x9'. The table has",
        ),
        ({"features": {"descriptors": ["phase"]}}, "say in data.formula which column holds formulas"),
        ({"filter": {"kind": "forged"}}, "no row has 'forged'; the column holds"),
        ({"filter": {"kind": {"min": 1}}}, "has bounds, but the column is text"),
        ({"exclude": [1000]}, "the table has no row 1000"),
        ({"target": "good", "positive": "maybe"}, "'maybe' is no class of 'good'"),
        ({"composition": ["kind"]}, "does not begin with a chemical symbol"),
    ],
)
def test_what_does_not_fit_the_table_is_told_before_anything_is_fitted(values: dict, data: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_study(parse_config(changed(values, **data)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": {"schemes": ["labb"]}}, "did you mean 'lab'"),
        ({"folds": {"schemes": ["composition"]}}, "needs to know what a row is made of"),
        ({"folds": {"schemes": ["lab"], "splits": 40}}, "groups .* cannot fill 40 folds"),
        ({"compare": ["mlpp"]}, "unknown table model 'mlpp'; did you mean 'mlp'"),
        ({"compare": [{"name": "mlp", "alhpa": 1.0}]}, "mlp has no option 'alhpa'; did you mean 'alpha'"),
        ({"compare": ["linear", {"name": "mlp", "label": "linear"}]}, "two models have the label 'linear'"),
    ],
)
def test_what_does_not_fit_the_study_is_told_before_anything_is_fitted(
    values: dict, change: dict, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        open_study(parse_config({**values, **change}))


def test_separators_and_byte_order_marks_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x;y\n1,5;2\n", encoding="utf-8-sig")
    assert list(read_csv(tmp_path / "a.csv").columns) == ["x", "y"]
    (tmp_path / "b.csv").write_text("x\tx\n1\t2\n", encoding="utf-8")
    with pytest.raises(UserError, match="two columns called 'x'"):
        read_csv(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("x,y\n", encoding="utf-8")
    with pytest.raises(UserError, match="no rows"):
        read_csv(tmp_path / "c.csv")


@pytest.mark.parametrize(
    ("name", "rows", "features"),
    [
        ("materials_yield_strength", 560, 29),
        ("materials_phase", 53, 12),
        ("materials_carbide_moduli", 370, 43),
    ],
)
def test_studies_of_published_tables_open_with_all_rows_and_features(
    name: str, rows: int, features: int, shared: Path, repository: Path
) -> None:
    path = repository / "configs" / f"{name}.yaml"
    study = open_study(load_config(path, [f"data.root=[{shared / 'data' / 'materials'}]"]))
    assert study.design.frame.shape == (rows, features)
    assert all(len(np.intersect1d(fold.train, fold.test)) == 0 for fold in study.folds[study.config.headline])


def test_rows_that_run_away_are_named_in_the_report(values: dict) -> None:
    from katops.report.study import warnings_about
    from katops.studies.result import StudyResult
    from katops.studies.runner import FoldResult

    study = open_study(parse_config({**values, "compare": ["dummy"], "folds": {"splits": 3}}))
    fits: dict = {"random": {"kan": [], "dummy": []}}
    for fold in study.folds["random"]:
        truth = study.target[fold.test]
        wild = np.where((fold.test == 7)[:, None], 1e3, truth)
        for label, predicted in (("kan", wild), ("dummy", truth * 0)):
            fits["random"][label].append(FoldResult("", predicted.tolist(), [], [], [], None, 0.0, {}))
    found = warnings_about(StudyResult(study, fits))
    assert any("1 rows were predicted further beyond" in text and "row 7" in text for text in found)
