"""Search for formulas of tables."""

import numpy as np
import pandas
import pytest
import torch

from katops.errors import UserError
from katops.interpret import FormulaShape, SymbolicLibrary, find_formula, standard_shapes
from katops.interpret.formula_shapes import SmallKAN
from katops.interpret.kan_fit import _jacobian

SMALL = SymbolicLibrary().only("x", "x^2", "exp", "log", "sin")
ADDITIVE, LINK = FormulaShape(((1, 0),)), FormulaShape(((1, 0), (1, 0)))
POWERS, PRODUCT = FormulaShape(((1, 0),), transform="log"), FormulaShape(((0, 1),))


def noisy(function, columns, low=1.0, high=3.0, rows=160):
    generator = np.random.default_rng(0)
    x = generator.uniform(low, high, (rows, columns))
    y = function(*x.T)
    return x, y + 0.01 * y.std() * generator.standard_normal(rows)


@pytest.mark.parametrize(
    ("function", "columns", "shape"),
    [
        (lambda a, b: np.exp(np.sin(np.pi * a) + b**2), 2, POWERS),
        (lambda a, b: (a - 1) * np.sin(b), 2, PRODUCT),
    ],
    ids=["exp(sin(pi a) + b^2)", "(a - 1) sin(b)"],
)
def test_formulas_are_recovered_from_noisy_rows(function, columns, shape):
    high = 2.0 if function(1.0, *[2.0] * (columns - 1)) > 50 else 3.0
    x, y = noisy(function, columns, high=high)
    result = find_formula(x, y, shapes=[ADDITIVE, shape], library=SMALL)
    assert result.held_out_r2 > 0.999
    fresh = np.random.default_rng(1).uniform(1, high, (200, columns))
    clean = function(*fresh.T)
    assert np.mean((result.formula(fresh) - clean) ** 2) < 1e-4 * clean.var()


def test_noise_is_refused():
    generator = np.random.default_rng(0)
    result = find_formula(generator.uniform(1, 3, (120, 2)), generator.standard_normal(120), shapes=[ADDITIVE, LINK])
    assert not result
    assert result.formula is None
    assert "no law is seen" in result.reason
    assert result.network_r2 < 0.2


def test_columns_have_their_names_and_the_global_generators_rest():
    x, y = noisy(lambda a, b: 2 * a + b, 2, rows=80)
    before = torch.get_rng_state()
    table = pandas.DataFrame(x, columns=["pressure [Pa]", "b"])
    flow = pandas.Series(y, name="flow")
    result = find_formula(table, flow, shapes=[ADDITIVE], library=SMALL.only("x", "x^2"))
    assert str(result.formula).startswith("flow = ")
    assert result.formula.used_columns == ["pressure [Pa]", "b"]
    assert torch.equal(before, torch.get_rng_state())
    assert result.table()["network"].tolist() == ["[n, 1]"]


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((10, 2)), np.zeros(10), "at least 40"),
        (np.ones((50, 2)), np.arange(50.0), "X is constant"),
        (np.ones((50, 2)), np.full(50, np.nan), "must be finite"),
        (np.zeros((50, 2)), np.ones(50), "constant"),
        (np.zeros((50, 2)), np.zeros(49), "expected X"),
        (np.full((50, 1), "a"), np.zeros(50), "numbers only"),
    ],
)
def test_tables_without_a_formula_to_find_are_told(x, y, message):
    with pytest.raises(UserError, match=message):
        find_formula(x, y)


def test_shapes_have_different_names():
    names = [shape.name for shape in standard_shapes(4)]
    assert len(set(names)) == len(names)
    assert {"[n, 1]", "log y: [n, 1]", "[n, 1 product of 3]"} <= set(names)
    assert len(standard_shapes(1)) == 2


def test_the_derivatives_of_a_small_network_are_those_of_autograd():
    model = SmallKAN(3, FormulaShape(((1, 2), (1, 1))), 4, torch.Generator().manual_seed(0))
    model.layers[0].mask[1, 2] = 0
    x = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    rows = [
        torch.cat([part.flatten() for part in torch.autograd.grad(value, list(model.parameters()), retain_graph=True)])
        for value in model(x).flatten()
    ]
    torch.testing.assert_close(_jacobian(model, x), torch.stack(rows), rtol=0, atol=1e-12)
