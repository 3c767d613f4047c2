"""Looking at every value of a data set for what is not a number: all bad samples at once, not the first one only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from katops.data.layout import ChannelArray, FileLayout
from katops.data.sample_blocks import SampleBlocks
from katops.errors import UserError

Progress = Callable[[int, int], None]

_BLOCK_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Finding:
    """Something that training would refuse.

    Attributes:
        file: the file.
        sample: in the file.
        number: of the sample over all files, as in ``data.exclude``.
        channel: name of the channel, parameter or scalar.
        count: values that are NaN or infinite; 0 where the sample cannot be read.
        first_frame: the first frame with such a value; ``None`` for what does not change in time.
        problem: why the sample cannot be read; "" where it can.
    """

    file: Path
    sample: int
    number: int
    channel: str
    count: int
    first_frame: int | None = None
    problem: str = ""


def scan(layouts: FileLayout | Sequence[FileLayout], progress: Progress | None = None) -> list[Finding]:
    """Read everything once, as float32, and list what is not finite or cannot be read.

    Memory is bounded, whatever the order of the axes; see :class:`katops.data.sample_blocks.SampleBlocks`.

    Args:
        layouts: the files.
        progress: called with (channels of samples done, all).

    Returns:
        One entry per sample and channel, in the order of the samples.

    Raises:
        UserError: a file was moved or changed since it was described, or nothing in it can be read.
    """
    layouts = (layouts,) if isinstance(layouts, FileLayout) else tuple(layouts)
    total, done, first = sum(layout.n_samples * len(layout.arrays) for layout in layouts), 0, 0
    findings: list[Finding] = []
    for layout in layouts:
        reader = SampleBlocks(layout, "float32")
        found = _numbers(layout)
        for group in reader.groups:
            for samples in reader.blocks(group, _BLOCK_BYTES):
                found += _fields(reader, group, samples)
                done += len(group) * (samples.stop - samples.start)
                if progress is not None:
                    progress(done, total)
        unreadable = {finding.sample for finding in found if finding.problem}
        if len(unreadable) == layout.n_samples > 1:
            raise UserError(next(finding.problem for finding in found if finding.problem))
        findings += [_counted(finding, first) for finding in sorted(found, key=lambda finding: finding.sample)]
        first += layout.n_samples
    return findings


def exclude_line(findings: Sequence[Finding]) -> str:
    """The line of the ``data:`` section that leaves these samples out."""
    numbers = sorted({finding.number for finding in findings})
    return f"exclude: [{', '.join(map(str, numbers))}]"


def _counted(finding: Finding, first: int) -> Finding:
    """With the number over all files; ``first`` is that of the file's first sample."""
    return Finding(**{**vars(finding), "number": first + finding.sample})


def _fields(reader: SampleBlocks, group: tuple[ChannelArray, ...], samples: slice) -> list[Finding]:
    """What is wrong in a block; where it cannot be read, sample by sample."""
    try:
        return _nonfinite(reader, group, samples)
    except UserError as error:
        if samples.stop - samples.start == 1:
            names = ", ".join(array.name for array in group)
            return [Finding(reader.layout.path, samples.start, 0, names, 0, problem=str(error))]
    singles = (slice(sample, sample + 1) for sample in range(samples.start, samples.stop))
    return [finding for single in singles for finding in _fields(reader, group, single)]


def _nonfinite(reader: SampleBlocks, group: tuple[ChannelArray, ...], samples: slice) -> list[Finding]:
    values = reader.read(group, samples)
    counts = (~np.isfinite(values)).sum(axis=tuple(range(3, values.ndim)))
    moving = group[0].has_time
    if moving:
        # Behind the end of a shorter trajectory there is nothing.
        beyond = np.arange(counts.shape[1]) >= reader.layout.frames[samples][:, None]
        counts[beyond] = 0
    findings = []
    for row, position in np.argwhere(counts.any(axis=1)):
        of_frames = counts[row, :, position]
        since = int(np.flatnonzero(of_frames)[0]) if moving else None
        sample = samples.start + int(row)
        findings.append(
            Finding(reader.layout.path, sample, 0, group[position].name, int(of_frames.sum()), first_frame=since)
        )
    return findings


def _numbers(layout: FileLayout) -> list[Finding]:
    """Parameters and scalars that are not finite."""
    findings = [
        Finding(layout.path, int(sample), 0, layout.meta.parameters[column].name, 1)
        for sample, column in np.argwhere(~np.isfinite(layout.parameters))
    ]
    if layout.scalars is None:
        return findings
    for sample, frames in enumerate(layout.frames.tolist()):
        rows = layout.scalars[sample if len(layout.scalars) > 1 else 0, :frames]
        for column, channel in enumerate(layout.meta.scalars):
            bad = np.flatnonzero(~np.isfinite(rows[:, column]))
            if len(bad):
                findings.append(Finding(layout.path, sample, 0, channel.name, len(bad), int(bad[0])))
    return findings
