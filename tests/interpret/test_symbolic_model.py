"""Formulas of fitted estimators."""

import numpy as np
import pandas
import pytest

from katops.errors import UserError
from katops.estimators import KANRegressor
from katops.interpret import FormulaShape, SymbolicLibrary, find_formula, plot_formulas, suggest, symbolic
from katops.interpret.symbolic_classes import class_scores

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
    assert f"held-out accuracy {result.accuracy:.4g}" in str(result)


def test_a_formula_that_finds_fewer_classes_than_the_network_is_refused_whatever_its_r2(classifier, alloys):
    table, strength = alloys
    labels = np.where(strength > strength.median(), "hard", "soft")
    result = symbolic(classifier, table, labels, library=SymbolicLibrary().only("x"), threshold=-10.0)
    assert result.accuracy < result.network_accuracy
    assert not result
    assert "finds the class of" in result.reason


def test_probabilities_that_say_no_more_than_the_shares_of_the_classes_are_refused():
    labels, logits = np.array([0, 1] * 30), np.zeros((60, 1))
    scores = class_scores(labels, np.array([0, 1]), logits, logits)
    assert scores.log_loss == pytest.approx(np.log(2))
    assert "no better than 0.6931" in scores.objection


def test_shorter_formulas_are_less_accurate_and_make_a_front(additive, alloys):
    result = symbolic(additive, *alloys, library=SMALL)
    front = result.pareto()
    assert len(front) >= 2
    assert (front["complexity"].diff().dropna() > 0).all()
    assert (front["held_out_r2"].diff().dropna() > 0).all()
    assert front["held_out_r2"].iloc[-1] >= result.held_out_r2
    axes = plot_formulas(result)
    axes.figure.canvas.draw()
    assert len([text for text in axes.get_yticklabels() if text.get_text()]) >= 3


def test_the_whole_way_to_a_formula_is_cross_validated(alloys):
    table, strength = alloys
    estimator = KANRegressor(hidden=(), ensemble=1, epochs=25, random_state=0).fit(table, strength)
    result = symbolic(estimator, table, strength, library=SMALL, folds=2, groups=np.arange(240) // 2)
    scores = result.cross_validation
    assert scores.formula.shape == scores.network.shape == (2,)
    assert scores.formula.min() > 0.99
    assert "cross-validated (2 folds)" in str(result)


def test_suggestions_are_functions_of_the_column_in_its_unit(additive, alloys):
    table, _ = alloys
    best = suggest(additive, table, 0, 0, 1, topk=3).iloc[0]
    assert best["held_out_r2"] > 0.99
    with pytest.raises(UserError, match="no layer 1"):
        suggest(additive, table, 1, 0, 0)
    with pytest.raises(UserError, match="not the edge"):
        suggest(additive, table, 0, 1, 0)


def test_formulas_of_levels_and_gaps_take_the_rows_that_the_user_has():
    generator = np.random.default_rng(0)
    table = pandas.DataFrame({"x": generator.uniform(0, 1, 150), "route": generator.choice(["cast", "forged"], 150)})
    table.loc[::7, "x"] = np.nan
    y = 2 * table["x"].fillna(1.5) + (table["route"] == "forged")
    estimator = KANRegressor(hidden=(), ensemble=1, epochs=25, random_state=0).fit(table, y)
    result = symbolic(estimator, table, y, library=SMALL.only("x", "x^2"))
    assert result.held_out_r2 > 0.999
    assert any(name.startswith("route") for name in result.formula.used_columns)
    for formula in (result.formula, result.formula.rounded(6)):
        np.testing.assert_allclose(formula(table[["route", "x"]]), y, atol=0.05)
    assert "1 where x is missing, else 0" in result.formula.source()
    found = find_formula(table, y, shapes=[FormulaShape(((1, 0),))], library=SMALL.only("x"))
    np.testing.assert_allclose(found.formula(table), y, atol=0.05)


def test_two_inputs_one_node_and_finer_grids_meet_exp_of_a_sine_and_a_square_and_so_does_the_formula():
    random = np.random.default_rng(0)

    def law(x):
        return np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2)

    x, new = random.uniform(-1, 1, (400, 2)), random.uniform(-1, 1, (1000, 2))
    options = {"ensemble": 1, "weight_decay": 1e-8, "epochs": 150, "random_state": 2}
    coarse, fine = (KANRegressor((1,), intervals=grids, **options).fit(x, law(x)) for grids in (3, (3, 6, 12)))
    errors = [1 - model.score(new, law(new)) for model in (coarse, fine)]
    assert errors[0] < 1e-3
    assert errors[1] < errors[0] / 10
    found = symbolic(fine, x, law(x), library=SymbolicLibrary().only("x", "x^2", "exp", "sin"))
    assert found.held_out_r2 > 0.9999
    np.testing.assert_allclose(found.formula(new), law(new), rtol=1e-6)
    assert found.fidelity > 0.9999
