"""What a study's KAN has learned of carbides agrees with what is known of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from katops.config import load_config
from katops.interpret.curves import effect_curves
from katops.studies.runner import fit_candidate
from katops.studies.study import open_study


@pytest.fixture(scope="module")
def slopes(repository: Path, shared: Path) -> dict[str, np.ndarray]:
    """Of each input: the mean slope, over the rows, of every member's curve of the log-odds of a single phase."""
    overrides = [
        f"data.root=[{shared / 'data' / 'materials'}]",
        "data.features.fractions=true",
        "folds.schemes=[random]",
    ]
    study = open_study(
        load_config(repository / "configs" / "materials_phase.yaml", [*overrides, "folds.headline=null"])
    )
    model = study.candidates[0]
    fixed = replace(model, options={**model.options, "weight_decay": 0.01}, tune={})
    rows = np.arange(len(study.target))
    estimator, _ = fit_candidate(study, fixed, rows, study.groups("random"), named=True)
    assert list(estimator.classes_) == ["multi", "single"]
    curves = effect_curves(estimator, study.design.frame, inputs=["mixing_enthalpy", "volume_mismatch", "Cr"])
    return {curve.name: np.array([_slope(curve.rows, curve.x, member) for member in curve.members]) for curve in curves}


def _slope(rows: np.ndarray, x: np.ndarray, values: np.ndarray) -> float:
    return float(np.polyfit(rows, np.interp(rows, x, values), 1)[0])


@pytest.mark.parametrize("name", ["mixing_enthalpy", "volume_mismatch", "Cr"])
def test_carbides_with_more_of_it_are_less_often_single_phase(name: str, slopes: dict[str, np.ndarray]) -> None:
    assert (slopes[name] < 0).all()
