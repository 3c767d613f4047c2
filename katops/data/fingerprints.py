"""A short name for the contents of data files, to tell later whether a model was trained on these very files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from katops.data.containers.digest import digest_of_bytes
from katops.data.containers.kinds import container_of
from katops.data.containers.probe import PATIENCE, digest_in_helper
from katops.data.layout import FileLayout
from katops.errors import UserError

Source = str | Path | FileLayout


def fingerprint(source: Source | Sequence[Source], *, patience: float = PATIENCE) -> str:
    """SHA-256 over the size of the file, its root attributes, and path, shape, type and three samples of each array.

    The samples are the first, the middle and the last one, each up to 1 MiB, so that a file of any size takes
    milliseconds. It notices another seed, another resolution, a cut or a regenerated file; it does not notice a change
    inside a sample that is not read, and is no protection against intent. Of a file that is not HDF5, the size and up
    to 1 MiB at its beginning, middle and end count. Of several files, the fingerprints count in the given order.

    Args:
        source: a file, its description, or several.
        patience: seconds to wait for a sign of life from the helper process.

    Returns:
        64 hexadecimal digits; the name, the folder and the date of a file do not matter.

    Raises:
        UserError: a file cannot be read, or none is given.
    """
    if isinstance(source, str | Path | FileLayout):
        return _fingerprint_of_one(Path(source.path if isinstance(source, FileLayout) else source), patience)
    singles = [fingerprint(single, patience=patience) for single in source]
    if not singles:
        raise UserError("there is no file to take the fingerprint of")
    return singles[0] if len(singles) == 1 else hashlib.sha256(" ".join(singles).encode()).hexdigest()


def _fingerprint_of_one(path: Path, patience: float) -> str:
    if container_of(path) == "hdf5":
        return digest_in_helper(path, patience)
    try:
        return digest_of_bytes(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
