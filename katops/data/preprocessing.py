"""How an image becomes the tensor that a classifier takes: the same for validation, tests and predictions."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from timm.data import create_transform
from torch import Tensor

from katops.errors import UserError


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop and normalise.

    The shorter side is resized to size / ``crop_pct``, the centre is cropped, and each channel becomes
    (value - mean) / std with values in [0, 1].

    Attributes:
        input_size: channels (1 grey, 3 colour), height and width.
        mean: of each channel, in [0, 1].
        std: of each channel.
        interpolation: "nearest", "bilinear" or "bicubic".
        crop_pct: the share of the resized image that the crop keeps.
    """

    input_size: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bicubic"
    crop_pct: float = 0.875

    @property
    def mode(self) -> str:
        """What Pillow calls images with this number of channels."""
        return "L" if self.input_size[0] == 1 else "RGB"

    @cached_property
    def evaluation(self) -> Any:
        """The transform of an image for validation, tests and predictions; takes PIL images and float tensors."""
        return create_transform(
            self.input_size,
            is_training=False,
            interpolation=self.interpolation,
            mean=self.mean,
            std=self.std,
            crop_pct=self.crop_pct,
        )

    def training(self, augmentation: dict[str, Any] | None) -> Any:
        """The random transform of a training image.

        Args:
            augmentation: the keys of ``data.augmentation``; ``None`` varies nothing.

        Raises:
            UserError: ``auto_augment`` is not written in timm's notation.
        """
        if augmentation is None:
            return self.evaluation
        options = dict(augmentation)
        try:
            return create_transform(
                self.input_size,
                is_training=True,
                interpolation=self.interpolation,
                mean=self.mean,
                std=self.std,
                scale=tuple(options.pop("scale")),
                ratio=tuple(options.pop("ratio")),
                re_prob=options.pop("random_erasing"),
                re_mode="pixel",
                color_jitter=options.pop("color_jitter") or None,
                **options,
            )
        except (AssertionError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"data.augmentation.auto_augment {augmentation['auto_augment']!r} is not understood by timm ({error}); "
                f"write for example 'rand-m9-mstd0.5'"
            ) from error

    def denormalise(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) as values in [0, 1], for pictures."""
        mean, std = (torch.tensor(values, device=images.device).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images * std + mean).clamp(0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """The attributes as JSON values."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Preprocessing":
        """The inverse of :meth:`to_dict`."""
        return cls(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})


def per_channel(values: Sequence[float], channels: int) -> tuple[float, ...]:
    """One value for each channel: repeated where one is given, averaged where colour statistics meet grey images."""
    if len(values) == channels:
        return tuple(float(value) for value in values)
    if len(values) == 1:
        return (float(values[0]),) * channels
    if channels == 1:
        return (float(sum(values) / len(values)),)
    raise UserError(
        f"data.mean and data.std need 1 or {channels} values for {channels} channels; given: {list(values)}"
    )
