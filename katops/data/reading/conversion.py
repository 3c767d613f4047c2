"""From the numbers as they are stored to those that are handed out: element type, packing, missing values, grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from katops.data.layout import ChannelArray

if TYPE_CHECKING:
    from katops.data.resample import Resample


@dataclass(frozen=True)
class Conversion:
    """What is done to the stored numbers of a channel.

    Attributes:
        stored: element type in the file.
        wanted: element type that is handed out.
        scale, offset: physical value = scale * stored value + offset.
        missing: stored value that becomes NaN.
        resample: thinning of the spatial axes; ``None`` keeps every point.
        space: sizes of the spatial axes before thinning.
    """

    stored: np.dtype
    wanted: np.dtype
    scale: float
    offset: float
    missing: float | None
    resample: Resample | None
    space: tuple[int, ...]

    @classmethod
    def of(cls, array: ChannelArray, wanted: np.dtype, resample: Resample | None, space: tuple[int, ...]) -> Conversion:
        """The conversion of a channel."""
        missing = None if array.missing is None or np.isnan(array.missing) else array.missing
        return cls(np.dtype(array.dtype), wanted, array.scale, array.offset, missing, resample, space)

    @property
    def is_packed(self) -> bool:
        """Whether the stored numbers are not the values themselves."""
        return self.scale != 1.0 or self.offset != 0.0 or self.missing is not None

    @property
    def keeps_bytes(self) -> bool:
        """Whether the bytes in the file are those that are handed out."""
        return self.stored == self.wanted and self.stored.isnative and not self.is_packed and self.resample is None

    def without_resampling(self) -> Conversion:
        """The same for every point of the grid."""
        return replace(self, resample=None)

    def values(self, stored: np.ndarray) -> np.ndarray:
        """Stored numbers, (..., \\*space) or with ones where the array lacks an axis, to what can be assigned."""
        if stored.dtype == bool:
            # MATLAB writes any byte for "true"; numpy takes the byte for the number.
            stored = stored.view(np.uint8) != 0
        values = self._unpacked(stored) if self.is_packed else stored
        if self.resample is None:
            return values
        n_axes = len(self.space)
        values = np.broadcast_to(values, (*values.shape[: values.ndim - n_axes], *self.space))
        if self.resample.method != "stride":
            values = values.astype(self.wanted, copy=False)
        return self.resample.apply(values, n_axes)

    def _unpacked(self, stored: np.ndarray) -> np.ndarray:
        values = stored.astype(np.float64)
        values *= self.scale
        values += self.offset
        if self.missing is not None:
            # Compared as stored: 1e20 in float32 is another number than in float64.
            values[stored == np.asarray(self.missing).astype(self.stored)] = np.nan
        return values
