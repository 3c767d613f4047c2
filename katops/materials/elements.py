"""Properties of the elements and enthalpies of their pairs, with units, source and the name of the table."""

import csv
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import numpy as np

from katops.errors import UserError, did_you_mean

UNITS = {
    "radius": "pm",
    "melting_temperature": "K",
    "valence_electrons": "electrons/atom",
    "electronegativity": "Pauling",
    "molar_volume": "cm³/mol",
    "bulk_modulus": "GPa",
    "shear_modulus": "GPa",
    "itinerant_electrons": "electrons/atom",
    "atomic_mass": "g/mol",
}
"""The properties of the shipped element table, and their units."""

CARBIDE_UNITS = {
    "carbide_energy": "eV/formula unit",
    "carbide_volume": "Å³/formula unit",
    "carbide_elastic_constant_11": "GPa",
    "carbide_elastic_constant_12": "GPa",
    "carbide_elastic_constant_44": "GPa",
    "carbide_mass": "amu/formula unit",
    "carbide_density": "amu/Å³",
    "carbide_valence_electrons": "electrons/formula unit",
    "carbide_electronegativity": "Pauling, sum of a formula unit",
    "metal_group": "",
    "metal_period": "",
    "carbide_allen_electronegativity": "Allen, sum of a formula unit",
    "carbide_melting_temperature": "K",
    "carbide_bulk_modulus": "GPa",
    "carbide_shear_modulus": "GPa",
    "carbide_young_modulus": "GPa",
    "carbide_hardness": "GPa",
}
"""The properties of the shipped table of carbides, and their units."""


@dataclass(frozen=True)
class ElementTable:
    """Properties of the elements.

    Attributes:
        name: what results computed from this table are labelled with.
        values: property -> symbol -> value; what is not listed is unknown.
        units: property -> unit.
    """

    name: str
    values: Mapping[str, Mapping[str, float]] = field(repr=False)
    units: Mapping[str, str] = field(repr=False)

    def column(self, name: str, elements: Sequence[str]) -> np.ndarray:
        """One property of the given elements, NaN where it is unknown.

        Raises:
            UserError: the table has no such property.
        """
        if name not in self.values:
            raise UserError(
                f"element table {self.name!r} has no property {name!r}{did_you_mean(name, self.values)} "
                f"It holds {', '.join(self.values)}; add yours with with_property"
            )
        known = self.values[name]
        return np.array([known.get(symbol, np.nan) for symbol in elements], dtype=float)

    @property
    def complete(self) -> tuple[str, ...]:
        """The properties that are known of every element of the table."""
        elements = {symbol for values in self.values.values() for symbol in values}
        return tuple(name for name, values in self.values.items() if len(values) == len(elements))

    def with_property(self, name: str, values: Mapping[str, float], unit: str, source: str) -> "ElementTable":
        """This table with one more property (prices, cohesive energies, other radii), or with one replaced.

        Args:
            name: the property; ``radius`` replaces the radii, and every descriptor that reads them follows.
            values: symbol -> value; elements left out are unknown.
            unit: its unit.
            source: where the values are from; it becomes part of the table's name.
        """
        merged = {**self.values, name: {symbol: float(value) for symbol, value in values.items()}}
        return ElementTable(f"{self.name} + {name} of {source}", merged, {**self.units, name: unit})


@dataclass(frozen=True)
class PairTable:
    """Mixing enthalpies of equiatomic liquid pairs (kJ/mol), after Miedema.

    Attributes:
        name: what results computed from this table are labelled with.
        values: sorted pair of symbols -> enthalpy; what is not listed is unknown, never zero.
    """

    name: str
    values: Mapping[tuple[str, str], float] = field(repr=False)

    def pair(self, first: str, second: str) -> float:
        """The enthalpy of one pair.

        Raises:
            UserError: the table does not hold the pair.
        """
        key = (min(first, second), max(first, second))
        if key not in self.values:
            raise UserError(f"pair table {self.name!r} has no enthalpy for {first}-{second}; leave the alloy out")
        return self.values[key]

    def matrix(self, elements: Sequence[str]) -> np.ndarray:
        """All pairs ``(elements, elements)``: symmetric, zero on the diagonal, NaN where a pair is unknown."""
        values = np.zeros((len(elements), len(elements)))
        for row, first in enumerate(elements):
            for column, second in enumerate(elements[:row]):
                value = self.values.get((min(first, second), max(first, second)), np.nan)
                values[row, column] = values[column, row] = value
        return values


@functools.cache
def element_table() -> ElementTable:
    """The shipped table of 57 elements, ``katops-elements-1`` (sources: ``katops/materials/tables/README.md``)."""
    return _element_table("katops-elements-1", "elements.csv", UNITS)


@functools.cache
def carbide_table() -> ElementTable:
    """Properties of nine rock-salt carbides by their metal (DFT), ``carbides-zhang2024``: for carbides, whose
    composition is that of the metals. ``descriptor_table(alloys, "moments", properties=carbide_table())`` gives mean
    and deviation of each.
    """
    return _element_table("carbides-zhang2024", "carbides.csv", CARBIDE_UNITS)


@functools.cache
def pair_table() -> PairTable:
    """The shipped table of Miedema's pair enthalpies, ``miedema-pairs-matminer``."""
    rows = _read("pair_enthalpies.csv")
    values = {(row["first"], row["second"]): float(row["mixing_enthalpy"]) for row in rows}
    return PairTable("miedema-pairs-matminer", values)


def _element_table(name: str, file: str, units: Mapping[str, str]) -> ElementTable:
    rows = _read(file)
    values = {column: {row["element"]: float(row[column]) for row in rows if row[column]} for column in units}
    return ElementTable(name, values, units)


def _read(name: str) -> list[dict[str, str]]:
    text = (resources.files("katops.materials") / "tables" / name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
