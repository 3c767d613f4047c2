"""What the formula of a classifier is worth: the classes that it finds and the probabilities that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ClassScores:
    """A formula and its network on held-out rows with known classes.

    Attributes:
        accuracy, network_accuracy: share of the rows whose class is found.
        log_loss, network_log_loss: mean of -log p(true class), p from the log-odds.
        share_log_loss: the same of a model that knows nothing but the shares of the classes in these rows.
        deficit: accuracy that the formula loses to the network, less the standard error of this difference; above 0
            the formula is worse.
    """

    accuracy: float
    network_accuracy: float
    log_loss: float
    network_log_loss: float
    share_log_loss: float
    deficit: float

    @property
    def objection(self) -> str:
        """Why the formula is not accepted as one of a classifier, in a sentence; empty where nothing speaks against."""
        if self.deficit > 0:
            return (
                f"the formula finds the class of {self.accuracy:.1%} of the held-out rows, the network that of "
                f"{self.network_accuracy:.1%}"
            )
        if self.log_loss >= self.share_log_loss:
            return (
                f"the held-out log loss of the formula is {self.log_loss:.4g}, no better than "
                f"{self.share_log_loss:.4g} for the shares of the classes alone"
            )
        return ""

    def __str__(self) -> str:
        return (
            f"held-out accuracy {self.accuracy:.4g} (network: {self.network_accuracy:.4g}), "
            f"log loss {self.log_loss:.4g} (network: {self.network_log_loss:.4g})"
        )


def class_scores(labels: Any, classes: np.ndarray, said: np.ndarray, answers: np.ndarray) -> ClassScores:
    """Compare the log-odds of a formula with those of a network.

    Args:
        labels: true classes (n,).
        classes: all classes, in the order of the outputs; of two classes the one output is that of the second.
        said: log-odds of the formula (n, outputs); where it is not defined they count as 0.
        answers: log-odds of the network, likewise.
    """
    truth = np.asarray(labels).ravel()[:, None] == np.asarray(classes)
    formula, network = (_log_probabilities(np.nan_to_num(logits)) for logits in (said, answers))
    right = [truth[np.arange(len(truth)), logs.argmax(axis=1)].astype(float) for logs in (formula, network)]
    lost = right[1] - right[0]
    shares = truth.mean(axis=0)
    return ClassScores(
        accuracy=float(right[0].mean()),
        network_accuracy=float(right[1].mean()),
        log_loss=_log_loss(formula, truth),
        network_log_loss=_log_loss(network, truth),
        share_log_loss=float(-(shares * np.log(np.maximum(shares, np.finfo(float).tiny))).sum()),
        deficit=float(lost.mean() - lost.std() / np.sqrt(len(lost))),
    )


def _log_probabilities(logits: np.ndarray) -> np.ndarray:
    """(n, classes); of the one output of two classes, that of the first is 0."""
    if logits.shape[1] == 1:
        logits = np.concatenate([np.zeros_like(logits), logits], axis=1)
    logits = logits - logits.max(axis=1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def _log_loss(logs: np.ndarray, truth: np.ndarray) -> float:
    return float(-logs[truth].mean())
