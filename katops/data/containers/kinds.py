"""Which container a file is, told by its bytes, never by its name."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

from katops.data.containers.errors import one_line
from katops.errors import UserError, did_you_mean

_HDF5 = b"\x89HDF\r\n\x1a\n"
# A user block may come first; the signature then lies at 512, 1024, 2048, ... bytes (MATLAB 7.3 uses 512).
_HDF5_OFFSETS = tuple(512 * 2**k for k in range(8))
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zmetadata")
_REFUSED = {
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"7z\xbc\xaf": "a 7-Zip archive; unpack it first",
    b"(\xb5/\xfd": "a Zstandard archive; unpack it first",
    b"CDF\x05": "a netCDF file of the CDF-5 kind; convert it with 'nccopy -k nc4 OLD.nc NEW.nc'",
    b"\x0e\x03\x13\x01": "an HDF4 file; convert it to HDF5 with h4toh5",
    b"<!DOCTYPE": "a web page; the download went wrong",
    b"<html": "a web page; the download went wrong",
    b"version https://git-lfs": "a pointer of git-lfs; fetch the file itself with 'git lfs pull'",
}


def container_of(path: Path) -> str:
    """One of :data:`katops.data.storage.CONTAINERS`; MATLAB 7.3 counts as HDF5 until it is looked into.

    Raises:
        UserError: there is no such file, it cannot be opened, is empty, or of a kind that is not read.
    """
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            return _folder(path)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"{path} is not a file but a pipe or a device; write its contents into a file first")
        with path.open("rb") as file:
            head = file.read(128)
            tar = file.seek(257) and file.read(5)
            found = _by_head(path, head) or _hdf5_after_user_block(file)
    except FileNotFoundError:
        raise UserError(_missing(path)) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    if found:
        return found
    if not status.st_size:
        raise UserError(f"{path} is empty (0 bytes); it was never written, so make it again")
    if not any(head):
        raise UserError(f"{path} begins with zeros; it is still being written, or was cut off while it was")
    kind = "a tar archive; unpack it first" if tar == b"ustar" else _refused(head)
    raise UserError(
        f"{path} is {kind}"
        if kind
        else f"{path} is of a kind that is not read; HDF5, netCDF, MATLAB, NumPy, torch and zarr files are"
    )


def _by_head(path: Path, head: bytes) -> str | None:
    if head.startswith(_HDF5):
        return "hdf5"
    if head.startswith(b"\x93NUMPY"):
        return "numpy"
    if head.startswith((b"CDF\x01", b"CDF\x02")):
        return "netcdf3"
    if head.startswith(b"MATLAB 5.0") or head[124:128] in (b"\x00\x01IM", b"\x01\x00MI"):
        return "matlab5"
    if head.startswith(_LEGACY_TORCH):
        return "torch"
    return _archive(path) if head.startswith((b"PK\x03\x04", b"PK\x05\x06")) else None


def _hdf5_after_user_block(file: object) -> str | None:
    for offset in _HDF5_OFFSETS:
        file.seek(offset)
        if file.read(len(_HDF5)) == _HDF5:
            return "hdf5"
    return None


def _archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
        raise UserError(
            f"{path} is a damaged or truncated archive (.npz, .pt, .zip): {one_line(error)}; copy or make it again"
        ) from error
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return "torch"
    if all(name.endswith(".npy") for name in names):
        return "npz"
    raise UserError(f"{path} is a zip archive but neither .npz nor .pt; unpack it first")


def _folder(path: Path) -> str:
    if any((path / name).is_file() for name in _ZARR_FILES):
        return "zarr"
    raise UserError(f"{path} is a folder and no zarr store; name a file in it")


def _missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"there is no file {str(path)!r}: the folder {str(folder)!r} does not exist"
    neighbours = [entry.name for entry in os.scandir(folder) if entry.is_file()]
    return f"there is no file {str(path)!r}{did_you_mean(path.name, neighbours)}"


def _refused(head: bytes) -> str | None:
    return next((kind for magic, kind in _REFUSED.items() if head.startswith(magic)), None)
