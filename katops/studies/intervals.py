"""How wide the KAN's predictions have to be to hold the truth as often as is asked, measured on rows held out.

Cross-conformal prediction: the errors of a cross-validation, in which every row is predicted by a model that has not
seen it, take the place of the errors on a calibration set (V. Vovk, Cross-conformal predictors, Ann. Math. Artif.
Intell. 74, 9 (2015); R. F. Barber et al., Predictive inference with the jackknife+, Ann. Stat. 49, 486 (2021), section
3, "CV+"). The half-width of an interval is the ⌈(n+1) level⌉-th smallest |y - p|; a prediction set holds the classes
whose probability is at least 1 - that quantile of 1 - q(true class). Where several fits held a row out, each of its
errors counts by its weight, see :mod:`katops.studies.held_out`. Both are as honest as the folds: with rows of one
composition on both sides they are too narrow for new compositions.
"""

import math
from dataclasses import dataclass

import numpy as np

from katops.studies.held_out import HeldOut
from katops.studies.result import StudyResult


@dataclass(frozen=True)
class Intervals:
    """Widths of one scheme and how often they held.

    Attributes:
        scheme: whose held-out errors they are from.
        level: that was asked for.
        width: per target, the half-width in its unit; of classes, one number: the largest 1 - q(class) in a set.
        coverage: per target, the share of held-out predictions, by weight, whose truth lay within the width that the
            errors of other rows gave; NaN where the folds leave no other rows.
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
    """Widths from all held-out predictions; coverage of each fold with the width from the rows outside of it."""
    held_out = result.held_out(scheme, result.model)
    errors, weight = _errors(result, held_out), held_out.weight
    covered = np.full(errors.shape, np.nan)
    sizes = np.full(errors.shape, np.nan)
    for number, fold in enumerate(result.study.folds[scheme]):
        here, others = held_out.fold == number, ~np.isin(held_out.row, fold.test)
        if others.any():
            width = quantile(errors[others], weight[others], level)
            covered[here] = errors[here] <= width
            sizes[here] = _sizes(result, held_out.predicted[here], width)
    return Intervals(
        scheme,
        level,
        tuple(quantile(errors, weight, level).tolist()),
        _means(covered, weight),
        _means(sizes, weight),
        held_out.rows,
    )


def quantile(errors: np.ndarray, weight: np.ndarray, level: float) -> np.ndarray:
    """(J,) the ⌈(n+1) level⌉-th smallest of (N, J) errors; the largest where there are too few.

    Args:
        errors: of all predictions.
        weight: (N,) of each; their sum is the number n of rows, and an error has as many ranks as it weighs.
        level: of the interval.
    """
    count = weight.sum()
    # Sums of 1/m fall short of whole numbers by rounding.
    rank = min(math.ceil(round((count + 1) * level, 6)), count) - 1e-9
    order = np.argsort(errors, axis=0, kind="stable")
    place = (np.cumsum(weight[order], axis=0) >= rank).argmax(axis=0)
    return np.take_along_axis(errors, np.take_along_axis(order, place[None], axis=0), axis=0)[0]


def _errors(result: StudyResult, held_out: HeldOut) -> np.ndarray:
    truth = result.study.target[held_out.row]
    if not result.study.classes:
        return np.abs(truth - held_out.predicted)
    return 1 - np.take_along_axis(held_out.predicted, truth[:, None], axis=1)


def _sizes(result: StudyResult, predicted: np.ndarray, width: np.ndarray) -> np.ndarray:
    if not result.study.classes:
        return np.broadcast_to(2 * width, predicted.shape)
    return (1 - predicted <= width).sum(1)[:, None]


def _means(values: np.ndarray, weight: np.ndarray) -> tuple[float, ...]:
    """Weighted mean of each column over the rows that have a value."""
    known = np.isfinite(values).all(axis=1)
    if not known.any():
        return (float("nan"),) * values.shape[1]
    return tuple(np.average(values[known], axis=0, weights=weight[known]).tolist())
