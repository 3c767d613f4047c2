"""What the rows of a table are made of, from its formulas or from its columns with amounts of elements."""

import re

import numpy as np
import pandas as pd

from katops.errors import UserError
from katops.materials import compositions
from katops.materials.formula import SYMBOLS
from katops.studies.table import Table

SMALLEST_SUM = 1e-9


def fractions(table: Table) -> pd.DataFrame:
    """Atomic fractions, one column an element; amounts are divided by their sum.

    Raises:
        UserError: a formula cannot be read, a column's name does not begin with a chemical symbol, or amounts are
            negative, missing or all zero.
    """
    if table.composition:
        return _from_amounts(table)
    texts = table.frame[table.formula]
    if texts.isna().any():
        row = texts.index[texts.isna()][0]
        raise UserError(f"data.formula: row {row} has no formula in {table.formula!r}; leave it out or write it down")
    found = compositions.composition_table(texts.astype(str))
    counted = found.drop(columns=[symbol for symbol in table.without if symbol in found.columns])
    sums = counted.sum(axis=1)
    if (sums < SMALLEST_SUM).any():
        row = sums.index[int((sums < SMALLEST_SUM).to_numpy().argmax())]
        raise UserError(f"data.formula: row {row} holds nothing but {' and '.join(table.without)}")
    return counted.div(sums, axis=0)


def composition_keys(table: Table) -> list[str]:
    """The canonical composition of each row."""
    found = fractions(table)
    return compositions.composition_keys(found.to_numpy(), list(found.columns))


def system_keys(table: Table) -> list[str]:
    """The set of elements of each row, in order."""
    found = fractions(table)
    return compositions.system_keys(found.to_numpy(), list(found.columns))


def element_members(table: Table) -> dict[str, np.ndarray]:
    """For each element, which rows hold it."""
    found = fractions(table)
    return {name: found[name].to_numpy() > 0 for name in found.columns}


def symbol_of(column: str) -> str:
    """The element that a column with amounts is about: the symbol that its name begins with, as in ``Al_at_pct``.

    Raises:
        UserError: it begins with none.
    """
    match = re.match(r"[A-Z][a-z]?(?![a-z])", column) or re.match(r"[A-Z]", column)
    if not match or match.group() not in SYMBOLS:
        raise UserError(
            f"data.composition: the name of {column!r} does not begin with a chemical symbol; rename the column, such "
            f"as 'Al' or 'Al_at_pct'"
        )
    return match.group()


def _from_amounts(table: Table) -> pd.DataFrame:
    symbols = [symbol_of(column) for column in table.composition]
    amounts = table.frame[list(table.composition)]
    for name in table.composition:
        if not pd.api.types.is_numeric_dtype(amounts[name]):
            raise UserError(f"data.composition: {name!r} holds text; it should hold amounts of {symbol_of(name)}")
    amounts = amounts.astype(float).set_axis(symbols, axis=1)
    repeated = amounts.columns[amounts.columns.duplicated()].tolist()
    if repeated:
        raise UserError(f"data.composition: two columns are about {repeated[0]}; leave one out")
    values = amounts.to_numpy()
    wrong = ~np.isfinite(values).all(axis=1) | (values < 0).any(axis=1) | (values.sum(axis=1) < SMALLEST_SUM)
    if wrong.any():
        row = table.frame.index[int(wrong.argmax())]
        raise UserError(f"data.composition: the amounts of row {row} are missing, negative or all zero")
    return amounts.div(values.sum(axis=1), axis=0)
