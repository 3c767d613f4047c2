"""One matrix of inputs from a data set: fractions, descriptors, features of the source, treatments, test conditions."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from katops.errors import UserError, did_you_mean
from katops.materials.cards import Column
from katops.materials.descriptors import descriptor_table
from katops.materials.elements import ElementTable, PairTable
from katops.materials.frames import load_pandas
from katops.materials.typed_table import MaterialsTable

if TYPE_CHECKING:
    import pandas


def design_table(
    table: MaterialsTable,
    *,
    fractions: bool = True,
    descriptors: str | Iterable[str] = (),
    features: bool | Iterable[str] = False,
    process: bool = True,
    fill: Mapping[str, float] | None = None,
    properties: ElementTable | None = None,
    pairs: PairTable | None = None,
    missing: str = "raise",
) -> "pandas.DataFrame":
    """Stack the inputs of a data set into one table of numbers.

    A treatment that was not applied is no number: each step becomes an indicator ``<step>_applied`` (0 or 1), and its
    values stand at a constant where it is 0. That constant is the column's own zero where it has one (no cold rolling
    is 0 % reduction, no annealing takes 0 h); for temperatures it is the median over the rows with the step. Times
    enter as ``ln(1 + t)``; classes (processing, type of test) as one indicator each, all 0 where they are unknown.
    Unknown numbers (a test temperature that is not reported) stay NaN.

    Args:
        table: the rows.
        fractions: take the atomic fractions.
        descriptors: names or a set of names, see :func:`~katops.materials.descriptors.describe`.
        features: take the descriptors that come with the data set: all of them, or those named.
        process: take treatments and test conditions.
        fill: constants for absent steps; give ``X.attrs["fill"]`` of the training rows to treat new rows the same.
        properties, pairs, missing: as for :func:`~katops.materials.descriptors.describe`.

    Returns:
        float64, index of ``table.frame``; ``attrs["units"]`` (unit of every column, empty for pure numbers),
        ``attrs["fill"]``, and ``attrs["tables"]`` where there are descriptors.

    Raises:
        UserError: nothing is chosen, a feature is unknown, or a descriptor cannot be computed.
    """
    pandas = load_pandas()
    parts, units, attrs = [], {}, {}
    if fractions:
        parts.append(table.fractions)
        units |= dict.fromkeys(table.elements, "atomic fraction")
    if descriptors:
        computed = descriptor_table(table, descriptors, properties=properties, pairs=pairs, missing=missing)
        parts.append(computed)
        units |= computed.attrs["units"]
        attrs["tables"] = computed.attrs["tables"]
    chosen = _features(table, features)
    if chosen:
        parts.append(table.frame[chosen])
        units |= {name: table.units.get(name, "") for name in chosen}
    attrs["fill"] = {}
    if process and table.process:
        columns, attrs["fill"] = _process_columns(table, fill or {})
        parts.append(pandas.DataFrame({name: values for name, (values, _) in columns.items()}, table.frame.index))
        units |= {name: unit for name, (_, unit) in columns.items()}
    if not parts:
        raise UserError("the design table would be empty; take fractions, descriptors, features or process")
    design = pandas.concat([part.astype(float) for part in parts], axis=1)
    twice = sorted(set(design.columns[design.columns.duplicated()]))
    if twice:
        raise UserError(f"{', '.join(twice)} would be there twice: computed, and as the source's feature; drop one")
    design.attrs = {"units": units, **attrs}
    return design


def _features(table: MaterialsTable, features: bool | Iterable[str]) -> list[str]:
    if isinstance(features, bool):
        return list(table.features) if features else []
    chosen = list(dict.fromkeys(features))
    for name in chosen:
        if name not in table.features:
            have = ", ".join(table.features) or "none"
            guess = did_you_mean(name, table.features)
            raise UserError(f"data set {table.card.name!r} has no feature {name!r}{guess} It has: {have}")
    return chosen


def _process_columns(
    table: MaterialsTable, fill: Mapping[str, float]
) -> tuple[dict[str, tuple[np.ndarray, str]], dict[str, float]]:
    """Columns with their units, and the constants that stand for absent steps."""
    columns: dict[str, tuple[np.ndarray, str]] = {}
    used: dict[str, float] = {}
    for column in table.process:
        values = table.frame[column.name]
        if column.kind == "category":
            for value in sorted(values.dropna().unique()):
                columns[f"{column.name}={value}"] = (values == value).to_numpy(dtype=float), ""
            continue
        numbers = values.to_numpy(dtype=float)
        if column.step:
            applied = _applied(table, column.step)
            columns[f"{column.step}_applied"] = applied.astype(float), ""
            used[column.name] = _constant(column, numbers[applied], fill)
            numbers = np.where(applied, numbers, used[column.name])
        if column.scale == "log1p":
            columns[f"log1p_{column.name}"] = np.log1p(numbers), f"ln(1 + {column.unit})"
        else:
            columns[column.name] = numbers, column.unit
    return columns, used


def _applied(table: MaterialsTable, step: str) -> np.ndarray:
    names = [column.name for column in table.process if column.step == step]
    return (table.frame[names] > 0).any(axis=1).to_numpy()


def _constant(column: Column, applied: np.ndarray, fill: Mapping[str, float]) -> float:
    if column.name in fill:
        return float(fill[column.name])
    if column.absent is not None:
        return column.absent
    return float(np.median(applied)) if applied.size else 0.0
