"""The competitors of benchmarks/hdf5.py: each reads batches of windows, given as (samples, first frames)."""

import os
from collections.abc import Callable, Sequence

import h5py
import numpy as np
import torch
from hdf5_files import FRAMES, Case
from torch.utils.data import default_collate

from katops.data import FieldDataset, Window, describe
from katops.data.reading.buffers import BufferRing
from katops.data.reading.reader import FieldReader, Request

Batch = tuple[np.ndarray, np.ndarray]
Read = Callable[[Sequence[Batch]], object]


class NotHere(Exception):
    """A competitor that is not installed or does not read this layout."""


def preadv(case: Case, batch: int) -> Read:
    """``os.preadv`` of the same bytes into one array, one call for each range, one thread."""
    descriptor = os.open(case.path, os.O_RDONLY)
    out = BufferRing().take((batch, case.window_bytes), torch.uint8).zero_().numpy()

    def read(batches: Sequence[Batch]) -> None:
        for samples, starts in batches:
            for slot, (sample, start) in enumerate(zip(samples.tolist(), starts.tolist(), strict=True)):
                place = 0
                for offset, size in case.ranges(sample, start):
                    os.preadv(descriptor, (out[slot, place : place + size],), offset)
                    place += size

    return read


def katops_reader(case: Case, batch: int) -> Read:
    """katops' engine into arrays that are there already, with advice about the next batch as the loader gives it."""
    reader = FieldReader([describe(case.path, **case.statement)], frames=case.steps)
    steps = (1, 1) if case.layout == "pairs" else (case.steps // 2, case.steps - case.steps // 2)
    ring = BufferRing()
    outs = [
        ring.take((batch, count, len(reader.channels(kind)), *reader.space)).zero_().numpy()
        for kind, count in zip(("inputs", "outputs"), steps, strict=True)
    ]
    files, first = np.zeros(batch, np.int64), steps[0] if case.layout != "pairs" else 0

    def requests(windows: Batch) -> tuple[Request, Request]:
        samples, starts = windows
        return (
            Request("inputs", files, samples, starts, steps[0], 1, outs[0]),
            Request("outputs", files, samples, starts + first, steps[1], 1, outs[1]),
        )

    def read(batches: Sequence[Batch], cold: bool = False) -> None:
        for number, windows in enumerate(batches):
            if cold and number + 1 < len(batches):
                reader.prefetch(*requests(batches[number + 1]))
            reader.read(*requests(windows))

    return read


def katops_dataset(case: Case, batch: int) -> Read:
    """katops' dataset: batches with times, parameters and provenance, every value checked to be finite."""
    window = Window() if case.layout == "pairs" else Window(n_in=case.steps // 2, n_out=case.steps - case.steps // 2)
    dataset, ring = FieldDataset(describe(case.path, **case.statement), window=window), BufferRing()

    def read(batches: Sequence[Batch], cold: bool = False) -> None:
        numbers = [samples * case.starts + starts for samples, starts in batches]
        for number, windows in enumerate(numbers):
            if cold and number + 1 < len(numbers):
                dataset.prefetch(numbers[number + 1])
            dataset.read(windows, ring.take)

    return read


def h5py_slices(case: Case, batch: int) -> Read:
    """h5py, the file kept open, the dataset objects too: one slice per window."""
    arrays = _open(case)
    out = np.zeros((batch, case.window_bytes // 4), np.float32)

    def read(batches: Sequence[Batch]) -> None:
        for samples, starts in batches:
            for slot, (sample, start) in enumerate(zip(samples.tolist(), starts.tolist(), strict=True)):
                parts = [values.ravel() for values in _windows(case, arrays, sample, start)]
                place = 0
                for part in parts:
                    out[slot, place : place + part.size] = part
                    place += part.size

    return read


def h5py_fancy(case: Case, batch: int) -> Read:
    """h5py with a list of samples, sorted and unique as it must be; all windows begin at the same frame."""
    arrays = _open(case)
    if isinstance(arrays[0], dict):
        raise NotHere("one list cannot name datasets of their own")
    steps = slice(None) if case.layout == "pairs" else None

    def read(batches: Sequence[Batch]) -> None:
        for samples, starts in batches:
            chosen = np.unique(np.arange(batch) * (case.samples // batch) + samples % max(1, case.samples // batch))
            frames = steps or slice(int(starts[0]), int(starts[0]) + case.steps)
            for array in arrays:
                torch.from_numpy(array[chosen.tolist(), frames])

    return read


def reopened(case: Case, batch: int) -> Read:
    """h5py, the file opened for every window, as in PDEBench and the Neural-Solver-Library."""
    out = np.zeros((batch, case.window_bytes // 4), np.float32)

    def read(batches: Sequence[Batch]) -> None:
        for samples, starts in batches:
            for slot, (sample, start) in enumerate(zip(samples.tolist(), starts.tolist(), strict=True)):
                with h5py.File(case.path, "r") as file:
                    place = 0
                    for values in _windows(case, _arrays(case, file, sample), sample, start):
                        out[slot, place : place + values.size] = values.ravel()
                        place += values.size

    return read


def mapped(case: Case, batch: int) -> Read:
    """``np.memmap``, without advice to the kernel."""
    memory = np.memmap(case.path, np.uint8, "r")
    out = np.zeros((batch, case.window_bytes), np.uint8)

    def read(batches: Sequence[Batch]) -> None:
        for samples, starts in batches:
            for slot, (sample, start) in enumerate(zip(samples.tolist(), starts.tolist(), strict=True)):
                place = 0
                for offset, size in case.ranges(sample, start):
                    out[slot, place : place + size] = memory[offset : offset + size]
                    place += size

    return read


def the_well(case: Case, batch: int) -> Read:
    """The Well's ``WellDataset`` with torch's default collation, without its grid and normalisation."""
    if case.layout != "The Well":
        raise NotHere("reads the layout of The Well")
    try:
        from the_well.data import WellDataset
    except ImportError as error:
        raise NotHere(f"the_well: {error}") from None
    half = case.steps // 2
    options = {"use_normalization": False, "return_grid": False, "boundary_return_type": None}
    dataset = WellDataset(path=str(case.path.parent), n_steps_input=half, n_steps_output=case.steps - half, **options)
    if len(dataset) != case.samples * case.starts:
        raise NotHere(f"counts {len(dataset)} windows instead of {case.samples * case.starts}")

    def read(batches: Sequence[Batch]) -> None:
        for samples, starts in batches:
            default_collate([dataset[number] for number in (samples * case.starts + starts).tolist()])

    return read


def neuraloperator(case: Case, batch: int) -> Read:
    """neuraloperator's ``H5pyDataset`` with torch's default collation, without subsampling."""
    if case.layout != "pairs":
        raise NotHere("reads pairs x -> y")
    try:
        from neuralop.data.datasets.hdf5_dataset import H5pyDataset
    except ImportError as error:
        raise NotHere(f"neuraloperator: {error}") from None
    dataset = H5pyDataset(case.path, resolution=1024)

    def read(batches: Sequence[Batch]) -> None:
        for samples, _ in batches:
            default_collate([dataset[sample] for sample in samples.tolist()])

    return read


READERS = {
    "preadv": preadv,
    "katops reader": katops_reader,
    "katops dataset": katops_dataset,
    "h5py slices": h5py_slices,
    "h5py fancy": h5py_fancy,
    "h5py reopened": reopened,
    "mmap": mapped,
    "the_well": the_well,
    "neuraloperator": neuraloperator,
}


def _open(case: Case) -> list:
    return _arrays(case, h5py.File(case.path, "r"))


def _arrays(case: Case, file: h5py.File, sample: int | None = None) -> list:
    if case.layout == "seed groups":
        wanted = range(case.samples) if sample is None else [sample]
        return [{number: file[f"{number:04d}/data"] for number in wanted}]
    names = {"The Well": ["t0_fields/pressure", "t1_fields/velocity"], "pairs": ["x", "y"]}.get(case.layout, ["u"])
    return [file[name] for name in names]


def _windows(case: Case, arrays: list, sample: int, start: int) -> list[np.ndarray]:
    if case.layout == "pairs":
        return [array[sample] for array in arrays]
    frames = slice(start, min(start + case.steps, FRAMES))
    if case.layout == "seed groups":
        return [arrays[0][sample][frames]]
    return [array[sample, frames] for array in arrays]
