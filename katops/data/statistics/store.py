"""A small file beside the data that remembers what was found out about them by reading them all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.layout import FileLayout
from katops.errors import DataWarning, UserError
from katops.files import atomic_path, write_text

SUFFIX = ".katops-statistics"
_HEAD = {"format": "katops-statistics", "format_version": 1}
# Every other split or window makes another entry; the oldest ones go.
_MOST_ENTRIES = 64
_MOST_VALUES_INSIDE = 4096


class StatisticsStore:
    """Entries by key in ``<data file or folder>.katops-statistics.json``.

    Where the folder of the data may not be written to, the file lies in the user's cache folder (``XDG_CACHE_HOME``).
    An array too large for JSON lies beside the file, under a name with the key. Several processes may add entries at
    the same time. A file that is damaged or was made by something else is ignored with a warning and written anew.

    Args:
        layouts: the data.
    """

    def __init__(self, layouts: Sequence[FileLayout]) -> None:
        data = _common_path([layout.path for layout in layouts])
        beside = data.with_name(f"{data.name}{SUFFIX}.json")
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "katops" / "statistics"
        number = hashlib.sha256(str(data).encode()).hexdigest()[:16]
        self.paths = (beside, cache / f"{data.name}-{number}{SUFFIX}.json")

    def find(self, key: str) -> tuple[dict[str, Any], np.ndarray | None] | None:
        """The entry of that key and its array, ``None`` where there is none that can be used."""
        for path in self.paths:
            entry = _entries(path).get(key)
            if entry is None:
                continue
            if "array" not in entry:
                return entry["values"], None
            array = _array(path, key, entry["array"])
            if array is not None:
                return entry["values"], array
        return None

    def add(self, key: str, values: dict[str, Any], array: np.ndarray | None = None) -> Path | None:
        """Remember; returns the file, ``None`` (with a warning) where nothing can be written.

        Args:
            key: hexadecimal digits.
            values: plain values, for JSON.
            array: float64.
        """
        failures = []
        for path in self.paths:
            try:
                _add(path, key, values, array)
            except (UserError, OSError) as error:
                failures.append(str(error))
            else:
                return path
        warnings.warn(f"statistics cannot be kept for the next run: {'; '.join(failures)}", DataWarning, stacklevel=2)
        return None


def _add(path: Path, key: str, values: dict[str, Any], array: np.ndarray | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        entries = _entries(path)
        entry = {"saved": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "values": values}
        if array is not None and array.size <= _MOST_VALUES_INSIDE:
            entry["array"] = {"shape": list(array.shape), "values": array.ravel().tolist()}
        elif array is not None:
            beside = _array_path(path, key)
            content = array.astype("<f8").tobytes()
            with atomic_path(beside) as temporary:
                temporary.write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            entry["array"] = {"shape": list(array.shape), "file": beside.name, "sha256": digest}
        entry["sha256"] = _checksum(entry)
        entries.pop(key, None)
        entries[key] = entry
        for old in list(entries)[:-_MOST_ENTRIES]:
            del entries[old]
            with suppress(OSError):
                _array_path(path, old).unlink()
        write_text(path, json.dumps({**_HEAD, "entries": entries}, indent=1) + "\n")


def _entries(path: Path) -> dict[str, dict[str, Any]]:
    """What a file holds; nothing, with a warning, where it is not what :func:`_add` wrote."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if {name: content.get(name) for name in _HEAD} != _HEAD:
            raise ValueError("it was written by something else or by another version")
        entries = content["entries"]
        for key, entry in entries.items():
            if entry["sha256"] != _checksum(entry):
                raise ValueError(f"the entry {key} was changed")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(
            f"{path} cannot be used and is ignored ({error}); the data are read again and it is written anew",
            DataWarning,
            stacklevel=1,  # Told from one place, Python says it once.
        )
        return {}
    return entries


def _array(path: Path, key: str, stored: dict[str, Any]) -> np.ndarray | None:
    if "values" in stored:
        return np.array(stored["values"], dtype=np.float64).reshape(stored["shape"])
    try:
        content = _array_path(path, key).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != stored["sha256"]:
        return None
    return np.frombuffer(content, "<f8").reshape(stored["shape"]).copy()


def _array_path(path: Path, key: str) -> Path:
    # Bare numbers, not .npy: a folder of data is searched for files of every kind that is read.
    return path.with_name(f"{path.name.removesuffix('.json')}.{key[:16]}.target-mean")


def _checksum(entry: dict[str, Any]) -> str:
    content = {name: value for name, value in entry.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _common_path(paths: Sequence[Path]) -> Path:
    """The file, or the folder that all files are in."""
    absolute = [path.absolute() for path in paths]
    return absolute[0] if len(absolute) == 1 else Path(os.path.commonpath([path.parent for path in absolute]))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder alone while a file in it is read, changed and replaced.

    Some network file systems cannot lock a folder; two processes that end in the same moment may then cost one of them
    its entry, never the file.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
