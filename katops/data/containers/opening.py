"""Opening HDF5 files: what goes wrong, told in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from katops.data.containers.errors import one_line
from katops.data.containers.kinds import container_of
from katops.data.containers.stamps import stamp_of as stamp_of
from katops.errors import UserError

_KINDS = {
    "matlab5": "a MATLAB 5 file",
    "numpy": "a NumPy array",
    "npz": "a NumPy archive (.npz)",
    "torch": "a file of torch.save",
    "netcdf3": "a classic netCDF file",
    "zarr": "a zarr store",
}


def open_file(path: str | Path, **options: Any) -> h5py.File:
    """Open a file for reading, without a lock (network file systems, several readers).

    Args:
        path: the file.
        options: further arguments of :class:`h5py.File`.

    Raises:
        UserError: the file is missing, not readable, not HDF5, truncated, damaged or being written.
    """
    path = Path(path)
    container = container_of(path)
    if container != "hdf5":
        raise UserError(f"{path} is not an HDF5 file but {_KINDS[container]}")
    try:
        return h5py.File(path, "r", locking=False, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(_explain(path, error)) from error


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn what h5py raises on damaged contents into a :class:`UserError` that names the file."""
    try:
        yield
    except UserError:
        raise
    # h5py raises ValueError and TypeError for element types and shapes that make no sense.
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        hint = "; pip install hdf5plugin may provide the filter" if "filter" in str(error) else ""
        raise UserError(
            f"{path} cannot be read, it is damaged or was changed while in use: {one_line(error)}{hint}"
        ) from error


def _explain(path: Path, error: BaseException) -> str:
    text = one_line(error)
    if "truncated" in text:
        return (
            f"{path} is truncated: {path.stat().st_size} bytes are there, its header promises more; "
            f"it was copied or written half-way, so copy or make it again"
        )
    if "SWMR" in text or "already open for write" in text:
        return (
            f"{path} is still being written, or the program that wrote it ended without closing it, as its header "
            f"says; wait for it, or run 'h5clear --status' on it if no program writes it"
        )
    return f"{path} cannot be opened as HDF5, it may be damaged: {text}"
