"""Options that are chosen within the training rows of a fold."""

import numpy as np
import pytest

from katops.config import parse_config
from katops.estimators import KANRegressor
from katops.studies.runner import fit_candidate
from katops.studies.study import open_study


def test_fits_that_choose_have_one_member_and_divide_no_group(values: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    model = {"name": "kan", "hidden": [], "ensemble": 2, "epochs": 2, "tune": {"penalty": [0.0, 0.01]}}
    study = open_study(parse_config({**values, "model": model}))
    rows, groups = study.folds["lab"][0].train, study.groups("lab")
    told, members = [], []
    fit = KANRegressor.fit

    def watched(self: KANRegressor, table: object, target: object, groups: np.ndarray | None = None) -> KANRegressor:
        told.append(groups)
        members.append(self.ensemble)
        return fit(self, table, target, groups=groups)

    monkeypatch.setattr(KANRegressor, "fit", watched)
    fitted, chosen = fit_candidate(study, study.candidates[0], rows, groups)
    assert set(chosen) == {"penalty"}
    assert len(fitted.models_) == 2
    assert members == [1] * 6 + [2]
    whole = {label: int((groups[rows] == label).sum()) for label in set(groups[rows])}
    assert len(told) == 2 * 3 + 1
    for labels in told:
        assert {label: int((labels == label).sum()) for label in set(labels)}.items() <= whole.items()
    assert all(set(labels) < set(whole) for labels in told[:-1])


def test_the_options_with_the_better_score_on_inner_rows_are_chosen(values: dict) -> None:
    compared = {"name": "nearest_neighbours", "tune": {"n_neighbors": [36, 3]}}
    study = open_study(parse_config({**values, "compare": [compared]}))
    _, chosen = fit_candidate(study, study.candidates[1], study.folds["random"][0].train, study.groups("random"))
    assert chosen == {"n_neighbors": 3}
