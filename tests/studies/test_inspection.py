"""``katops inspect`` on CSV files."""

from pathlib import Path

import pandas as pd
import yaml
from typer.testing import CliRunner

from katops.cli import app
from katops.config import parse_config
from katops.studies.inspection import column_cards, proposal
from katops.studies.study import open_study


def test_columns_are_told_apart(csv: Path, table: pd.DataFrame) -> None:
    cards = {card.name: card for card in column_cards(table)}
    assert {name: card.kind for name, card in cards.items()} == {
        "name": "text",
        "a": "number",
        "b (mm)": "number",
        "kind": "class",
        "lab": "number",
        "y": "number",
        "good": "class",
    }
    assert cards["b (mm)"].missing == 7


def test_formulas_are_recognised_and_the_proposed_study_can_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "alloys.csv"
    formulas = ["CoCrFeNi", "AlCoCrFeNi", "MoNbTaVW", "HfNbTaTiZr", "NbTaTiZr", "CuNi"]
    frame = pd.DataFrame({"alloy": formulas, "yield (MPa)": [300.0, 900.5, 1200.0, 1000.0, 1100.0, 200.0]})
    frame.to_csv(path, index=False)
    values = yaml.safe_load(proposal(path, frame, column_cards(frame)))
    assert values["data"]["formula"] == "alloy"
    assert values["data"]["target"] == "yield (MPa)"
    assert open_study(parse_config(values)).design.frame.shape == (6, 14)


def test_the_command_shows_the_columns_and_a_configuration(csv: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(csv)])
    assert shown.exit_code == 0, shown.output
    assert "90 rows" in shown.output
    assert "task: tables" in shown.output
    assert "warning" not in shown.output


def test_columns_that_number_rows_are_warned_about_and_never_proposed_as_targets(tmp_path: Path) -> None:
    path = tmp_path / "numbered.csv"
    pd.DataFrame({"y": [0.5, 0.25] * 15, "sample_id": range(100, 130), "count": range(1, 31)}).to_csv(path)
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    for name in ("Unnamed: 0", "sample_id", "count"):
        assert f"warning: {name} numbers the rows" in shown.output
    assert "target: y" in shown.output
