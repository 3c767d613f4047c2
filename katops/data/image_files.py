"""Which files of a folder are images, and of which class: the first folder below the given one."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from timm.data.readers.img_extensions import get_img_extensions
from timm.utils.misc import natural_key

from katops.errors import UserError, did_you_mean

_READ = (".bmp", ".gif", ".jfif", ".jpe", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp")
# fmt: off
_NOT_READ = (
    ".arw", ".avif", ".cr2", ".dcm", ".dds", ".dib", ".dng", ".eps", ".exr", ".fits", ".hdr", ".heic", ".heif",
    ".ico", ".j2k", ".jp2", ".jxl", ".nef", ".nii", ".orf", ".pcx", ".pfm", ".psd", ".qoi", ".raw", ".rw2", ".sgi",
    ".svg", ".tga", ".xbm", ".xpm",
)
# fmt: on
_SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "test"}
_FEW = 5


def read_endings() -> tuple[str, ...]:
    """Endings of the files that are read: those of timm, and others that every Pillow decodes.

    Of an image with several frames or pages the first is taken.
    """
    return tuple(sorted({*get_img_extensions(), *_READ}))


@dataclass(frozen=True)
class FoundImages:
    """The files below a folder.

    Attributes:
        root: the folder.
        images: files that are read, in natural order.
        skipped: files that look like images by their endings but are not read.
    """

    root: Path
    images: list[Path]
    skipped: list[Path]

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence on the skipped files, if there are any."""
        if not self.skipped:
            return ()
        names = [path.relative_to(self.root).as_posix() for path in self.skipped]
        one = len(names) == 1
        number = "1 file looks like an image and is" if one else f"{len(names)} files look like images and are"
        return (f"{number} not read in {self.root}: {listed(names, _FEW)}; convert to .png or .jpg to use them",)


def find_images(root: Path) -> FoundImages:
    """All images below ``root`` at any depth; files and folders whose names start with "." are not looked at."""
    endings, known = set(read_endings()), set(_NOT_READ)
    images: list[Path] = []
    skipped: list[Path] = []
    for folder, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if name.startswith(".") or ending not in endings | known:
                continue
            (images if ending in endings else skipped).append(Path(folder, name))
    return FoundImages(root, sorted(images, key=_natural), sorted(skipped, key=_natural))


def class_names(found: FoundImages, class_map: str | Path | None, known: Sequence[str] | None) -> tuple[str, ...]:
    """The classes of a folder, in the order of their labels.

    Args:
        found: the files.
        class_map: see :func:`katops.data.images.folder`.
        known: the classes where they are given, which the folders must be among.

    Raises:
        UserError: there are no images, images outside of a class, a class folder without images, folders that are
            splits rather than classes, or folders that are not among ``known``.
    """
    root, folders = found.root, _visible_folders(found.root)
    if not found.images:
        raise UserError(f"the folder {str(root)!r} holds no images; {_reads(found.skipped)} in a folder per class")
    loose = [path.name for path in found.images if path.parent == root]
    if loose:
        raise UserError(
            f"{str(root)!r} holds {len(loose)} images that are in no folder of a class ({listed(loose, _FEW)}); "
            f"expected {root.name}/<class>/<image>"
        )
    _check_not_empty(found, folders)
    if known is None:
        _check_not_splits(found, folders)
    ordered = tuple(known) if known is not None else _in_order(root, folders, class_map)
    unknown = [name for name in folders if name not in ordered]
    if unknown:
        raise UserError(
            f"the folder {str(root / unknown[0])!r} is no class of the training images"
            f"{did_you_mean(unknown[0], ordered)} Known: {listed(ordered)}."
        )
    return ordered


def class_of(root: Path, file: Path) -> str:
    """The first folder below ``root`` on the way to ``file``."""
    return file.relative_to(root).parts[0]


def real_paths(files: Iterable[Path]) -> set[str]:
    """The files with all symbolic links followed, so that one file has one name."""
    folders: dict[Path, str] = {}
    paths = set()
    for file in files:
        if file.is_symlink():
            paths.add(os.path.realpath(file))
            continue
        if file.parent not in folders:
            folders[file.parent] = os.path.realpath(file.parent)
        paths.add(os.path.join(folders[file.parent], file.name))
    return paths


def listed(names: Sequence[str], most: int = 12) -> str:
    """The names with commas between them; the first ones and the number of all where there are many."""
    shown = ", ".join(names[:most])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > most else shown


def _natural(path: Path) -> list[int | str]:
    return natural_key(str(path))


def _visible_folders(root: Path) -> list[str]:
    names = [path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(names, key=natural_key)


def _reads(skipped: Sequence[Path]) -> str:
    counts = Counter(path.suffix.lower() for path in skipped)
    others = ", ".join(f"{number} {ending}" for ending, number in sorted(counts.items()))
    return f"katops reads {', '.join(read_endings())}{f' and not the {others} there' if others else ''}"


def _check_not_empty(found: FoundImages, folders: Sequence[str]) -> None:
    """A folder without images may not become a class, and may not go missing either: that would shift the labels."""
    filled = {class_of(found.root, path) for path in found.images}
    empty = [name for name in folders if name not in filled]
    if empty:
        inside = [path for path in found.skipped if class_of(found.root, path) in empty]
        what = f"folder {empty[0]!r}" if len(empty) == 1 else f"{len(empty)} folders {listed(empty)}"
        holds = "holds" if len(empty) == 1 else "hold"
        raise UserError(
            f"the {what} of {str(found.root)!r} {holds} no images; {_reads(inside)}; remove or fill what is empty"
        )


def _check_not_splits(found: FoundImages, folders: Sequence[str]) -> None:
    direct = {path.parent for path in found.images}
    splits = [name for name in folders if name.lower() in _SPLIT_NAMES and found.root / name not in direct]
    if splits:
        raise UserError(
            f"the folders {listed(splits)} of {str(found.root)!r} look like splits with classes in them, not like "
            f"classes; name one of them in data.train_split, and others in data.validation_split and data.test_split"
        )


def _in_order(root: Path, folders: Sequence[str], class_map: str | Path | None) -> tuple[str, ...]:
    if class_map is None:
        return tuple(folders)
    file = Path(class_map) if Path(class_map).is_file() else root / class_map
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"data.class_map: cannot read {str(class_map)!r}, a text file with a class per line") from error
    missing = [name for name in folders if name not in lines]
    if missing:
        raise UserError(f"data.class_map: {str(file)!r} lacks {listed(missing)}, of which there are images in {root}")
    return tuple(dict.fromkeys(name for name in lines if name))
