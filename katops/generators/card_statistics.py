"""Statistics and spectrum of the channels of a file, in one pass with bounded memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from katops.data.layout import FileLayout
from katops.data.sample_blocks import SampleBlocks
from katops.fields import Axis
from katops.spectrum import radial_spectrum

_BLOCK_BYTES = 2**25
_SPECTRUM_SAMPLES = 64


class ChannelSummary(NamedTuple):
    """One channel.

    Attributes:
        name: of the channel.
        mean, std, minimum, maximum: over all values.
        bands: share of the variance in the wavenumbers 1 to 2, 2 to 4, 4 to 8, ... cycles per longest side, the upper
            end left out; they sum to 1, and are 0 for a field without variance.
    """

    name: str
    mean: float
    std: float
    minimum: float
    maximum: float
    bands: tuple[float, ...]


def summaries(layout: FileLayout) -> tuple[ChannelSummary, ...]:
    """Of every channel, in the order of ``layout.arrays``."""
    found: dict[str, ChannelSummary] = {}
    reader = SampleBlocks(layout, "float64")
    for group in reader.groups:
        # Sums about the first value: the variance of a field far from zero keeps its digits.
        origin = sums = squares = None
        lowest, highest = np.inf, -np.inf
        count, energies = 0, []
        for part in reader.blocks(group, _BLOCK_BYTES):
            values = reader.read(group, part)
            by_channel = np.moveaxis(values, 2, 0).reshape(len(group), -1)
            origin = by_channel[:, :1].copy() if origin is None else origin
            shifted = by_channel - origin
            sums = shifted.sum(1) + (0 if sums is None else sums)
            squares = (shifted**2).sum(1) + (0 if squares is None else squares)
            lowest, highest = np.minimum(lowest, by_channel.min(1)), np.maximum(highest, by_channel.max(1))
            count += by_channel.shape[1]
            if part.start < _SPECTRUM_SAMPLES:
                last = values[: _SPECTRUM_SAMPLES - part.start, -1]
                energies.append(_band_energy(last, layout.meta.axes))
        mean = sums / count
        std = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
        energy = np.concatenate(energies).sum(0)
        shares = energy / np.maximum(energy.sum(-1, keepdims=True), np.finfo(float).tiny)
        for place, array in enumerate(group):
            numbers = (values[place].item() for values in (mean + origin[:, 0], std, lowest, highest))
            found[array.name] = ChannelSummary(array.name, *numbers, tuple(shares[place].tolist()))
    return tuple(found[array.name] for array in layout.arrays)


def _band_energy(fields: np.ndarray, axes: Sequence[Axis]) -> np.ndarray:
    """(n, channel, bands) of fields (n, channel, \\*space), without the mean.

    Axes that are not periodic are mirrored, which leaves no jump to leak energy; a wave along one then counts twice the
    cycles.
    """
    first = fields.ndim - len(axes)
    lengths = [axis.upper - axis.lower for axis in axes]
    for place, axis in enumerate(axes):
        if "periodic" not in axis.boundary:
            fields = np.concatenate([fields, np.flip(fields, first + place)], axis=first + place)
            lengths[place] *= 2
    longest = max(axis.upper - axis.lower for axis in axes)
    energy = radial_spectrum(torch.from_numpy(fields), n_axes=len(axes), lengths=lengths).numpy()
    cycles = np.arange(energy.shape[-1]) * longest / max(lengths)
    # Less than one cycle per side belongs to the largest scale that there is.
    band = np.floor(np.log2(np.maximum(cycles, 1.0))).astype(int)
    totals = np.zeros((*energy.shape[:-1], band.max() + 1))
    for shell in range(1, len(band)):
        totals[..., band[shell]] += energy[..., shell]
    return totals
