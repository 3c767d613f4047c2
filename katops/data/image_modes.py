"""From an image as it is stored to 8 bits per channel: the same for training, evaluation and prediction."""

import numpy as np
from PIL import Image

from katops.errors import UserError

_SIXTEEN_BITS_AS_INTEGERS = {"PNG", "PPM"}
"""File formats of which Pillow gives 16-bit grey images as mode "I", with values of 0 to 65535."""
_RANGE = 65535


def check_mode(image: Image.Image) -> None:
    """Refuse images whose range of values is not known; nothing is decoded.

    Raises:
        UserError: 32-bit integers or floating point.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in _SIXTEEN_BITS_AS_INTEGERS):
        kind = "floating point" if image.mode == "F" else "32-bit integer"
        raise UserError(
            f"its values are {kind} (Pillow's mode {image.mode!r}), whose range is not known; save it with 8 or 16 bits"
        )


def to_8_bit(image: Image.Image, mode: str) -> Image.Image:
    """``image`` in Pillow's mode "L" or "RGB".

    16-bit grey values become round(value / 257), so that 0 to 65535 is 0 to 255; Pillow's own conversion cuts
    everything above 255 off.

    Raises:
        UserError: the range of the values is not known, see :func:`check_mode`.
    """
    check_mode(image)
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.size and (values.min() < 0 or values.max() > _RANGE):
            raise UserError(f"its values are {values.min()} to {values.max()}; save it with 8 or 16 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image.convert(mode)
