"""Alloys and ceramics as tables: formulas, descriptors, data sets, features and folds (``docs/materials.md``).

The names below are loaded when they are first used; pandas and scikit-learn come with the extra ``tables``.
"""

import importlib
from typing import Any

from katops.errors import UserError

_WHERE = {
    "Composition": "katops.materials.formula",
    "parse_formula": "katops.materials.formula",
    "composition_key": "katops.materials.formula",
    "system_key": "katops.materials.formula",
    "composition_table": "katops.materials.compositions",
    "atomic_fractions": "katops.materials.compositions",
    "element_table": "katops.materials.elements",
    "carbide_table": "katops.materials.elements",
    "pair_table": "katops.materials.elements",
    "describe": "katops.materials.descriptors",
    "descriptor_table": "katops.materials.descriptors",
    "DESCRIPTORS": "katops.materials.descriptors",
    "data_cards": "katops.materials.cards",
    "data_card": "katops.materials.cards",
    "load_materials": "katops.materials.datasets",
    "MaterialsTable": "katops.materials.typed_table",
    "table_from_frame": "katops.materials.datasets",
    "design_table": "katops.materials.design",
    "composition_grid": "katops.materials.candidates",
    "pareto_front": "katops.materials.candidates",
    "CompositionFeatures": "katops.materials.composition_features",
    "Folds": "katops.materials.folds",
    "make_folds": "katops.materials.folds",
    "grouped_folds": "katops.materials.folds",
    "load_folds": "katops.materials.folds",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_WHERE[name])
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "sklearn":
            raise UserError(f'{name} needs scikit-learn: pip install "katops[tables]"') from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
