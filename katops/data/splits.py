"""Which samples train, which validate and which test: by whole trajectories, counted over all files of a data set."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from katops.errors import DataWarning, UserError, did_you_mean
from katops.pdegym import SETS, PublishedSet

Share = int | float | None


@dataclass(frozen=True)
class Split:
    """Sample numbers of each part, ascending and disjoint, int64."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split(
    n_samples: int,
    *,
    train: Share = None,
    validation: Share = 0.1,
    test: Share = 0.1,
    seed: int = 0,
    shuffle: bool = True,
) -> Split:
    """Share samples (whole trajectories) out.

    The test part is taken from the end of the (shuffled) order, the validation part before it, the training part from
    the beginning: with another number of training samples, validation and test stay what they are.

    Args:
        n_samples: samples in all files.
        train, validation, test: an integer counts samples; a float is a share of ``n_samples``, rounded down; ``None``,
            for one of them, takes what the others leave. Where the three are shares that add up to 1, the training
            part takes what rounding leaves.
        seed: of the order; the split is a pure function of the arguments.
        shuffle: ``False`` keeps the order of the files.

    Raises:
        UserError: the parts do not fit the samples, or the training part is empty.
    """
    shares = {"train": train, "validation": validation, "test": test}
    sizes = {name: _size(name, share, n_samples) for name, share in shares.items()}
    _fill(sizes, shares, n_samples)
    total = sum(sizes.values())
    if total > n_samples:
        parts = " + ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(f"data.split needs {parts} = {total} samples, but there are {n_samples}; make a part smaller")
    if not sizes["train"]:
        raise UserError(f"data.split leaves no training sample of the {n_samples}; make validation or test smaller")
    order = permutation(n_samples, (seed,)) if shuffle else np.arange(n_samples)
    test_from = n_samples - sizes["test"]
    validation_from = test_from - sizes["validation"]
    return Split(
        train=np.sort(order[: sizes["train"]]),
        validation=np.sort(order[validation_from:test_from]),
        test=np.sort(order[test_from:]),
    )


def _size(name: str, share: Share, n_samples: int) -> int:
    if share is None:
        return 0
    if isinstance(share, bool) or not isinstance(share, int | float) or share < 0:
        raise UserError(f"data.split.{name} must be a number of samples or a share from 0.0 to 1.0; given: {share!r}")
    if isinstance(share, int):
        return share
    if share > 1.0:
        raise UserError(
            f"data.split.{name} is {share}; a float is a share up to 1.0, a number of samples is an integer"
        )
    # 0.3 * 10 is 2.9999999999999996 in floating point; the share meant is 3 samples.
    return int(share * n_samples + 1e-9)


def _fill(sizes: dict[str, int], shares: dict[str, Share], n_samples: int) -> None:
    """Give what is left to the part that asks for the rest."""
    left = max(n_samples - sum(sizes.values()), 0)
    rest = [name for name, share in shares.items() if share is None]
    if len(rest) > 1:
        raise UserError(f"data.split leaves {' and '.join(rest)} open; only one of them can take the rest")
    if rest:
        sizes[rest[0]] = left
    elif all(isinstance(share, float) for share in shares.values()) and abs(sum(shares.values()) - 1.0) < 1e-9:
        sizes["train"] += left


def permutation(size: int, key: tuple[int, ...]) -> np.ndarray:
    """The same for ever: numpy promises to keep the raw stream of a bit generator, not that of ``permutation``."""
    draws = np.random.PCG64(np.random.SeedSequence(key)).random_raw(size)
    return np.argsort(draws, kind="stable")


_Parts = tuple[np.ndarray, np.ndarray, np.ndarray]


def _counted_from_the_end(entry: PublishedSet) -> tuple[int, Callable[[np.ndarray], _Parts]]:
    test, held_out = entry.n_test, entry.n_test + entry.n_validation
    return held_out + 1, lambda n: (n[:-held_out], n[-held_out:-test], n[-test:])


PRESETS: dict[str, tuple[int, Callable[[np.ndarray], _Parts]]] = {
    # Takamoto et al., NeurIPS 2022. Its two loaders test on the first and on the last tenth; the last is used here.
    "pdebench": (10, lambda n: (n[: -(len(n) // 10)], n[:0], n[-(len(n) // 10) :])),
    # Li et al., ICLR 2021: 1000 training samples from the beginning, 200 test samples from the end of the file.
    "fno": (1200, lambda n: (n[:1000], n[:0], n[-200:])),
    # Herde et al., NeurIPS 2024: the last 240 trajectories test, the 120 before them validate.
    "poseidon": (361, lambda n: (n[:-360], n[-360:-240], n[-240:])),
    # He, Liu and Xu, ICLR 2024, Navier-Stokes: 1000 train, the last 100 test. The 100 before them validate here.
    "mgno": (1200, lambda n: (n[:1000], n[-200:-100], n[-100:])),
    # The same, rough Darcy coefficients: of the training file 1280 train, the next 112 validate; another file tests.
    "mgno_darcy": (1392, lambda n: (n[:1280], n[1280:1392], n[:0])),
    # The same, Helmholtz: 4000 train, 8000 to 8199 test, 8200 to 8399 validate.
    "mgno_helmholtz": (8400, lambda n: (n[:4000], n[8200:8400], n[8000:8200])),
    # Each data set of Poseidon by its name: the last samples test, those before them validate.
    **{name: _counted_from_the_end(entry) for name, entry in SETS.items()},
}
"""Published splits: the samples that each needs, and their numbers -> (train, validation, test)."""


def preset_split(name: str, n_samples: int, train: Share = None) -> Split:
    """The split of a paper, whole trajectories in the order of the files, never shuffled.

    A published split without a validation part has an empty one here; where a paper validates on its test samples, the
    validation part is disjoint from them or empty.

    Args:
        name: one of :data:`PRESETS`.
        n_samples: samples in all files.
        train: so many of the training samples (an integer), or so large a share of them, the first ones; all where
            ``None``.

    Raises:
        UserError: there is no such preset, it needs more samples, or fewer training samples than ``train``; a data set
            of Poseidon has more samples than it was published with.

    Warns:
        DataWarning: it has fewer, so that other samples validate and test than those of the paper.
    """
    if name not in PRESETS:
        raise UserError(
            f"unknown split {name!r}{did_you_mean(str(name), PRESETS)} Published splits: {', '.join(PRESETS)}."
        )
    least, parts = PRESETS[name]
    if n_samples < least:
        raise UserError(
            f"the split {name!r} needs at least {least} samples, but there are {n_samples}; get the missing files, or "
            f"state data.split.validation and data.split.test in place of the preset"
        )
    if name in SETS:
        _check_published(SETS[name], n_samples)
    whole = Split(*parts(np.arange(n_samples)))
    return whole if train is None else replace(whole, train=_first(train, whole.train, name))


def _first(share: Share, samples: np.ndarray, name: str) -> np.ndarray:
    size = _size("train", share, len(samples))
    if not 0 < size <= len(samples):
        raise UserError(
            f"data.split.train asks for {size} samples, but {len(samples)} are left for training by the split {name!r}"
        )
    return samples[:size]


def _check_published(entry: PublishedSet, n_samples: int) -> None:
    """That as many samples are there as were published, since the split counts from the last one."""
    if n_samples > entry.n_samples:
        raise UserError(
            f"the split {entry.name!r} is one of {entry.n_samples} samples, but there are {n_samples}; take another "
            f"preset, leave out files that hold the same samples, or state data.split.validation and data.split.test"
        )
    if n_samples < entry.n_samples:
        warnings.warn(
            f"{entry.name} was published with {entry.n_samples} samples and there are {n_samples}: the last "
            f"{entry.n_test} of these test and the {entry.n_validation} before them validate, which are other samples "
            f"than the published ones; get the missing files before you compare with published errors",
            DataWarning,
            stacklevel=3,
        )
