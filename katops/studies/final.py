"""What follows from the folds: the KAN of all rows, its intervals, the importance of features, the learning curve."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from katops.interpret.attribution import attribution
from katops.interpret.fitted import opened
from katops.predictors.applicability import ApplicabilityDomain
from katops.predictors.table_reliability import TableReliability
from katops.studies.intervals import Intervals, intervals
from katops.studies.metrics import classification_scores, regression_scores
from katops.studies.result import StudyResult
from katops.studies.runner import fit_candidate

Curve = dict[str, dict[float, tuple[float, float]]]


@dataclass(frozen=True)
class Importance:
    """How much each feature matters, the most important first.

    Attributes:
        names: of the features.
        drop, spread: of the deciding score when the column is shuffled among held-out rows, mean and sd over the folds.
        share: of the attribution of the KAN of all rows.
    """

    names: list[str]
    drop: np.ndarray
    spread: np.ndarray
    share: np.ndarray


@dataclass(frozen=True)
class Final:
    """Beside the scores.

    Attributes:
        estimator: the KAN, fitted to all rows.
        chosen: options that its tuning chose.
        intervals: scheme -> widths and their coverage.
        importance: of the features.
        learning_curve: label -> share of the training rows -> mean and sd of the deciding score of the first target.
    """

    estimator: BaseEstimator
    chosen: dict[str, Any]
    intervals: dict[str, Intervals]
    importance: Importance
    learning_curve: Curve = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Everything but the estimator, as plain containers."""
        found = self.importance
        return {
            "chosen": self.chosen,
            "intervals": {scheme: vars(found) for scheme, found in self.intervals.items()},
            "importance": [
                {"feature": name, "drop": float(drop), "sd": float(spread), "share": float(share)}
                for name, drop, spread, share in zip(found.names, found.drop, found.spread, found.share, strict=True)
            ],
            "learning_curve": {
                label: [{"share": share, "mean": one, "sd": sd} for share, (one, sd) in sorted(points.items())]
                for label, points in self.learning_curve.items()
            },
        }


def finish(result: StudyResult, shares: dict[str, dict[float, list[np.ndarray]]]) -> Final:
    """Fit the KAN to all rows and gather the rest.

    Args:
        result: of the folds.
        shares: from :func:`katops.studies.runner.run_learning_curve`.

    Raises:
        UserError: the KAN cannot be fitted to all rows.
    """
    study = result.study
    groups = study.groups(result.headline)
    estimator, chosen = fit_candidate(study, study.candidates[0], np.arange(len(study.target)), groups, named=True)
    level = study.config.report.level
    measured = {scheme: intervals(result, scheme, level) for scheme in result.fits}
    # What the model file says of its reliability is what the folds have measured.
    widths = {} if study.classes else {level: measured[result.headline].width}
    domain = ApplicabilityDomain(estimator.preprocessor_).fit(study.design.frame)
    estimator.reliability_ = TableReliability(domain, widths)
    return Final(
        estimator,
        chosen,
        measured,
        importance(result, estimator),
        learning_curve(result, shares),
    )


def importance(result: StudyResult, estimator: BaseEstimator) -> Importance:
    """Drops of the headline's folds, and the attribution of the KAN of all rows; the largest drop first."""
    drops = np.array([fold.importance for fold in result.fits[result.headline][result.model]])
    order = np.argsort(-drops.mean(0), kind="stable")
    spread = drops.std(0, ddof=1) if len(drops) > 1 else np.zeros(drops.shape[1])
    names = list(result.study.design.frame.columns)
    shares = attribution_shares(estimator, result.study.design.frame)
    return Importance([names[place] for place in order], drops.mean(0)[order], spread[order], shares[order])


def attribution_shares(estimator: BaseEstimator, frame: pd.DataFrame) -> np.ndarray:
    """Share of the attribution of each column, mean over members and outputs; see :mod:`katops.interpret`."""
    fitted = opened(estimator)
    scaled = fitted.scaled(frame)
    scores = [attribution(model, fitted.rows(model, scaled)).normalised.mean(axis=0) for model in fitted.models]
    shares = np.zeros(frame.shape[1])
    np.add.at(shares, [column.source for column in fitted.columns], np.mean(scores, axis=0))
    return shares


def learning_curve(result: StudyResult, shares: dict[str, dict[float, list[np.ndarray]]]) -> Curve:
    """Mean and sd of the deciding score of the first target, whole trainings included as share 1."""
    study, metric, scheme = result.study, result.metrics[0], result.headline
    curve: Curve = {}
    for label, by_share in shares.items():
        count = len(next(iter(by_share.values()), ()))
        whole = result.scores(scheme, label)[metric.key][:count, 0]
        curve[label] = {1.0: _summary(whole)} if by_share else {}
        for share, predictions in by_share.items():
            folds = zip(study.folds[scheme], predictions, strict=False)
            curve[label][share] = _summary(np.array([_score(result, fold.test, one) for fold, one in folds]))
    return {label: points for label, points in curve.items() if points}


def _score(result: StudyResult, rows: np.ndarray, predicted: np.ndarray) -> float:
    study, key = result.study, result.metrics[0].key
    if study.classes:
        return classification_scores(study.target[rows], predicted, study.positive)[key]
    return regression_scores(study.target[rows, 0], predicted[:, 0])[key]


def _summary(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not len(finite):
        return float("nan"), float("nan")
    return float(finite.mean()), float(finite.std(ddof=1)) if len(finite) > 1 else 0.0
