"""Formulas of fitted estimators."""

import numpy as np
import pandas
import pytest

from katops.errors import UserError
from katops.estimators import KANRegressor
from katops.interpret import SymbolicLibrary, suggest, symbolic

SMALL = SymbolicLibrary().only("x", "x^2", "exp", "log", "sqrt", "sin")


def test_the_formula_of_an_additive_model_is_that_of_the_data_in_original_units(additive, alloys):
    table, strength = alloys
    result = symbolic(additive, table, strength, library=SMALL)
    assert result
    assert result.held_out_r2 > 0.9999
    assert result.fidelity > 0.99
    assert result.formula.used_columns == ["T [K]", "Ni"]  # the noise has gone
    steeper = table.copy()
    steeper["T [K]"] += 100
    np.testing.assert_allclose(result.formula(steeper) - result.formula(table), -40, atol=1)
    np.testing.assert_allclose(result.formula(table.to_numpy()), result.formula(table), rtol=1e-12)
    assert "strength" in str(result.formula)


def test_fits_without_exchange_keep_every_edge(additive, alloys):
    table, strength = alloys
    result = symbolic(additive, table, strength, library=SMALL, exchange=False, member=0)
    assert result.held_out_r2 > 0.99
    assert result.attempts[0].name == "member 0"


def test_a_threshold_that_is_not_reached_is_a_refusal_with_its_reason(additive, alloys):
    result = symbolic(additive, alloys[0], alloys[1], library=SymbolicLibrary().only("x"), threshold=0.995)
    assert not result
    assert result.formula is None
    assert "below 0.995" in result.reason
    assert str(result).startswith("no formula")
    assert len(result.table()) == 1


def test_networks_that_are_too_large_are_refused(deep, alloys):
    result = symbolic(deep, *alloys, most_edges=5)
    assert not result.accepted
    assert "more than 5" in result.reason


def test_classes_are_told_apart_by_the_formula_of_their_log_odds(classifier, alloys):
    table, strength = alloys
    labels = np.where(strength > strength.median(), "hard", "soft")
    result = symbolic(classifier, table, labels, library=SMALL)
    assert result.accuracy >= result.network_accuracy - 0.05
    assert result.formula.outputs == ["log-odds of soft"]


def test_suggestions_are_functions_of_the_column_in_its_unit(additive, alloys):
    table, _ = alloys
    best = suggest(additive, table, 0, 0, 1, topk=3).iloc[0]
    assert best["held_out_r2"] > 0.99
    with pytest.raises(UserError, match="no layer 1"):
        suggest(additive, table, 1, 0, 0)
    with pytest.raises(UserError, match="not the edge"):
        suggest(additive, table, 0, 1, 0)


def test_levels_and_missing_values_are_columns_of_the_formula():
    generator = np.random.default_rng(0)
    table = pandas.DataFrame({"x": generator.uniform(0, 1, 150), "route": generator.choice(["cast", "forged"], 150)})
    y = 2 * table["x"] + (table["route"] == "forged")
    estimator = KANRegressor(hidden=(), ensemble=1, epochs=25, random_state=0).fit(table, y)
    result = symbolic(estimator, table, y, library=SMALL.only("x", "x^2"))
    assert result.held_out_r2 > 0.999
    assert any(name.startswith("route") for name in result.formula.used_columns)
