"""Opening HDF5 files: what goes wrong, told in one sentence."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from katops.errors import UserError, did_you_mean

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
# A user block may come first; the signature then lies at 512, 1024, 2048, ... bytes (MATLAB 7.3 uses 512).
_SIGNATURE_OFFSETS = (0, *(512 * 2**k for k in range(8)))
_OTHER_CONTAINERS = {
    b"MATLAB 5.0": "a MATLAB 5 file; save it with -v7.3 or convert it with scipy.io.loadmat and h5py",
    b"\x93NUMPY": "a NumPy array; write it into an HDF5 file with h5py",
    b"PK\x03\x04": "a zip archive (.npz, .pt or .zip); write its arrays into an HDF5 file with h5py",
    b"CDF": "a classic netCDF file; convert it with nccopy -k nc4",
    b"\x1f\x8b": "a gzip archive; unpack it first",
}


def open_file(path: str | Path, **options: Any) -> h5py.File:
    """Open a file for reading, without a lock (network file systems, several readers).

    Args:
        path: the file.
        options: further arguments of :class:`h5py.File`.

    Raises:
        UserError: the file is missing, not readable, not HDF5, truncated or damaged.
    """
    path = Path(path)
    _check_signature(path)
    try:
        return h5py.File(path, "r", locking=False, **options)
    except OSError as error:
        if "truncated" in str(error):
            raise UserError(
                f"{path} is truncated: {path.stat().st_size} bytes are there, its header promises more; "
                f"it was copied or written half-way, so copy or make it again"
            ) from error
        raise UserError(f"{path} cannot be opened as HDF5, it may be damaged: {_one_line(error)}") from error


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
            f"{path} cannot be read, it is damaged or was changed while in use: {_one_line(error)}{hint}"
        ) from error


def stamp_of(path: str | Path) -> tuple[int, int]:
    """(bytes, modification time in ns), by which a changed file is noticed."""
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _check_signature(path: Path) -> None:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(16)
            for offset in _SIGNATURE_OFFSETS:
                file.seek(offset)
                if file.read(len(_SIGNATURE)) == _SIGNATURE:
                    return
    except FileNotFoundError:
        raise UserError(_missing(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder; name an HDF5 file in it") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    if not size:
        raise UserError(f"{path} is empty (0 bytes); it was never written, so make it again")
    kinds = [kind for magic, kind in _OTHER_CONTAINERS.items() if head.startswith(magic)]
    raise UserError(f"{path} is not an HDF5 file but {kinds[0]}" if kinds else f"{path} is not an HDF5 file")


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no file {str(path)!r}: the folder {str(folder)!r} does not exist"
    neighbours = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    return f"there is no file {str(path)!r}{did_you_mean(path.name, neighbours)}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())
