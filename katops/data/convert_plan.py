"""What a conversion writes, and from where it comes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.containers.probe import probe
from katops.data.fingerprints import fingerprint
from katops.data.layout import ChannelArray, FileLayout
from katops.data.sample_blocks import SampleBlocks
from katops.data.writing import StoredField, array_names, create_layout, layout_file, storable
from katops.fields import Channel


@dataclass(frozen=True)
class Block:
    """Samples of one file that are copied together.

    Attributes:
        file: position of the file.
        group: channels in the same array.
        samples: in the file.
        first: number of the first of them in the output.
    """

    file: int
    group: tuple[ChannelArray, ...]
    samples: slice
    first: int


class ConversionPlan:
    """The new file: its head, its fields, and the blocks in which they are copied.

    Args:
        layouts: the files to convert.
        dtype: "float32" or "float64", of the fields.

    Attributes:
        readers: of the files.
        fields: what is written, by name, in the order of storage.
    """

    def __init__(self, layouts: Sequence[FileLayout], dtype: str) -> None:
        self.layouts = tuple(layouts)
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.readers = [SampleBlocks(layout, dtype) for layout in layouts]
        self.first_samples = np.cumsum([0, *(layout.n_samples for layout in layouts)])
        self.n_samples = int(self.first_samples[-1])
        self.frames = np.concatenate([layout.frames for layout in layouts])
        self.fields = self._fields()
        self.names = dict(zip((array.name for array in layouts[0].arrays), self.fields, strict=True))

    @property
    def n_bytes(self) -> int:
        """Of all fields."""
        sizes = (prod(entry.shape) * (self.n_samples if entry.per_sample else 1) for entry in self.fields.values())
        return sum(sizes) * self.dtype.itemsize

    def blocks(self, n_bytes: int) -> list[Block]:
        """What is copied together."""
        return [
            Block(number, group, samples, int(self.first_samples[number]) + samples.start)
            for number, reader in enumerate(self.readers)
            for group in reader.groups
            for samples in ([slice(0, 1)] if self._shared(group[0]) else reader.blocks(group, n_bytes))
        ]

    def field(self, array: ChannelArray) -> tuple[str, StoredField]:
        """Name and place of a channel in the output."""
        name = self.names[array.name]
        return name, self.fields[name]

    def values(self, block: Block) -> list[tuple[str, np.ndarray]]:
        """(field, values as they are written) of every channel of a block."""
        read = self.readers[block.file].read(block.group, block.samples)
        found = []
        for position, array in enumerate(block.group):
            name, entry = self.field(array)
            values = np.full((len(read), *entry.shape), np.nan, self.dtype) if array.has_time else None
            if values is None:
                values = np.ascontiguousarray(read[:, 0, position], self.dtype)
            else:
                values[:, : read.shape[1]] = read[:, :, position]
            found.append((name, values))
        return found

    def shape(self, block: Block, array: ChannelArray) -> tuple[int, ...]:
        """Of the values of a channel of a block."""
        return (block.samples.stop - block.samples.start, *self.field(array)[1].shape)

    def identity(self) -> str:
        """What decides the bytes of the output."""
        files = [(fingerprint(layout), layout.stamps) for layout in self.layouts]
        about = [repr(layout.meta) + repr(layout.arrays) for layout in self.layouts]
        content = json.dumps([files, about, str(self.dtype), list(self.fields)])
        return hashlib.sha256(content.encode()).hexdigest()

    def create(self, path: Path) -> None:
        """Write the file with everything but the fields."""
        first = self.layouts[0]
        frames = self.frames if (self.frames != self.frames.max()).any() else None
        parameters = np.concatenate([layout.parameters for layout in self.layouts])
        channels = [Channel(name, old.unit) for name, old in _renamed(first.meta.parameters)]
        with layout_file(path, complete=False) as file:
            arrays = create_layout(
                file.hdf5,
                name=first.meta.name,
                samples=self.n_samples,
                fields=self.fields,
                axes=first.meta.axes,
                parameters=channels,
                times=self._per_frame([layout.times for layout in self.layouts]) if first.time_dependent else None,
                time_unit=first.meta.time_unit,
                frames=frames,
                scalars=[Channel(name, old.unit) for name, old in _renamed(first.meta.scalars)],
                scalar_values=self._scalars(),
                coordinates=first.meta.coordinates,
                licence=first.meta.licence,
                citation=first.meta.citation,
                attributes={**(self._shared_attributes() if first.format == "katops" else {}), **self._origin()},
                dtype=self.dtype.str,
                allocate=True,
            )
            for column, channel in enumerate(channels):
                arrays[f"parameters/{channel.name}"][...] = parameters[:, column]
            for name, values, attributes in self._quality():
                file.hdf5[f"quality/{name}"] = values
                file.hdf5[f"quality/{name}"].attrs.update(storable(attributes))
            source = file.hdf5.create_group("source", track_order=True)
            if first.format != "katops":
                # At the root they might make the new file look like one of the old format.
                source.attrs.update(storable(self._shared_attributes()))
            counts = [layout.n_samples for layout in self.layouts]
            source["file"] = np.repeat(np.arange(len(counts), dtype="<i8"), counts)
            source["sample"] = np.concatenate([np.arange(count, dtype="<i8") for count in counts])

    def _fields(self) -> dict[str, StoredField]:
        layout, longest = self.layouts[0], int(self.frames.max())
        fields = {}
        for array, name in zip(layout.arrays, array_names(array.channel for array in layout.arrays), strict=True):
            shape = (longest, *layout.space) if array.has_time else layout.space
            fields[name] = StoredField.of(
                array.channel, _role(layout, array), shape, per_sample=not self._shared(array)
            )
        return fields

    def _shared(self, array: ChannelArray) -> bool:
        """Whether a channel is the same for all samples and may be stored so."""
        alone = len(self.layouts) == 1 and array in self.layouts[0].constants
        return alone and "sample" not in array.axes and len(array.datasets) == 1

    def _per_frame(self, tables: Sequence[np.ndarray | None]) -> np.ndarray | None:
        """Times or scalars of all files: one row where all agree, else one for each sample, NaN behind its end."""
        if tables[0] is None:
            return None
        if all(table.ndim == 1 and np.array_equal(table, tables[0], equal_nan=True) for table in tables):
            return tables[0]
        longest = int(self.frames.max())
        rows = np.full((self.n_samples, longest), np.nan)
        for number, (layout, table) in enumerate(zip(self.layouts, tables, strict=True)):
            place = slice(self.first_samples[number], self.first_samples[number + 1])
            rows[place, : layout.frames.max()] = table[..., : layout.frames.max()]
        rows[np.arange(longest) >= self.frames[:, None]] = np.nan
        return rows

    def _scalars(self) -> np.ndarray | None:
        if self.layouts[0].scalars is None:
            return None
        columns = []
        for column in range(self.layouts[0].scalars.shape[-1]):
            tables = [layout.scalars[..., column] for layout in self.layouts]
            columns.append(self._per_frame([table[0] if len(table) == 1 else table for table in tables]))
        return np.stack(np.broadcast_arrays(*(np.atleast_2d(column) for column in columns)), axis=-1)

    def _quality(self) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
        """(name, values, attributes) of what generators measured for each sample; NaN for files without it."""
        if all(layout.format != "katops" for layout in self.layouts):
            return []
        trees = [probe(layout.path) if layout.format == "katops" else None for layout in self.layouts]
        groups = [{} if tree is None else tree.members("quality") for tree in trees]
        attributes = {name: array.attributes for group in reversed(groups) for name, array in group.items()}
        return [
            (
                name,
                np.concatenate(
                    [
                        np.asarray(tree.values(group[name].path), "<f8")
                        if name in group
                        else np.full(layout.n_samples, np.nan)
                        for layout, tree, group in zip(self.layouts, trees, groups, strict=True)
                    ]
                ),
                found,
            )
            for name, found in attributes.items()
        ]

    def _shared_attributes(self) -> dict[str, Any]:
        """Root attributes on which all files agree."""
        others = [layout.attributes for layout in self.layouts[1:]]
        return {
            name: value
            for name, value in self.layouts[0].attributes.items()
            if all(_same(attributes.get(name), value) for attributes in others)
        }

    def _origin(self) -> dict[str, Any]:
        """Where the samples come from, and what was remarked about the files."""
        notes = list(dict.fromkeys(note for layout in self.layouts for note in layout.notes))
        return {
            "converted_from": [layout.path.name for layout in self.layouts],
            "source_format": self.layouts[0].format,
            "source_fingerprints": [fingerprint(layout) for layout in self.layouts],
            **({"notes": notes} if notes else {}),
        }


def _role(layout: FileLayout, array: ChannelArray) -> str:
    if array in layout.inputs:
        return "state" if array in layout.outputs else "input"
    return "output" if array in layout.outputs else "constant"


def _renamed(channels: Sequence[Channel]) -> list[tuple[str, Channel]]:
    return list(zip(array_names(channels), channels, strict=True))


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other
