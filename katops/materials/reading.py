"""A raw table to a typed one: compositions from formulas or fractions, columns as the card says, cleaning."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError
from katops.materials.cards import Column, DataCard
from katops.materials.cleaning import CleaningStep, Draft, clean
from katops.materials.compositions import composition_keys
from katops.materials.formula import SYMBOLS, composition_key, parse_formula
from katops.materials.frames import load_pandas
from katops.materials.typed_table import MaterialsTable, input_keys

if TYPE_CHECKING:
    import pandas


def typed_table(card: DataCard, raw: "pandas.DataFrame", file: str, clean_rows: bool = True) -> MaterialsTable:
    """What a card makes of a raw table.

    Args:
        card: what the columns mean.
        raw: the table; its index names the rows in what the cleaning says.
        file: what messages call it.
        clean_rows: apply the cleaning rules of the card.

    Raises:
        UserError: a column is missing, a value is none of those the card explains, or no formula can be read.
    """
    pandas = load_pandas()
    columns = {column.name: _values(raw, column, file) for column in card.columns}
    texts, fractions, stored, unreadable = _compositions(raw, card, file)
    if len(unreadable) == len(raw):
        raise UserError(f"{file}: no formula can be read; {next(iter(unreadable.values()), 'there is none')}")
    parts = [texts.rename("formula"), fractions, pandas.DataFrame(columns, index=raw.index)]
    frame = pandas.concat(parts, axis=1).drop(index=list(unreadable))
    elements = tuple(fractions.columns)
    steps = []
    if unreadable:
        reason = "; ".join(unreadable.values())
        steps.append(CleaningStep("unreadable_formula", "dropped", tuple(unreadable), reason))
    if clean_rows:
        frame, more = clean(_draft(frame, elements, stored, card))
        steps += more
    table = MaterialsTable(frame, elements, card, tuple(steps))
    return table.select(np.ones(len(frame), dtype=bool))


def _draft(frame: "pandas.DataFrame", elements: Sequence[str], stored: "pandas.DataFrame", card: DataCard) -> Draft:
    """The frame with what the cleaning rules look at; rows of ``stored`` are those of the file."""
    pandas = load_pandas()
    kept = stored.loc[frame.index]
    if kept.shape[1]:
        sums = kept.sum(axis=1)
        normalised = kept.div(sums.where(sums > 0, 1.0), axis=0).reindex(columns=list(elements), fill_value=0.0)
        misread = (normalised - frame[list(elements)]).abs().max(axis=1)
    else:
        misread, sums = pandas.Series(0.0, frame.index), pandas.Series(1.0, frame.index)
    keys = composition_keys(frame[list(elements)].to_numpy(), elements)
    process = card.with_role("process")
    keys = input_keys(keys, frame, process) if process else keys
    return Draft(frame, sums, misread, pandas.Series(keys, frame.index), card)


def _compositions(
    raw: "pandas.DataFrame", card: DataCard, file: str
) -> "tuple[pandas.Series, pandas.DataFrame, pandas.DataFrame, dict[int, str]]":
    """Formulas, atomic fractions, the fractions as stored (no columns where there are none), and unreadable rows."""
    pandas = load_pandas()
    how = card.composition
    stored = _stored(raw, card)
    if "formula" not in how:
        fractions = stored.div(stored.sum(axis=1), axis=0)
        texts = [composition_key(dict(zip(stored.columns, row, strict=True))) for row in fractions.to_numpy()]
        return pandas.Series(texts, raw.index), fractions, stored, {}
    texts = raw[_column_name(raw, how["formula"], card, file)].astype(str).str.strip()
    rows, unreadable = {}, {}
    for row, text in texts.items():
        try:
            composition = parse_formula(text).without(*how.get("without", ()))
        except UserError as error:
            unreadable[row] = str(error)
        else:
            rows[row] = {symbol: float(value) for symbol, value in composition.fractions.items()}
    fractions = pandas.DataFrame.from_dict(rows, orient="index").reindex(raw.index).fillna(0.0)
    return texts, fractions[sorted(fractions)], stored, unreadable


def _stored(raw: "pandas.DataFrame", card: DataCard) -> "pandas.DataFrame":
    """Fraction columns of the file: those with the stated suffix, or those named by symbols."""
    suffix = card.composition.get("percent_suffix")
    if suffix:
        names = [name for name in raw if name.endswith(suffix)]
        return raw[names].rename(columns=lambda name: name.removesuffix(suffix)) / 100
    taken = {name for column in card.columns for name in column.source}
    fractions = card.composition.get("fractions", False)
    return raw[[name for name in raw if fractions and name in SYMBOLS and name not in taken]].astype(float)


def _values(raw: "pandas.DataFrame", column: Column, file: str) -> "pandas.Series":
    values = raw[_column_name(raw, column.source, column, file)]
    if column.map:
        known = values.dropna().astype(str)
        strange = sorted(set(known) - set(column.map))
        if strange:
            raise UserError(
                f"column {values.name!r} of {file} holds {', '.join(strange)}; allowed: {', '.join(column.map)}"
            )
        return values.astype(object).where(values.isna(), values.astype(str).map(column.map))
    if column.kind == "category":
        values = values.astype(object)
        return values.str.strip().str.lower() if column.role == "process" else values
    if column.kind == "integer":
        return values.astype(int)
    return values.astype(float) + column.offset


def _column_name(raw: "pandas.DataFrame", names: Sequence[str], owner: Any, file: str) -> str:
    found = next((name for name in names if name in raw), None)
    if found is None:
        raise UserError(
            f"{file} has no column {names[0]!r}, which the card of {owner.name!r} needs; "
            f"it has {', '.join(map(str, raw.columns[:12]))}{', ...' if raw.shape[1] > 12 else ''}"
        )
    return found
