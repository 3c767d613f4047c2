"""What is measured of predictions on rows that were held out; every value is one number per target or per study.

Regression (n rows, predictions p, truths y): R2 = 1 - Σ(y-p)²/Σ(y-ȳ)², RMSE = (Σ(y-p)²/n)^½, MAE = Σ|y-p|/n,
MAPE = Σ|y-p|/|y|/n over rows with y ≠ 0, Spearman's rank correlation. Classification (probabilities q): accuracy,
balanced accuracy, F1 of the positive class (two classes) and macro-F1, ROC-AUC and PR-AUC (one class against the rest,
mean over the classes where there are more than two), Brier score Σ_k (q_k - 1[y=k])²/n (for two classes half of it, as
scikit-learn defines it), log loss, and the expected calibration error Σ_m (n_m / n) |accuracy_m - confidence_m| over 10
bins of equal width of the largest probability (C. Guo et al. 2017, eq. 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr
from sklearn import metrics as sk

BINS = 10


@dataclass(frozen=True)
class Metric:
    """A name for the files, a label for the reader, and whether a larger value is better (+1) or worse (-1).

    ``has_unit`` is true of errors in the unit of the target.
    """

    key: str
    label: str
    sign: int
    has_unit: bool = False
    percent: bool = False


REGRESSION = (
    Metric("r2", "R²", 1),
    Metric("mae", "MAE", -1, has_unit=True),
    Metric("rmse", "RMSE", -1, has_unit=True),
    Metric("mape", "MAPE", -1, percent=True),
    Metric("spearman", "Spearman", 1),
)
CLASSIFICATION = (
    Metric("f1", "F1", 1),
    Metric("macro_f1", "macro-F1", 1),
    Metric("accuracy", "accuracy", 1),
    Metric("balanced_accuracy", "balanced accuracy", 1),
    Metric("roc_auc", "ROC-AUC", 1),
    Metric("pr_auc", "PR-AUC", 1),
    Metric("brier", "Brier", -1),
    Metric("log_loss", "log loss", -1),
    Metric("calibration_error", "calibration error", -1),
)


def regression_scores(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Scores of one target; NaN where a score has no meaning (one row, constant truth).

    Args:
        truth, predicted: (n,).
    """
    error = np.abs(truth - predicted)
    spread = float(((truth - truth.mean()) ** 2).sum())
    nonzero = truth != 0
    varies = spread > 0 and float(np.ptp(predicted)) > 0
    return {
        "r2": 1 - float((error**2).sum()) / spread if spread > 0 else float("nan"),
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "mape": float((error[nonzero] / np.abs(truth[nonzero])).mean()) if nonzero.any() else float("nan"),
        "spearman": float(spearmanr(truth, predicted).statistic) if varies else float("nan"),
    }


def classification_scores(truth: np.ndarray, probabilities: np.ndarray, positive: int | None) -> dict[str, float]:
    """Scores of class probabilities; the predicted class is the most probable one.

    Args:
        truth: (n,), numbers of classes.
        probabilities: (n, K), rows of which sum to 1.
        positive: the class that F1 is of, with two classes; ``None`` for more, where F1 is the macro-F1.
    """
    classes = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(1)
    present = np.unique(truth)
    hit = truth[:, None] == classes
    macro = sk.f1_score(truth, predicted, labels=present, average="macro", zero_division=0)
    f1 = macro if positive is None else sk.f1_score(truth == positive, predicted == positive, zero_division=0)
    judged = [k for k in present if not hit[:, k].all()] if positive is None else [positive]
    judged = [k for k in judged if 0 < hit[:, k].sum() < len(truth)]
    brier = float(((probabilities - hit) ** 2).sum(1).mean())
    return {
        "f1": float(f1),
        "macro_f1": float(macro),
        "accuracy": float((predicted == truth).mean()),
        "balanced_accuracy": float(np.mean([(predicted[truth == k] == k).mean() for k in present])),
        "roc_auc": _mean([sk.roc_auc_score(hit[:, k], probabilities[:, k]) for k in judged]),
        "pr_auc": _mean([sk.average_precision_score(hit[:, k], probabilities[:, k]) for k in judged]),
        "brier": brier / 2 if len(classes) == 2 else brier,
        "log_loss": log_loss(truth, probabilities),
        "calibration_error": calibration_error(truth, probabilities),
    }


def log_loss(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """-Σ log q(true class) / n, with probabilities of at least 1e-12."""
    return float(-np.log(np.clip(probabilities[np.arange(len(truth)), truth], 1e-12, 1)).mean())


def calibration_error(truth: np.ndarray, probabilities: np.ndarray) -> float:
    """The expected calibration error, see the head of this module."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs(right[bins == one].mean() - confidence[bins == one].mean()) * (bins == one).mean() for one in set(bins)]
    return float(sum(gaps))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
