"""What MATLAB 7.3 makes of HDF5."""

from __future__ import annotations

from dataclasses import replace

from katops.data.storage import StoredArray, StoredTree

_HIDDEN = ("/#refs#", "/#subsystem#")
"""Where MATLAB keeps the members of cells and objects."""
_NO_NUMBERS = ("char", "cell", "struct", "function_handle", "string")


def as_matlab(tree: StoredTree) -> StoredTree:
    """MATLAB counts axes the other way round, and keeps what is not a number in forms of its own."""
    groups = {path: found for path, found in tree.groups.items() if not path.startswith(_HIDDEN)}
    arrays = {}
    for path, array in tree.arrays.items():
        if not path.startswith(_HIDDEN):
            arrays[path] = replace(_matlab_array(array), column_major=True)
    return replace(tree, container="matlab73", groups=groups, arrays=arrays)


def _matlab_array(array: StoredArray) -> StoredArray:
    kind = array.attributes.get("MATLAB_class", "")
    if array.attributes.get("MATLAB_empty"):
        return replace(array, dtype="|O", values=None, attributes={**array.attributes, "type": f"empty {kind}"})
    if kind in _NO_NUMBERS:
        return replace(array, dtype="|O", attributes={**array.attributes, "type": kind})
    if kind == "logical":
        values = None if array.values is None else array.values.astype(bool)
        return replace(array, dtype="|b1", values=values)
    return array
