"""The configuration of studies on tables: its own schema, the same kind of sentences."""

from pathlib import Path

import pytest

from katops.config import TableRunConfig, load_config, parse_config
from katops.errors import UserError

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MINIMAL = {"task": "tables", "name": "mine", "data": {"file": "my.csv", "target": "y"}}


def test_a_file_and_a_target_are_a_study() -> None:
    config = parse_config(MINIMAL)
    assert isinstance(config, TableRunConfig)
    assert config.data.target == ["y"]
    assert config.model.name == "kan"
    assert "mlp_equal_size" in [model.name for model in config.compare]
    assert parse_config(config.model_dump()) == config


def test_the_headline_is_the_first_scheme_that_keeps_groups_together() -> None:
    assert parse_config(MINIMAL).headline == "random"
    assert parse_config({**MINIMAL, "folds": {"schemes": ["random", "lab", "day"]}}).headline == "lab"
    assert parse_config({**MINIMAL, "folds": {"schemes": ["lab", "day"], "headline": "day"}}).headline == "day"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": {"target": "y"}}, "data needs one of file .* given: neither"),
        ({"data": {"file": "a.csv", "materials": "b", "target": "y"}}, "given: both"),
        ({"data": {"file": "a.csv", "target": []}}, "data.target should be a list of at least 1 value"),
        ({"data": {"file": "a.csv", "taget": "y", "target": "y"}}, "unknown key 'taget'; did you mean 'target'"),
        ({"data": {"file": "a.csv", "target": "y", "root": "x"}}, "data.root is for data.materials"),
        ({"data": {"file": "a.csv", "target": "y", "features": {"columns": ["y"]}}}, "predicted from itself"),
        ({"data": {"file": "a.csv", "target": "y", "filter": {"T": {"form": 3}}}}, "bounds such as {min: 20, max: 30}"),
        (
            {"data": {"file": "a.csv", "target": "y", "problem": "regression", "positive": 1}},
            "data.positive is a class",
        ),
        ({"folds": {"schemes": ["random", "random"]}}, "each of them once"),
        ({"folds": {"schemes": ["random", "lab"], "headline": "labb"}}, "did you mean 'lab'"),
        ({"model": "mlp"}, "a study is about a 'kan'"),
        ({"compare": [{"name": "mlp", "tune": {"alpha": 0.1}}]}, "compare.tune should be lists of values"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_config({**MINIMAL, **change})


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("materials_*.yaml")), ids=lambda path: path.stem)
def test_studies_of_materials_are_valid_and_short(path: Path) -> None:
    config = load_config(path)
    assert config.name == path.stem
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 30
    assert {"dummy", "linear", "random_forest", "gradient_boosting", "mlp"} <= {model.name for model in config.compare}
