"""Replacing a run by a new one without losing the old one before the new one is complete."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from katops.files import write_text
from katops.runs.result import warn
from katops.training.directory import CHECKPOINTS, CONFIG_FILE, OWN_FILES, TRIALS

ASIDE = ".replaced"
"""Folder within that of a run, where the files of the older run wait."""


@contextmanager
def replacing(directory: Path, *, overwrite: bool, console: Console) -> Iterator[None]:
    """Train a run within this context: the files of an older one are moved aside, and removed when it ends well.

    Where it fails before its first checkpoint, the older run is put back and nothing else is left. Later both are kept:
    the new run can be resumed, and the older one is removed when the new one is complete.
    """
    aside = directory / ASIDE
    if overwrite:
        _set_aside(directory, aside)
    try:
        yield
    except BaseException:
        if aside.is_dir() and _has_checkpoint(directory):
            warn(console, [f"the run that was to be replaced is kept in {aside} until the new one is complete"])
        elif aside.is_dir():
            _put_back(directory, aside)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _set_aside(directory: Path, aside: Path) -> None:
    """Move the older run; its configuration is copied last and marks the copy as whole, whenever this is interrupted.

    Where a whole older run is there already, the present one is its unfinished replacement, which is removed.
    """
    if not (directory / CONFIG_FILE).is_file():
        return
    if not (aside / CONFIG_FILE).is_file():
        for path in _files(directory):
            _move(path, aside / path.relative_to(directory))
        write_text(aside / CONFIG_FILE, (directory / CONFIG_FILE).read_text(encoding="utf-8"))
    _remove(directory)


def _put_back(directory: Path, aside: Path) -> None:
    _remove(directory)
    for path in _files(aside):
        _move(path, directory / path.relative_to(aside))
    _move(aside / CONFIG_FILE, directory / CONFIG_FILE)
    shutil.rmtree(aside, ignore_errors=True)


def _remove(directory: Path) -> None:
    """Remove a run but for its configuration, without which the folder would not be known as that of a run."""
    for path in _files(directory):
        path.unlink()


def _files(directory: Path) -> list[Path]:
    """The files of a run but for its configuration."""
    paths = {path for pattern in OWN_FILES for path in directory.glob(pattern) if path.is_file() or path.is_symlink()}
    return sorted(path for path in paths if path.relative_to(directory) != Path(CONFIG_FILE))


def _has_checkpoint(directory: Path) -> bool:
    """Whether there is something to go on from: a checkpoint, or a fit of a study."""
    places = (f"{CHECKPOINTS}/*.ckpt", f"{TRIALS}/*/{CHECKPOINTS}/*.ckpt", "folds/*.fit.json")
    return any(any(directory.glob(place)) for place in places)


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, target)
