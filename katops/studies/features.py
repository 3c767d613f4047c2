"""What the models are given of a table: the design table, one row per row, one column per feature."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from katops.config.tables import FeatureConfig, TableDataConfig
from katops.errors import UserError
from katops.materials.descriptors import descriptor_table
from katops.materials.elements import carbide_table
from katops.studies.compositions import fractions
from katops.studies.table import Table, require

DISTINCT_SHARE = 0.5
"""A column of text with more distinct values than this share of the rows names the rows instead of describing them."""
MOST_LEVELS = 50
LEAST_COUNTED = 20
"""In shorter tables a column 0, 1, 2, ... may well be a series of measurements, and is a feature."""
NUMBERING = re.compile(r"(?i)(index|idx|no\.?|nr\.?|row|#|unnamed: \d+|(.*[ _.-])?id)\s*")
"""Names of columns that number rows: "sample_id", too, but not "atomic no", which tells elements apart as well."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Design:
    """The design table.

    Attributes:
        frame: features; numbers, and text as categories.
        units: of features, where they are known.
        plain: the columns of the table that are among the features, before their treatment.
        absent_at_zero, log1p: those that are treated so.
        notes: sentences about columns that were left out or changed.
    """

    frame: pd.DataFrame
    units: dict[str, str]
    plain: tuple[str, ...]
    absent_at_zero: tuple[str, ...] = ()
    log1p: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def design(table: Table, config: TableDataConfig, roles: frozenset[str] = frozenset()) -> Design:
    """The design table of a configuration.

    Args:
        table: the rows; targets may be absent where rows are only to be predicted.
        config: whose ``features`` say what is used.
        roles: further columns that are no features, such as those that rows are grouped by.

    Raises:
        UserError: a column does not exist, a formula cannot be read, or nothing is left.
    """
    features = config.features
    frame = table.frame
    for key in ("columns", "drop", "absent_at_zero", "log1p"):
        require(frame, getattr(features, key) or [], f"data.features.{key}")
    plain, notes = _plain_columns(table, config, roles)
    known = _named(table, features)
    parts = [_composition_features(table, config), _treated(frame[plain], known)]
    units = {**table.units, **(parts[0].attrs.get("units", {}) if parts[0] is not None else {})}
    joined = pd.concat([part for part in parts if part is not None], axis=1)
    if not joined.shape[1]:
        told = f" ({'; '.join(notes)})" if notes else ""
        raise UserError(f"data.features: no column is left to predict from; name some in data.features.columns{told}")
    doubled = joined.columns[joined.columns.duplicated()].tolist()
    if doubled:
        raise UserError(f"data.features: {doubled[0]!r} would be there twice; drop one in data.features.drop")
    incomplete = [name for name in joined.columns if name not in plain and joined[name].isna().all()]
    if incomplete:
        notes.append(f"{', '.join(incomplete)} cannot be computed for any row: a property of an element is not known")
        joined = joined.drop(columns=incomplete)
    units = {name: units[name] for name in joined.columns if units.get(name)}
    return Design(joined, units, tuple(plain), tuple(known.absent_at_zero), tuple(known.log1p), tuple(notes))


def _plain_columns(table: Table, config: TableDataConfig, roles: frozenset[str]) -> tuple[list[str], list[str]]:
    """The columns that are features as they are, and what is to be said about those that are not."""
    features, frame = config.features, table.frame
    if features.columns is not None:
        return [name for name in features.columns if name not in features.drop], []
    special = {*config.target, *features.drop, *roles, *table.composition, *table.process, *table.features}
    special |= {name for name, condition in config.filter.items() if not isinstance(condition, dict)}
    special |= {table.formula} if table.formula else set()
    names = [*(table.process if features.process else ()), *table.features]
    if config.materials is None:
        names += [name for name in frame.columns if name not in special]
    notes, kept = [], []
    for name in [name for name in names if name not in features.drop]:
        reason = unfit(frame[name])
        if reason:
            notes.append(f"{name} is not used: {reason}; data.features.columns can ask for it")
        else:
            kept.append(name)
    return kept, notes


def unfit(column: pd.Series) -> str:
    """Why a column that nobody asked for is no feature; "" where it is one."""
    if column.isna().all():
        return "it is empty"
    if pd.api.types.is_numeric_dtype(column):
        return "it numbers the rows" if numbers_rows(column) else ""
    levels = column.nunique()
    if levels > MOST_LEVELS or levels > max(2, DISTINCT_SHARE * column.notna().sum()):
        return f"it is text with {levels:,} different values"
    return ""


def numbers_rows(column: pd.Series) -> bool:
    """Whether a column tells rows apart instead of describing them.

    That is: whole numbers, all different, that are the places of the rows in the file, from 0 or 1, or that are called
    so (:data:`NUMBERING`). A model could only learn the order of the rows from them.
    """
    if pd.api.types.is_bool_dtype(column) or not column.is_unique or not (column % 1 == 0).all():
        return False
    counted = len(column) >= LEAST_COUNTED and bool(((column - column.index) == column.iloc[0] - column.index[0]).all())
    return (counted and column.iloc[0] - column.index[0] in (0, 1)) or bool(NUMBERING.fullmatch(str(column.name)))


def _treated(frame: pd.DataFrame, features: FeatureConfig) -> pd.DataFrame:
    """Columns after ``absent_at_zero`` and ``log1p``; text as categories, truth values as numbers."""
    columns: dict[str, pd.Series] = {}
    for name in frame.columns:
        column = frame[name]
        if pd.api.types.is_bool_dtype(column):
            column = column.astype(float)
        elif not pd.api.types.is_numeric_dtype(column):
            # What is not known is a class of its own, in every model alike.
            columns[name] = column.astype(str).where(column.notna(), UNKNOWN).astype("category")
            continue
        else:
            column = column.astype(float)
        if name in features.log1p:
            _refuse_below(column, -1.0, name)
            column = np.log1p(column)
        if name in features.absent_at_zero:
            # A step that was left out has no value; how that is told to a model is the same as for any missing value.
            column = column.where(frame[name] != 0)
        columns[f"log1p {name}" if name in features.log1p else name] = column
    return pd.DataFrame(columns, index=frame.index)


def _named(table: Table, features: FeatureConfig) -> FeatureConfig:
    """With the treatments that are known of the table."""
    treated = {
        "absent_at_zero": list(dict.fromkeys([*features.absent_at_zero, *table.absent_at_zero])),
        "log1p": list(dict.fromkeys([*features.log1p, *table.log1p])),
    }
    return features.model_copy(update=treated)


def _refuse_below(column: pd.Series, bound: float, name: str) -> None:
    if (column <= bound).any():
        raise UserError(f"data.features.log1p: {name!r} holds {column.min():g}, which has no log(1 + x)")


def _composition_features(table: Table, config: TableDataConfig) -> pd.DataFrame | None:
    """Fractions of the elements and what is computed of them, as far as they are asked for."""
    features = config.features
    if not (table.formula or table.composition):
        if features.descriptors:
            raise UserError(
                "data.features.descriptors: descriptors are computed of compositions; say in data.formula which column "
                "holds formulas, or in data.composition which columns hold amounts of elements"
            )
        return None
    found = fractions(table)
    if not features.descriptors:
        return found if features.fractions else None
    properties = carbide_table() if features.properties == "carbides" else None
    computed = descriptor_table(found, features.descriptors, properties=properties, missing="nan")
    if not features.fractions:
        return computed
    both = pd.concat([found, computed], axis=1)
    both.attrs["units"] = computed.attrs["units"]
    return both
