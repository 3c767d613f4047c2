"""Rows that several fits hold out: what is counted is that of single fits."""

import numpy as np
import pytest

from katops.config import parse_config
from katops.report.study_class_figures import confusion_matrix
from katops.report.study_tables import worst_rows
from katops.studies.intervals import intervals
from katops.studies.result import StudyResult
from katops.studies.runner import FoldResult
from katops.studies.study import Study, open_study


@pytest.fixture
def repeated(values: dict) -> dict:
    return {**values, "folds": {"schemes": ["random"], "splits": 3, "repeats": 2}, "compare": ["dummy"]}


def result_of(study: Study, predicted: list[np.ndarray]) -> StudyResult:
    """A study whose models predicted this of the rows of each fold."""
    fits = [FoldResult("", one.tolist(), [], [], [], None, 0.0, {}) for one in predicted]
    return StudyResult(study, {"random": {"kan": fits, "dummy": fits}})


def test_errors_that_cancel_between_fits_widen_the_intervals(values: dict, repeated: dict) -> None:
    study = open_study(parse_config(repeated))
    sign = [1 if "repeat 0" in fold.name else -1 for fold in study.folds["random"]]
    result = result_of(
        study, [study.target[fold.test] + 0.5 * s for fold, s in zip(study.folds["random"], sign, strict=True)]
    )
    np.testing.assert_allclose(result.held_out("random", "kan").mean(), study.target)
    found = intervals(result, "random", 0.9)
    assert found.width == pytest.approx((0.5,))
    assert found.rows == len(study.target)


def test_coverage_is_the_share_of_single_predictions_that_the_width_holds(repeated: dict) -> None:
    study = open_study(parse_config(repeated))
    # In each fit the first 8 of 30 rows are off by 3 and the others right, so that half of the errors give no width.
    errors = np.where(np.arange(30) < 8, 3.0, 0.0)[:, None]
    result = result_of(study, [study.target[fold.test] + errors for fold in study.folds["random"]])
    assert intervals(result, "random", 0.5).coverage == pytest.approx((22 / 30,))


def test_a_row_that_half_of_its_fits_get_wrong_is_half_a_mistake(repeated: dict) -> None:
    data = {**repeated["data"], "target": "good", "positive": "yes", "features": {"drop": ["y"]}}
    study = open_study(parse_config({**repeated, "data": data}))
    predicted = []
    for fold in study.folds["random"]:
        truth = np.eye(2)[study.target[fold.test]] * 0.6 + 0.2
        wrong = (fold.test == 7) & ("repeat 0" in fold.name)
        predicted.append(np.where(wrong[:, None], truth[:, ::-1], truth))
    result = result_of(study, predicted)
    matrix = confusion_matrix(result)
    counts = np.bincount(study.target)
    assert matrix.sum(1).tolist() == pytest.approx(counts.tolist())
    assert matrix[study.target[7], 1 - study.target[7]] == 0.5
    table = worst_rows(result, 5)
    assert [row.cells[0] for row in table.rows] == ["row 7"]
    assert table.rows[0].cells[-1] == "1 of 2"
