"""What a study found: scores of every model on every fold, and predictions of the rows while they were held out."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from katops.studies.comparison import Comparison, corrected_t_test
from katops.studies.held_out import HeldOut
from katops.studies.metrics import (
    CLASSIFICATION,
    REGRESSION,
    Metric,
    classification_scores,
    regression_scores,
)
from katops.studies.runner import FoldResult
from katops.studies.study import Study

Scores = dict[str, np.ndarray]


@dataclass(frozen=True)
class StudyResult:
    """All fits of a study.

    Attributes:
        study: what was fitted.
        fits: scheme -> label of the model -> one result per fold, in the order of the study's folds.
    """

    study: Study
    fits: dict[str, dict[str, list[FoldResult]]]

    @property
    def model(self) -> str:
        """The label of the study's own KAN."""
        return self.study.candidates[0].label

    @property
    def others(self) -> list[str]:
        """The labels of the models that it is compared with."""
        return [candidate.label for candidate in self.study.candidates[1:]]

    @property
    def headline(self) -> str:
        """The scheme that the verdict is about."""
        return self.study.config.headline

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What is measured; the first one decides which model is better."""
        if not self.study.classes:
            return REGRESSION
        return CLASSIFICATION if len(self.study.classes) == 2 else CLASSIFICATION[1:]

    @property
    def outputs(self) -> list[str]:
        """What scores are given for: the targets of a regression, or the one target of a classification."""
        return self.study.targets

    @cached_property
    def _scores(self) -> dict[tuple[str, str], Scores]:
        return {
            (scheme, label): self._measure(scheme, results)
            for scheme, models in self.fits.items()
            for label, results in models.items()
        }

    def scores(self, scheme: str, label: str) -> Scores:
        """Metric -> (folds, J) scores of a model."""
        return self._scores[scheme, label]

    def mean(self, scheme: str, label: str, metric: str, output: int = 0) -> float:
        """Mean over the folds, without those in which the metric has no meaning."""
        return _nan(np.nanmean, self.scores(scheme, label)[metric][:, output])

    @property
    def score(self) -> float:
        """The deciding metric of the KAN in the headline's folds, mean over the targets."""
        means = [self.mean(self.headline, self.model, self.metrics[0].key, place) for place in range(len(self.outputs))]
        return float(np.mean(means))

    def spread(self, scheme: str, label: str, metric: str, output: int = 0) -> float:
        """Standard deviation over the folds (n - 1); NaN for fewer than two."""
        values = self.scores(scheme, label)[metric][:, output]
        values = values[np.isfinite(values)]
        return float(values.std(ddof=1)) if len(values) > 1 else float("nan")

    def best_other(self, scheme: str, metric: Metric, output: int = 0) -> str | None:
        """The compared model with the best mean."""
        means = {label: metric.sign * self.mean(scheme, label, metric.key, output) for label in self.others}
        means = {label: value for label, value in means.items() if np.isfinite(value)}
        return max(means, key=means.__getitem__) if means else None

    def compare(self, scheme: str, other: str, metric: Metric, output: int = 0) -> Comparison:
        """The KAN against another model under the same folds."""
        folds = self.study.folds[scheme]
        ratio = float(np.mean([len(fold.test) / len(fold.train) for fold in folds]))
        first, second = (self.scores(scheme, label)[metric.key][:, output] for label in (self.model, other))
        return corrected_t_test(first, second, ratio)

    def held_out(self, scheme: str, label: str) -> HeldOut:
        """Predictions of rows while they were held out, fit by fit."""
        folds, results = self.study.folds[scheme], self.fits[scheme][label]
        return HeldOut(
            len(self.study.target),
            np.concatenate([fold.test for fold in folds]),
            np.repeat(np.arange(len(folds)), [len(fold.test) for fold in folds]),
            np.concatenate([np.array(result.predicted) for result in results]),
        )

    def fitted(self, scheme: str) -> np.ndarray:
        """(n, J or K) predictions of the KAN of rows that it was trained on, in the first fold; NaN for the others."""
        fold, result = self.study.folds[scheme][0], self.fits[scheme][self.model][0]
        trained = np.array(result.trained)
        values = np.full((len(self.study.target), trained.shape[1]), np.nan)
        values[fold.train] = trained
        return values

    def seconds(self, label: str) -> float:
        """Mean wall time of a fit."""
        return float(np.mean([one.seconds for models in self.fits.values() for one in models[label]]))

    def parameters(self, label: str) -> int | None:
        """Of one network, in the first fold of the first scheme."""
        return next(iter(self.fits.values()))[label][0].parameters

    def table(self, output: int = 0) -> pd.DataFrame:
        """Mean ± sd over the folds as text: a row per model, columns (scheme, metric)."""
        cells = {
            (scheme, metric.label): [
                f"{self.mean(scheme, label, metric.key, output):.3g} ± "
                f"{self.spread(scheme, label, metric.key, output):.2g}"
                for label in (self.model, *self.others)
            ]
            for scheme in self.fits
            for metric in self.metrics[:3]
        }
        return pd.DataFrame(cells, index=[self.model, *self.others])

    def to_dict(self) -> dict[str, Any]:
        """All scores, comparisons and digests as plain containers."""
        return {
            scheme: {
                "digest": self.study.digests[scheme],
                "folds": [
                    {"name": fold.name, "train": len(fold.train), "test": len(fold.test)}
                    for fold in self.study.folds[scheme]
                ],
                "models": {label: self._described(scheme, label) for label in (self.model, *self.others)},
            }
            for scheme in self.fits
        }

    def _described(self, scheme: str, label: str) -> dict[str, Any]:
        results = self.fits[scheme][label]
        described: dict[str, Any] = {
            "scores": {
                output: {
                    metric.key: {
                        "mean": self.mean(scheme, label, metric.key, position),
                        "sd": self.spread(scheme, label, metric.key, position),
                        "folds": self.scores(scheme, label)[metric.key][:, position].tolist(),
                    }
                    for metric in self.metrics
                }
                for position, output in enumerate(self.outputs)
            },
            "parameters": results[0].parameters,
            "seconds": [result.seconds for result in results],
            "chosen": [result.chosen for result in results if result.chosen],
        }
        if label != self.model:
            described["kan_minus_this"] = {
                output: {metric.key: vars(self.compare(scheme, label, metric, position)) for metric in self.metrics}
                for position, output in enumerate(self.outputs)
            }
        return described

    def _measure(self, scheme: str, results: list[FoldResult]) -> Scores:
        rows: list[list[dict[str, float]]] = []
        # Of a study that is not finished there are fewer results than folds.
        for fold, result in zip(self.study.folds[scheme], results, strict=False):
            truth, predicted = self.study.target[fold.test], np.array(result.predicted)
            if self.study.classes:
                rows.append([classification_scores(truth, predicted, self.study.positive)])
            else:
                pairs = zip(truth.T, predicted.T, strict=True)
                rows.append([regression_scores(one_truth, one) for one_truth, one in pairs])
        return {
            metric.key: np.array([[scores[metric.key] for scores in row] for row in rows]) for metric in self.metrics
        }


def _nan(reduce: Any, values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(reduce(finite)) if len(finite) else float("nan")
