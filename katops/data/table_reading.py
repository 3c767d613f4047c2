"""Tables as they are given, data frames and arrays, as one array of numbers; levels of categories are counted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from katops.errors import UserError, did_you_mean

UNKNOWN_LEVEL = -1.0
"""The code of a level that the training rows did not have."""


_NUMBERS = ("integer", "floating", "mixed-integer-float", "boolean", "decimal", "empty")
"""What pandas calls the contents of a column of Python objects that are all numbers, or all missing."""


def is_frame(table: Any) -> bool:
    """Whether this is a data frame of pandas; pandas itself is not needed to say so."""
    return hasattr(table, "iloc") and hasattr(table, "columns") and hasattr(table, "dtypes")


def has_categories(table: Any) -> bool:
    """Whether a data frame has columns that are not numbers."""
    return is_frame(table) and any(_is_category(table.iloc[:, place]) for place in range(table.shape[1]))


def levels_of(table: Any) -> dict[int, list[str]]:
    """The levels, as text and in order, of every column that is not made of numbers, by the column's place."""
    if not is_frame(table):
        return {}
    series = {place: table.iloc[:, place] for place in range(table.shape[1])}
    return {place: _levels(column) for place, column in series.items() if _is_category(column)}


def numbers_of(table: Any, levels: Mapping[int, Sequence[str]]) -> np.ndarray:
    """Values (rows, columns), float64; a category as the place of its level in ``levels``, a missing value as NaN.

    A level that is not in ``levels`` is :data:`UNKNOWN_LEVEL`.

    Raises:
        UserError: a column holds neither numbers nor, in ``levels``, categories; the table has not two axes.
    """
    if not is_frame(table):
        values = np.asarray(table.detach().cpu() if hasattr(table, "detach") else table, dtype=np.float64)
        if values.ndim != 2:
            raise UserError(f"expected a table with two axes (rows, columns), got shape {values.shape}")
        return values
    columns = [_numbers(table.iloc[:, place], levels.get(place)) for place in range(table.shape[1])]
    return np.stack(columns, axis=1) if columns else np.empty((len(table), 0))


def named_columns(table: Any, names: Sequence[str]) -> Any:
    """The columns of a data frame that have these names, in this order; other tables as they are.

    Raises:
        UserError: a column is missing.
    """
    if not is_frame(table):
        return table
    there = [str(name) for name in table.columns]
    missing = [name for name in names if name not in there]
    if missing:
        raise UserError(
            f"the table lacks the column {missing[0]!r}{did_you_mean(missing[0], there)} Needed: {', '.join(names)}."
        )
    return table.iloc[:, [there.index(name) for name in names]]


def _is_category(series: Any) -> bool:
    from pandas.api.types import infer_dtype, is_bool_dtype, is_numeric_dtype

    if series.dtype == object:  # numbers may stand there, too, such as beside None
        return infer_dtype(series, skipna=True) not in _NUMBERS
    return not (is_numeric_dtype(series.dtype) or is_bool_dtype(series.dtype))


def _levels(series: Any) -> list[str]:
    from pandas.api.types import is_datetime64_any_dtype, is_timedelta64_dtype

    if is_datetime64_any_dtype(series.dtype) or is_timedelta64_dtype(series.dtype):
        raise UserError(f"column {series.name!r} holds times; give numbers, such as hours since the first one")
    return sorted({str(value) for value in series.dropna().unique()})


def _numbers(series: Any, levels: Sequence[str] | None) -> np.ndarray:
    if levels is None:
        try:
            return series.to_numpy(dtype=np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise UserError(f"column {series.name!r} held numbers in training, now it does not: {error}") from error
    codes = {level: float(place) for place, level in enumerate(levels)}
    missing = series.isna().to_numpy()
    found = [codes.get(str(value), UNKNOWN_LEVEL) for value in series]
    return np.where(missing, np.nan, np.array(found, dtype=np.float64).reshape(len(series)))
