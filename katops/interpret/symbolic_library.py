"""Univariate functions that a learned curve may turn out to be, with their complexity, domain and derivative.

A library is an object: adding a function to it changes no other library, and it can be pickled. The names and the
complexities of the built-in functions are those of pykan 0.2 (Liu et al. 2024, arXiv 2404.19756, section 2.5.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from katops.errors import UserError, did_you_mean

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class SymbolicFunction:
    """f(u) in y = c f(a x + b) + d.

    Attributes:
        name: as in tables.
        value, slope: f and its derivative, of arrays; module-level functions, so that the library can be pickled.
        expression: f as text in the variable ``u``, such as ``"exp(-u**2)"``, for sympy.
        complexity: hand-set, 0 for the simplest.
        inside: of an array whose last axis are the points of one curve: whether f is smooth at all of them and between
            them; one truth value per curve.
        shift: whether b changes the family of curves (not so for exp, where a factor does the same).
        scale: whether |a| changes the family of curves (not so for powers).
        sign: whether the sign of a changes the family of curves.
    """

    name: str
    value: Curve
    slope: Curve
    expression: str
    complexity: float
    inside: Curve
    shift: bool = True
    scale: bool = True
    sign: bool = True


def everywhere(u: np.ndarray) -> np.ndarray:
    """The whole line."""
    return np.isfinite(u).all(axis=-1)


def positive(u: np.ndarray) -> np.ndarray:
    """u > 0, as of the logarithm, away from 0 by a millionth of the largest value."""
    return u.min(axis=-1) > 1e-6 * np.abs(u).max(axis=-1)


def not_negative(u: np.ndarray) -> np.ndarray:
    """u >= 0, as of the square root."""
    return u.min(axis=-1) >= 0


def one_sided(u: np.ndarray) -> np.ndarray:
    """No pole at 0 within the range: all points lie on one side of it."""
    return positive(u) | positive(-u)


def below_one(u: np.ndarray) -> np.ndarray:
    """|u| <= 1, as of the inverse sine."""
    return np.abs(u).max(axis=-1) <= 1


def within_one(u: np.ndarray) -> np.ndarray:
    """|u| < 1, as of the inverse hyperbolic tangent."""
    return np.abs(u).max(axis=-1) < 1 - 1e-9


def between_poles(u: np.ndarray) -> np.ndarray:
    """All points in one branch of the tangent."""
    branch = np.floor(u / math.pi + 0.5)
    near = np.abs(np.cos(u)).min(axis=-1) < 1e-6
    return (branch.min(axis=-1) == branch.max(axis=-1)) & ~near


@dataclass(frozen=True)
class _Power:
    exponent: float
    factor: float = 1.0

    def __call__(self, u: np.ndarray) -> np.ndarray:
        return self.factor * u**self.exponent


def _zero(u: np.ndarray) -> np.ndarray:
    return np.zeros_like(u)


def _one(u: np.ndarray) -> np.ndarray:
    return np.ones_like(u)


def _identity(u: np.ndarray) -> np.ndarray:
    return u


def _sin_slope(u: np.ndarray) -> np.ndarray:
    return -np.sin(u)


def _tan_slope(u: np.ndarray) -> np.ndarray:
    return 1 / np.cos(u) ** 2


def _tanh_slope(u: np.ndarray) -> np.ndarray:
    return 1 - np.tanh(u) ** 2


def _gaussian(u: np.ndarray) -> np.ndarray:
    return np.exp(-(u**2))


def _gaussian_slope(u: np.ndarray) -> np.ndarray:
    return -2 * u * np.exp(-(u**2))


def _inverse_sine_slope(u: np.ndarray) -> np.ndarray:
    return 1 / np.sqrt(np.maximum(1 - u**2, 1e-12))


def _inverse_cosine_slope(u: np.ndarray) -> np.ndarray:
    return -_inverse_sine_slope(u)


def _inverse_tangent_slope(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + u**2)


def _inverse_tanh_slope(u: np.ndarray) -> np.ndarray:
    return 1 / (1 - u**2)


@dataclass(frozen=True)
class _Difference:
    """Central differences, for functions given without their derivative."""

    value: Curve

    def __call__(self, u: np.ndarray) -> np.ndarray:
        step = 1e-6 * (1 + np.abs(u))
        return (self.value(u + step) - self.value(u - step)) / (2 * step)


def _power(name: str, exponent: float, expression: str, complexity: float) -> SymbolicFunction:
    whole = float(exponent).is_integer()
    inside = (everywhere if exponent > 0 else one_sided) if whole else (not_negative if exponent > 0 else positive)
    slope = _Power(exponent - 1, exponent)
    return SymbolicFunction(name, _Power(exponent), slope, expression, complexity, inside, scale=False, sign=not whole)


def standard_functions() -> list[SymbolicFunction]:
    """The 28 functions of pykan 0.2; ``gaussian`` is exp(-u^2), ``sgn`` and ``abs`` are flat or bent at 0."""
    powers = [_power(f"x^{n}", n, f"u**{n}", n) for n in (2, 3, 4, 5)]
    inverse = [_power(f"1/x^{n}" if n > 1 else "1/x", -n, f"1/u**{n}", n + 1) for n in (1, 2, 3, 4, 5)]
    roots = [
        _power("sqrt", 0.5, "sqrt(u)", 2),
        _power("x^1.5", 1.5, "u*sqrt(u)", 4),
        _power("1/sqrt(x)", -0.5, "1/sqrt(u)", 2),
    ]
    make = SymbolicFunction
    return [
        make("0", _zero, _zero, "0", 0, everywhere, shift=False, scale=False, sign=False),
        make("x", _identity, _one, "u", 1, everywhere, shift=False, scale=False, sign=False),
        *powers,
        *inverse,
        *roots,
        make("exp", np.exp, np.exp, "exp(u)", 2, everywhere, shift=False),
        make("log", np.log, _Power(-1), "log(u)", 2, positive, scale=False),
        make("abs", np.abs, np.sign, "Abs(u)", 3, everywhere, scale=False, sign=False),
        make("sin", np.sin, np.cos, "sin(u)", 2, everywhere, sign=False),
        make("cos", np.cos, _sin_slope, "cos(u)", 2, everywhere, sign=False),
        make("tan", np.tan, _tan_slope, "tan(u)", 3, between_poles, sign=False),
        make("tanh", np.tanh, _tanh_slope, "tanh(u)", 3, everywhere, sign=False),
        make("sgn", np.sign, _zero, "sign(u)", 3, everywhere, scale=False, sign=False),
        make("arcsin", np.arcsin, _inverse_sine_slope, "asin(u)", 4, below_one, sign=False),
        make("arccos", np.arccos, _inverse_cosine_slope, "acos(u)", 4, below_one, sign=False),
        make("arctan", np.arctan, _inverse_tangent_slope, "atan(u)", 4, everywhere, sign=False),
        make("arctanh", np.arctanh, _inverse_tanh_slope, "atanh(u)", 4, within_one, sign=False),
        make("gaussian", _gaussian, _gaussian_slope, "exp(-u**2)", 3, everywhere, sign=False),
    ]


class SymbolicLibrary:
    """Functions by name, in the order in which they were added.

    Args:
        functions: the standard ones where none are given.

    Example:
        ``SymbolicLibrary().only("x", "x^2", "exp")`` is a smaller library, ``library.with_function("morse", f,
        "(1 - exp(-u))**2")`` a larger one.
    """

    def __init__(self, functions: Iterable[SymbolicFunction] | None = None) -> None:
        chosen = standard_functions() if functions is None else list(functions)
        self._functions = {function.name: function for function in chosen}

    def __iter__(self) -> Iterator[SymbolicFunction]:
        return iter(self._functions.values())

    def __len__(self) -> int:
        return len(self._functions)

    def __contains__(self, name: str) -> bool:
        return name in self._functions

    def __getitem__(self, name: str) -> SymbolicFunction:
        if name not in self._functions:
            guess = did_you_mean(name, self._functions)
            raise UserError(f"the library has no function {name!r}{guess} It has: {', '.join(self._functions)}.")
        return self._functions[name]

    def only(self, *names: str) -> SymbolicLibrary:
        """A new library with these functions of this one.

        Raises:
            UserError: a name is unknown.
        """
        return SymbolicLibrary([self[name] for name in names])

    def without(self, *names: str) -> SymbolicLibrary:
        """A new library without these functions.

        Raises:
            UserError: a name is unknown.
        """
        dropped = {self[name].name for name in names}
        return SymbolicLibrary([function for function in self if function.name not in dropped])

    def with_function(
        self,
        name: str,
        value: Curve,
        expression: str,
        *,
        slope: Curve | None = None,
        complexity: float = 3,
        inside: Curve = everywhere,
    ) -> SymbolicLibrary:
        """A new library with one more function f(u).

        Args:
            name: not yet in this library.
            value: f, of NumPy arrays; a module-level function where the library is to be pickled.
            expression: the same for sympy, in the variable ``u``.
            slope: its derivative; central differences where it is not given.
            complexity: of the function, as compared with 1 for x, 2 for exp and 4 for arctan.
            inside: whether f is smooth at and between the points on the last axis, such as :func:`positive`.

        Raises:
            UserError: the name exists, or ``expression`` and ``value`` are different functions.
        """
        if name in self:
            raise UserError(f"the library has a function {name!r} already; choose another name")
        function = SymbolicFunction(name, value, slope or _Difference(value), expression, complexity, inside)
        _check_expression(function)
        return SymbolicLibrary([*self, function])


def _check_expression(function: SymbolicFunction) -> None:
    import sympy

    u = sympy.Symbol("u")
    points = np.linspace(0.1, 0.9, 5)
    try:
        parsed = sympy.sympify(function.expression, locals={"u": u})
    except (sympy.SympifyError, SyntaxError, TypeError) as error:
        raise UserError(f"function {function.name!r}: sympy cannot read {function.expression!r}: {error}") from None
    if parsed.free_symbols - {u}:
        raise UserError(f"function {function.name!r}: {function.expression!r} must be in the variable u alone")
    given = np.asarray(function.value(points), dtype=float)
    written = np.array([complex(parsed.subs(u, point)) for point in points])
    if not np.allclose(given, written, rtol=1e-6, atol=1e-9):
        raise UserError(
            f"function {function.name!r}: the expression {function.expression!r} and the function differ, "
            f"at u = 0.5 they are {written[2].real:.6g} and {given[2]:.6g}"
        )
