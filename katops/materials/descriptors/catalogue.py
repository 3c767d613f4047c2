"""All descriptors by name: unit, equation, the rule of thumb in the literature, and the properties they read."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from katops.errors import UserError, did_you_mean
from katops.materials.descriptors import elasticity, geometry, thermodynamics
from katops.materials.descriptors.numerics import mean
from katops.materials.descriptors.statistics import STATISTICS, deviation
from katops.materials.elements import ElementTable

PAIRS = "pairs"
"""Stands among the inputs of a descriptor for the matrix of pair enthalpies."""


@dataclass(frozen=True)
class Descriptor:
    """One number computed from a composition.

    Attributes:
        name: in tables.
        unit: empty for pure numbers.
        equation: in the notation of the field.
        function: called with the fractions and then the inputs.
        inputs: properties of the element table, or :data:`PAIRS`.
        rule: what the literature reads from it.
    """

    name: str
    unit: str
    equation: str
    function: Callable[..., Tensor]
    inputs: tuple[str, ...] = ()
    rule: str = ""


_THERMODYNAMIC = (
    Descriptor(
        "mixing_entropy",
        "J/mol/K",
        "-R Σ c_i ln c_i",
        thermodynamics.mixing_entropy,
        rule="HEA ≥ 1.5 R = 12.5, medium-entropy alloys 1 to 1.5 R",
    ),
    Descriptor(
        "mixing_enthalpy",
        "kJ/mol",
        "Σ_{i<j} 4 H_ij c_i c_j",
        thermodynamics.mixing_enthalpy,
        (PAIRS,),
        "solid solution for -15 < ΔH < 5",
    ),
    Descriptor("mean_melting_temperature", "K", "Σ c_i T_i", mean, ("melting_temperature",)),
    Descriptor(
        "omega",
        "",
        "T_m ΔS / (1000 |ΔH|), at most 1000",
        thermodynamics.omega,
        (PAIRS, "melting_temperature"),
        "solid solution for Ω ≥ 1.1",
    ),
    Descriptor(
        "inverse_omega",
        "",
        "1000 |ΔH| / (T_m ΔS)",
        thermodynamics.inverse_omega,
        (PAIRS, "melting_temperature"),
        "solid solution for 1/Ω ≤ 0.91",
    ),
    Descriptor(
        "gibbs_energy", "kJ/mol", "ΔH - T_m ΔS/1000", thermodynamics.gibbs_energy, (PAIRS, "melting_temperature")
    ),
    Descriptor(
        "king_phi",
        "",
        "ΔG / -|min H_ij| at T_m, within ±1000",
        thermodynamics.king_phi,
        (PAIRS, "melting_temperature"),
        "solid solution for Φ ≥ 1 (on the scale of King et al.)",
    ),
    Descriptor("excess_entropy", "J/mol/K", "S_E of hard spheres", thermodynamics.excess_entropy, ("radius",)),
    Descriptor(
        "ye_phi",
        "",
        "(ΔS - 1000 |ΔH|/T_m) / |S_E|, within ±1000",
        thermodynamics.ye_phi,
        (PAIRS, "melting_temperature", "radius"),
        "single phase for φ > 20",
    ),
    Descriptor(
        "enthalpy_spread", "kJ/mol", "sqrt(Σ_{i<j} c_i c_j (H_ij - ΔH)²)", thermodynamics.enthalpy_spread, (PAIRS,)
    ),
    Descriptor(
        "enthalpy_spread_above",
        "kJ/mol",
        "the same over pairs with H_ij > ΔH",
        partial(thermodynamics.enthalpy_spread, part="above"),
        (PAIRS,),
    ),
    Descriptor(
        "enthalpy_spread_below",
        "kJ/mol",
        "the same over pairs with H_ij < ΔH",
        partial(thermodynamics.enthalpy_spread, part="below"),
        (PAIRS,),
    ),
)

_GEOMETRIC = (
    Descriptor(
        "size_mismatch",
        "%",
        "100 sqrt(Σ c_i (1 - r_i/r)²)",
        geometry.size_mismatch,
        ("radius",),
        "solid solution for δ < 6.5",
    ),
    Descriptor(
        "entropy_over_mismatch",
        "J/mol/K",
        "ΔS/δ², at most 1000",
        geometry.entropy_over_mismatch,
        ("radius",),
        "single solid solution for Λ > 0.96, compounds for Λ < 0.24",
    ),
    Descriptor(
        "packing_misfit",
        "",
        "w(r_min)/w(r_max)",
        geometry.packing_misfit,
        ("radius",),
        "solid solution for γ < 1.175",
    ),
    Descriptor("local_strain", "", "Σ_i Σ_{j≥i} c_i c_j |r_i + r_j - 2r|/(2r)", geometry.local_strain, ("radius",)),
)

_ELECTRONIC = (
    Descriptor(
        "valence_electron_concentration",
        "electrons/atom",
        "Σ c_i VEC_i",
        mean,
        ("valence_electrons",),
        "fcc for VEC ≥ 8.0, bcc for VEC < 6.87",
    ),
    Descriptor("itinerant_electron_concentration", "electrons/atom", "Σ c_i (e/a)_i", mean, ("itinerant_electrons",)),
    Descriptor(
        "electronegativity_difference",
        "Pauling",
        "sqrt(Σ c_i (χ_i - χ)²)",
        deviation,
        ("electronegativity",),
        "a window of VEC and Δχ favours the σ phase",
    ),
    Descriptor(
        "electronegativity_mismatch",
        "%",
        "100 sqrt(Σ c_i (1 - χ_i/χ)²)",
        geometry.size_mismatch,
        ("electronegativity",),
    ),
)

_ELASTIC = (
    Descriptor("bulk_modulus_voigt", "GPa", "Σ c_i K_i", elasticity.voigt, ("bulk_modulus",)),
    Descriptor("bulk_modulus_reuss", "GPa", "1/Σ(c_i/K_i)", elasticity.reuss, ("bulk_modulus",)),
    Descriptor("bulk_modulus_hill", "GPa", "(K_V + K_R)/2", elasticity.hill, ("bulk_modulus",)),
    Descriptor("shear_modulus_voigt", "GPa", "Σ c_i G_i", elasticity.voigt, ("shear_modulus",)),
    Descriptor("shear_modulus_reuss", "GPa", "1/Σ(c_i/G_i)", elasticity.reuss, ("shear_modulus",)),
    Descriptor("shear_modulus_hill", "GPa", "(G_V + G_R)/2", elasticity.hill, ("shear_modulus",)),
    Descriptor(
        "melting_temperature_mismatch", "", "sqrt(Σ c_i (1 - T_i/T)²)", elasticity.mismatch, ("melting_temperature",)
    ),
    Descriptor("bulk_modulus_mismatch", "", "sqrt(Σ c_i (1 - K_i/K)²)", elasticity.mismatch, ("bulk_modulus",)),
    Descriptor("shear_modulus_mismatch", "", "sqrt(Σ c_i (1 - G_i/G)²)", elasticity.mismatch, ("shear_modulus",)),
    Descriptor(
        "local_modulus_mismatch",
        "GPa",
        "Σ_i Σ_j c_i c_j |G_i - G_j|",
        elasticity.local_modulus_mismatch,
        ("shear_modulus",),
    ),
    Descriptor(
        "shear_strengthening",
        "",
        "2 δ_G/(1 + μ)",
        elasticity.shear_strengthening,
        ("bulk_modulus", "shear_modulus"),
        "rises with the yield strength",
    ),
    Descriptor(
        "peierls_nabarro_factor",
        "GPa",
        "2 G/(1 - μ)",
        elasticity.peierls_nabarro_factor,
        ("bulk_modulus", "shear_modulus"),
    ),
    Descriptor(
        "lattice_distortion_energy",
        "GPa",
        "G δ_r (1 + μ)/(1 - μ)",
        elasticity.lattice_distortion_energy,
        ("radius", "bulk_modulus", "shear_modulus"),
    ),
    Descriptor("density", "g/cm³", "Σ c_i M_i / Σ c_i V_i", elasticity.density, ("atomic_mass", "molar_volume")),
    Descriptor("mean_atomic_mass", "g/mol", "Σ c_i M_i", mean, ("atomic_mass",)),
)

DESCRIPTORS = {entry.name: entry for entry in (*_THERMODYNAMIC, *_GEOMETRIC, *_ELECTRONIC, *_ELASTIC)}
"""The named descriptors. Beside them, ``<property>_<statistic>`` works for every property of the element table."""

SETS = {
    "phase": (
        "mixing_entropy",
        "mixing_enthalpy",
        "mean_melting_temperature",
        "inverse_omega",
        "size_mismatch",
        "entropy_over_mismatch",
        "packing_misfit",
        "valence_electron_concentration",
        "electronegativity_difference",
        "enthalpy_spread",
    ),
    "strength": (
        "mixing_entropy",
        "mixing_enthalpy",
        "mean_melting_temperature",
        "size_mismatch",
        "valence_electron_concentration",
        "electronegativity_difference",
        "shear_modulus_voigt",
        "shear_modulus_mismatch",
        "local_modulus_mismatch",
        "shear_strengthening",
        "lattice_distortion_energy",
        "bulk_modulus_hill",
        "density",
    ),
    "elastic": tuple(entry.name for entry in _ELASTIC),
    "named": tuple(name for name in DESCRIPTORS if name != "itinerant_electron_concentration"),
}
"""Names for lists of descriptors. None holds the e/a ratio, whose table has 24 elements; ask for it by name."""

STATISTIC_SETS = {"statistics": tuple(STATISTICS), "moments": ("mean", "deviation")}
"""Sets that depend on the element table: these statistics of each property that it knows of all its elements."""


def descriptor(name: str, table: ElementTable) -> Descriptor:
    """The descriptor of one name, statistics of the properties of a table included.

    Raises:
        UserError: there is none; the message suggests the nearest.
    """
    if name in DESCRIPTORS:
        return DESCRIPTORS[name]
    source, _, statistic = name.rpartition("_")
    if statistic in STATISTICS and source in table.values:
        equation = f"{statistic} of {source} over the composition"
        return Descriptor(name, table.units[source], equation, STATISTICS[statistic], (source,))
    known = [*DESCRIPTORS, *(f"{source}_{end}" for source in table.values for end in STATISTICS)]
    raise UserError(
        f"unknown descriptor {name!r}{did_you_mean(name, known)} Known: {', '.join(DESCRIPTORS)}, and "
        f"<property>_<statistic> of {', '.join(table.values)} with {', '.join(STATISTICS)}"
    )


def descriptor_names(names: str | Iterable[str], table: ElementTable) -> tuple[str, ...]:
    """Names of descriptors, each once: from a set (:data:`SETS`, :data:`STATISTIC_SETS` or ``all``), or from a list of
    names and sets.

    Raises:
        UserError: a single name that is no set.
    """
    if not isinstance(names, str):
        expanded = (_set(entry, table) or (entry,) for entry in names)
        return tuple(dict.fromkeys(name for group in expanded for name in group))
    found = _set(names, table)
    if found is None:
        known = [*SETS, *STATISTIC_SETS, "all"]
        raise UserError(
            f"unknown set of descriptors {names!r}{did_you_mean(names, known)} Known: {', '.join(known)}; "
            f"single descriptors are given in a list: [{names!r}]"
        )
    return found


def _set(name: str, table: ElementTable) -> tuple[str, ...] | None:
    if name in STATISTIC_SETS:
        return tuple(f"{source}_{statistic}" for source in table.complete for statistic in STATISTIC_SETS[name])
    if name == "all":
        return (*SETS["named"], *_set("statistics", table))
    return SETS.get(name)
