"""The files of a data set: one file, a folder of them, a pattern, or a list of these."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from katops.data.containers.kinds import container_of
from katops.data.formats import describe
from katops.data.joined import with_joined_waves
from katops.data.layout import FileLayout
from katops.data.many_files import check_alike
from katops.errors import UserError

_DATA_ENDINGS = {".h5", ".hdf5", ".hdf", ".he5", ".nc", ".nc4", ".mat", ".npy", ".npz", ".pt", ".pth", ".zarr"}
"""A file that ends so and is of no kind that is read is an error, not something to pass over."""
_SPLITS = {"file": ("train",), "validation_files": ("valid", "val", "validation"), "test_files": ("test",)}
"""What folders are called that hold the parts of a published data set."""


def find_files(where: str | Path) -> list[Path]:
    """The data files that a path means, in natural order (``part_2`` before ``part_10``).

    Args:
        where: a file (a zarr store counts as one); a folder, which stands for the files directly in it that are of a
            kind that is read, told by their first bytes; or a pattern with ``*``, ``?`` or ``[...]``.

    Raises:
        UserError: a folder holds no data file, or one that is damaged; a pattern matches nothing.
    """
    path = Path(where)
    if path.is_dir():
        return [path] if _is_data(path) else _in_folder(path)
    if not path.exists() and set(str(where)) & set("*?["):
        found = [Path(name) for name in glob.glob(str(where), recursive=True)]
        files = [entry for entry in found if not entry.is_dir() or _is_data(entry)]
        if not files:
            raise UserError(f"no file matches {str(where)!r}")
        return sorted(files, key=_natural)
    return [path]


def describe_all(where: str | Path | Sequence[str | Path], **statement: Any) -> tuple[FileLayout, ...]:
    """The layouts of all files of a data set, which must belong together.

    Args:
        where: as in :func:`find_files`, or a list of such paths.
        statement: as in :func:`katops.data.formats.describe`, the same for every file.

    Raises:
        UserError: a file comes twice (under whatever name), cannot be read, or has other channels, units, parameters,
            axes or boundaries than the first; numbers of samples and of frames may differ.
    """
    layouts = tuple(describe(path, **statement) for path in find_all(where))
    check_alike(layouts)
    return layouts


def find_all(where: str | Path | Sequence[str | Path]) -> list[Path]:
    """The data files of one or several paths, see :func:`find_files`.

    Files that hold parts of the same samples are joined, see :mod:`katops.data.joined`.

    Raises:
        UserError: a file comes twice, or there is none; chunks that belong together are not all there.
    """
    places = [where] if isinstance(where, str | Path) else list(where)
    files = _each_once([path for place in places for path in find_files(place)])
    if not files:
        raise UserError("data.file is an empty list; name at least one file")
    return with_joined_waves(files)


def split_folders(where: str | Path) -> dict[str, str] | None:
    """Folders for training, validation and testing in a published root, by the key of ``data:`` that names them.

    ``None`` where ``where`` is no folder with ``train/`` and at least one of ``valid/``, ``val/``, ``validation/`` and
    ``test/`` that hold data files.
    """
    root = Path(where)
    if not root.is_dir():
        return None
    found = {key: name for key, names in _SPLITS.items() for name in names if _holds_data(root / name)}
    return {key: str(root / name) for key, name in found.items()} if "file" in found and len(found) > 1 else None


def sibling_hint(where: str | Path | Sequence[str | Path]) -> list[str]:
    """That the folders for validation and testing lie beside a folder for training, if they do."""
    folder = Path(where) if isinstance(where, str | Path) else None
    if folder is None or folder.name not in _SPLITS["file"] or not (parts := split_folders(folder.parent)):
        return []
    others = " and ".join(path for key, path in parts.items() if key != "file")
    return [f"beside it {'lies' if len(parts) == 2 else 'lie'} {others}; inspect {folder.parent} to use them too"]


def _holds_data(folder: Path) -> bool:
    return folder.is_dir() and any(not entry.name.startswith(".") and _is_data(entry) for entry in folder.iterdir())


def _in_folder(folder: Path) -> list[Path]:
    entries = sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=_natural)
    files = [entry for entry in entries if _is_data(entry)]
    if not files and (parts := split_folders(folder)):
        raise UserError(
            f"{folder} holds no data file itself but the folders {', '.join(parts.values())}; name one of them (in a "
            f"configuration: {'; '.join(f'{key}: {path}' for key, path in parts.items())})"
        )
    if not files:
        raise UserError(
            f"{folder} is a folder in which no file is of a kind that is read (HDF5, netCDF, MATLAB, NumPy, torch, "
            f"zarr); folders in it are not searched, so name the one that holds the files"
        )
    return files


def _is_data(path: Path) -> bool:
    """Whether it is a data file; damaged ones count if their name says that they should be one."""
    try:
        container_of(path)
    except UserError:
        if path.is_file() and path.suffix.lower() in _DATA_ENDINGS:
            raise
        return False
    return True


def _each_once(files: Iterable[Path]) -> list[Path]:
    seen: dict[Path, Path] = {}
    for path in files:
        real = path.resolve()
        if real in seen:
            same = "" if str(seen[real]) == str(path) else f" (also as {seen[real]})"
            raise UserError(f"{path} is given twice{same}; every sample would count twice, so leave one out")
        seen[real] = path
    return list(seen.values())


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Digits compare as numbers, the rest as text."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
