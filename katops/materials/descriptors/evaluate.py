"""Descriptors of many compositions: tensors to tensors (differentiable), arrays to arrays, formulas to tables."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from katops.errors import UserError
from katops.materials.compositions import check_fractions, check_symbols, composition_table
from katops.materials.descriptors.catalogue import PAIRS, Descriptor, descriptor, descriptor_names
from katops.materials.elements import ElementTable, PairTable, element_table, pair_table
from katops.materials.frames import load_pandas

if TYPE_CHECKING:
    import pandas

    from katops.materials.typed_table import MaterialsTable

ROWS_AT_ONCE = 256
"""Rows of an array that are computed together: sums over pairs take elements² numbers a row."""


def describe(
    fractions: Tensor | np.ndarray,
    elements: Sequence[str],
    names: str | Iterable[str] = "phase",
    *,
    properties: ElementTable | None = None,
    pairs: PairTable | None = None,
    missing: str = "raise",
) -> Tensor | np.ndarray:
    """Descriptors of atomic fractions ``(n, elements)`` as ``(n, names)``.

    Args:
        fractions: a tensor, of any float type and on any device, gives a tensor that is differentiable in it; an array
            gives a float64 array.
        elements: symbols of the columns.
        names: a list of descriptors and sets, or one set: ``phase``, ``strength``, ``elastic``, ``named`` (those with
            a name of their own), ``statistics`` and ``moments`` (of every property of the table), ``all``.
        properties: element table; default :func:`~katops.materials.elements.element_table`.
        pairs: pair enthalpies; default :func:`~katops.materials.elements.pair_table`.
        missing: "raise", or "nan" where a row needs a property or a pair that the tables do not hold. A tensor that
            requires a gradient needs them for every element, present or not.

    Raises:
        UserError: a name is unknown, a symbol is none, the shape is wrong, fractions (of an array) are negative or do
            not sum to 1, or something is missing.
    """
    if missing not in ("raise", "nan"):
        raise UserError(f"missing must be 'raise' or 'nan', got {missing!r}")
    elements = list(elements)
    properties, pairs = properties or element_table(), pairs or pair_table()
    entries = [descriptor(name, properties) for name in descriptor_names(names, properties)]
    if isinstance(fractions, Tensor):
        _check_tensor(fractions, elements)
        return _Inputs(fractions, elements, properties, pairs, missing, 0).evaluate(entries)
    array = np.array(fractions, dtype=float)
    check_fractions(array, elements)
    result = np.empty((len(array), len(entries)))
    for start in range(0, len(array), ROWS_AT_ONCE):
        rows = array[start : start + ROWS_AT_ONCE]
        there = np.flatnonzero((rows > 0).any(axis=0))  # what no row holds would only be multiplied by 0
        values, symbols = torch.from_numpy(rows[:, there]), [elements[number] for number in there]
        part = _Inputs(values, symbols, properties, pairs, missing, start).evaluate(entries)
        result[start : start + ROWS_AT_ONCE] = part.numpy()
    return result


def descriptor_table(
    alloys: "MaterialsTable | pandas.DataFrame | Iterable[str]",
    names: str | Iterable[str] = "phase",
    *,
    properties: ElementTable | None = None,
    pairs: PairTable | None = None,
    missing: str = "raise",
) -> "pandas.DataFrame":
    """Descriptors as a table with units.

    Args:
        alloys: formulas; or a frame whose columns are elements and whose values are atomic fractions; or a data set.
        names, properties, pairs, missing: as for :func:`describe`.

    Returns:
        One row an alloy (the index of a frame or series is kept), one float64 column a descriptor. ``attrs["units"]``
        has the unit of every column, ``attrs["tables"]`` the names of the tables that the numbers depend on.

    Raises:
        UserError: as :func:`describe`, or a formula cannot be read.
    """
    from katops.materials.typed_table import MaterialsTable

    pandas = load_pandas()
    if isinstance(alloys, MaterialsTable):
        alloys = alloys.fractions
    fractions = alloys if isinstance(alloys, pandas.DataFrame) else composition_table(alloys)
    properties, pairs = properties or element_table(), pairs or pair_table()
    chosen = descriptor_names(names, properties)
    values = describe(
        fractions.to_numpy(dtype=float),
        [str(name) for name in fractions.columns],
        chosen,
        properties=properties,
        pairs=pairs,
        missing=missing,
    )
    table = pandas.DataFrame(values, columns=list(chosen), index=fractions.index)
    table.attrs["units"] = {name: descriptor(name, properties).unit for name in chosen}
    table.attrs["tables"] = {"elements": properties.name, "pairs": pairs.name}
    return table


def _check_tensor(fractions: Tensor, elements: list[str]) -> None:
    """Shape and type only: an optimiser may leave the simplex for a moment."""
    check_symbols(elements)
    if fractions.ndim != 2 or fractions.shape[1] != len(elements) or not fractions.is_floating_point():
        raise UserError(
            f"fractions must be a float tensor of the shape (rows, {len(elements)} elements), got "
            f"{tuple(fractions.shape)} of {fractions.dtype}"
        )


class _Inputs:
    """Fractions and the properties that descriptors read, with what is unknown either refused or marked."""

    def __init__(
        self,
        fractions: Tensor,
        elements: list[str],
        properties: ElementTable,
        pairs: PairTable,
        missing: str,
        first_row: int,
    ) -> None:
        self.fractions, self.elements, self.first_row = fractions, elements, first_row
        self.properties, self.pairs, self.missing = properties, pairs, missing
        needed = fractions.detach() > 0
        self.needed = torch.ones_like(needed) if fractions.requires_grad else needed
        self._known: dict[str, tuple[Tensor, Tensor]] = {}

    def evaluate(self, entries: Sequence[Descriptor]) -> Tensor:
        columns = [self._column(entry) for entry in entries]
        return torch.stack(columns, dim=-1) if columns else self.fractions.new_zeros((self.fractions.shape[0], 0))

    def _column(self, entry: Descriptor) -> Tensor:
        unknown = torch.zeros(self.fractions.shape[0], dtype=torch.bool, device=self.fractions.device)
        values = []
        for name in entry.inputs:
            value, rows = self._input(name)
            values.append(value)
            unknown = unknown | rows
        result = entry.function(self.fractions, *values)
        return torch.where(unknown, torch.nan, result) if unknown.any() else result

    def _input(self, name: str) -> tuple[Tensor, Tensor]:
        """A property or the pairs, harmless numbers where they are unknown, and the rows that would need those."""
        if name not in self._known:
            pairs = name == PAIRS
            table = self.pairs.matrix(self.elements) if pairs else self.properties.column(name, self.elements)
            value = torch.as_tensor(table, dtype=self.fractions.dtype, device=self.fractions.device)
            gaps = value.isnan()
            if pairs:
                rows = torch.einsum("ni,ij,nj->n", self.needed.double(), gaps.double(), self.needed.double()) > 0
            else:
                rows = (self.needed & gaps).any(-1)
            if self.missing == "raise" and rows.any():
                raise self._missing(name, gaps, int(rows.int().argmax()))
            self._known[name] = value.masked_fill(gaps, 0.0 if pairs else 1.0), rows
        return self._known[name]

    def _missing(self, name: str, gaps: Tensor, row: int) -> UserError:
        there = [number for number, needed in enumerate(self.needed[row].tolist()) if needed]
        if name == PAIRS:
            number, other = next((i, j) for i in there for j in there if gaps[i, j])
            what = f"pair table {self.pairs.name!r} has no enthalpy for {self.elements[number]}-{self.elements[other]}"
        else:
            number = next(number for number in there if gaps[number])
            what = f"element table {self.properties.name!r} has no {name} for {self.elements[number]}"
        alloy = "".join(
            f"{self.elements[number]}{self.fractions[row, number].item():.4g}"
            for number in there
            if self.fractions[row, number] > 0
        )
        place = f"row {self.first_row + row} ({alloy})"
        return UserError(f"{place}: {what}; leave the row out, say missing='nan', or give a table that holds it")
