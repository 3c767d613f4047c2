"""Conversion at the start of a training: the images it is fitted to, and what is said of it."""

from dataclasses import replace
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor, nn

from katops.data.preprocessing import Preprocessing
from katops.training.image_data import ImagePart

IMAGES = 32
NOTABLE_DIFFERENCE = 0.01
"""Of the outputs, relative; what is above is warned of."""


def conversion_sample(part: ImagePart, preprocessing: Preprocessing) -> Tensor:
    """At most 32 images (B, C, H, W) from all over a part, which may be sorted by class, without random changes."""
    places = np.unique(np.linspace(0, len(part) - 1, IMAGES).astype(int))
    chosen = replace(part, indices=part.indices[places])
    return next(iter(chosen.loader(preprocessing, len(places)))).images


def report_conversion(model: nn.Module, images: int, console: Console) -> dict[str, Any]:
    """Say on the console how far the outputs of a converted model moved.

    Args:
        model: with the report of its conversion.
        images: number of training images that it was measured on.
        console: where to say it.

    Returns:
        the report in plain values, for the model file.
    """
    measured_on = f"{images} training images"
    report = replace(model.conversion, difference=replace(model.conversion.difference, measured_on=measured_on))
    blocks = f"{report.blocks} block{'' if report.blocks == 1 else 's'}"
    relative = report.difference.relative
    if relative is None:
        # A head that starts at zero gives zero for every image.
        told = f"converted {blocks}; the outputs are zero before training, nothing can be compared"
    else:
        told = f"converted {blocks}; outputs differ by {100 * relative:.2g} % on {measured_on}"
    console.print(told, highlight=False, soft_wrap=True)
    if relative is not None and not relative <= NOTABLE_DIFFERENCE:
        console.print(
            "[bold red]warning:[/] the training starts away from the function of the given model; entry 'conversion' "
            "of the model file tells the error of every activation, model.convert.exclude leaves blocks as they are",
            highlight=False,
            soft_wrap=True,
        )
    return report.to_dict()
