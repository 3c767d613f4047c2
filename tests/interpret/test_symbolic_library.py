"""The functions that a learned curve may turn out to be."""

import pickle

import numpy as np
import pytest
import sympy

from katops.errors import UserError
from katops.interpret import SymbolicLibrary

NAMES = SymbolicLibrary()


@pytest.mark.parametrize("function", list(NAMES), ids=lambda function: function.name)
def test_value_slope_and_expression_are_one_function(function):
    u = np.linspace(0.15, 0.85, 9)
    expression = sympy.sympify(function.expression, locals={"u": sympy.Symbol("u")})
    assert function.inside(u)
    written = [float(expression.subs("u", point)) for point in u]
    np.testing.assert_allclose(function.value(u), written, rtol=1e-12, atol=1e-15)
    steps = (function.value(u + 1e-6) - function.value(u - 1e-6)) / 2e-6
    np.testing.assert_allclose(function.slope(u), steps, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "allowed", "refused"),
    [
        ("log", [0.1, 2], [-0.1, 2]),
        ("sqrt", [0, 2], [-0.1, 2]),
        ("1/x", [-3, -1], [-1, 1]),
        ("1/x^2", [1, 3], [-1, 1]),
        ("tan", [-1.5, 1.5], [1.5, 1.7]),
        ("arcsin", [-1, 1], [0, 1.1]),
        ("arctanh", [-0.9, 0.9], [0, 1]),
        ("exp", [-5, 5], [0, np.inf]),
    ],
)
def test_a_function_with_a_pole_or_an_end_inside_of_the_range_is_refused(name, allowed, refused):
    inside = NAMES[name].inside
    assert inside(np.array([allowed, allowed[::-1]])).tolist() == [True, True]
    assert not inside(np.array(refused, dtype=float))


def morse(u):
    return (1 - np.exp(-u)) ** 2


def test_an_added_function_is_in_the_new_library_only_and_survives_a_pickle():
    library = SymbolicLibrary()
    larger = library.with_function("morse", morse, "(1 - exp(-u))**2", complexity=4)
    assert "morse" not in library
    assert len(larger) == len(library) + 1
    restored = pickle.loads(pickle.dumps(larger))
    assert restored["morse"].value(1.0) == morse(1.0)
    assert restored["morse"].slope(np.array([0.5]))[0] == pytest.approx(2 * (1 - np.exp(-0.5)) * np.exp(-0.5), rel=1e-6)


def test_an_expression_that_is_another_function_is_told():
    with pytest.raises(UserError, match="differ"):
        SymbolicLibrary().with_function("morse", morse, "1 - exp(-u)")


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'sqrt'"):
        SymbolicLibrary().only("x", "sqr")


def test_smaller_libraries_have_what_was_asked_for():
    assert [function.name for function in SymbolicLibrary().only("exp", "x")] == ["exp", "x"]
    assert "tan" not in SymbolicLibrary().without("tan", "sgn")
