"""A small table with everything that tables have: numbers, text, gaps, names of rows, groups."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """90 rows: y is additive in ``a``, ``b (mm)`` and ``kind``; ``lab`` is a group, ``name`` is no feature."""
    generator = np.random.default_rng(0)
    count = 90
    frame = pd.DataFrame(
        {
            "name": [f"sample {number}" for number in range(count)],
            "a": generator.uniform(-1, 1, count),
            "b (mm)": generator.uniform(0, 10, count),
            "kind": generator.choice(["cast", "rolled"], count),
            "lab": generator.integers(0, 9, count),
        }
    )
    frame["y"] = np.sin(3 * frame["a"]) + 0.1 * frame["b (mm)"] + 0.5 * (frame["kind"] == "cast")
    frame["good"] = np.where(frame["y"] > frame["y"].median(), "yes", "no")
    frame.loc[::13, "b (mm)"] = np.nan
    return frame


@pytest.fixture(scope="module")
def csv(table: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table as a file."""
    path = tmp_path_factory.mktemp("tables") / "samples.csv"
    table.to_csv(path, index=False)
    return path


@pytest.fixture
def values(csv: Path, tmp_path: Path) -> dict:
    """A study that takes a few seconds."""
    return {
        "task": "tables",
        "name": "samples",
        "output": str(tmp_path / "run"),
        "data": {"file": str(csv), "target": "y", "features": {"drop": ["good"]}},
        "folds": {"schemes": ["random", "lab"], "splits": 3},
        "model": {"name": "kan", "hidden": [], "ensemble": 2, "epochs": 15},
        "compare": ["dummy", "linear"],
        "report": {"learning_curve": [0.5]},
    }
