"""``katops convert``: any data that can be read, as one file in the katops layout, which is read fastest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from katops.data.convert_plan import Block, ConversionPlan
from katops.data.layout import ChannelArray, FileLayout
from katops.data.reading.memory import free_memory
from katops.data.sample_blocks import SampleBlocks
from katops.data.sources import describe_all
from katops.data.unfinished import Journal, UnfinishedFile
from katops.errors import UserError, did_you_mean

Progress = Callable[[int, int], None]

DTYPES = ("float32", "float64")
# Parts of the free memory that a block may have; reading, converting and writing it take several times its size.
_MEMORY_SHARE = 8
_LEAST_BLOCK, _MOST_BLOCK = 64 * 2**20, 4 * 2**30
# Values of each channel that are looked up one by one in the source and compared with what was written.
_COMPARED = 64
_HEAD_BYTES = 2**20


def convert_file(
    sources: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    dtype: str = "float32",
    overwrite: bool = False,
    block_bytes: int | None = None,
    progress: Progress | None = None,
    **statement: Any,
) -> Path:
    """Write all samples of some files into one file in the layout of docs/data_format.md.

    Channels, parameters, times, scalars, units, boundary conditions, licence and root attributes are kept; where the
    samples come from is recorded. Blocks of samples are copied one after the other: memory stays below about four times
    ``block_bytes`` whatever the size and the order of the axes (compressed arrays of .npz files and of MATLAB files up
    to version 7 are held whole). Everything written is read back and compared with its checksum, and 64 values of each
    channel and file are looked up one by one in the source and compared bit by bit.

    What is unfinished lies in the folder ``<output>.partial/``: after an interruption the same call goes on with it,
    and ``output`` appears when it is whole and verified.

    Args:
        sources: a file, a folder, a pattern, or a list of these, see :func:`.sources.describe_all`.
        output: the file; its folder is made if it is missing.
        dtype: "float32" or "float64", of the fields.
        overwrite: replace an ``output`` that is there.
        block_bytes: of the fields that are in memory at a time; an eighth of the free memory, at most 4 GiB, where
            ``None``.
        progress: called with (channels of samples done, all); copying counts once and verifying once.
        statement: as in :func:`katops.data.formats.describe`.

    Returns:
        ``output``.

    Raises:
        UserError: the sources cannot be read as one data set, ``output`` exists or is a source, the disk is full or has
            too little room, another process writes the same file, or what was written is not what was read.
    """
    output = Path(output)
    if dtype not in DTYPES:
        raise UserError(f"unknown dtype {dtype!r}{did_you_mean(dtype, DTYPES)} Allowed: {', '.join(DTYPES)}.")
    layouts = describe_all(sources, **statement)
    _check_output(output, layouts, overwrite)
    plan = ConversionPlan(layouts, dtype)
    unfinished = UnfinishedFile(output)
    _check_room(output, unfinished, plan)
    if block_bytes is None:
        block_bytes = min(max(free_memory() // _MEMORY_SHARE, _LEAST_BLOCK), _MOST_BLOCK)
    with unfinished.begun(plan.identity(), block_bytes, plan.create) as journal:
        blocks = plan.blocks(journal.block_bytes)
        total = 2 * sum(len(block.group) * (block.samples.stop - block.samples.start) for block in blocks)
        advance = _Counter(total, progress)
        _copy(plan, blocks, unfinished, journal, advance)
        _verify(plan, blocks, unfinished, journal, advance)
        unfinished.finish()
    return output


class _Counter:
    """Adds up and reports."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self.done, self.total, self._progress = 0, total, progress
        self(0)

    def __call__(self, more: int) -> None:
        self.done += more
        if self._progress is not None:
            self._progress(self.done, self.total)


def _copy(
    plan: ConversionPlan,
    blocks: Sequence[Block],
    unfinished: UnfinishedFile,
    journal: Journal,
    advance: Callable[[int], None],
) -> None:
    """Write the blocks that an earlier call has not written."""
    for block in blocks:
        names = [plan.field(array)[0] for array in block.group]
        if not all(str(block.first) in journal.checksums.get(name, {}) for name in names):
            for name, values in plan.values(block):
                unfinished.write(journal, name, block.first, values)
            unfinished.save(journal)
        advance(len(names) * (block.samples.stop - block.samples.start))


def _verify(
    plan: ConversionPlan,
    blocks: Sequence[Block],
    unfinished: UnfinishedFile,
    journal: Journal,
    advance: Callable[[int], None],
) -> None:
    """Compare what is on the disk with what was written, and some of it with the source itself.

    Raises:
        UserError: something differs.
    """
    random = np.random.default_rng(0)
    for block in blocks:
        reader, count = plan.readers[block.file], block.samples.stop - block.samples.start
        share = max(1, _COMPARED * count // reader.layout.n_samples)
        for array in block.group:
            name, _ = plan.field(array)
            values = unfinished.read_back(journal, name, block.first, plan.shape(block, array), plan.dtype)
            for row in random.integers(0, count, share):
                _compare(reader, array, block.samples.start + int(row), values[row], random)
            advance(count)


def _compare(
    reader: SampleBlocks, array: ChannelArray, sample: int, written: np.ndarray, random: np.random.Generator
) -> None:
    frame = int(random.integers(0, reader.layout.frames[sample])) if array.has_time else 0
    point = tuple(int(random.integers(0, size)) for size in reader.layout.space)
    found = written[(frame, *point) if array.has_time else point]
    stored = reader.element(array, sample, frame, point)[0]
    if found.tobytes() != stored.astype(found.dtype).tobytes() and not (np.isnan(found) and np.isnan(stored)):
        raise UserError(
            f"{reader.layout.path}: sample {sample} of channel {array.name!r} holds {stored} at point {point}, "
            f"frame {frame}, but {found} was written; please report this as a defect of katops"
        )


def _check_output(output: Path, layouts: Sequence[FileLayout], overwrite: bool) -> None:
    if output.is_dir():
        raise UserError(f"{str(output)!r} is a folder; give the name of a file in it, such as {output / 'data.h5'}")
    if not output.exists():
        return
    if any(layout.path.exists() and output.samefile(layout.path) for layout in layouts):
        raise UserError(f"{str(output)!r} is one of the files to convert; choose another name")
    if not overwrite:
        raise UserError(f"{str(output)!r} exists already; choose another name, or --overwrite")


def _check_room(output: Path, unfinished: UnfinishedFile, plan: ConversionPlan) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {str(output)!r}: {error.strerror}") from error
    free = shutil.disk_usage(output.parent).free
    # Blocks that a partial file holds already are on the disk; a sparse file takes what was written.
    there = unfinished.path.stat().st_blocks * 512 if unfinished.path.exists() else 0
    needed = plan.n_bytes + _HEAD_BYTES - there
    if needed > free:
        raise UserError(
            f"{str(output)!r} needs {needed / 1e9:.3g} GB and the disk has {free / 1e9:.3g} GB left; choose another "
            f"disk, or fewer channels with --inputs and --outputs"
        )
