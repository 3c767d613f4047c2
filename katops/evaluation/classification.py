"""Evaluation of image classifiers on a test set, in one pass and with memory that does not grow with the set."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from katops.errors import UserError
from katops.evaluation.accumulators import Clock
from katops.evaluation.classification_result import ClassificationEvaluation, ClassifierScores, ImageExample

Classifier = Callable[[Tensor], Tensor]
CALIBRATION_BINS = 15  # as in Guo et al. 2017
TOP = 5


@torch.no_grad()
def evaluate_classifier(
    predictors: dict[str, Classifier],
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: Sequence[str],
    *,
    examples: int = 12,
    progress: Callable[[int], None] | None = None,
    denormalise: Callable[[Tensor], Tensor] | None = None,
) -> ClassificationEvaluation:
    """Score classifiers on the batches.

    Args:
        predictors: each maps normalised images (batch, channel, height, width) to logits (batch, K). The first is the
            model, the others are baselines or compared models. The caller puts models into evaluation mode.
        batches: ``(images, labels)`` on the models' device, labels (batch,) whole numbers in [0, K); read once.
        classes: names of the K classes, in the order of the logits.
        examples: how many images are kept: up to two thirds are the most confident mistakes, the rest is drawn at
            random from all images with finite logits (Vitter 1985, algorithm R, fixed seed).
        progress: called after each batch with the number of images in it.
        denormalise: maps normalised images (batch, channel, height, width) back to [0, 1], for showing them; without
            it, every image is stretched from its smallest to its largest value.

    Raises:
        UserError: there are no predictors, fewer than two classes or no images; labels are out of range; images,
            labels or logits have the wrong shape.
    """
    if not predictors:
        raise UserError("evaluate_classifier() was given no predictor; give the model first, then the baselines")
    if len(classes) < 2:
        raise UserError(f"evaluate_classifier() was given {len(classes)} class names; a classifier has at least 2")
    sums = {name: ScoreSums(len(classes)) for name in predictors}
    keeper = ImageKeeper(examples)
    clock = Clock()
    model = next(iter(predictors))
    seen = 0
    for images, given in batches:
        labels = _checked_labels(images, given, classes, seen)
        for name, predictor in predictors.items():
            with clock.measuring(images, counts=name == model):
                logits = predictor(images)
            if tuple(logits.shape) != (len(labels), len(classes)):
                raise UserError(_wrong_shape(name, logits, len(labels), len(classes)))
            predicted, confidence = sums[name].add(logits.double().cpu(), labels)
            if name == model:
                keeper.offer(images, labels, predicted, confidence)
        seen += len(labels)
        if progress:
            progress(len(labels))
    if seen == 0:
        raise UserError("there is no image to evaluate; check the split and the folder of the test images")
    return ClassificationEvaluation(
        classes=tuple(classes),
        scores={name: total.scores() for name, total in sums.items()},
        examples=keeper.choose(denormalise or stretched),
        images_per_second=1 / clock.seconds_per_sample,
    )


class ScoreSums:
    """Running sums of one predictor over the batches.

    Args:
        n_classes: K.
    """

    def __init__(self, n_classes: int) -> None:
        self.support = np.zeros(n_classes, dtype=np.int64)
        self.confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
        self.top5_hits = 0
        self.nonfinite = 0
        self.loss = 0.0
        # per calibration bin: images, sum of confidences, hits
        self.bins = np.zeros((3, CALIBRATION_BINS))

    def add(self, logits: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Add a batch of float64 logits (batch, K) and labels (batch,), both on the CPU.

        Returns:
            the predicted class and its probability, each (batch,); the probability is NaN where a logit is not finite.
        """
        finite = logits.isfinite().all(1)
        np.add.at(self.support, labels.numpy(), 1)
        self.nonfinite += int((~finite).sum())
        losses = cross_entropy(logits, labels, reduction="none")
        self.loss += float(losses.where(finite, math.inf).sum())
        confidence, predicted = logits.softmax(1).max(1)
        if logits.shape[1] > TOP:
            among = (logits.topk(TOP, dim=1).indices == labels[:, None]).any(1)
            self.top5_hits += int((among & finite).sum())
        self._count(labels[finite].numpy(), predicted[finite].numpy(), confidence[finite].numpy())
        return predicted.numpy(), confidence.where(finite, math.nan).numpy()

    def _count(self, labels: np.ndarray, predicted: np.ndarray, confidence: np.ndarray) -> None:
        np.add.at(self.confusion, (labels, predicted), 1)
        # Bin m, counted from 0, is (m/M, (m+1)/M]; rounding may lift a probability of 1 a little above it.
        place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
        for row, values in enumerate((np.ones(len(place)), confidence, labels == predicted)):
            np.add.at(self.bins[row], place, values)

    def scores(self) -> ClassifierScores:
        images, confidence, hits = self.bins
        n_images, n_classes = int(self.support.sum()), len(self.support)
        empty = np.full(CALIBRATION_BINS, math.nan)
        return ClassifierScores(
            support=self.support,
            confusion=self.confusion,
            top5_hits=self.top5_hits if n_classes > TOP else None,
            cross_entropy=self.loss / n_images,
            bin_counts=images.astype(np.int64),
            bin_confidence=np.divide(confidence, images, out=empty.copy(), where=images > 0),
            bin_accuracy=np.divide(hits, images, out=empty.copy(), where=images > 0),
            nonfinite=self.nonfinite,
        )


class ImageKeeper:
    """Sees every image once and keeps the most confident mistakes and a random sample of all.

    Args:
        count: number of images wanted.
    """

    def __init__(self, count: int) -> None:
        if count < 0:
            raise UserError(f"examples={count} is negative; give 0 or more")
        self.count = count
        self.n_mistakes = count - count // 3
        self._seen = self._eligible = 0
        self._mistakes: list[tuple[float, int, ImageExample]] = []
        self._random_sample: list[ImageExample] = []
        self._random = np.random.default_rng(0)

    def offer(self, images: Tensor, labels: Tensor, predicted: np.ndarray, confidence: np.ndarray) -> None:
        """Look at a batch; copies only what is kept. Images without a finite probability are passed over."""
        for row, (label, guess, sure) in enumerate(zip(labels.tolist(), predicted, confidence, strict=True)):
            position = self._seen + row
            if self.count and math.isfinite(sure):
                self._consider(ImageExample("", position, images[row], label, int(guess), float(sure)))
        self._seen += len(labels)

    def _consider(self, example: ImageExample) -> None:
        slot = self._eligible if self._eligible < self.count else int(self._random.integers(self._eligible + 1))
        self._eligible += 1
        if slot < self.count:
            self._random_sample[slot : slot + 1] = [_copied(example, "random")]
        if example.label == example.predicted:
            return
        # Of equal mistakes the earlier one stays, hence the negative position.
        key = (example.probability, -example.position)
        if len(self._mistakes) < self.n_mistakes:
            heapq.heappush(self._mistakes, (*key, _copied(example, "mistake")))
        elif key > self._mistakes[0][:2]:
            heapq.heapreplace(self._mistakes, (*key, _copied(example, "mistake")))

    def choose(self, denormalise: Callable[[Tensor], Tensor]) -> list[ImageExample]:
        """At most ``count`` different images in [0, 1]: mistakes, the most confident first, then random ones."""
        chosen = [kept for *_, kept in sorted(self._mistakes, reverse=True, key=lambda entry: entry[:2])]
        taken = {kept.position for kept in chosen}
        others = [kept for kept in self._random_sample if kept.position not in taken]
        return [
            replace(kept, image=denormalise(torch.from_numpy(kept.image)[None])[0].clamp(0, 1).numpy())
            for kept in [*chosen, *others][: self.count]
        ]


def stretched(images: Tensor) -> Tensor:
    """Each image (batch, channel, height, width) stretched linearly to [0, 1]; a constant one becomes 0."""
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    return (images - low) / (high - low).clamp_min(torch.finfo(images.dtype).tiny)


def _copied(example: ImageExample, role: str) -> ImageExample:
    """With an image of its own: a row is a view, which would keep the whole batch alive."""
    image = example.image.detach().float().cpu().clone().numpy()
    return replace(example, role=role, image=image)


def _checked_labels(images: Tensor, labels: Tensor, classes: Sequence[str], seen: int) -> Tensor:
    """The labels as int64 on the CPU, after checks of shapes, type and range."""
    if images.ndim != 4:
        raise UserError(f"images have shape {tuple(images.shape)}; expected (batch, channel, height, width)")
    if labels.shape != images.shape[:1] or labels.is_floating_point() or labels.dtype == torch.bool:
        raise UserError(
            f"labels have shape {tuple(labels.shape)} and type {labels.dtype}; expected ({len(images)},) whole "
            "numbers, the position of each image's class (mixed labels are for training only)"
        )
    labels = labels.cpu().long()
    wrong = (labels < 0) | (labels >= len(classes))
    if wrong.any():
        row = int(wrong.nonzero()[0])
        raise UserError(
            f"image {seen + row} has label {int(labels[row])}; with {len(classes)} classes, labels are 0 to "
            f"{len(classes) - 1}: check that class names and labels belong to the same data"
        )
    return labels


def _wrong_shape(name: str, logits: Tensor, batch: int, n_classes: int) -> str:
    return (
        f"predictor {name!r} returned shape {tuple(logits.shape)}; expected (batch {batch}, class {n_classes}): "
        "check the model's num_classes"
    )
