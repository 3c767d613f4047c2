"""The conventions of netCDF: named dimensions, coordinate variables, units, packing, missing values.

In HDF5 (netCDF-4) a dimension is a dimension scale; in classic netCDF and zarr it is a name beside the array. The probe
gives both as the attribute ``dimensions``. Source: https://docs.unidata.ucar.edu/nug/current/ (NetCDF User's Guide,
appendix A).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from katops.data.storage import StoredArray, StoredTree

TIME = ("time", "t")
SAMPLE = ("sample", "member", "ensemble", "realization", "trajectory", "batch", "b", "number")
_NO_VARIABLE = "This is a netCDF dimension but not a netCDF variable"
"""How netCDF-4 marks a dimension without coordinates."""


def dimensions(array: StoredArray) -> tuple[str, ...] | None:
    """Names of the dimensions of an array, without the groups; ``None`` where not every axis has one."""
    names = array.attributes.get("dimensions", array.attributes.get("_ARRAY_DIMENSIONS"))
    if not isinstance(names, list) or len(names) != len(array.shape) or not all(names):
        return None
    return tuple(str(name).rpartition("/")[2] for name in names)


def roles_of(array: StoredArray) -> tuple[str, ...] | None:
    """What each stored axis is, "sample", "time", or the name of its dimension; ``None`` where that is not told."""
    names = dimensions(array)
    if names is None:
        return None
    roles = tuple(role_of(name) for name in names)
    space = [role for role in roles if role not in ("sample", "time", "channel")]
    return roles if len(set(roles)) == len(roles) and 1 <= len(space) <= 3 else None


def role_of(dimension: str) -> str:
    """ "time" or "sample" where the name of a dimension says so, else the name itself."""
    name = dimension.lower()
    return "time" if name in TIME else "sample" if name in SAMPLE else dimension


def is_dimension(array: StoredArray) -> bool:
    """Whether an array only stands for a dimension or holds its coordinates."""
    marked = array.attributes.get("CLASS") == "DIMENSION_SCALE"
    return marked or (len(array.shape) == 1 and dimensions(array) == (array.name.rpartition("/")[2],))


def variables(tree: StoredTree) -> dict[str, StoredArray]:
    """The arrays of the root that are neither dimensions nor coordinates, by name."""
    return {name: array for name, array in tree.members().items() if not is_dimension(array)}


def coordinates(tree: StoredTree, dimension: str) -> np.ndarray | None:
    """The coordinates along a dimension, float64; ``None`` where the file stores none."""
    array = tree.find(dimension)
    if array is None or not array.is_real or len(array.shape) != 1 or array.nothing_written:
        return None
    if str(array.attributes.get("NAME", "")).startswith(_NO_VARIABLE):
        return None
    scale, offset, missing = packing(array)
    values = np.asarray(tree.values(dimension), dtype=np.float64)
    if missing is not None:
        values = np.where(values == missing, np.nan, values)
    return values * scale + offset


def packing(array: StoredArray) -> tuple[float, float, float | None]:
    """(scale, offset, missing value): physical value = scale * stored value + offset."""
    attributes = array.attributes
    scale, offset = _number(attributes.get("scale_factor")), _number(attributes.get("add_offset"))
    missing = _number(attributes.get("_FillValue", attributes.get("missing_value")))
    if missing is not None and np.isnan(missing):
        # NaN means "no value" already.
        missing = None
    return 1.0 if scale is None else scale, 0.0 if offset is None else offset, missing


def unit(array: StoredArray) -> str:
    """The attribute ``units``; "" where there is none, or it says that there is no unit."""
    text = array.attributes.get("units", "")
    return text if isinstance(text, str) and text not in ("1", "none", "dimensionless") else ""


def _number(value: Any) -> float | None:
    """Attributes of netCDF are arrays of one element as often as numbers."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
