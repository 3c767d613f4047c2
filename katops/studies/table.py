"""A table with what is known about it: read from a CSV file or taken from the materials data sets."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from katops.config.tables import TableDataConfig
from katops.errors import UserError, did_you_mean
from katops.materials.cards import data_card
from katops.materials.datasets import load_materials

SEPARATORS = ",;\t"
SNIFFED = 4096


@dataclass(frozen=True)
class Table:
    """Rows and columns, and what is known about them.

    Attributes:
        frame: the rows; the index counts the rows of the source from 0.
        name: for headings.
        source: path or data set, for the record.
        units: of columns, where they are known.
        formula: the column with chemical formulas, if there is one.
        composition: columns with amounts of elements.
        without: elements of the formulas that are not counted, such as the carbon of carbides.
        process: columns that describe how a row was made.
        features: other columns that are known to describe a row.
        card: what is told about the data: licence, citation, ...
        notes: sentences on what was cleaned or left out.
        absent_at_zero, log1p: columns that are to be treated so, see :class:`katops.config.tables.FeatureConfig`.
        defects: sentences on what is known to be wrong with the data.
    """

    frame: pd.DataFrame
    name: str
    source: str
    units: dict[str, str] = field(default_factory=dict)
    formula: str | None = None
    composition: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    process: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    card: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    absent_at_zero: tuple[str, ...] = ()
    log1p: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Digest of all values and column names."""
        values = pd.util.hash_pandas_object(self.frame, index=False).to_numpy().tobytes()
        return hashlib.sha256(repr(list(self.frame.columns)).encode() + values).hexdigest()


def read_csv(path: str | Path) -> pd.DataFrame:
    """Rows of a CSV file, separated by commas, semicolons or tabs; "" and "NA" are missing values.

    Raises:
        UserError: there is no such file, it is no text, holds no rows, or names a column twice.
    """
    path = Path(path)
    if not path.is_file():
        siblings = [str(other) for other in path.parent.glob("*.csv")] if path.parent.is_dir() else []
        raise UserError(f"no table {str(path)!r}{did_you_mean(str(path), siblings)}")
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.read(SNIFFED).split("\n", 1)[0]
        separator = max(SEPARATORS, key=head.count)
        frame = pd.read_csv(path, sep=separator, encoding="utf-8-sig")
        names = pd.read_csv(path, sep=separator, encoding="utf-8-sig", header=None, nrows=1, dtype=str).iloc[0]
    except (OSError, ValueError) as error:  # pandas' own errors derive from ValueError
        reason = " ".join(str(error).split())
        raise UserError(f"cannot read {str(path)!r} as a table: {reason}; save it as CSV in UTF-8") from error
    twice = names[names.duplicated()].tolist()
    if twice:
        raise UserError(f"{str(path)!r} has two columns called {twice[0]!r}; rename one of them")
    if not len(frame):
        raise UserError(f"{str(path)!r} has a header but no rows")
    return frame


def open_table(config: TableDataConfig) -> Table:
    """The table of a configuration, filtered, without the rows that have no target.

    Raises:
        UserError: the table is missing, a column does not exist (the nearest one is named), or no row is left.
    """
    table = _from_file(config) if config.file else _from_materials(config)
    for key in ("formula", "target", "composition"):
        given = getattr(config, key)
        require(table.frame, [given] if isinstance(given, str) else given or [], f"data.{key}")
    units = {**table.units, **config.units}
    require(table.frame, config.units, "data.units")
    table = replace(
        table,
        units=units,
        formula=config.formula or table.formula,
        composition=tuple(config.composition) or table.composition,
    )
    return without_missing_targets(filtered(without(table, config.exclude), config.filter), config.target)


def require(frame: pd.DataFrame, names: Sequence[str], where: str) -> None:
    """Refuse names that are no columns.

    Args:
        frame: the table.
        names: that are to be columns.
        where: the key that holds them.

    Raises:
        UserError: names all that are missing, a single one with the nearest column.
    """
    missing = [name for name in names if name not in frame.columns]
    if not missing:
        return
    columns = list(map(str, frame.columns))
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    what = f"column {missing[0]!r}{did_you_mean(missing[0], columns)}"
    if len(missing) > 1:
        what = f"column {', '.join(map(repr, missing[:-1]))} or {missing[-1]!r}."
    raise UserError(f"{where}: there is no {what} The table has: {shown}.")


def without(table: Table, rows: Sequence[int]) -> Table:
    """The table without some rows, by their numbers in the source, from 0.

    Raises:
        UserError: there is no such row.
    """
    absent = [row for row in rows if row not in table.frame.index]
    if absent:
        raise UserError(f"data.exclude: the table has no row {absent[0]}; rows are counted from 0 below the header")
    if not rows:
        return table
    note = f"{len(rows):,} rows are excluded by their number"
    return replace(table, frame=table.frame.drop(index=list(rows)), notes=(*table.notes, note))


def filtered(table: Table, conditions: dict[str, Any]) -> Table:
    """The rows for which all conditions hold: a value, a list of values, or bounds ``{"min": a, "max": b}``.

    Raises:
        UserError: there is no such column, bounds are put on text, or no row is left.
    """
    frame, notes = table.frame, list(table.notes)
    require(frame, list(conditions), "data.filter")
    for name, condition in conditions.items():
        column = frame[name]
        if isinstance(condition, dict):
            if not pd.api.types.is_numeric_dtype(column):
                raise UserError(f"data.filter.{name} has bounds, but the column is text; give a list of values")
            keep = column.between(condition.get("min", -float("inf")), condition.get("max", float("inf")))
        else:
            keep = column.isin(condition if isinstance(condition, list) else [condition])
        if not keep.any():
            present = ", ".join(map(repr, column.dropna().unique()[:10].tolist()))
            raise UserError(f"data.filter.{name}: no row has {condition!r}; the column holds {present}, ...")
        if not keep.all():
            notes.append(f"{len(frame) - int(keep.sum()):,} rows are filtered out by {name} = {_condition(condition)}")
        frame = frame[keep]
    return replace(table, frame=frame, notes=tuple(notes))


def without_missing_targets(table: Table, targets: Sequence[str]) -> Table:
    """The rows in which every target is known.

    Raises:
        UserError: there is none.
    """
    known = table.frame[list(targets)].notna().all(axis=1)
    if not known.any():
        raise UserError(f"data.target: no row has a value of {' and '.join(targets)}")
    missing = len(known) - int(known.sum())
    if not missing:
        return table
    note = f"{missing:,} rows without {' or '.join(targets)} are left out"
    return replace(table, frame=table.frame[known], notes=(*table.notes, note))


def _from_file(config: TableDataConfig) -> Table:
    path = Path(config.file)
    return Table(read_csv(path), path.stem, str(config.file))


def _from_materials(config: TableDataConfig) -> Table:
    """A data set of :mod:`katops.materials`, from the first of the folders in ``root`` that has it, or as installed."""
    card = data_card(config.materials)
    folders = [folder for folder in config.root if (Path(folder) / card.file).is_file()]
    data = load_materials(config.materials, folders[0] if folders else None)
    notes = [f"{step.action}: {len(step.rows)} rows, {step.reason}" for step in data.cleaning]
    return Table(
        data.frame,
        card.title,
        card.name,
        units=data.units,
        formula="formula",
        composition=data.elements,
        without=tuple(card.composition.get("without", ())),
        process=tuple(column.name for column in data.process),
        features=data.features,
        card={key: data.summary()[key] for key in ("citation", "doi", "licence")},
        notes=tuple(notes),
        absent_at_zero=tuple(column.name for column in data.process if column.step and column.absent is None),
        log1p=tuple(column.name for column in data.process if column.scale == "log1p"),
        defects=card.defects,
    )


def _condition(condition: Any) -> str:
    if isinstance(condition, dict):
        return f"{condition.get('min', '-∞')} to {condition.get('max', '∞')}"
    return " or ".join(map(str, condition)) if isinstance(condition, list) else str(condition)


def labels_of(column: pd.Series) -> pd.Series:
    """Classes as they are written: whole numbers, which gaps elsewhere in a file turn into floats, are whole again."""
    whole = pd.api.types.is_float_dtype(column) and len(column) > 0 and bool((column % 1 == 0).all())
    return column.astype(int) if whole else column
