"""How often a trial was begun by processes that ended without a word: killed, out of memory, a crash of a library.

The count is kept with the trial in the study. It says how many starts have left nothing new behind, so that ends from
outside, be they as many as they like, do no harm to a trial that gets on between them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
import torch

from katops.training.directory import CHECKPOINTS, TRIALS
from katops.training.trainer import LAST

MOST_STARTS = 3
"""So many starts that left nothing are enough."""
_KEY = "starts"
_FINISHED = ("folds/*.fit.json", "model.safetensors", f"{TRIALS}/*/model.safetensors")
_UNFINISHED = (f"{CHECKPOINTS}/{LAST}.ckpt", f"{TRIALS}/*/{CHECKPOINTS}/{LAST}.ckpt")


def vain_starts(trial: optuna.Trial, folder: Path) -> int:
    """How many processes have begun a trial and ended without a word since it last saved something."""
    before = trial.user_attrs.get(_KEY, {"saved": 0, "count": 0})
    return before["count"] if before["saved"] == _saved(folder) else 0


@contextmanager
def counted_start(trial: optuna.Trial, folder: Path) -> Iterator[None]:
    """Count a start, unless the block ends in a way that Python notices: with an exception, or a result.

    Args:
        trial: of the study.
        folder: where it is trained.
    """
    vain, saved = vain_starts(trial, folder), _saved(folder)
    trial.set_user_attr(_KEY, {"saved": saved, "count": vain + 1})
    try:
        yield
    finally:
        with suppress(OSError):  # a full disk, which may be why the block ended: one start too many is counted
            trial.set_user_attr(_KEY, {"saved": saved, "count": vain})


def _saved(folder: Path) -> int:
    """A number that changes with everything a process can go on from: optimiser steps and finished parts."""
    checkpoints = [path for pattern in _UNFINISHED for path in folder.glob(pattern)]
    steps = [torch.load(path, map_location="cpu", mmap=True, weights_only=True)["global_step"] for path in checkpoints]
    return sum(steps) + sum(1 for pattern in _FINISHED for _ in folder.glob(pattern))
