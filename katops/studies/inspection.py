"""What a CSV file holds, as ``katops inspect`` shows it: every column with its values and gaps, and a study of it."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from katops.errors import UserError
from katops.materials.formula import parse_formula
from katops.studies.features import numbers_rows, unfit
from katops.studies.table import read_csv

ENDINGS = (".csv", ".tsv")
LISTED = 4
FORMULA_SHARE = 0.95
"""A column of text is taken for one of formulas if at least this share of its values can be read as such."""
TESTED = 200
ROW_NUMBER = "row number"


@dataclass(frozen=True)
class ColumnCard:
    """One column: name, kind (number, row number, class, formula, text, empty), how many are missing, and values."""

    name: str
    kind: str
    missing: int
    distinct: int
    values: str


def column_cards(frame: pd.DataFrame) -> list[ColumnCard]:
    """A card for every column, in order."""
    return [_card(str(name), frame[name]) for name in frame.columns]


def inspect_table(path: str | Path, console: Console) -> None:
    """Print the columns of a CSV file, repeated rows, and a configuration that can be run after a look at it.

    Raises:
        UserError: the file cannot be read as a table.
    """
    frame = read_csv(path)
    cards = column_cards(frame)
    shown = RichTable(title=escape(f"{path}: {len(frame):,} rows, {len(cards)} columns"), title_justify="left")
    for name in ("column", "kind", "missing", "different", "values"):
        shown.add_column(name, justify="right" if name in ("missing", "different") else "left")
    for card in cards:
        cells = (card.name, card.kind, f"{card.missing:,}", f"{card.distinct:,}", card.values)
        shown.add_row(*map(escape, cells))
    console.print(shown)
    repeated = int(frame.duplicated().sum())
    if repeated:
        console.print(f"{repeated:,} rows are equal to an earlier one", highlight=False)
    for card in cards:
        if card.kind == ROW_NUMBER:
            console.print(
                f"warning: {card.name} numbers the rows; studies leave it out unless data.features.columns names it",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
    console.print(proposal(path, frame, cards), markup=False, highlight=False, soft_wrap=True)


def proposal(path: str | Path, frame: pd.DataFrame, cards: list[ColumnCard]) -> str:
    """A study with the last usable column as its target, and columns that repeat as groups to hold out."""
    usable = [card for card in cards if card.kind in ("number", "class") and card.distinct > 1]
    if not usable:
        raise UserError(f"{str(path)!r} has no column that could be predicted: numbers, or text with few values")
    formula = next((card.name for card in cards if card.kind == "formula"), None)
    lines = ["", "task: tables", f"name: {Path(path).stem}", "data:", f"  file: {path}"]
    lines.append(f"  target: {_yaml(usable[-1].name)} # the last column: is that the one?")
    lines += [f"  formula: {_yaml(formula)}"] if formula else []
    schemes = "{schemes: [random, composition]}" if formula else "{schemes: [random]}"
    return "\n".join([*lines, f"folds: {schemes} # and columns whose values belong together, if any"])


def _card(name: str, column: pd.Series) -> ColumnCard:
    known = column.dropna()
    kind = _kind(column)
    if kind in ("number", ROW_NUMBER):
        values = f"{known.min():g} to {known.max():g}, median {known.median():g}" if len(known) else ""
    else:
        frequent = known.astype(str).value_counts()
        values = ", ".join(frequent.index[:LISTED]) + (", ..." if len(frequent) > LISTED else "")
    return ColumnCard(name, kind, int(column.isna().sum()), int(known.nunique()), values)


def _kind(column: pd.Series) -> str:
    if column.isna().all():
        return "empty"
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return ROW_NUMBER if numbers_rows(column) else "number"
    tested = column.dropna().astype(str).unique()[:TESTED]
    if len(tested) > 2 and sum(map(_is_formula, tested)) >= FORMULA_SHARE * len(tested):
        return "formula"
    return "text" if unfit(column) else "class"


def _is_formula(text: str) -> bool:
    try:
        return len(parse_formula(text).elements) > 1
    except UserError:
        return False


def _yaml(name: str) -> str:
    """A name as a YAML scalar."""
    return name if name.replace("_", "").isalnum() and not name.isdigit() else '"' + name.replace('"', '\\"') + '"'
