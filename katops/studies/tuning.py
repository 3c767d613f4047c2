"""The choice of a model's options within the training rows of a fold."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import r2_score
from sklearn.model_selection import ParameterGrid

from katops.materials.folds import grouped_folds
from katops.studies.fitted import outputs
from katops.studies.metrics import log_loss
from katops.studies.models import Candidate, fit, quietly
from katops.studies.study import Study

INNER_SPLITS = 3


def tuned(
    study: Study, candidate: Candidate, estimator: BaseEstimator, rows: np.ndarray, groups: np.ndarray
) -> tuple[BaseEstimator, dict[str, Any]]:
    """The estimator with the options of the best mean score over inner folds, and these options by their short names.

    Not by ``GridSearchCV``, which keeps the groups for its folds and gives none to the estimators, whose own
    validation rows would then share groups with the rows that they are fitted to. Of ensembles one member is fitted.
    """
    keys = [study.keys[row] for row in rows]
    labels = study.target[rows].tolist() if study.classes else None
    inner = grouped_folds(keys, groups[rows].tolist(), INNER_SPLITS, seed=study.config.seed, labels=labels)
    folds = [(rows[train], rows[test]) for train, test in inner.split()]
    settings = list(ParameterGrid(candidate.grid(estimator)))
    single = candidate.single(estimator)
    means = [
        np.mean([_inner_score(study, clone(single).set_params(**one), *fold, groups) for fold in folds])
        for one in settings
    ]
    best = settings[int(np.argmax(means))]
    return clone(estimator).set_params(**best), {key.split("__")[-1]: value for key, value in best.items()}


def _inner_score(
    study: Study, estimator: BaseEstimator, train: np.ndarray, test: np.ndarray, groups: np.ndarray
) -> float:
    """R² (mean over the targets), or minus the log loss, on inner test rows."""
    frame, truth = study.design.frame, study.target[test]
    fitted = fit(estimator, frame.iloc[train], study.target_of(train), groups[train])
    with quietly():
        predicted = outputs(fitted, study, frame.iloc[test])
    return -log_loss(truth, predicted) if study.classes else float(r2_score(truth, predicted))
