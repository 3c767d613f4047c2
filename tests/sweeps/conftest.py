"""Sweeps of which a trial takes about a second: an additive KAN on 40 rows, two folds."""

from pathlib import Path

import numpy as np
import pytest

from katops.config import parse_config
from katops.sweeps.plan import Plan
from katops.sweeps.space import read_space


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y is additive in a and b."""
    generator = np.random.default_rng(0)
    a, b = generator.uniform(-1, 1, 40), generator.uniform(0, 10, 40)
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    table = np.stack([a, b, np.sin(3 * a) + 0.1 * b], axis=1)
    np.savetxt(path, table, delimiter=",", header="a,b,y", comments="")
    return path


@pytest.fixture(scope="session")
def values(rows: Path) -> dict:
    """The configuration that the sweeps vary."""
    return {
        "task": "tables",
        "name": "rows",
        "data": {"file": str(rows), "target": "y"},
        "folds": {"schemes": ["random"], "splits": 2},
        "model": {"name": "kan", "hidden": [], "ensemble": 1, "epochs": 2},
        "compare": [],
        "report": {"learning_curve": [], "curves": 0},
    }


@pytest.fixture
def plan(values: dict, tmp_path: Path) -> Plan:
    """A sweep of six trials of which none has begun."""
    config = parse_config(values)
    made = Plan(tmp_path / "sweep", config, read_space({"seed": {"low": 0, "high": 1_000_000}}, config), trials=6)
    made.settle()
    return made
