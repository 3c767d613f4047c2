"""The page of the documentation on interpretation."""

import re

import pytest


def test_the_examples_of_the_page_run_one_after_the_other(repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (repository / "docs" / "interpretation.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) > 6
    names = {"__name__": "page"}
    for block in blocks:
        exec(block, names)
    assert names["law"].held_out_r2 > 0.99
    assert names["found"].formula.used_columns == ["temperature (K)", "strain"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("picture", ["curves", "network", "pareto", "pruned", "formulas"])
def test_the_page_has_its_pictures(repository, picture):
    path = repository / "docs" / "interpretation" / f"{picture}.png"
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert path.stat().st_size < 100_000
