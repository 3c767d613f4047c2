"""The page on tables does what it says."""

import re

import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn")
pytest.importorskip("mapie")


def test_the_code_on_the_page_runs_from_top_to_bottom(repository, tmp_path, monkeypatch, capsys):
    random = np.random.default_rng(0)
    alloys = pandas.DataFrame({"Al": random.uniform(0, 20, 120), "process": random.choice(["cast", "wrought"], 120)})
    alloys["strength"] = 400 + 15 * alloys["Al"] + 100 * (alloys["process"] == "wrought") + random.normal(0, 10, 120)
    alloys["paper"] = np.arange(120) // 4
    alloys.to_csv(tmp_path / "alloys.csv", index=False)
    monkeypatch.chdir(tmp_path)
    page = (repository / "docs" / "tables.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names = {}
    code = "\n".join(blocks).replace("KANRegressor(", "KANRegressor(epochs=40, ")
    exec(code, names)  # the page is part of this repository
    assert names["model"].score(names["X_test"], names["y_test"]) > 0.9
    assert "rows inside" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"alloys.csv", "strength.safetensors"}
