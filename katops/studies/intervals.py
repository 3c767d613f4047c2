"""How wide the KAN's predictions have to be to hold the truth as often as is asked, measured on rows held out.

Cross-conformal prediction: the errors of a cross-validation, in which every row is predicted by a model that has not
seen it, take the place of the errors on a calibration set (V. Vovk, Cross-conformal predictors, Ann. Math. Artif.
Intell. 74, 9 (2015); R. F. Barber et al., Predictive inference with the jackknife+, Ann. Stat. 49, 486 (2021), section
3, "CV+"). The half-width of an interval is the ⌈(n+1) level⌉-th smallest |y - p|; a prediction set holds the classes
whose probability is at least 1 - that quantile of 1 - q(true class). Both are as honest as the folds: with rows of one
composition on both sides they are too narrow for new compositions.
"""

import math
from dataclasses import dataclass

import numpy as np

from katops.studies.result import StudyResult


@dataclass(frozen=True)
class Intervals:
    """Widths of one scheme and how often they held.

    Attributes:
        scheme: whose held-out errors they are from.
        level: that was asked for.
        width: per target, the half-width in its unit; of classes, one number: the largest 1 - q(class) in a set.
        coverage: per target, the share of rows of each fold that lay within the width that the other folds gave.
        size: of classes, mean number of classes in the sets; of targets, the full width.
        rows: that were held out.
    """

    scheme: str
    level: float
    width: tuple[float, ...]
    coverage: tuple[float, ...]
    size: tuple[float, ...]
    rows: int


def intervals(result: StudyResult, scheme: str, level: float) -> Intervals:
    """Widths from all held-out rows, and their coverage with the width of each fold taken from the other folds."""
    predicted = result.held_out(scheme, result.model)
    known = np.isfinite(predicted).all(axis=1)
    errors = _errors(result, predicted)[known]
    fold_of = np.full(len(known), -1)
    for number, fold in enumerate(result.study.folds[scheme]):
        # With repeats, and where elements are held out, a row is in several folds: the first of them counts.
        fold_of[fold.test] = np.where(fold_of[fold.test] < 0, number, fold_of[fold.test])
    fold_of = fold_of[known]
    covered = np.zeros(errors.shape, dtype=bool)
    sizes = np.zeros(errors.shape)
    for number in np.unique(fold_of):
        here = fold_of == number
        width = quantile(errors[~here], level)
        covered[here] = errors[here] <= width
        sizes[here] = _sizes(result, predicted[known][here], width)
    return Intervals(
        scheme,
        level,
        tuple(quantile(errors, level).tolist()),
        tuple(covered.mean(0).tolist()),
        tuple(sizes.mean(0).tolist()),
        int(known.sum()),
    )


def quantile(errors: np.ndarray, level: float) -> np.ndarray:
    """(J,) the ⌈(n+1) level⌉-th smallest of (n, J) errors; the largest where there are too few."""
    rank = min(math.ceil((len(errors) + 1) * level), len(errors))
    return np.sort(errors, axis=0)[rank - 1]


def _errors(result: StudyResult, predicted: np.ndarray) -> np.ndarray:
    study = result.study
    if not study.classes:
        return np.abs(study.target - predicted)
    return 1 - predicted[np.arange(len(predicted)), study.target][:, None]


def _sizes(result: StudyResult, predicted: np.ndarray, width: np.ndarray) -> np.ndarray:
    if not result.study.classes:
        return np.broadcast_to(2 * width, predicted.shape)
    return (1 - predicted <= width).sum(1)[:, None]
