"""Looking at every image before a training begins."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from katops.data.image_files import listed
from katops.data.image_modes import check_mode
from katops.data.images import UNREADABLE, ImageSet
from katops.errors import UserError

MOST_DECODED = 10_000
"""Up to this many images are decoded, which finds every damage; of more only the headers are read."""

_AT_ONCE, _THREADS, _FEW = 1024, 16, 5


def check_readable(sources: Sequence[ImageSet], progress: Callable[[int, int], None] | None = None) -> None:
    """Open every image, so that what is damaged or no image is found before training.

    Up to :data:`MOST_DECODED` images in all are decoded; where there are more, a file that is cut within its pixels is
    found only when it is its turn.

    Raises:
        UserError: images cannot be read; the message has their number and the first names.
    """
    total = sum(map(len, sources))
    decode = total <= MOST_DECODED
    bad: list[str] = []
    done = 0
    with ThreadPoolExecutor(_THREADS) as threads:  # opening files waits for the disk or the network
        for source in sources:
            for start in range(0, len(source), _AT_ONCE):
                numbers = range(start, min(start + _AT_ONCE, len(source)))
                bad += filter(None, threads.map(partial(_problem, source, decode), numbers))
                done += len(numbers)
                if progress:
                    progress(done, total)
    if len(bad) == 1:
        raise UserError(f"one of {total} images is not readable: {bad[0]}; repair or remove it")
    if bad:
        raise UserError(f"{len(bad)} of {total} images are not readable: {listed(bad, _FEW)}; repair or remove them")


def _problem(source: ImageSet, decode: bool, index: int) -> str | None:
    """What is wrong with an image, beginning with its name."""
    try:
        with source.open_image(index) as image:
            check_mode(image)
            if decode:
                image.load()
    except UNREADABLE as error:
        return f"{source.names[index]!r} of {source.name} ({' '.join(str(error).split())})"
    return None
