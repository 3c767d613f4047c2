"""Labelled images from a folder, from scikit-learn's digits or from a data set of torchvision, by number."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from timm.data import create_dataset
from torch.utils.data import Dataset

from katops.data.image_files import class_names, class_of, find_images, listed
from katops.data.image_modes import to_8_bit
from katops.errors import UserError, did_you_mean

HINTS = ("digits", "folder", "torch/mnist", "torch/fashion_mnist", "torch/cifar10", "torch/cifar100")
DIGITS_MAXIMUM = 16
"""The grey values of scikit-learn's digits are 0 to 16."""

UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What Pillow raises on files that are damaged, cut, no images, or far too large."""


@dataclass(frozen=True)
class ImageSet:
    """Images with labels; an image is read when it is asked for.

    Attributes:
        name: what messages and reports call it.
        classes: their names; a label is a position in this list.
        labels: (images,), int64.
        open_image: number -> the image as it is stored.
        names: of the images: file names relative to the folder, or numbers.
        fingerprint: hexadecimal digest; tells this set from another one.
        native_size: (channels, height, width) where all images share it.
        files: of the images, where they are files.
        warnings: sentences on what was found beside the images.
    """

    name: str
    classes: tuple[str, ...]
    labels: np.ndarray = field(repr=False)
    open_image: Callable[[int], Image.Image] = field(repr=False)
    names: Sequence[str] = field(repr=False)
    fingerprint: str = field(repr=False)
    native_size: tuple[int, int, int] | None = None
    files: Sequence[Path] | None = field(default=None, repr=False)
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, index: int, mode: str) -> Image.Image:
        """Image ``index`` in Pillow's mode "L" or "RGB", see :func:`katops.data.image_modes.to_8_bit`.

        Raises:
            UserError: it cannot be decoded, or the range of its values is not known; the message names it.
        """
        try:
            with self.open_image(index) as image:
                return to_8_bit(image, mode)
        except UNREADABLE as error:
            raise UserError(
                f"cannot read the image {self.names[index]!r} of {self.name}: {' '.join(str(error).split())}; "
                f"repair or remove it"
            ) from error

    def count(self, indices: np.ndarray | None = None) -> dict[str, int]:
        """Images of each class, by name."""
        labels = self.labels if indices is None else self.labels[indices]
        numbers = np.bincount(labels, minlength=len(self.classes))
        return dict(zip(self.classes, numbers.tolist(), strict=True))


def digits() -> ImageSet:
    """The 1797 handwritten digits that are part of scikit-learn, 8 x 8 grey images with values scaled to 0..255.

    Raises:
        UserError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "the data set 'digits' is part of scikit-learn, which is not installed; pip install katops[tables]"
        ) from error
    data = load_digits()
    arrays = np.rint(data.images * (255 / DIGITS_MAXIMUM)).astype(np.uint8)
    labels = data.target.astype(np.int64)
    return ImageSet(
        name="digits",
        classes=tuple(str(name) for name in data.target_names),
        labels=labels,
        open_image=partial(_from_array, arrays),
        names=[str(index) for index in range(len(arrays))],
        fingerprint=_digest(arrays.tobytes(), labels.tobytes()),
        native_size=(1, *arrays.shape[1:]),
    )


def folder(path: str | Path, *, classes: Sequence[str] | None = None, class_map: str | Path | None = None) -> ImageSet:
    """Images in one folder per class; whatever is nested in the folder of a class belongs to it.

    Files and folders whose names start with "." are not looked at.

    Args:
        path: the folder that holds the folders of the classes.
        classes: names in the order of the labels, usually those of the training images; a class may be absent. By
            default all classes found, in natural order.
        class_map: text file with one class per line, which chooses and orders the classes (timm's format).

    Raises:
        UserError: there is no such folder or no image in it or in the folder of a class; a folder is no class of
            ``classes``.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"there is no folder {str(path)!r} of images")
    found = find_images(path)
    ordered = class_names(found, class_map, classes)
    position = {name: index for index, name in enumerate(ordered)}
    files = found.images
    labels = np.array([position[class_of(path, file)] for file in files], dtype=np.int64)
    names = [file.relative_to(path).as_posix() for file in files]
    sizes = [file.stat().st_size for file in files]
    listing = "\n".join(f"{n}\t{ordered[k]}\t{s}" for n, k, s in zip(names, labels, sizes, strict=True))
    return ImageSet(
        name=str(path),
        classes=ordered,
        labels=labels,
        open_image=partial(_from_file, files),
        names=names,
        fingerprint=_digest(listing.encode()),
        files=files,
        warnings=found.warnings,
    )


def join(parts: Mapping[str, tuple[ImageSet, np.ndarray]]) -> ImageSet:
    """Some images of several sets with the same classes as one set, named ``<part>/<image>``.

    Args:
        parts: by name, a set and the numbers of its images.
    """
    sources = [source for source, _ in parts.values()]
    places = [(number, int(index)) for number, (_, indices) in enumerate(parts.values()) for index in indices]
    return ImageSet(
        name=" and ".join(parts),
        classes=sources[0].classes,
        labels=np.concatenate([source.labels[indices] for source, indices in parts.values()]),
        open_image=partial(_from_sets, sources, places),
        names=[f"{name}/{source.names[index]}" for name, (source, indices) in parts.items() for index in indices],
        fingerprint=_digest(*(source.fingerprint.encode() for source in sources)),
    )


def split_folder(root: str | Path, split: str) -> Path:
    """``root/split``; the split "." is ``root`` itself.

    Raises:
        UserError: there is no such folder; timm would silently take ``root`` and all splits in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"data.root: there is no folder {str(root)!r}")
    if not (root / split).is_dir():
        there = sorted(path.name for path in root.iterdir() if path.is_dir())
        raise UserError(
            f"data.root {str(root)!r} has no folder for the split {split!r}{did_you_mean(split, there)} There are: "
            f"{listed(there) or 'none'}; '.' means {root.name} itself."
        )
    return root / split


def public(name: str, root: str | Path | None, split: str, *, download: bool = False) -> ImageSet:
    """A data set by the name that ``timm.data.create_dataset`` gives it, for example ``torch/cifar10``.

    Raises:
        UserError: there is no such data set, it is not below ``root``, or it does not list its labels.
    """
    if "/" not in name:
        raise UserError(
            f"unknown data.dataset {name!r}{did_you_mean(name, HINTS)} Allowed: 'digits', 'folder', or a name of "
            f"timm.data.create_dataset such as 'torch/cifar10'."
        )
    try:
        data = create_dataset(name, root=None if root is None else str(root), split=split, download=download)
    except Exception as error:  # every reader has errors of its own
        reason = " ".join(str(error).split())
        raise UserError(
            f"data.dataset {name!r}, split {split!r}, cannot be opened: {reason}; allowed: 'digits', 'folder', or a "
            f"name of timm.data.create_dataset such as 'torch/cifar10' with data.root"
        ) from error
    labels, classes = getattr(data, "targets", None), getattr(data, "classes", None)
    if labels is None or classes is None or not isinstance(data, Dataset) or not hasattr(data, "__getitem__"):
        raise UserError(
            f"data.dataset {name!r} does not list its labels in advance, which splits and reports need; "
            f"export it to folders and use 'folder'"
        )
    labels = np.asarray(labels, dtype=np.int64)
    arrays = getattr(data, "data", None)
    contents = np.ascontiguousarray(arrays).tobytes() if arrays is not None else b""
    return ImageSet(
        name=f"{name} ({split})",
        classes=tuple(str(entry) for entry in classes),
        labels=labels,
        open_image=partial(_from_dataset, data),
        names=[str(index) for index in range(len(labels))],
        fingerprint=_digest(contents, labels.tobytes()),
    )


def stratified(
    labels: np.ndarray, validation: float, test: float, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Share images out so that every class has the same share in every part.

    Args:
        labels: (images,).
        validation, test: shares; within each class they are rounded to whole images.
        seed: of the order; the result is a pure function of the arguments.

    Returns:
        ascending and disjoint numbers of the training, validation and test images.

    Raises:
        UserError: a part that is asked for, or the training part of a class, would be empty.
    """
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        draws = np.random.PCG64(np.random.SeedSequence((seed, int(label)))).random_raw(len(members))
        members = members[np.argsort(draws, kind="stable")]
        n_test, n_validation = round(test * len(members)), round(validation * len(members))
        n_train = len(members) - n_test - n_validation
        if n_train < 1:
            raise UserError(
                f"a class has {len(members)} images only, and data.validation_split and data.test_split leave none of "
                f"them to train on"
            )
        for part, numbers in zip(parts, np.split(members, [n_train, n_train + n_validation]), strict=True):
            part.append(numbers)
    train, validating, testing = (np.sort(np.concatenate(part)) for part in parts)
    for name, share, numbers in (("validation", validation, validating), ("test", test, testing)):
        if share > 0 and not len(numbers):
            raise UserError(f"data.{name}_split is {share:g}, which is no whole image of any class; make it larger")
    return train, validating, testing


# Functions of a module rather than lambdas: worker processes that are not forked receive them pickled.


def _from_array(arrays: np.ndarray, index: int) -> Image.Image:
    return Image.fromarray(arrays[index])


def _from_file(files: Sequence[Path], index: int) -> Image.Image:
    return Image.open(files[index])


def _from_sets(sources: Sequence[ImageSet], places: Sequence[tuple[int, int]], index: int) -> Image.Image:
    number, inside = places[index]
    return sources[number].open_image(inside)


def _from_dataset(data: Dataset, index: int) -> Image.Image:
    return data[index][0]


def _digest(*contents: bytes) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()
