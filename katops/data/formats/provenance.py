"""What ``katops generate --layout`` says about a file in a published layout that has no place for it.

The layouts of Poseidon and of the Fourier neural operator know neither grid nor boundary nor times, that of PDEBench
knows no boundary. Files that katops wrote carry the root attributes of its own layout as JSON in ``katops_provenance``,
and with them the axes, the times, inputs and outputs: as an attribute, in MATLAB files up to version 7 as a variable of
bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.data.containers.errors import one_line
from katops.data.storage import StoredTree
from katops.errors import UserError
from katops.fields import Axis, FieldMeta

if TYPE_CHECKING:
    from katops.data.formats.assembling import Draft

NAME = "katops_provenance"


def grid_times_and_roles(meta: FieldMeta, times: np.ndarray | None) -> dict[str, Any]:
    """What :func:`restated` takes from the JSON; ``times`` are evenly spaced."""
    roles = {kind: [channel.name for channel in getattr(meta, kind)] for kind in ("inputs", "outputs")}
    known = {"axes": [asdict(axis) for axis in meta.axes], **roles}
    if times is None:
        return known
    return {**known, "times": [float(times[0]), float(times[-1]), len(times)], "time_unit": meta.time_unit}


def restated(tree: StoredTree, draft: Draft) -> Draft:
    """The draft with the axes, times and roles of the file's own provenance; as it is where the file has none.

    Notes about what was assumed, the licence and the citation of the published set do not hold then.

    Raises:
        UserError: the provenance is damaged.
    """
    found = _provenance(tree)
    if "axes" not in found:
        return draft
    try:
        known = {entry["name"]: Axis(**entry) for entry in found["axes"]}
        times = np.linspace(*found["times"]) if "times" in found else None
        roles = {kind: tuple(map(str, found.get(kind, ()))) for kind in ("inputs", "outputs")}
        changed = {
            "axes": [known.get(axis.name, axis) for axis in draft.axes],
            "time_unit": str(found.get("time_unit", draft.time_unit)),
            "licence": "",
            "citation": str(found.get("paper", "")),
            "notes": [f"written by katops generate {found['recipe']}: grid, boundary and times are its own"],
        }
    except (TypeError, ValueError, KeyError, AttributeError, UserError) as error:
        raise UserError(f"{tree.path}: {NAME} is damaged ({one_line(error)}); generate the file again") from error
    # A layout that keeps fewer frames keeps their times too.
    if times is not None and (draft.frames == len(times)).all():
        changed["times"] = times
    names = {channel.name for channel in draft.channels}
    for kind, listed in roles.items():
        # The layouts that name channels otherwise know their roles.
        if getattr(draft, kind) is None and listed and names.issuperset(listed):
            changed[kind] = listed
    return replace(draft, **changed)


def _provenance(tree: StoredTree) -> Mapping[str, Any]:
    """The JSON; empty where the file has none."""
    text = tree.attributes.get(NAME)
    stored = tree.find(NAME)
    if stored is not None:
        if np.dtype(stored.dtype) != np.uint8:
            return {}
        text = tree.values(NAME).tobytes()
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (TypeError, ValueError) as error:
        raise UserError(f"{tree.path}: {NAME} is damaged ({one_line(error)}); generate the file again") from error
    return found if isinstance(found, Mapping) else {}
