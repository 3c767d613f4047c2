"""Writing the katops HDF5 layout (docs/data_format.md)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

import katops
from katops.fields import Axis, Channel

FORMAT_VERSION = 1


class StoredField(NamedTuple):
    """One channel as it is stored.

    Attributes:
        role: "input", "output", or "state" (time dependent, input and output).
        unit: "" where dimensionless.
        shape: shape of one sample, (\\*space) or (T, \\*space).
    """

    role: str
    unit: str
    shape: tuple[int, ...]


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
    attributes: Mapping[str, Any] | None = None,
) -> dict[str, h5py.Dataset]:
    """Root attributes, coordinates, and empty contiguous arrays.

    Args:
        file: open for writing, empty.
        name: name of the data set.
        samples: N.
        fields: the channels, in the order of storage.
        axes: the spatial axes.
        parameters: scalars per sample.
        times: the T times of the frames, ``None`` where no field has a time axis.
        time_unit: unit of ``times``.
        attributes: provenance, as root attributes.

    Returns:
        The arrays to fill, by path: ``fields/<channel>`` and ``parameters/<name>``.
    """
    file.attrs.update({"format": "katops", "format_version": FORMAT_VERSION, "name": name, **(attributes or {})})
    file.attrs["katops_version"] = katops.__version__
    space = next(iter(fields.values())).shape[-len(axes) :]
    group = file.create_group("axes", track_order=True)
    for position, (axis, size) in enumerate(zip(axes, space, strict=True)):
        coordinates = group.create_dataset(axis.name, data=axis.coordinates(size).astype("<f8"))
        coordinates.attrs.update({"position": position, "grid": axis.grid, "unit": axis.unit})
        coordinates.attrs.update({"lower": axis.lower, "upper": axis.upper, "boundary": list(axis.boundary)})
    if times is not None:
        file.create_dataset("time", data=np.asarray(times, "<f8")).attrs["unit"] = time_unit
    arrays = {}
    group = file.create_group("fields", track_order=True)
    for channel, field in fields.items():
        dataset = group.create_dataset(channel, (samples, *field.shape), "<f4")
        dataset.attrs.update({"role": field.role, "unit": field.unit})
        arrays[f"fields/{channel}"] = dataset
    for parameter in parameters:
        dataset = file.require_group("parameters").create_dataset(parameter.name, (samples,), "<f8")
        dataset.attrs["unit"] = parameter.unit
        arrays[f"parameters/{parameter.name}"] = dataset
    return arrays


@contextmanager
def layout_file(path: Path) -> Iterator[LayoutFile]:
    """A new file in the katops layout; ``complete`` is set when the block ends without an exception.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    with _ErrorKeepingFile(path) as stream, h5py.File(stream, "w") as file:
        yield LayoutFile(file, stream)
        file.flush()
        file.attrs["complete"] = True
    stream.raise_error()


class LayoutFile(NamedTuple):
    """An open file, and a look at whether its writes went well."""

    hdf5: h5py.File
    stream: _ErrorKeepingFile

    def check(self) -> None:
        """Raise the error of an earlier write, if there was one; to be called now and then in long loops."""
        self.stream.raise_error()


class _ErrorKeepingFile(io.FileIO):
    """A new file that keeps its write errors until :meth:`raise_error`.

    HDF5 ends the process with a segmentation fault when the disk is full while a file is being closed (seen with
    HDF5 2.0). It is therefore never told.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
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
