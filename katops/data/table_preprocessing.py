"""From a table to the inputs of a network, by rules measured on training rows and kept in the model file.

Numbers are scaled, categories become one column for each level, and a column in which values are missing gets an
indicator beside it: a missing value stands at the median, and what its absence means is learned. Columns that are
constant in the training rows carry nothing and are left out.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from katops.data.table_columns import REACH, ScaledColumn, is_constant, number_column
from katops.data.table_reading import UNKNOWN_LEVEL, is_frame, levels_of, named_columns, numbers_of
from katops.errors import DataWarning, UserError


class TablePreprocessor:
    """The map from a table (rows, C) to scaled inputs (rows, I).

    Attributes:
        names: of the C columns of the table.
        levels: of the columns that are categories, by place, the levels as text.
        columns: the I inputs.
        constants: smallest and largest value, equal up to rounding, of the columns of numbers that never changed in the
            training rows, by place. They are no inputs, and other values are out of range.
    """

    def __init__(
        self,
        names: Sequence[str],
        levels: Mapping[int, Sequence[str]],
        columns: Iterable[ScaledColumn],
        constants: Mapping[int, Sequence[float]] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.levels = {int(place): tuple(entries) for place, entries in levels.items()}
        self.columns = list(columns)
        self.constants = {int(place): (float(low), float(high)) for place, (low, high) in (constants or {}).items()}

    @classmethod
    def fit(
        cls,
        table: Any,
        scaler: str = "auto",
        names: Sequence[str] | None = None,
        rows: np.ndarray | None = None,
        reach: float | None = REACH,
    ) -> "TablePreprocessor":
        """Measure the rules on training rows.

        Args:
            table: data frame, array or tensor (rows, C).
            scaler: a name in :data:`katops.data.table_columns.SCALERS`.
            names: of the columns; those of a data frame where none are given, else ``x0``, ``x1``, ...
            rows: weight of each row (rows,); those without weight are as good as absent. How often a row occurs does
                not count, so that repeating a row is no more than giving it a larger weight.
            reach: of the columns of numbers, see :class:`katops.data.table_columns.ScaledColumn`.

        Raises:
            UserError: there is no such scaler, or no row.
        """
        levels = levels_of(table)
        values = numbers_of(table, levels)
        values = values if rows is None else values[np.asarray(rows) > 0]
        if not len(values):
            raise UserError("the table has no row with a weight above zero to learn from")
        if names is None:
            names = [str(name) for name in table.columns] if hasattr(table, "columns") else None
        names = names or [f"x{place}" for place in range(values.shape[1])]
        distinct = distinct_rows(values)
        return cls(names, levels, _columns(names, levels, distinct, scaler, reach), _constants(levels, distinct))

    def transform(self, table: Any, bounded: bool = True) -> np.ndarray:
        """Scaled inputs (rows, I), float64; without ``bounded`` values far out of range stay as far away as they are.

        A missing value in a column that had none in training stands at the median, and a level that the training
        did not have is none of the levels; both are told by a warning.

        Raises:
            UserError: the table has other columns.
        """
        raw = self.raw_inputs(table)
        if bounded:
            raw = np.clip(raw, *np.transpose([column.bounds for column in self.columns]))
        return (raw - [column.offset for column in self.columns]) / [column.scale for column in self.columns]

    def raw_inputs(self, table: Any) -> np.ndarray:
        """The inputs before they are scaled (rows, I): missing values at the median, levels and gaps as 1 and 0.

        Raises, and warns, as :meth:`transform`.
        """
        values = self.read(table)
        self._warn(values)
        return np.stack([self._raw(column, values) for column in self.columns], axis=1)

    def read(self, table: Any) -> np.ndarray:
        """The table as numbers (rows, C), see :func:`katops.data.table_reading.numbers_of`; frames are read by name.

        Raises:
            UserError: the table has other columns, infinite values, or no levels where the training had.
        """
        if self.levels and not is_frame(table):
            names = ", ".join(self.names[place] for place in self.levels)
            raise UserError(f"the training had categories in {names}; give a data frame with the columns by name")
        values = numbers_of(named_columns(table, self.names), self.levels)
        if values.shape[1] != len(self.names):
            raise UserError(f"the table has {values.shape[1]} columns, the model takes {len(self.names)}")
        infinite = np.isinf(values).any(axis=0)
        if infinite.any():
            name = self.names[int(np.argmax(infinite))]
            raise UserError(f"column {name!r} holds infinite values; give NaN where a value is missing")
        return values

    def out_of_range(self, table: Any) -> np.ndarray:
        """Where values lie outside the range of the training rows, or have an unknown level: (rows, C), bool."""
        values = self.read(table)
        outside = np.zeros(values.shape, dtype=bool)
        for place in self.levels:
            outside[:, place] = values[:, place] == UNKNOWN_LEVEL
        for column in self.columns:
            if column.kind == "number":
                given = values[:, column.source]
                outside[:, column.source] = (given < column.low) | (given > column.high)
        for place, (low, high) in self.constants.items():
            outside[:, place] = (values[:, place] < low) | (values[:, place] > high)
        return outside

    def select(self, inputs: Sequence[int]) -> "TablePreprocessor":
        """The same rules for some of the inputs, by place; the table stays the same."""
        columns = [self.columns[place] for place in inputs]
        return TablePreprocessor(self.names, self.levels, columns, self.constants)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "names": list(self.names),
            "levels": {str(place): list(entries) for place, entries in self.levels.items()},
            "columns": [column.to_dict() for column in self.columns],
            "constants": {str(place): list(ends) for place, ends in self.constants.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TablePreprocessor":
        """What :meth:`to_dict` wrote."""
        levels = {int(place): entries for place, entries in values["levels"].items()}
        columns = [ScaledColumn(**column) for column in values["columns"]]
        return cls(values["names"], levels, columns, values.get("constants"))

    def _raw(self, column: ScaledColumn, values: np.ndarray) -> np.ndarray:
        given = values[:, column.source]
        if column.kind == "level":
            return (given == self.levels[column.source].index(column.level)).astype(np.float64)
        return column.raw(given)

    def _warn(self, values: np.ndarray) -> None:
        learned = {column.source for column in self.columns if column.kind == "missing"}
        used = {column.source for column in self.columns} - learned
        absent = [self.names[place] for place in sorted(used) if np.isnan(values[:, place]).any()]
        if absent:
            warnings.warn(
                f"values are missing in {', '.join(absent)}, where the training rows had all; they stand at the "
                f"training median (levels: at none)",
                DataWarning,
                stacklevel=5,
            )
        unknown = [self.names[place] for place in self.levels if (values[:, place] == UNKNOWN_LEVEL).any()]
        if unknown:
            warnings.warn(
                f"{', '.join(unknown)} holds levels that the training rows did not have; they count as none of the "
                f"known ones",
                DataWarning,
                stacklevel=5,
            )


def distinct_rows(values: np.ndarray) -> np.ndarray:
    """The rows (n, C) that differ, sorted; NaN equals NaN."""
    filled = np.where(np.isnan(values), -np.inf, values) + 0.0  # -0.0 and 0.0 are the same row
    _, places = np.unique(filled, axis=0, return_index=True)
    return values[places]


def _columns(
    names: Sequence[str], levels: Mapping[int, Sequence[str]], values: np.ndarray, scaler: str, reach: float | None
) -> list[ScaledColumn]:
    columns = [
        column
        for place, name in enumerate(names)
        for column in _inputs(name, place, levels.get(place), values[:, place], scaler, reach)
    ]
    # A network needs an input; one that never changed adds a constant.
    return columns or [number_column(names[0], 0, np.nan_to_num(values[:, 0]), scaler, reach)]


def _constants(levels: Mapping[int, Sequence[str]], values: np.ndarray) -> dict[int, tuple[float, float]]:
    """Ends of the columns of numbers (n, C) that hold one number up to rounding."""
    found = {}
    for place in set(range(values.shape[1])) - set(levels):
        present = values[~np.isnan(values[:, place]), place]
        if present.size and is_constant(present):
            found[place] = (present.min(), present.max())
    return found


def _inputs(
    name: str, place: int, levels: Sequence[str] | None, values: np.ndarray, scaler: str, reach: float | None
) -> list[ScaledColumn]:
    """The inputs that one column of the table becomes."""
    missing = np.isnan(values)
    present = values[~missing]
    columns = []
    if levels is not None:
        there = [level for code, level in enumerate(levels) if (present == code).any()]
        if len(there) > 1 or missing.any():
            columns = [ScaledColumn(f"{name}={level}", place, "level", level=level) for level in there]
    elif not is_constant(present):
        columns = [number_column(name, place, present, scaler, reach)]
    if missing.any() and not missing.all():
        columns.append(ScaledColumn(f"{name} missing", place, "missing"))
    return columns
