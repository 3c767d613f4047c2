"""From the ``data`` section of an image configuration to training, validation and test images."""

import filecmp
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

import numpy as np

from katops.config import ImageDataConfig
from katops.config.images import DIGITS, FOLDER
from katops.data.image_check import check_readable
from katops.data.image_files import find_images, real_paths
from katops.data.image_loader import image_loader
from katops.data.images import ImageSet, digits, folder, join, public, split_folder, stratified
from katops.data.loader import BatchLoader
from katops.data.preprocessing import Preprocessing
from katops.distributed import current
from katops.distributed.processes import Processes
from katops.errors import UserError

MOST_LISTED = 20
"""Classes that are listed one by one; more of them are counted."""


@dataclass(frozen=True)
class ImagePart:
    """Some images of a set: the training, the validation or the test images."""

    source: ImageSet
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def loader(
        self,
        preprocessing: Preprocessing,
        batch_size: int,
        workers: int = 0,
        timeout: float = 0.0,
        *,
        shared: bool = False,
    ) -> BatchLoader:
        """Batches in order, without random changes; the share of this process only where they are ``shared``."""
        processes = current() if shared else Processes()
        return image_loader(
            self.source,
            self.indices,
            preprocessing.evaluation,
            mode=preprocessing.mode,
            batch_size=batch_size,
            workers=workers,
            timeout=timeout,
            rank=processes.rank,
            world_size=processes.size,
        )

    def absent_classes(self) -> list[str]:
        """Classes without an image."""
        return [name for name, number in self.source.count(self.indices).items() if not number]


@dataclass(frozen=True)
class ImageData:
    """Everything an image run reads.

    Attributes:
        config: the section it was opened from.
        train, validation, test: the parts; ``None`` where there is none.
        fingerprint: of all images, labels and class names.
    """

    config: ImageDataConfig
    train: ImagePart
    validation: ImagePart | None
    test: ImagePart | None
    fingerprint: str

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.train.source.classes

    @property
    def parts(self) -> dict[str, ImagePart]:
        """The parts that exist, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}

    @property
    def whole(self) -> ImagePart:
        """The images of all parts."""
        images = join({name: (part.source, part.indices) for name, part in self.parts.items()})
        return ImagePart(images, np.arange(len(images)))

    @property
    def sources(self) -> list[ImageSet]:
        """The sets that the parts are taken from."""
        return list({id(part.source): part.source for part in self.parts.values()}.values())

    @property
    def reading_warnings(self) -> list[str]:
        """What was found beside the images."""
        return [text for source in self.sources for text in source.warnings]

    @property
    def reported(self) -> tuple[str, ImagePart]:
        """The part whose accuracy is reported: the test images, or the validation images where there are none."""
        name = "test" if self.test is not None else "validation"
        return name, self.parts[name]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the accuracy has to know."""
        warnings = self.reading_warnings
        if self.test is None:
            warnings.append(
                "there are no test images: the validation images chose the epoch and are the ones reported, so the "
                "accuracy is somewhat too high; give data.test_split"
            )
        for name, part in self.parts.items():
            absent = part.absent_classes()
            if absent:
                warnings.append(f"the {name} images have none of the classes {', '.join(absent[:MOST_LISTED])}")
        return warnings

    def check_readable(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Open every image once, see :func:`katops.data.image_check.check_readable`."""
        check_readable(self.sources, progress)

    def header(self) -> dict[str, Any]:
        """What a later evaluation needs to find the same images and to leave the training images out."""
        return {
            "configuration": self.config.model_dump(),
            "fingerprint": self.fingerprint,
            "fingerprints": {name: part.source.fingerprint for name, part in self.parts.items()},
            "images": {name: len(part) for name, part in self.parts.items()},
            "images_per_class": self.train.source.count(self.train.indices),
        }


def open_image_data(config: ImageDataConfig) -> ImageData:
    """Find the images and share them out.

    Raises:
        UserError: there are none, or the splits do not fit them; see :mod:`katops.data.images`.
    """
    if config.dataset == FOLDER:
        _check_folders_apart(config)
    source = _open(config, config.train_split)
    if len(source.classes) < 2:
        raise UserError(f"{source.name} has the single class {source.classes[0]!r}; there is nothing to tell apart")
    shares = {
        name: share if isinstance(share, float) else 0.0
        for name, share in (("validation", config.validation_split), ("test", config.test_split))
    }
    train, validation, test = stratified(source.labels, **shares, seed=config.split_seed)
    parts = {
        "validation": _part(config, config.validation_split, source, validation),
        "test": _part(config, config.test_split, source, test),
    }
    data = ImageData(config, ImagePart(source, train), **parts, fingerprint=_fingerprint(source, parts))
    _check_apart(data)
    return data


def _open(config: ImageDataConfig, split: str, classes: tuple[str, ...] | None = None) -> ImageSet:
    if config.dataset == DIGITS:
        return digits()
    if config.dataset == FOLDER:
        path = split_folder(config.root, split)
        return folder(path, classes=classes, class_map=config.class_map if classes is None else None)
    return public(config.dataset, config.root, split, download=config.download)


def _part(config: ImageDataConfig, split: str | float | None, source: ImageSet, drawn: np.ndarray) -> ImagePart | None:
    if split is None:
        return None
    if isinstance(split, float):
        return ImagePart(source, drawn)
    named = _open(config, split, source.classes)
    return ImagePart(named, np.arange(len(named)))


def _fingerprint(source: ImageSet, parts: dict[str, ImagePart | None]) -> str:
    contents = [*source.classes, source.fingerprint]
    contents += [part.source.fingerprint for part in parts.values() if part is not None]
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()


def _check_folders_apart(config: ImageDataConfig) -> None:
    """Refuse a split whose folder is that of another one or lies in it."""
    splits = {name: getattr(config, f"{name}_split") for name in ("train", "validation", "test")}
    folders = {
        name: split_folder(config.root, split).resolve() for name, split in splits.items() if isinstance(split, str)
    }
    for (one, ours), (other, theirs) in combinations(folders.items(), 2):
        if ours.is_relative_to(theirs) or theirs.is_relative_to(ours):
            inner = ours if ours.is_relative_to(theirs) else theirs
            raise _overlap(one, other, len(find_images(inner).images))


def _check_apart(data: ImageData) -> None:
    """Refuse two parts that share images, whatever they are called."""
    for (one, ours), (other, theirs) in combinations(data.parts.items(), 2):
        shared = _shared(ours, theirs)
        if shared:
            raise _overlap(one, other, shared)


def _shared(ours: ImagePart, theirs: ImagePart) -> int:
    """The number of images that are in both parts."""
    one, other = ours.source, theirs.source
    same = one.fingerprint == other.fingerprint
    if one is other or one.files is None or other.files is None:
        return np.intersect1d(ours.indices, theirs.indices).size if same else 0
    if same and all(filecmp.cmp(*pair, shallow=False) for pair in islice(zip(one.files, other.files, strict=True), 8)):
        return len(one)  # a folder and its copy
    first, second = (real_paths(part.source.files[index] for index in part.indices) for part in (ours, theirs))
    return len(first & second)


def _overlap(one: str, other: str, number: int) -> UserError:
    return UserError(
        f"data.{one}_split and data.{other}_split share {number} images; the accuracy would be that of images seen "
        f"before; give folders that have no file in common"
    )
