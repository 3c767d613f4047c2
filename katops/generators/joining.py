"""One HDF5 file that refers to the shards of a set: its fields are virtual arrays over theirs, nothing large is copied.

What the shards have in common is copied from the first, numbers per sample (parameters, quality) from all of them. The
result has the arrays and attributes of the file that one call of :func:`katops.generators.writer.write` makes. Elements
of a shard that is missing later are NaN to readers that do not look after that themselves.
"""

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import yaml

from katops.data.formats.provenance import NAME
from katops.data.writing import hdf5_file
from katops.errors import UserError
from katops.generators.layouts import KATOPS
from katops.generators.layouts.fno import write_header
from katops.generators.parts import JOINED
from katops.generators.shard_set import Shard

_GROUP_OF_SAMPLE = re.compile(r"(Sample_)?(\d+)")
_SAMPLE_AXES: dict[str, Callable[[h5py.Dataset], int | None]] = {
    KATOPS: lambda array: 0 if array.name.split("/")[1] in ("fields", "parameters", "quality") else None,
    "pdebench": lambda array: None if array.name.endswith("-coordinate") else 0,
    "well": lambda array: 0 if array.attrs.get("sample_varying", False) else None,
    "pdegym": lambda array: 0,
    # The axes of MATLAB are in reverse.
    "fno": lambda array: None if array.name == "/t" else array.ndim - 1,
}
"""By layout, which axis of an array counts the samples; ``None`` where all samples share the array."""


class _Source(NamedTuple):
    """A shard, the name by which the joined file calls it, and its samples; sets of thousands are not held open."""

    path: Path
    name: str
    samples: slice


def write_joined(path: Path, folder: Path, shards: Sequence[Shard]) -> None:
    """Write the file that refers to shards, which are checked and in order.

    Args:
        path: the file, which is replaced.
        folder: where it will lie; names of the shards are relative to this folder.
        shards: of one set.

    Raises:
        UserError: a name cannot be referred to.
        OSError: the disk is full, or the file cannot be written.
    """
    sources = [_Source(shard.path, _relative(shard.path, folder), slice(shard.first, shard.end)) for shard in shards]
    with h5py.File(shards[0].path, "r") as first:
        options = {"track_order": _is_ordered(first["/"]), "userblock_size": first.userblock_size or None}
        with hdf5_file(path, **options) as (file, _):
            _Joining(str(shards[0].attributes["layout"]), sources).fill(file, first["/"])
            file.attrs.update(_root_attributes(first, shards))
        is_matlab = bool(first.userblock_size)
    if is_matlab:
        write_header(path)


class _Joining:
    """Copies the structure of the first shard, with the samples of all."""

    def __init__(self, layout: str, sources: Sequence[_Source]) -> None:
        self.sources = sources
        self.samples = sources[-1].samples.stop
        self.axis = _SAMPLE_AXES[layout]

    def fill(self, target: h5py.Group, group: h5py.Group) -> None:
        for name, item in group.items():
            if group.name == "/" and _GROUP_OF_SAMPLE.fullmatch(name):
                continue
            if isinstance(item, h5py.Group):
                made = target.create_group(name, track_order=_is_ordered(item))
                self.fill(made, item)
            else:
                made = self._array(target, name, item)
            made.attrs.update(item.attrs)
        if group.name == "/":
            self._groups_of_samples(target)

    def _array(self, target: h5py.Group, name: str, array: h5py.Dataset) -> h5py.Dataset:
        axis = self.axis(array)
        if axis is None:
            return target.create_dataset(name, data=array[()])
        if array.ndim == 1:
            return target.create_dataset(name, data=np.concatenate([_values(source, array) for source in self.sources]))

        def shape(samples: int) -> tuple[int, ...]:
            return (*array.shape[:axis], samples, *array.shape[axis + 1 :])

        virtual = h5py.VirtualLayout(shape(self.samples), array.dtype)
        for source in self.sources:
            samples = source.samples.stop - source.samples.start
            part = h5py.VirtualSource(source.name, array.name, shape(samples), array.dtype)
            virtual[(*[slice(None)] * axis, source.samples)] = part
        return target.create_virtual_dataset(name, virtual, fillvalue=np.nan)

    def _groups_of_samples(self, target: h5py.Group) -> None:
        """``0000``, ``0001``, ... or ``Sample_0``, ...: the numbers in the names are those of the set."""
        for source in self.sources:
            with h5py.File(source.path, "r") as file:
                for name, group in file.items():
                    if found := _GROUP_OF_SAMPLE.fullmatch(name):
                        prefix, number = found[1] or "", int(found[2]) + source.samples.start
                        width = 0 if prefix else max(4, len(str(self.samples - 1)))
                        made = target.create_group(f"{prefix}{number:0{width}d}", track_order=_is_ordered(group))
                        self._sample(made, group, source)
                        made.attrs.update(_numbered(dict(group.attrs), number))

    def _sample(self, target: h5py.Group, group: h5py.Group, source: _Source) -> None:
        for name, item in group.items():
            if isinstance(item, h5py.Group):
                self._sample(target.create_group(name, track_order=_is_ordered(item)), item, source)
            elif item.ndim < 2:  # coordinates and parameters
                target.create_dataset(name, data=item[()])
            else:
                virtual = h5py.VirtualLayout(item.shape, item.dtype)
                virtual[...] = h5py.VirtualSource(source.name, item.name, item.shape, item.dtype)
                target.create_virtual_dataset(name, virtual, fillvalue=np.nan)


def _numbered(attributes: dict[str, Any], number: int) -> dict[str, Any]:
    """The attributes of a seed of PDEBench with its number in the set."""
    if "config" not in attributes:
        return attributes
    config = yaml.safe_load(attributes["config"])
    config["sim"]["seed"] = number
    return {**attributes, "config": yaml.safe_dump(config)}


def _root_attributes(file: h5py.File, shards: Sequence[Shard]) -> dict[str, Any]:
    """Those of the first shard, where they tell of its samples those of all."""
    total = shards[-1].end
    joined = {"samples": total, "first_sample": 0, JOINED: len(shards), **_quality(shards)}
    joined["software"] = "; ".join(dict.fromkeys(str(shard.attributes["software"]) for shard in shards))
    found = dict(file.attrs)
    if NAME in found:
        recipe = {key: value for key, value in json.loads(found[NAME]).items() if key != "set_samples"}
        found[NAME] = json.dumps({**recipe, **joined})
    else:
        found = {**{key: value for key, value in found.items() if key != "set_samples"}, **joined}
    if "n_trajectories" in found:
        found["n_trajectories"] = total
    return found


def _quality(shards: Sequence[Shard]) -> dict[str, Any]:
    """The worst of every measure, and how many draws were rejected in all."""
    names = [name for name in shards[0].attributes if name.startswith("max_")]
    worst = {name: float(max(shard.attributes[name] for shard in shards)) for name in names}
    return {**worst, "rejected": int(sum(shard.attributes["rejected"] for shard in shards))}


def _values(source: _Source, array: h5py.Dataset) -> np.ndarray:
    """The numbers that a shard has where the first one has ``array``."""
    with h5py.File(source.path, "r") as file:
        return file[array.name][()]


def _is_ordered(group: h5py.Group) -> bool:
    """Whether a group remembers in which order its members were made."""
    return bool(group.id.get_create_plist().get_link_creation_order() & h5py.h5p.CRT_ORDER_TRACKED)


def _relative(path: Path, folder: Path) -> str:
    name = os.path.relpath(path.parent.resolve() / path.name, folder.resolve())
    if "%" in name:
        raise UserError(f"{path}: HDF5 gives the sign % in names of joined files a meaning; rename the file or folder")
    return name
