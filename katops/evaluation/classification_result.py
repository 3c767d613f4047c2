"""The result of evaluating image classifiers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from katops.evaluation.result import finite_or_none

NORMAL_QUANTILE = 1.959963984540054  # 97.5 % of the standard normal distribution: a two-sided interval of 95 %


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a proportion (Wilson 1927; Brown, Cai & DasGupta 2001, eq. 4).

    (p + z²/2n ± z √(p (1 − p)/n + z²/4n²)) / (1 + z²/n) with p = hits / trials, n = trials, z = 1.96. Unlike p ± z σ it
    holds near 0 and 1 and never leaves [0, 1].
    """
    share, square = hits / trials, NORMAL_QUANTILE**2 / trials
    centre = share + square / 2
    half = NORMAL_QUANTILE * math.sqrt(share * (1 - share) / trials + square / (4 * trials))
    return max(0.0, (centre - half) / (1 + square)), min(1.0, (centre + half) / (1 + square))


@dataclass(frozen=True)
class ClassifierScores:
    """How one predictor did, with K classes.

    An image with a logit that is not finite has no predicted class: it counts as wrong in every accuracy and in the
    recall of its class, makes the cross-entropy infinite, and is left out of the confusion matrix and the calibration.

    Attributes:
        support: (K,) images of each class.
        confusion: (K, K) counts, the true class down, the predicted class across.
        top5_hits: images whose class is among the five largest logits, ``None`` for five classes or fewer.
        cross_entropy: mean of −log p(true class), in nats.
        bin_counts, bin_confidence, bin_accuracy: (M,) calibration bins of equal width over (0, 1]: images, and the
            means of the largest probability and of being right (NaN in empty bins).
        nonfinite: images with a NaN or an infinity in the logits.
    """

    support: np.ndarray = field(repr=False)
    confusion: np.ndarray = field(repr=False)
    top5_hits: int | None
    cross_entropy: float
    bin_counts: np.ndarray = field(repr=False)
    bin_confidence: np.ndarray = field(repr=False)
    bin_accuracy: np.ndarray = field(repr=False)
    nonfinite: int

    @property
    def images(self) -> int:
        """Number of images scored."""
        return int(self.support.sum())

    @property
    def hits(self) -> int:
        """Number of images whose largest logit is that of their class."""
        return int(self.confusion.trace())

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy."""
        return self.hits / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the top-1 accuracy, see :func:`wilson_interval`."""
        return wilson_interval(self.hits, self.images)

    @property
    def top5(self) -> float | None:
        """Top-5 accuracy, ``None`` for five classes or fewer."""
        return None if self.top5_hits is None else self.top5_hits / self.images

    @property
    def predicted(self) -> np.ndarray:
        """(K,): how often each class was predicted."""
        return self.confusion.sum(0)

    @property
    def recall(self) -> np.ndarray:
        """(K,): hits over images of the class, TP / (TP + FN); NaN for a class without images."""
        return _ratio(self.confusion.diagonal(), self.support)

    @property
    def precision(self) -> np.ndarray:
        """(K,): hits over predictions of the class, TP / (TP + FP); NaN for a class never predicted."""
        return _ratio(self.confusion.diagonal(), self.predicted)

    @property
    def f1(self) -> np.ndarray:
        """(K,): harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); NaN where neither exists."""
        return _ratio(2 * self.confusion.diagonal(), self.support + self.predicted)

    @property
    def balanced_accuracy(self) -> float:
        """Mean recall over the classes that have images."""
        return float(np.nanmean(self.recall))

    @property
    def calibration_error(self) -> float:
        """Expected calibration error (Guo et al. 2017, eq. 3): Σ_m (n_m / n) |accuracy_m − confidence_m|.

        The M = 15 bins have equal width; bin m holds the n_m images whose largest probability is in ((m−1)/M, m/M]. NaN
        if no image had finite logits.
        """
        total = self.bin_counts.sum()
        if not total:
            return math.nan
        gaps = np.abs(self.bin_accuracy - self.bin_confidence)
        return float(np.nansum(self.bin_counts * gaps) / total)

    def to_dict(self) -> dict[str, Any]:
        """Plain containers; of the confusion matrix, ``[true class, predicted class, images]`` of every cell in use."""
        used = np.argwhere(self.confusion)
        return {
            "accuracy": self.accuracy,
            "accuracy_interval_95": list(self.interval),
            "top5_accuracy": self.top5,
            "balanced_accuracy": self.balanced_accuracy,
            "cross_entropy": self.cross_entropy,
            "expected_calibration_error": self.calibration_error,
            "nonfinite": self.nonfinite,
            "precision": self.precision.tolist(),
            "recall": self.recall.tolist(),
            "f1": self.f1.tolist(),
            "confusion": np.column_stack([used, self.confusion[tuple(used.T)]]).tolist(),
            "calibration_bins": {
                "images": self.bin_counts.tolist(),
                "confidence": self.bin_confidence.tolist(),
                "accuracy": self.bin_accuracy.tolist(),
            },
        }


@dataclass(frozen=True)
class ImageExample:
    """One image as the model saw it.

    Attributes:
        role: "mistake" (among the most confident ones) or "random".
        position: its place in the order of evaluation.
        image: (channel, height, width), float32 in [0, 1].
        label, predicted: positions of the true and of the predicted class.
        probability: what the model gave to the predicted class.
    """

    role: str
    position: int
    image: np.ndarray = field(repr=False)
    label: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class ClassificationEvaluation:
    """What came out of :func:`katops.evaluation.classification.evaluate_classifier`.

    Attributes:
        classes: names of the K classes, in the order of the logits.
        scores: {predictor: its scores}; the first is the model, the others are baselines or compared models.
        examples: a few images of the model: its most confident mistakes, then others drawn at random.
        images_per_second: throughput of the model; the first batch (warming up) is left out unless it is the only one.
    """

    classes: tuple[str, ...]
    scores: dict[str, ClassifierScores]
    examples: list[ImageExample] = field(repr=False)
    images_per_second: float

    @property
    def model(self) -> str:
        """Name of the first predictor."""
        return next(iter(self.scores))

    @property
    def baselines(self) -> list[str]:
        """Names of all other predictors."""
        return list(self.scores)[1:]

    @property
    def images(self) -> int:
        """Number of images scored."""
        return self.scores[self.model].images

    @property
    def support(self) -> np.ndarray:
        """(K,): images of each class."""
        return self.scores[self.model].support

    @property
    def chance(self) -> float:
        """Accuracy of guessing, 1 / K."""
        return 1 / len(self.classes)

    @property
    def majority(self) -> float:
        """Accuracy of always giving the most frequent class of the images scored."""
        return int(self.support.max()) / self.images

    def to_dict(self) -> dict[str, Any]:
        """Plain containers for JSON, without the images; non-finite becomes ``None``."""
        return finite_or_none(
            {
                "images": self.images,
                "classes": list(self.classes),
                "support": self.support.tolist(),
                "model": self.model,
                "chance_accuracy": self.chance,
                "majority_class_accuracy": self.majority,
                "predictors": {name: scores.to_dict() for name, scores in self.scores.items()},
                "images_per_second": self.images_per_second,
            }
        )


def _ratio(counts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.divide(counts, totals, out=np.full(len(counts), math.nan), where=totals > 0)
