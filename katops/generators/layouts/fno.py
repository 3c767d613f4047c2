"""The MATLAB files of the Fourier neural operator and of MgNO: Darcy, Burgers, Navier-Stokes.

Small files are MATLAB 5 (version 7 without compression), which has to be in memory as a whole; larger ones are MATLAB
7.3, which is HDF5 behind 512 bytes of header with the axes of every array in reverse. The published files are of both
kinds. Sources: Li et al., ICLR 2021, arXiv:2010.08895; The MathWorks, "MAT-File Format".
"""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.io import savemat

from katops.data.formats.provenance import NAME
from katops.data.writing import hdf5_file
from katops.generators.layouts.provenance import provenance_bytes, provenance_text
from katops.generators.layouts.source import Source, Writer, has, no_place
from katops.generators.problem import Problem

MATLAB5_BYTES = 2**28
"""Larger arrays are written as MATLAB 7.3."""
_CLASSES = {"<f8": b"double", "<f4": b"single"}
_EPOCH = datetime(2000, 1, 1).strftime("%a %b %d %H:%M:%S %Y")  # the same samples are the same bytes


class _Variable(NamedTuple):
    """A variable of the file: one frame of a channel, or several as the last axis.

    Attributes:
        name: in the file.
        channel: where the values come from.
        frames: which; ``None`` for a channel without time, one number for one frame.
    """

    name: str
    channel: str
    frames: slice | int | None = None

    def values(self, block: np.ndarray) -> np.ndarray:
        """Of some samples, (n, \\*space) or (n, \\*space, T)."""
        if self.frames is None:
            return block
        chosen = block[:, self.frames]
        return np.moveaxis(chosen, 1, -1) if isinstance(self.frames, slice) else chosen


def writer(problem: Problem) -> Writer:
    """Darcy as ``coeff``, ``sol``; Burgers as ``a`` (first frame), ``u`` (last); vorticity as ``a``, ``u``, ``t``.

    Raises:
        UserError: it is another problem.
    """
    variables, dtype = _variables(problem)

    def write(source: Source, path: Path) -> None:
        times = {} if dtype == "<f8" else {"t": np.asarray(problem.times[1:], dtype=np.float64)[None]}
        sizes = [int(np.prod(_shape(source, variable))) * np.dtype(dtype).itemsize for variable in variables]
        kind = _write_matlab5 if max(sizes) <= MATLAB5_BYTES else _write_matlab73
        kind(source, path, variables, dtype, times)

    return write


def _variables(problem: Problem) -> tuple[tuple[_Variable, ...], str]:
    """What the file holds, and the element type that the published one has."""
    name = problem.meta.name
    if name == "darcy" and has(problem, "coefficient", "pressure"):
        return (_Variable("coeff", "coefficient"), _Variable("sol", "pressure")), "<f8"
    if name == "burgers" and len(problem.fields) == 1:
        [channel] = problem.fields
        return (_Variable("a", channel, 0), _Variable("u", channel, -1)), "<f8"
    if name == "burgers" and len(problem.fields) == 2 and problem.times is None:
        given, sought = (channels[0].name for channels in (problem.meta.inputs, problem.meta.outputs))
        return (_Variable("a", given), _Variable("u", sought)), "<f8"
    if name == "navier_stokes" and has(problem, "vorticity"):
        return (_Variable("a", "vorticity", 0), _Variable("u", "vorticity", slice(1, None))), "<f4"
    raise no_place("fno", problem, "darcy, burgers, and navier_stokes where it gives the vorticity")


def _shape(source: Source, variable: _Variable) -> tuple[int, ...]:
    """(N, \\*space) or (N, \\*space, T)."""
    frames = (source.frames - 1,) if isinstance(variable.frames, slice) else ()
    return (source.samples, *source.space, *frames)


def _blocks(source: Source, variable: _Variable) -> Iterator[tuple[slice, np.ndarray]]:
    for part, [block] in source.blocks([variable.channel]):
        yield part, variable.values(block)


def _write_matlab5(
    source: Source, path: Path, variables: tuple[_Variable, ...], dtype: str, times: dict[str, np.ndarray]
) -> None:
    contents: dict[str, np.ndarray | str] = dict(times)
    for variable in variables:
        values = np.empty(_shape(source, variable), dtype, order="F")
        for part, block in _blocks(source, variable):
            values[part] = block
        contents[variable.name] = values
    with open(path, "wb") as stream:
        savemat(stream, {**contents, NAME: provenance_bytes(source)})
        stream.seek(0)  # scipy writes the date into the first bytes
        stream.write(_header("5.0").ljust(116))


def _write_matlab73(
    source: Source, path: Path, variables: tuple[_Variable, ...], dtype: str, times: dict[str, np.ndarray]
) -> None:
    with hdf5_file(path, userblock_size=512) as (file, _):
        for variable in variables:
            dataset = file.create_dataset(variable.name, _shape(source, variable)[::-1], dtype)
            dataset.attrs["MATLAB_class"] = np.bytes_(_CLASSES[dtype])
            for part, block in _blocks(source, variable):
                dataset[..., part] = block.T
        for name, values in times.items():
            file[name] = values.T
            file[name].attrs["MATLAB_class"] = np.bytes_(_CLASSES["<f8"])
        file.attrs[NAME] = provenance_text(source)
    write_header(path)


def write_header(path: Path) -> None:
    """Make an HDF5 file with 512 bytes in front a MATLAB 7.3 file."""
    with open(path, "r+b") as stream:
        stream.write(_header("7.3").ljust(116) + bytes(8) + b"\x00\x02IM")


def _header(version: str) -> bytes:
    return f"MATLAB {version} MAT-file, Platform: GLNXA64, Created on: {_EPOCH}".encode()
