"""Shapley values read off the curves of additive networks."""

import itertools
import math

import numpy as np
import pytest

from katops.errors import UserError
from katops.estimators import KANRegressor
from katops.interpret import shap_values, shapley_values


def test_values_of_a_row_sum_to_its_prediction(additive, alloys):
    table, _ = alloys
    values = shapley_values(additive, table[:9], background=table)
    assert values.attrs["base"] == pytest.approx(additive.predict(table).mean())
    assert list(values.columns) == list(table.columns)
    assert np.allclose(values.sum(axis=1) + values.attrs["base"], additive.predict(table[:9]))


def test_they_are_what_the_definition_over_all_coalitions_gives(additive, alloys):
    rows = alloys[0][:20]
    explained, names = rows.iloc[3], list(rows.columns)

    def worth(coalition: tuple[str, ...]) -> float:
        return additive.predict(rows.assign(**{name: explained[name] for name in coalition})).mean()

    values = shapley_values(additive, rows).iloc[3]
    for name in names:
        others = [other for other in names if other != name]
        expected = 0.0
        for size in range(len(names)):
            weight = math.factorial(size) * math.factorial(len(names) - size - 1) / math.factorial(len(names))
            parts = itertools.combinations(others, size)
            expected += weight * sum(worth((*part, name)) - worth(part) for part in parts)
        assert values[name] == pytest.approx(expected, abs=1e-9)


def test_classes_are_explained_by_log_odds(classifier, alloys):
    values = shapley_values(classifier, alloys[0])
    odds = classifier.predict_proba(alloys[0])
    assert np.allclose(values.sum(axis=1) + values.attrs["base"], np.log(odds[:, 1] / odds[:, 0]))


def test_levels_and_gaps_of_a_column_are_added_up(alloys):
    table, strength = alloys
    table = table.assign(process=np.where(table["noise"] > 0, "cast", "wrought"))
    table.loc[::7, "Ni"] = np.nan
    model = KANRegressor(hidden=(), ensemble=1, epochs=5, random_state=0).fit(table, strength)
    values = shapley_values(model, table)
    assert list(values.columns) == list(table.columns)
    assert np.allclose(values.sum(axis=1) + values.attrs["base"], model.predict(table))


def test_networks_with_hidden_nodes_are_refused(deep, alloys):
    with pytest.raises(UserError, match="hidden nodes or products"):
        shapley_values(deep, alloys[0])


def test_without_rows_there_is_nothing_to_explain(additive, alloys):
    with pytest.raises(UserError, match="need rows"):
        shapley_values(additive, alloys[0][:0])


def test_the_package_shap_agrees(additive, alloys):
    pytest.importorskip("shap")
    rows = alloys[0][:12]
    theirs = shap_values(additive, rows, background=len(rows)).values
    assert np.allclose(theirs, shapley_values(additive, rows), atol=1e-6 * np.abs(theirs).max())
