"""What speaks against an image classifier, in sentences."""

from collections.abc import Sequence

import numpy as np

from katops.evaluation.activations import ActivationRecord
from katops.evaluation.classification_result import ClassificationEvaluation
from katops.report.tables import predictor_label

# A share of inputs beyond 10 in magnitude that is worth a sentence.
FAR_SHARE = 0.01
NAMED = 5


def chance_level(n_classes: int) -> float:
    """The accuracy up to which a model counts as guessing: twice chance.

    For fewer than ten classes, where twice chance would be a fair result (2 classes: 100 %), it is the ninth part of
    the way from chance to 1; at ten classes the two agree.
    """
    chance = 1 / n_classes
    return chance + min(chance, (1 - chance) / 9)


def warnings_about(evaluation: ClassificationEvaluation, test_set: str) -> list[str]:
    """Sentences: at chance level, no better than the majority class, logits not finite, classes unseen or unused."""
    scores = evaluation.scores[evaluation.model]
    accuracy = _percent(scores.accuracy)
    warnings = []
    if scores.accuracy <= chance_level(len(evaluation.classes)):
        warnings.append(
            f"On {test_set}, the top-1 accuracy is {accuracy}, and guessing among {len(evaluation.classes)} classes "
            f"gives {_percent(evaluation.chance)}: the model is at chance level. Look for the cause in the weights or "
            "label order (weights that were not loaded, class numbers that mean other classes than in training), or, "
            "after a short training, in too few epochs, the learning rate or an augmentation that hides the object."
        )
    if scores.accuracy <= evaluation.majority:
        warnings.append(
            f"On {test_set}, the model (top-1 {accuracy}) is not better than always giving the most frequent class "
            f"({_percent(evaluation.majority)}), which needs no training: it is of no use there."
        )
    for predictor, entry in evaluation.scores.items():
        if entry.nonfinite:
            warnings.append(
                f"On {test_set}, {predictor_label(predictor)} returned NaN or infinity in the logits of "
                f"{entry.nonfinite:,} of {entry.images:,} images; these count as wrong."
            )
    unseen = np.flatnonzero(evaluation.support == 0)
    if len(unseen):
        warnings.append(
            f"On {test_set}, {_classes(evaluation, unseen)} no test image: nothing is known about how well "
            f"{'it is' if len(unseen) == 1 else 'they are'} recognised."
        )
    unused = np.flatnonzero((scores.predicted == 0) & (evaluation.support > 0))
    if len(unused):
        warnings.append(
            f"On {test_set}, {_classes(evaluation, unused)} test images, but the model never predicts "
            f"{'it' if len(unused) == 1 else 'them'}."
        )
    return warnings


def far_inputs(records: Sequence[ActivationRecord]) -> str:
    """A sentence on activations with more than 1 % of their inputs beyond 10 in magnitude; "" if there are none."""
    far = [record for record in records if record.far.mean() > FAR_SHARE]
    if not far:
        return ""
    worst = max(far, key=lambda record: record.far.mean())
    return (
        f"{len(far)} of {len(records)} rational activations see more than 1 % of their inputs beyond ±10, far outside "
        f"[−3, 3] where their initial shapes were fitted; most of all {worst.name} with {_percent(worst.far.mean())}, "
        f"where the denominator Q reaches {worst.denominator_range[1]:.3g}. What they compute there was "
        "learnt from the data alone."
    )


def _classes(evaluation: ClassificationEvaluation, positions: np.ndarray) -> str:
    """``class cat has``, ``classes cat and dog have``, ``classes a, b, c, d, e and 7 more have``"""
    names = [evaluation.classes[position] for position in positions[:NAMED]]
    if len(positions) == 1:
        return f"class {names[0]} has"
    names += [f"{len(positions) - NAMED:,} more"] if len(positions) > NAMED else []
    return f"classes {', '.join(names[:-1])} and {names[-1]} have"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
