"""Small networks of known functions: derivatives, ways of writing them, search."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.interpret import Formula, SymbolicLibrary
from katops.interpret.symbolic_gauge import normalised, without_edge
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicLayer, SymbolicNetwork
from katops.interpret.symbolic_refit import refit
from katops.interpret.symbolic_search import search

LIBRARY = SymbolicLibrary()


def edge(source, target, name, a=1.0, b=0.0, c=1.0):
    return SymbolicEdge.fitted(source, target, LIBRARY[name], a, b, c)[0]


def layer(edges, bias, products=0):
    return SymbolicLayer(edges, np.array(bias, dtype=float), np.ones(len(bias), dtype=bool), products)


@pytest.fixture
def rows():
    return np.random.default_rng(0).uniform(1, 3, (50, 2))


def network():
    """sqrt(1.5 + z1) + 2 z2 z3 with z1 = x0 + 0.1, z2 = sin(1.1 x1 + 0.3) + 0.1, z3 = 0.3 exp(x0 / 2) + 0.2."""
    first = [edge(0, 0, "x"), edge(1, 1, "sin", 1.1, 0.3), edge(0, 2, "exp", 0.5, c=0.3)]
    second = [edge(0, 0, "sqrt", b=1.5), edge(1, 0, "x", c=2)]
    return SymbolicNetwork([layer(first, [0.1, 0.1, 0.2], products=1), layer(second, [0])], 2)


def test_the_network_computes_its_formula(rows):
    x0, x1 = rows.T
    expected = np.sqrt(1.6 + x0) + 2 * (np.sin(1.1 * x1 + 0.3) + 0.1) * (0.3 * np.exp(x0 / 2) + 0.2)
    np.testing.assert_allclose(network()(rows)[:, 0], expected, rtol=1e-12)


def test_derivatives_in_the_parameters_are_those_of_differences(rows):
    net = network()
    _, jacobian = net.value_and_jacobian(rows)
    values = net.parameters()
    for number, column in enumerate(np.moveaxis(jacobian, -1, 0)):
        step = 1e-6 * np.eye(len(values))[number]
        difference = (net.with_parameters(values + step)(rows) - net.with_parameters(values - step)(rows)) / 2e-6
        np.testing.assert_allclose(column, difference, atol=1e-7)


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.sampled_from(["x", "x^2", "exp", "sin", "tanh", "x^3", "gaussian"]), min_size=6, max_size=6),
    numbers=st.lists(st.floats(0.3, 1.5), min_size=22, max_size=22),
)
def test_the_normal_form_is_the_same_function_with_no_more_numbers(names, numbers):
    take = iter(numbers)
    first = [edge(k % 2, k // 2, name, next(take), next(take) - 0.9, next(take)) for k, name in enumerate(names[:4])]
    second = [edge(k, k, name, next(take), next(take), next(take)) for k, name in enumerate(names[4:])]
    third = [edge(0, 0, "sin", 0.7, 0.2, 1.3), edge(0, 0, "x")][:1]
    net = SymbolicNetwork(
        [layer(first, [next(take), next(take)]), layer(second, [0.5, 0.4], products=1), layer(third, [0])], 2
    )
    x = np.random.default_rng(0).uniform(-1, 1, (20, 2))
    short = normalised(net)
    value, jacobian = net.value_and_jacobian(x)
    # What errors of rounding in the parameters can change: much where exponentials of exponentials are in a sine.
    rounding = 1e-13 * (np.abs(jacobian) @ np.abs(net.parameters()))
    assert (np.abs(short(x) - value) <= 1e-9 + rounding).all()
    assert len(short.parameters()) <= len(net.parameters())


def test_an_edge_that_is_left_out_becomes_its_constant(rows):
    net = network()
    smaller = without_edge(net, 0, net.layers[0].edges[0], 2.0)
    expected = net(rows)[:, 0] - np.sqrt(1.6 + rows[:, 0]) + np.sqrt(1.6 + 2.0)
    np.testing.assert_allclose(smaller(rows)[:, 0], expected, rtol=1e-12)
    assert len(list(smaller.edges())) == 3  # the edge behind the node that is constant now is gone too


def test_a_fit_from_nearby_finds_the_numbers_back(rows):
    net = normalised(network())
    generator = np.random.default_rng(1)
    start = net.with_parameters(net.parameters() * (1 + 0.05 * generator.standard_normal(len(net.parameters()))))
    found = refit(start, rows, net(rows))
    assert found.rss < 1e-16 * len(rows)
    assert np.isfinite(found.errors).any()


def test_a_network_that_cannot_be_evaluated_has_an_infinite_score(rows):
    broken = SymbolicNetwork([layer([edge(0, 0, "log", b=-2.0)], [0])], 2)
    assert refit(broken, rows, rows[:, :1]).score == np.inf


def test_wrong_functions_are_exchanged_for_the_right_ones():
    generator = np.random.default_rng(0)
    x = generator.uniform(1, 3, (200, 2))
    y = np.sqrt(1 + (x**2).sum(axis=1, keepdims=True))
    y += 0.01 * y.std() * generator.standard_normal(y.shape)
    guess = [edge(0, 0, "x^3", c=0.1), edge(1, 0, "exp", 0.7, c=0.3)]
    net = SymbolicNetwork([layer(guess, [0.1]), layer([edge(0, 0, "log", b=2.5)], [0])], 2)
    library = LIBRARY.only("x", "x^2", "x^3", "exp", "log", "sqrt", "sin")
    formula = Formula.of_network(search(net, x, y, library).network, ["a", "b"])
    assert str(formula) == "y = sqrt(a**2 + b**2 + 1)"
