"""Formulas as expressions, text and functions."""

import pickle

import numpy as np
import pandas
import pytest
import sympy

from katops.errors import UserError
from katops.interpret import Formula, SymbolicLibrary
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicLayer, SymbolicNetwork

T, C = sympy.Symbol("T [K]"), sympy.Symbol("lambda")
FORMULA = Formula([49.9123456 * sympy.exp(-T / 400) + sympy.log(C)], ["T [K]", "lambda", "unused"], ["flow"])
ROWS = np.random.default_rng(0).uniform(1, 3, (7, 3))
EXPECTED = 49.9123456 * np.exp(-ROWS[:, 0] / 400) + np.log(ROWS[:, 1])


def test_a_formula_is_a_function_of_rows_and_of_frames_in_any_order():
    frame = pandas.DataFrame(ROWS, columns=FORMULA.columns)
    np.testing.assert_allclose(FORMULA(ROWS), EXPECTED, rtol=1e-13)
    np.testing.assert_allclose(FORMULA(frame[["lambda", "T [K]"]]), EXPECTED, rtol=1e-13)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(FORMULA))(ROWS), EXPECTED, rtol=1e-13)


def test_the_source_is_a_function_that_needs_numpy_alone():
    source, names = FORMULA.source("flow"), {}
    exec(source, names)
    np.testing.assert_allclose(names["flow"](ROWS[:, 0], ROWS[:, 1]), EXPECTED, rtol=1e-12)
    assert "def flow(T_K, lambda_):" in source


def test_rounding_shortens_numbers_and_leaves_the_formula_as_it_was():
    assert str(FORMULA.rounded(3)) == "flow = log(lambda) + 49.9*exp(-T [K]/400)"
    assert FORMULA.expression.has(sympy.Float(49.9123456))
    assert FORMULA.latex(3).startswith("flow = ")
    assert "49.9 e^{" in FORMULA.latex(3)


def test_where_a_formula_is_not_defined_it_is_nan():
    rows = ROWS.copy()
    rows[0, 1] = -1
    assert np.isnan(FORMULA(rows)).tolist() == [True] + 6 * [False]


def test_a_formula_of_constants_has_a_value_per_row():
    assert Formula([sympy.Float(2.5)], ["x"])(np.zeros((4, 1))).tolist() == 4 * [2.5]


def test_several_outputs_stand_side_by_side():
    pair = Formula([C, 2 * C], ["lambda"])
    assert pair(np.array([[1.0], [3.0]])).tolist() == [[1, 2], [3, 6]]
    with pytest.raises(UserError, match="2 outputs"):
        pair.expression  # noqa: B018


@pytest.mark.parametrize(
    ("rows", "message"),
    [(np.zeros((3, 2)), "3 columns"), (pandas.DataFrame({"T": [1.0]}), "needs a column 'T \\[K\\]'")],
)
def test_rows_with_other_columns_are_refused(rows, message):
    with pytest.raises(UserError, match=message):
        FORMULA(rows)


@pytest.mark.parametrize("name", ["2x", "class", "a b"])
def test_a_name_that_is_none_in_python_is_refused(name):
    with pytest.raises(UserError, match="no name for a Python function"):
        FORMULA.source(name)


@pytest.mark.parametrize("function", list(SymbolicLibrary()), ids=lambda function: function.name)
def test_a_network_and_its_formula_agree(function):
    edges = [SymbolicEdge.fitted(0, 0, function, 0.3, 0.1, 1.7)[0]]
    inner = SymbolicLayer(edges, np.array([0.123]), np.ones(1, dtype=bool))
    network = SymbolicNetwork([inner], 1)
    rows = np.linspace(0.5, 2, 9)[:, None]
    np.testing.assert_allclose(Formula.of_network(network, ["x"])(rows), network(rows)[:, 0], rtol=1e-12)


def test_products_of_powers_are_drawn_together_where_columns_are_positive():
    library = SymbolicLibrary()
    logs = [SymbolicEdge(0, 0, library["log"]), SymbolicEdge(1, 0, library["log"], c=-2.0)]
    layers = [
        SymbolicLayer(logs, np.zeros(1), np.ones(1, dtype=bool)),
        SymbolicLayer([SymbolicEdge(0, 0, library["exp"])], np.zeros(1), np.ones(1, dtype=bool)),
    ]
    formula = Formula.of_network(SymbolicNetwork(layers, 2), ["a", "b"], positive=[True, True])
    assert str(formula) == "y = a/b**2"
