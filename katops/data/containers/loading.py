"""Arrays of files that are not HDF5, read by the process that asks."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

_MODULES = {
    "numpy": "katops.data.containers.npy",
    "npz": "katops.data.containers.npz",
    "matlab5": "katops.data.containers.matlab5",
    "torch": "katops.data.containers.torch_save",
    "netcdf3": "katops.data.containers.netcdf3",
    "zarr": "katops.data.containers.zarr_store",
}


def module_of(container: str) -> ModuleType:
    """The module that reads a container: ``look(path, beat)``, ``load(path, name)``, ``open_array(path, name)``."""
    return importlib.import_module(_MODULES[container])


def load_array(path: str | Path, container: str, name: str) -> np.ndarray:
    """All elements of an array, with the axes in the order of :attr:`katops.data.storage.StoredArray.shape`.

    Args:
        path: the file.
        container: one of :data:`katops.data.storage.CONTAINERS` except the HDF5 ones.
        name: path of the array.

    Raises:
        UserError: it is not there any more, or damaged.
    """
    return module_of(container).load(Path(path), name)


def open_array(path: str | Path, container: str, name: str) -> Any:
    """Something that gives numpy arrays when it is sliced; it reads only the slice where the container allows that.

    Raises:
        UserError: the array is not there any more, or damaged.
    """
    return module_of(container).open_array(Path(path), name)
