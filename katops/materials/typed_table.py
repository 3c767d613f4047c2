"""A table of alloys or ceramics that knows what its columns are."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError, did_you_mean
from katops.materials.cards import Column, DataCard
from katops.materials.cleaning import CleaningStep
from katops.materials.compositions import composition_keys, system_keys

if TYPE_CHECKING:
    import pandas

GROUPINGS = ("inputs", "composition", "system", "reference")


@dataclass(frozen=True)
class MaterialsTable:
    """A data set that knows what its columns are.

    Attributes:
        frame: one row an alloy and test; the index (``row``) is the row's number in the file. Columns: ``formula``, an
            atomic fraction per element (of carbides: of the metals), then those of ``card.columns``.
        elements: the columns with atomic fractions.
        card: source, licence, units, known defects.
        cleaning: what was dropped, merged or noticed on reading.
    """

    frame: "pandas.DataFrame"
    elements: tuple[str, ...]
    card: DataCard
    cleaning: tuple[CleaningStep, ...] = ()

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns that can be predicted."""
        return tuple(column.name for column in self.card.with_role("target"))

    @property
    def process(self) -> tuple[Column, ...]:
        """Treatments and conditions of the test."""
        return self.card.with_role("process")

    @property
    def features(self) -> tuple[str, ...]:
        """Descriptors that come with the data set."""
        return tuple(column.name for column in self.card.with_role("feature"))

    @property
    def units(self) -> dict[str, str]:
        """Unit of every column that has one."""
        units = {column.name: column.unit for column in self.card.columns if column.unit}
        return {**dict.fromkeys(self.elements, "atomic fraction"), **units}

    @property
    def fractions(self) -> "pandas.DataFrame":
        """Atomic fractions, one column an element."""
        return self.frame[list(self.elements)]

    def with_target(self, *names: str) -> "MaterialsTable":
        """The rows in which all of these targets are known.

        Raises:
            UserError: the table has no such target, or no row with it.
        """
        for name in names:
            if name not in self.targets:
                raise UserError(
                    f"data set {self.card.name!r} has no target {name!r}{did_you_mean(name, self.targets)} "
                    f"It has {', '.join(self.targets)}."
                )
        return self.select(self.frame[list(names)].notna().all(axis=1))

    def select(self, rows: "pandas.Series | np.ndarray") -> "MaterialsTable":
        """The rows where a condition on :attr:`frame` holds; elements that occur nowhere any more are left out.

        Raises:
            UserError: no row is left, or ``rows`` is not one truth value a row, in the order of the rows.
        """
        if hasattr(rows, "index") and not rows.index.equals(self.frame.index):
            raise UserError("the condition is of other rows, or of another order, than the table; build it from .frame")
        mask = np.asarray(rows)
        if mask.shape != (len(self.frame),) or mask.dtype != bool:
            raise UserError(
                f"the condition must be {len(self.frame)} truth values, got {mask.dtype} of the shape {mask.shape}"
            )
        frame = self.frame[mask]
        if frame.empty:
            raise UserError(f"no row of data set {self.card.name!r} is left under this condition")
        gone = [symbol for symbol in self.elements if not frame[symbol].any()]
        elements = tuple(symbol for symbol in self.elements if symbol not in gone)
        return replace(self, frame=frame.drop(columns=gone), elements=elements)

    def keys(self, grouping: str = "inputs") -> list[str]:
        """What rows have in common that belong into one fold.

        Args:
            grouping: "inputs" (composition, treatments and test conditions; for data sets without them the
                composition), "composition", "system" or "reference" (rows without one stand alone).

        Raises:
            UserError: the grouping is unknown, or the data set has no references.
        """
        if grouping not in GROUPINGS:
            raise UserError(f"unknown grouping {grouping!r}; allowed: {', '.join(GROUPINGS)}")
        if grouping == "system":
            return system_keys(self.fractions.to_numpy(), self.elements)
        if grouping == "reference":
            if "reference" not in self.frame:
                raise UserError(f"data set {self.card.name!r} has no references; group by composition or system")
            known = self.frame["reference"].notna()
            return self.frame["reference"].where(known, self.keys("inputs")).tolist()
        keys = composition_keys(self.fractions.to_numpy(), self.elements)
        if grouping == "composition" or not self.process:
            return keys
        return input_keys(keys, self.frame, self.process)

    def summary(self) -> dict[str, Any]:
        """The card with what was read: rows, elements, known and missing values, repeats, the cleaning; plain JSON.

        ``missing`` counts the gaps of every column that has some, ``repeated`` the rows whose inputs another row has.
        """
        card = self.card
        gaps = self.frame[[column.name for column in card.columns if column.name in self.frame]].isna().sum()
        keys = self.keys("inputs")
        return {
            "name": card.name,
            "title": card.title,
            "citation": card.citation,
            "doi": card.doi,
            "licence": card.licence,
            "rows": len(self.frame),
            "compositions": len(set(self.keys("composition"))),
            "elements": {symbol: int((self.frame[symbol] > 0).sum()) for symbol in self.elements},
            "targets": {name: int(self.frame[name].notna().sum()) for name in self.targets},
            "missing": {str(name): int(count) for name, count in gaps.items() if count},
            "repeated": len(keys) - len(set(keys)),
            "units": self.units,
            "cleaning": [
                {"rule": step.rule, "action": step.action, "rows": list(step.rows), "reason": step.reason}
                for step in self.cleaning
            ],
            "defects": list(card.defects),
        }


def input_keys(compositions: Sequence[str], frame: "pandas.DataFrame", process: Sequence[Column]) -> list[str]:
    """Compositions with treatments and test conditions, as JSON: what a model could know of a row."""
    names = [column.name for column in process]
    settings = frame[names].astype(object).where(frame[names].notna(), None).to_numpy()
    return [
        json.dumps([key, *row], ensure_ascii=False) for key, row in zip(compositions, settings.tolist(), strict=True)
    ]
