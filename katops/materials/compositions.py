"""Many formulas as one table of atomic fractions, and back to the keys that folds group by."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from katops.errors import UserError, did_you_mean
from katops.materials.elements import element_table
from katops.materials.formula import SYMBOLS, Composition, composition_key, parse_formula, system_key
from katops.materials.frames import load_pandas

if TYPE_CHECKING:
    import pandas

SUM_TOLERANCE = 1e-6
"""How far the atomic fractions of a row may be from a sum of 1."""


def parse_formulas(formulas: Iterable[str]) -> list[Composition]:
    """Every formula read by :func:`~katops.materials.formula.parse_formula`.

    Raises:
        UserError: some cannot be read; the message has the first of them with its row and the number of the others.
    """
    compositions, problems = [], []
    for row, text in enumerate(formulas):
        try:
            compositions.append(parse_formula(text))
        except UserError as error:
            problems.append(f"row {row}: {error}")
    if problems:
        others = f" ({len(problems) - 1} more formulas cannot be read)" if len(problems) > 1 else ""
        raise UserError(problems[0] + others)
    return compositions


def composition_table(
    formulas: "Iterable[str] | pandas.Series", elements: Sequence[str] | None = None
) -> "pandas.DataFrame":
    """Atomic fractions, one row a formula and one column an element.

    Args:
        formulas: text; the index of a pandas series is kept.
        elements: the columns in this order; default: every element that occurs, sorted by symbol.

    Returns:
        float64, rows sum to 1; ``attrs["units"]`` names the unit of every column.

    Raises:
        UserError: a formula cannot be read, or holds an element that is not among ``elements``.
    """
    pandas = load_pandas()
    index = formulas.index if isinstance(formulas, pandas.Series) else None
    compositions = parse_formulas(formulas)
    if elements is None:
        elements = sorted({symbol for composition in compositions for symbol in composition.elements})
    check_symbols(elements)
    columns = {symbol: column for column, symbol in enumerate(elements)}
    fractions = np.zeros((len(compositions), len(columns)))
    for row, composition in enumerate(compositions):
        for symbol, fraction in composition.fractions.items():
            if symbol not in columns:
                raise UserError(
                    f"row {row}: formula {composition.text!r} holds {symbol}, which is not among the elements "
                    f"{', '.join(columns)}; add it, or leave the row out"
                )
            fractions[row, columns[symbol]] = float(fraction)
    table = pandas.DataFrame(fractions, columns=list(elements), index=index)
    table.attrs["units"] = dict.fromkeys(elements, "atomic fraction")
    return table


def atomic_fractions(weights: np.ndarray, elements: Sequence[str]) -> np.ndarray:
    """Weights (fractions, percent or grams, ``(n, elements)``) as atomic fractions ``c_i = (w_i/M_i) / Σ (w_j/M_j)``.

    Raises:
        UserError: a weight is negative or not finite, a row is empty, or the atomic mass of an element is unknown.
    """
    weights = np.asarray(weights, dtype=float)
    total = weights.sum(axis=1, keepdims=True) if weights.ndim == 2 else weights
    if (np.asarray(total) == 0).any():
        raise UserError("a row of weights sums to 0; every alloy needs an element")
    check_fractions(weights / total, elements)
    masses = element_table().column("atomic_mass", elements)
    unknown = [symbol for symbol, mass in zip(elements, masses, strict=True) if np.isnan(mass)]
    if unknown:
        raise UserError(f"element table {element_table().name!r} has no atomic_mass for {', '.join(unknown)}")
    moles = weights / masses
    return moles / moles.sum(axis=1, keepdims=True)


def composition_keys(fractions: np.ndarray, elements: Sequence[str]) -> list[str]:
    """The canonical composition of every row of atomic fractions ``(n, elements)``."""
    return [composition_key(dict(zip(elements, row, strict=True))) for row in np.asarray(fractions, float)]


def system_keys(fractions: np.ndarray, elements: Sequence[str]) -> list[str]:
    """The chemical system of every row of atomic fractions ``(n, elements)``."""
    return [system_key(dict(zip(elements, row, strict=True))) for row in np.asarray(fractions, float)]


def check_symbols(elements: Sequence[str]) -> None:
    """Refuse what is no chemical symbol, or is there twice.

    Raises:
        UserError: with the nearest symbol.
    """
    for symbol in elements:
        if symbol not in SYMBOLS:
            raise UserError(f"element {symbol!r} is no chemical symbol{did_you_mean(str(symbol), SYMBOLS)}")
    repeated = sorted({symbol for symbol in elements if list(elements).count(symbol) > 1})
    if repeated:
        raise UserError(f"elements {', '.join(repeated)} are named twice; every element is one column")


def check_fractions(fractions: np.ndarray, elements: Sequence[str]) -> None:
    """Refuse atomic fractions ``(n, elements)`` that are negative, not finite, or do not sum to 1.

    Raises:
        UserError: with the first row that is wrong.
    """
    check_symbols(elements)
    if fractions.ndim != 2 or fractions.shape[1] != len(elements):
        raise UserError(f"fractions must have the shape (rows, {len(elements)} elements), got {tuple(fractions.shape)}")
    wrong = ~np.isfinite(fractions).all(axis=1) | (fractions < 0).any(axis=1)
    if wrong.any():
        raise UserError(f"row {int(wrong.argmax())} of the fractions is negative or not finite; allowed are 0 to 1")
    off = np.abs(fractions.sum(axis=1) - 1) > SUM_TOLERANCE
    if off.any():
        row = int(off.argmax())
        raise UserError(
            f"row {row} of the fractions sums to {fractions[row].sum():.6g}, atomic fractions must sum to 1 "
            f"(within {SUM_TOLERANCE:g}); divide each row by its sum (percent: by 100)"
        )
