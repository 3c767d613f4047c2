"""Chemical formulas read exactly: nested brackets, decimals, percentages; wrong ones are refused with the place."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

from katops.errors import UserError, did_you_mean

_NAMES = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr
Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir
Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh
Fl Mc Lv Ts Og
"""
SYMBOLS = tuple(_NAMES.split())
"""The 118 chemical symbols in the order of their atomic numbers."""

KEY_DIGITS = 4
"""Digits of the atomic fractions in a composition key; compositions that agree in these are taken for the same."""

_KNOWN = frozenset(SYMBOLS)
_NUMBER = re.compile(r"\s*(\d+\.?\d*|\.\d+)")
_SYMBOL = re.compile(r"[A-Z][a-z]?")
_DEPTH = 20
_BRACKETS = {"(": ")", "[": "]", "{": "}"}
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")  # as copied from papers


@dataclass(frozen=True)
class Composition:
    """A formula and what it says.

    Attributes:
        text: the formula as it was written.
        amounts: how much of each element the formula states, exact, sorted by symbol; nothing here is zero.
    """

    text: str
    amounts: Mapping[str, Fraction] = field(hash=False)

    @cached_property
    def fractions(self) -> Mapping[str, Fraction]:
        """Atomic fractions ``c_i = a_i / Σ a_j``, exact; they sum to 1."""
        total = sum(self.amounts.values())
        return {symbol: amount / total for symbol, amount in self.amounts.items()}

    @property
    def elements(self) -> tuple[str, ...]:
        """Symbols, sorted."""
        return tuple(self.amounts)

    @property
    def key(self) -> str:
        """Canonical composition: see :func:`composition_key`."""
        return composition_key(self.fractions)

    @property
    def system(self) -> str:
        """Canonical chemical system: see :func:`system_key`."""
        return system_key(self.fractions)

    def without(self, *symbols: str) -> "Composition":
        """The rest when some elements are left out: the metals of a carbide are ``without("C")``.

        Raises:
            UserError: nothing is left.
        """
        rest = {symbol: amount for symbol, amount in self.amounts.items() if symbol not in symbols}
        if not rest:
            raise UserError(f"formula {self.text!r} holds nothing but {', '.join(symbols)}")
        return Composition(self.text, rest)


def parse_formula(text: str) -> Composition:
    """Read a formula such as ``Al0.3CoCrFeNi``, ``(CoCr)0.5Ni``, ``Al0.25 Co1 Fe1 Ni1`` or ``Cu47Ti33Zr11Si1Ni6Sn2``.

    Amounts are decimals, 1 where none is written, and may stand apart (``Co 20``); an amount of 0 leaves the element
    out (``Al0CoCrFeNi``). Brackets ``()``, ``[]`` and ``{}`` nest; an amount behind one multiplies what is inside.
    Where the outermost amounts sum to exactly 100 they are atomic percent, and a bracket then *shares* its percentage,
    as papers on alloys mean it: ``(CoCrNi)94Al3Ti3`` is 94 at.% of equiatomic CoCrNi.

    Raises:
        UserError: an unknown symbol (with the nearest one), an unexpected character or an open bracket, with its
            position (counted from 1); or nothing at all.
    """
    if not isinstance(text, str):
        raise UserError(f"a formula must be text such as 'Al0.3CoCrFeNi', got {text!r} ({type(text).__name__})")
    plain = text.translate(_SUBSCRIPTS)
    parts, end = _parts(plain, 0)
    if end < len(plain):
        raise _error(text, end, f"unexpected {text[end]!r}; a bracket is closed that was not opened")
    percent = sum(amount for amount, _ in parts) == 100
    amounts: dict[str, Fraction] = {}
    for amount, inside in parts:
        share = amount / sum(inside.values()) if percent and any(inside.values()) else amount
        for symbol, count in inside.items():
            amounts[symbol] = amounts.get(symbol, Fraction(0)) + share * count
    present = {symbol: amounts[symbol] for symbol in sorted(amounts) if amounts[symbol]}
    if not present:
        raise UserError(f"formula {text!r} names no element with an amount above 0; write for example 'Al0.3CoCrFeNi'")
    return Composition(text, present)


def composition_key(fractions: Mapping[str, float | Fraction]) -> str:
    """Atomic fractions rounded to :data:`KEY_DIGITS` digits, elements sorted: ``Al0.0698Co0.2326Cr0.2326...``.

    Formulas that mean the same alloy have the same key, whatever their order, brackets and scale.
    """
    rounded = {symbol: round(float(fractions[symbol]), KEY_DIGITS) for symbol in sorted(fractions)}
    return "".join(f"{symbol}{value:g}" for symbol, value in rounded.items() if value > 0)


def system_key(fractions: Mapping[str, float | Fraction]) -> str:
    """The chemical system: the elements present, sorted, joined by hyphens: ``Al-Co-Cr-Fe-Ni``."""
    return "-".join(symbol for symbol in sorted(fractions) if fractions[symbol] > 0)


def _parts(
    text: str, start: int, closing: str = "", depth: int = 0
) -> tuple[list[tuple[Fraction, dict[str, Fraction]]], int]:
    """Amounts and contents from ``start`` to the closing bracket (or the end), and the position where it stopped."""
    parts: list[tuple[Fraction, dict[str, Fraction]]] = []
    position = start
    while position < len(text):
        character = text[position]
        if character.isspace():
            position += 1
            continue
        if character == closing or (not closing and character in _BRACKETS.values()):
            return parts, position
        if character in _BRACKETS:
            opened = position
            if depth == _DEPTH:
                raise _error(text, opened, f"more than {_DEPTH} brackets inside of one another")
            inner, position = _parts(text, position + 1, _BRACKETS[character], depth + 1)
            if position >= len(text):
                raise _error(text, opened, f"the bracket {character!r} is not closed")
            inside: dict[str, Fraction] = {}
            for amount, content in inner:
                for symbol, count in content.items():
                    inside[symbol] = inside.get(symbol, Fraction(0)) + amount * count
            if not inside:
                raise _error(text, opened, "there is nothing in the bracket")
            position += 1
        else:
            symbol = _symbol(text, position)
            inside, position = {symbol: Fraction(1)}, position + len(symbol)
        amount, position = _amount(text, position)
        parts.append((amount, inside))
    return parts, position


def _symbol(text: str, position: int) -> str:
    match = _SYMBOL.match(text, position)
    if match and match.group() in _KNOWN:
        return match.group()
    if match:
        guess = did_you_mean(match.group(), SYMBOLS)
        raise _error(text, position, f"{match.group()!r} is no chemical symbol{guess.rstrip('.')}")
    character = text[position]
    if character.isalpha():
        word = re.match(r"[a-z]{1,2}", text[position:])
        found = [guess.capitalize() for guess in ((word.group(), word.group()[0]) if word else ())]
        known = next((symbol for symbol in found if symbol in _KNOWN), None)
        hint = f"; did you mean {known!r}?" if known else ""
        raise _error(text, position, f"{character!r} begins no chemical symbol, they begin with a capital{hint}")
    if character.isdigit() or character == ".":
        raise _error(text, position, "an amount stands before its element; write it behind, as in 'Al0.3CoCrFeNi'")
    raise _error(text, position, f"unexpected {character!r}; allowed are symbols, amounts, brackets and spaces")


def _amount(text: str, position: int) -> tuple[Fraction, int]:
    """The number at ``position``, or 1; exact, so that thirds and tenths stay what they are."""
    match = _NUMBER.match(text, position)
    if not match:
        return Fraction(1), position
    return Fraction(match.group(1).rstrip(".")), match.end()


def _error(text: str, position: int, problem: str) -> UserError:
    return UserError(f"formula {text!r}, position {position + 1}: {problem}")
