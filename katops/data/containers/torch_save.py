"""Tensors stored by torch.save, loaded without running any code that a file may hold."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.errors import one_line
from katops.data.containers.npz import check, opened
from katops.data.containers.stamps import stamp_of
from katops.data.containers.values import Budget
from katops.data.storage import StoredArray, StoredTree
from katops.errors import UserError

NAME = "data"
"""The array of a file that holds a bare tensor."""


def look(path: Path, beat: Callable[[], None]) -> StoredTree:
    """The tensors of (nested) dictionaries and lists, by path; numbers and text count as attributes.

    Raises:
        UserError: the file is damaged or truncated, a checksum differs, or it holds more than tensors and plain values.
    """
    stamp = stamp_of(path)
    if zipfile.is_zipfile(path):
        with opened(path) as archive:
            for member in archive.infolist():
                check(archive, member, beat)
    beat()
    attributes: dict[str, Any] = {}
    groups: dict[str, dict[str, Any]] = {}
    arrays: dict[str, StoredArray] = {}
    budget = Budget()
    for name, value in _walk("", _content(path)):
        beat()
        if _is_tensor(value):
            array = _stored(name, value)
            if array.is_real and budget.allows(array):
                array = replace(array, values=_as_numpy(value))
            arrays[name] = array
        elif isinstance(value, Mapping | list | tuple):
            groups[name] = {}
        else:
            group, _, last = name.rpartition("/")
            place = groups.setdefault(group, {}) if group else attributes
            place[last] = value if isinstance(value, str | int | float | bool | None) else str(value)
    return StoredTree(path, "torch", stamp, attributes, groups, arrays)


def load(path: Path, name: str) -> np.ndarray:
    """All elements, one after the other in the order of the axes."""
    return np.array(open_array(path, name), order="C")


def open_array(path: Path, name: str) -> np.ndarray:
    """A view of the file, or of memory where the file is of the kind that torch wrote before version 1.6."""
    for found, value in _walk("", _content(path)):
        if found == name and _is_tensor(value):
            if _stored(name, value).dtype == "|O":
                raise UserError(f"{path}: tensor {name.lstrip('/')!r} holds {value.dtype} values, which are not read")
            return _as_numpy(value)
    raise UserError(f"{path} has no tensor {name.lstrip('/')!r} any more")


def _content(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise UserError(_explain(path, error)) from error
    # torch's parser raises all of these on bytes that make no sense.
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError) as error:
        raise UserError(f"{path} is damaged, or was not written by torch.save: {one_line(error)}") from error


def _explain(path: Path, error: Exception) -> str:
    refused = re.search(r"GLOBAL (\S+)", str(error))
    if refused is None:
        return f"{path} is damaged, or was not written by torch.save: {one_line(error)}"
    return (
        f"{path} holds an object of {refused[1]}, which could run code when it is loaded and is refused; "
        f"store a dictionary of tensors with torch.save"
    )


def _walk(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if _is_tensor(value):
        yield name or f"/{NAME}", value
        return
    if name:
        yield name, value
    if isinstance(value, Mapping):
        entries = value.items()
    else:
        entries = enumerate(value if isinstance(value, list | tuple) else ())
    for key, inner in entries:
        yield from _walk(f"{name}/{key}", inner)


def _is_tensor(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor)


def _stored(name: str, tensor: Any) -> StoredArray:
    import torch

    shape = tuple(tensor.shape)
    size = tensor.numel() * tensor.element_size()
    try:
        dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype.str
    except (TypeError, RuntimeError):
        dtype = "|O"
    if dtype == "|O" or tensor.layout != torch.strided:
        kind = str(tensor.dtype).removeprefix("torch.") if tensor.layout == torch.strided else str(tensor.layout)
        return StoredArray(name, shape, "|O", {"type": kind}, stored_bytes=size)
    return StoredArray(name, shape, dtype, stored_bytes=size)


def _as_numpy(tensor: Any) -> np.ndarray:
    return tensor.detach().resolve_conj().resolve_neg().numpy()
