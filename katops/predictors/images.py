"""Images to class probabilities."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from katops.data.image_modes import check_mode, to_8_bit
from katops.data.images import UNREADABLE
from katops.data.preprocessing import Preprocessing
from katops.errors import UserError
from katops.predictors.classifiers import rebuild_classifier
from katops.predictors.tensors import part


class ImagePredictor(nn.Module):
    """A classifier with its preprocessing and the names of its classes: p = softmax(model(preprocess(image))).

    Args:
        model: maps normalised images (B, C, H, W) to logits (B, classes).
        preprocessing: from an image to what the model takes.
        classes: names, in the order of the logits.
    """

    KIND = "images"

    def __init__(self, model: nn.Module, preprocessing: Preprocessing, classes: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.preprocessing = preprocessing
        self.classes = tuple(classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of normalised images (B, C, H, W)."""
        return self.model(images)

    def predict(self, images: Any, *, batch_size: int = 16) -> Tensor:
        """Class probabilities, without gradients, in batches, in evaluation mode.

        Args:
            images: a PIL image, a path, or a list of them; uint8 array (H, W), (H, W, C) or (B, H, W, C); float tensor
                (C, H, W) or (B, C, H, W) with values in [0, 1]. Any size; it is resized and cropped as in training.
            batch_size: images per forward pass.

        Returns:
            probabilities (B, classes), float32; B is 1 for a single image.

        Raises:
            UserError: an image cannot be read or the range of its values is not known, or the input is none of the
                above.
        """
        items = self._items(images)
        reference = next(self.model.parameters())
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            parts = [
                self(
                    torch.stack([self._prepare(item) for item in items[start : start + batch_size]]).to(reference)
                ).softmax(-1)
                for start in range(0, len(items), batch_size)
            ]
        self.train(was_training)
        return torch.cat(parts).float().cpu() if parts else torch.empty(0, len(self.classes))

    def labels(self, images: Any, *, batch_size: int = 16) -> list[str]:
        """The most probable class of each image; ``images`` as in :meth:`predict`."""
        best = self.predict(images, batch_size=batch_size).argmax(-1)
        return [self.classes[index] for index in best.tolist()]

    def description(self) -> dict[str, Any]:
        """The JSON part of a model file that is its own."""
        return {"classes": list(self.classes), "preprocessing": self.preprocessing.to_dict()}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a model file."""
        return {f"model.{name}": value for name, value in self.model.state_dict().items()}

    @classmethod
    def from_file(cls, header: dict[str, Any], tensors: Mapping[str, Tensor]) -> "ImagePredictor":
        """The predictor that a model file describes.

        Raises:
            UserError: the file names a model or an option that does not exist.
        """
        model = rebuild_classifier(header["model"])
        model.load_state_dict(part(tensors, "model."), assign=True)
        return cls(model, Preprocessing.from_dict(header["preprocessing"]), header["classes"])

    def _items(self, images: Any) -> list[Any]:
        """Single images of whatever was given."""
        if isinstance(images, Image.Image | str | Path):
            return [images]
        if isinstance(images, np.ndarray):
            return list(_array_batch(images))
        if isinstance(images, Tensor):
            return list(self._tensor_batch(images))
        if isinstance(images, Sequence) and all(isinstance(item, Image.Image | str | Path) for item in images):
            return list(images)
        if isinstance(images, Sequence) and all(isinstance(item, np.ndarray | Tensor) for item in images):
            return [single for item in images for single in self._items(item)]
        kind = type(images).__name__
        entries = f" of {type(images[0]).__name__}" if isinstance(images, Sequence) and len(images) else ""
        raise UserError(f"cannot take a {kind}{entries} as images; allowed: {_ALLOWED}")

    def _tensor_batch(self, images: Tensor) -> Tensor:
        batch = images[None] if images.ndim == 3 else images
        channels = self.preprocessing.input_size[0]
        if batch.ndim != 4 or batch.shape[1] != channels or not batch.is_floating_point():
            raise UserError(
                f"a tensor of images must be floating point, (batch, channel={channels}, height, width); given: "
                f"{str(images.dtype).removeprefix('torch.')} {tuple(images.shape)}"
            )
        if batch.numel() and not (batch.amin() >= 0 and batch.amax() <= 1):
            raise UserError(
                f"a tensor of images must have values in [0, 1]; given: {float(batch.amin()):.3g} to "
                f"{float(batch.amax()):.3g}; divide by 255, and do not normalise, which is done here"
            )
        return batch

    def _prepare(self, item: Any) -> Tensor:
        """One image as the model takes it, (C, H, W)."""
        if isinstance(item, Tensor):
            return self.preprocessing.evaluation(item.float())
        image = read_image(item) if isinstance(item, str | Path) else item
        try:
            return self.preprocessing.evaluation(to_8_bit(image, self.preprocessing.mode))
        except UserError as error:
            name = repr(str(item)) if isinstance(item, str | Path) else f"of {image.width} x {image.height} pixels"
            raise UserError(f"cannot take the image {name}: {error}") from error


_ALLOWED = (
    "PIL images, paths, uint8 arrays (H, W), (H, W, C) or (B, H, W, C), float tensors (B, C, H, W) with values in "
    "[0, 1]"
)


def read_image(path: str | Path) -> Image.Image:
    """An image file, decoded.

    Raises:
        UserError: there is none, it is damaged, or the range of its values is not known.
    """
    try:
        with Image.open(path) as image:
            check_mode(image)
            image.load()
            return image
    except FileNotFoundError:
        raise UserError(f"there is no image {str(path)!r}") from None
    except UNREADABLE as error:
        raise UserError(f"cannot read the image {str(path)!r}: {' '.join(str(error).split())}") from error


def _array_batch(array: np.ndarray) -> list[Image.Image]:
    grey = array.ndim == 2
    colour = array.ndim in (3, 4) and array.shape[-1] in (1, 3)
    if array.dtype != np.uint8 or not (grey or colour):
        raise UserError(
            f"an array of images must be uint8 of shape (H, W), (H, W, C) or (B, H, W, C) with 1 or 3 channels; given: "
            f"{array.dtype} {array.shape}"
        )
    batch = array[None] if array.ndim < 4 else array
    batch = batch[..., 0] if colour and array.shape[-1] == 1 else batch
    return [Image.fromarray(np.ascontiguousarray(image)) for image in batch]
