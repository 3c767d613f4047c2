"""Writing the katops HDF5 layout (docs/data_format.md)."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

import katops
from katops.errors import UserError
from katops.fields import Axis, Channel

_OWN_ATTRIBUTES = (
    "format",
    "format_version",
    "complete",
    "name",
    "katops_version",
    "coordinates",
    "licence",
    "citation",
)
# HDF5's oldest format keeps attributes in the header of their object, which has room for 64 KiB.
_MOST_TEXT = 32_000
_FIRST_BOUNDARIES = ("dirichlet", "neumann", "periodic")


class StoredField(NamedTuple):
    """One channel as it is stored.

    Attributes:
        role: "input", "output", "state" (time dependent, input and output) or "constant".
        unit: "" where dimensionless.
        shape: shape of one sample, (\\*space) or (T, \\*space).
        per_sample: ``False`` for a constant that all samples share; it has no sample axis.
        quantity, component, shift: as in :class:`katops.fields.Channel`.
    """

    role: str
    unit: str
    shape: tuple[int, ...]
    per_sample: bool = True
    quantity: str = ""
    component: tuple[int, ...] = ()
    shift: tuple[float, ...] = ()

    @classmethod
    def of(cls, channel: Channel, role: str, shape: tuple[int, ...], *, per_sample: bool = True) -> StoredField:
        """A channel with everything that is known about it."""
        return cls(role, channel.unit, shape, per_sample, channel.quantity, channel.component, channel.shift)


def create_layout(
    file: h5py.File,
    *,
    name: str,
    samples: int,
    fields: Mapping[str, StoredField],
    axes: Sequence[Axis],
    parameters: Sequence[Channel] = (),
    times: np.ndarray | None = None,
    time_unit: str = "",
    frames: np.ndarray | None = None,
    scalars: Sequence[Channel] = (),
    scalar_values: np.ndarray | None = None,
    coordinates: str = "cartesian",
    licence: str = "",
    citation: str = "",
    attributes: Mapping[str, Any] | None = None,
    dtype: str = "<f4",
    allocate: bool = False,
) -> dict[str, h5py.Dataset]:
    """Root attributes, coordinates, and empty contiguous arrays.

    Args:
        file: open for writing, empty.
        name: name of the data set.
        samples: N.
        fields: the channels, in the order of storage.
        axes: the spatial axes.
        parameters: scalars per sample.
        times: the T times of the frames, or (N, T); ``None`` where no field has a time axis.
        time_unit: unit of ``times``.
        frames: (N,) frames of each trajectory, where they differ.
        scalars: numbers per frame.
        scalar_values: (1 or N, T, number of scalars).
        coordinates, licence, citation: as in :class:`katops.fields.FieldMeta`.
        attributes: provenance, as root attributes; see :func:`storable`.
        dtype: of the fields.
        allocate: reserve the place of every field in the file now, so that its bytes can be written without HDF5.

    Returns:
        The arrays to fill, by path: ``fields/<channel>`` and ``parameters/<name>``.
    """
    even = times is None or (np.ndim(times) == 1 and _evenly_spaced(times))
    plain = frames is None and not scalars and even and coordinates == "cartesian" and not licence and not citation
    version = 1 if plain and all(map(_first_field, fields.values())) and all(map(_first_axis, axes)) else 2
    file.attrs.update({"format": "katops", "format_version": version, "name": name, **storable(attributes or {})})
    file.attrs["katops_version"] = katops.__version__
    if coordinates != "cartesian":
        file.attrs["coordinates"] = coordinates
    file.attrs.update({key: text for key, text in (("licence", licence), ("citation", citation)) if text})
    _write_axes(file, axes, next(iter(fields.values())).shape[-len(axes) :])
    if times is not None:
        file.create_dataset("time", data=np.asarray(times, "<f8")).attrs["unit"] = time_unit
    if frames is not None:
        file.create_dataset("frames", data=np.asarray(frames, "<i8"))
    arrays = {}
    group = file.create_group("fields", track_order=True)
    for channel, field in fields.items():
        shape = (samples, *field.shape) if field.per_sample else field.shape
        arrays[f"fields/{channel}"] = _create_field(group, channel, shape, dtype, field, allocate)
    for parameter in parameters:
        dataset = file.require_group("parameters").create_dataset(parameter.name, (samples,), "<f8")
        dataset.attrs["unit"] = parameter.unit
        arrays[f"parameters/{parameter.name}"] = dataset
    for position, scalar in enumerate(scalars):
        values = scalar_values[..., position]
        dataset = file.require_group("scalars").create_dataset(
            scalar.name, data=np.asarray(values[0] if len(values) == 1 else values, "<f8")
        )
        dataset.attrs["unit"] = scalar.unit
    return arrays


def array_names(channels: Iterable[Channel]) -> list[str]:
    """Names under which channels are stored: a slash in the name of an array is a folder to HDF5.

    Raises:
        UserError: two of them cannot be told apart.
    """
    given = [channel.name for channel in channels]
    names = [name.strip("/").replace("/", "_") for name in given]
    if len(set(names)) < len(names):
        raise UserError(f"the channels {', '.join(map(repr, given))} cannot be told apart as names of arrays")
    return names


def storable(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as HDF5 can keep them: numbers, text and lists of them; anything else as JSON, long texts cut.

    Attributes whose names the layout gives a meaning are left out, and so is what is ``None``.
    """
    kept = {}
    for name, value in attributes.items():
        if name in _OWN_ATTRIBUTES or value is None:
            continue
        text = isinstance(value, str)
        if not text and not isinstance(value, bool | int | float | np.number) and not _is_plain_list(value):
            value, text = json.dumps(value, default=str), True
        if text and len(value.encode()) > _MOST_TEXT:
            value = value.encode()[:_MOST_TEXT].decode(errors="ignore") + " ... (cut)"
        kept[name] = value
    return kept


@contextmanager
def layout_file(path: Path, *, complete: bool = True) -> Iterator[LayoutFile]:
    """A new file in the katops layout.

    Args:
        path: the file, which is replaced.
        complete: what the attribute of that name says when the block has ended without an exception; ``False`` where
            the fields are filled later, see :func:`mark_complete`.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    with hdf5_file(path) as file:
        yield file
        file.hdf5.flush()
        file.hdf5.attrs["complete"] = complete


@contextmanager
def hdf5_file(path: Path, **options: Any) -> Iterator[LayoutFile]:
    """A new HDF5 file in the oldest format; a full disk is an error and does not end the process.

    Args:
        path: the file, which is replaced.
        options: of ``h5py.File``.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    with _ErrorKeepingFile(path, "w+") as stream, h5py.File(stream, "w", libver="earliest", **options) as file:
        yield LayoutFile(file, stream)
    stream.raise_error()


def mark_complete(path: Path) -> None:
    """Say that the fields of a file, begun with ``layout_file(path, complete=False)``, are all there.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    with _ErrorKeepingFile(path, "r+") as stream, h5py.File(stream, "r+") as file:
        file.attrs.modify("complete", True)
    stream.raise_error()


class LayoutFile(NamedTuple):
    """An open file, and a look at whether its writes went well."""

    hdf5: h5py.File
    stream: _ErrorKeepingFile

    def check(self) -> None:
        """Raise the error of an earlier write, if there was one; to be called now and then in long loops."""
        self.stream.raise_error()


class _ErrorKeepingFile(io.FileIO):
    """A file that keeps its write errors until :meth:`raise_error`.

    HDF5 ends the process with a segmentation fault when the disk is full while a file is being closed (seen with
    HDF5 2.0). It is therefore never told.
    """

    def __init__(self, path: Path, mode: str) -> None:
        super().__init__(path, mode)
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of ``data`` or keep the error."""
        rest = memoryview(data).cast("B")
        size = len(rest)
        try:
            while rest and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = self.error or error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size or keep the error."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def raise_error(self) -> None:
        """Raise the first error there was."""
        if self.error is not None:
            raise self.error


def _write_axes(file: h5py.File, axes: Sequence[Axis], space: Sequence[int]) -> None:
    group = file.create_group("axes", track_order=True)
    for position, (axis, size) in enumerate(zip(axes, space, strict=True)):
        coordinates = group.create_dataset(axis.name, data=axis.coordinates(size).astype("<f8"))
        coordinates.attrs.update({"position": position, "grid": axis.grid, "unit": axis.unit})
        coordinates.attrs.update({"lower": axis.lower, "upper": axis.upper, "boundary": list(axis.boundary)})


def _create_field(
    group: h5py.Group, name: str, shape: tuple[int, ...], dtype: str, field: StoredField, allocate: bool
) -> h5py.Dataset:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    if allocate:
        properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    dataset = group.create_dataset(name, shape, dtype, dcpl=properties)
    dataset.attrs.update({"role": field.role, "unit": field.unit})
    if field.quantity:
        dataset.attrs["quantity"] = field.quantity
    if field.component:
        dataset.attrs["component"] = list(field.component)
    if field.shift:
        dataset.attrs["shift"] = list(field.shift)
    return dataset


def _first_field(field: StoredField) -> bool:
    """Whether version 1 of the layout can say everything about a channel."""
    return field.role != "constant" and field.per_sample and not field.quantity and not field.shift


def _first_axis(axis: Axis) -> bool:
    """Whether version 1 of the layout can say everything about an axis."""
    return axis.grid != "uneven" and all(side in _FIRST_BOUNDARIES for side in axis.boundary)


def _evenly_spaced(times: np.ndarray) -> bool:
    """Whether version 1 accepts the times."""
    steps = np.diff(np.asarray(times, dtype=np.float64))
    return not len(steps) or bool(steps.mean() > 0 and np.allclose(steps, steps.mean(), rtol=1e-4, atol=0.0))


def _is_plain_list(value: Any) -> bool:
    """A list that HDF5 can keep: not empty, not too long, all numbers or all text."""
    if not isinstance(value, list | tuple) or not value:
        return False
    kinds = {str if isinstance(entry, str) else float for entry in value}
    scalars = all(isinstance(entry, str | bool | int | float | np.number) for entry in value)
    return scalars and len(kinds) == 1 and sum(len(str(entry)) + 16 for entry in value) <= _MOST_TEXT
