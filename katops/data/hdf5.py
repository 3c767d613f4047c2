"""The lazy reader: fields straight from the file into one array, never the whole file in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from math import prod
from typing import Any

import h5py
import numpy as np

from katops.data.layout import ChannelArray, FileLayout
from katops.data.opening import open_file, reading, stamp_of
from katops.errors import UserError

# HDF5 decompresses a chunk again whenever it no longer fits the cache, which costs two orders of magnitude; a smaller
# chunk cache than HDF5's own default never pays, and above the upper bound memory would no longer be flat.
_LEAST_CACHE, _MOST_CACHE = 8 * 2**20, 256 * 2**20
# A prime near 100 slots per chunk keeps hash collisions rare (HDF5 documentation, H5Pset_cache).
_CACHE_SLOTS = 100_003
# Neighbouring samples are read in one call up to this size, which bounds the temporary copy.
_MOST_MERGED = 16 * 2**20


class FieldFile:
    """Reads windows of channels from one file.

    The HDF5 handle and the dataset objects belong to the process that opened them: after a fork they are opened again,
    and pickle and deepcopy leave them out. Bool, integer and float arrays of any width and byte order become ``dtype``.

    Args:
        layout: the parsed file.
        subsample: keep every ``subsample``-th grid point of every spatial axis, the first one included.
        dtype: "float32" or "float64".
        frames: frames that one read touches; sizes the chunk cache.
    """

    def __init__(self, layout: FileLayout, *, subsample: int = 1, dtype: str = "float32", frames: int = 1) -> None:
        self.layout = layout
        self.subsample = subsample
        self.dtype = np.dtype(dtype)
        self.space = tuple(-(-size // subsample) for size in layout.space)
        self.frames = frames
        self._forget()

    def read(
        self,
        arrays: Sequence[ChannelArray],
        samples: np.ndarray,
        starts: np.ndarray,
        steps: int = 1,
        every: int = 1,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Frames starts + every * [0, steps) of some samples; channels without time are repeated in every frame.

        Args:
            arrays: the channels, from ``layout.inputs`` or ``layout.outputs``.
            samples: (b,) samples in any order, repetitions allowed.
            starts: (b,) first frame of each.
            steps: frames per window.
            every: distance of frames.
            out: (b, steps, channel, \\*space), filled and returned; allocated where ``None``.

        Returns:
            (b, steps, channel, \\*space) of ``dtype``.

        Raises:
            UserError: the file was moved, changed or truncated since it was described, or is damaged.
        """
        if out is None:
            out = np.empty((len(samples), steps, len(arrays), *self.space), self.dtype)
        datasets = self._datasets()
        thin = (Ellipsis, *(slice(None, None, self.subsample) for _ in self.space))
        # A float64 too large for float32 becomes inf, which the check for finite values reports better than numpy.
        with reading(self.layout.path), np.errstate(over="ignore", invalid="ignore"):
            for channel, array in enumerate(arrays):
                dataset = datasets[array.dataset]
                for slots, sample, start in self._runs(array, samples, starts, steps):
                    if array.has_time:
                        window = slice(start, start + (steps - 1) * every + 1, every)
                        out[slots, :, channel] = dataset[sample, window][thin]
                    else:
                        out[slots, :, channel] = dataset[sample][thin][:, None]
        return out

    def read_parameters(self, samples: np.ndarray) -> np.ndarray:
        """(b, number of parameters) of ``dtype``; the arrays are small and read whole."""
        datasets = self._datasets()
        with reading(self.layout.path):
            columns = [datasets[name][()][samples] for name in self.layout.parameters]
        return np.stack(columns, axis=1).astype(self.dtype)

    def check_finite(self, values: np.ndarray, arrays: Sequence[ChannelArray], samples: np.ndarray) -> None:
        """Refuse NaN and infinity.

        Args:
            values: what :meth:`read` returned.
            arrays, samples: what it was asked for.

        Raises:
            UserError: a value is not finite; the message names file, sample and channel.
        """
        finite = np.isfinite(values)
        if finite.all():
            return
        item, step, channel = np.argwhere(~finite)[0][:3]
        value = values[item, step, channel][~finite[item, step, channel]][0]
        raise UserError(
            f"{self.layout.path}: sample {samples[item]} of channel {arrays[channel].name!r} holds {value} "
            f"(read as {values.dtype}, {int((~finite).sum())} such values in this batch); remove or repair that sample"
        )

    def close(self) -> None:
        """Close the file; it is opened again when something is read."""
        if self._file is not None:
            self._file.close()
        self._forget()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        state.update(_file=None, _open_datasets={}, _process=None)
        return state

    def _forget(self) -> None:
        self._file: h5py.File | None = None
        self._open_datasets: dict[str, h5py.Dataset] = {}
        self._process: int | None = None

    def _datasets(self) -> dict[str, h5py.Dataset]:
        """The dataset objects of this process, by path; a look-up by name costs more than reading a small field."""
        self._check_unchanged()
        if self._process != os.getpid():
            # In a forked child this closes the child's copy of the descriptor only.
            self.close()
            self._file = open_file(self.layout.path, **self._cache_options())
            self._process = os.getpid()
            names = [array.dataset for array in (*self.layout.inputs, *self.layout.outputs)]
            with reading(self.layout.path):
                self._open_datasets = {name: self._file[name] for name in (*names, *self.layout.parameters)}
        return self._open_datasets

    def _check_unchanged(self) -> None:
        path = self.layout.path
        try:
            stamp = stamp_of(path)
        except OSError as error:
            raise UserError(
                f"{path} was there when it was described and cannot be found now: {error.strerror}"
            ) from error
        if stamp != self.layout.stamp:
            raise UserError(
                f"{path} has changed since it was described ({self.layout.stamp[0]} bytes then, {stamp[0]} bytes now); "
                f"start again with the new file"
            )

    def _cache_options(self) -> dict[str, Any]:
        chunked = [array for array in (*self.layout.inputs, *self.layout.outputs) if array.chunks is not None]
        if not chunked:
            return {}
        needed = max(self._bytes_touched(array) for array in chunked)
        return {"rdcc_nbytes": min(max(needed, _LEAST_CACHE), _MOST_CACHE), "rdcc_nslots": _CACHE_SLOTS}

    def _bytes_touched(self, array: ChannelArray) -> int:
        """Bytes of all chunks that one window of one sample touches."""
        window = (1, min(self.frames, array.shape[1]), *array.space) if array.has_time else (1, *array.space)
        # A window that is not aligned with the chunks touches one more along time.
        counts = [-(-size // chunk) for size, chunk in zip(window, array.chunks, strict=True)]
        if array.has_time and array.chunks[1] > 1:
            counts[1] += 1
        return prod(counts) * prod(array.chunks) * np.dtype(array.dtype).itemsize

    def _runs(
        self, array: ChannelArray, samples: np.ndarray, starts: np.ndarray, steps: int
    ) -> Iterator[tuple[np.ndarray, slice, int]]:
        """(slots of the batch, consecutive samples, first frame): each is one read, in the order of the file."""
        sample_bytes = prod(array.space) * np.dtype(array.dtype).itemsize * (steps if array.has_time else 1)
        longest = max(1, _MOST_MERGED // sample_bytes)
        keys = (samples, starts) if array.has_time else (samples,)
        order = np.lexsort(keys)
        begin = 0
        for end in range(1, len(order) + 1):
            if end < len(order) and end - begin < longest:
                previous, current = order[end - 1], order[end]
                neighbours = samples[current] == samples[previous] + 1
                if neighbours and (not array.has_time or starts[current] == starts[previous]):
                    continue
            first = order[begin]
            sample = int(samples[first])
            yield order[begin:end], slice(sample, sample + end - begin), int(starts[first])
            begin = end
