"""Every model on every fold: fits, predictions of the held-out rows, and files that make an interrupted study go on."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from katops.errors import UserError
from katops.files import write_text
from katops.studies.fitted import outputs, parameter_count
from katops.studies.folds import Fold
from katops.studies.importance import permutation_importance
from katops.studies.models import Candidate, fit, quietly
from katops.studies.study import Study
from katops.studies.tuning import tuned

FOLDS = "folds"


@dataclass(frozen=True)
class FoldResult:
    """What one fit on one fold left behind; all of it is JSON.

    Attributes:
        identity: digest of everything that the result depends on.
        predicted: of the held-out rows, (n_test, J) numbers or (n_test, K) probabilities.
        trained: of the training rows, for the study's own model; empty for others.
        deviation: standard deviation over the members of an ensemble, (n_test, J); empty where there is none.
        parameters: of one network; ``None`` for other models.
        importance: drop of the deciding score for each feature, for the study's own model in the headline's folds.
        seconds: wall time of the fit, the tuning included.
        chosen: the options that the tuning has chosen.
    """

    identity: str
    predicted: list[list[float]]
    trained: list[list[float]]
    deviation: list[list[float]]
    importance: list[float]
    parameters: int | None
    seconds: float
    chosen: dict[str, Any]


Step = tuple[str, int, Candidate]


def steps(study: Study) -> list[Step]:
    """(scheme, position of the fold, model) of all fits, in their order."""
    return [
        (scheme, position, candidate)
        for scheme, folds in study.folds.items()
        for position in range(len(folds))
        for candidate in study.candidates
    ]


def run_folds(
    study: Study, directory: Path | None, report: Callable[[int, int], None]
) -> Iterator[tuple[Step, FoldResult]]:
    """Fit and predict, step by step; what is in ``directory`` already, from the same data and options, is only read.

    Args:
        study: the data and models.
        directory: of the run; each result is written below ``folds/`` when it is there; ``None``: nothing is written.
        report: told (done, total).

    Raises:
        UserError: a model cannot be fitted; the message names it.
    """
    todo = steps(study)
    data = study.identity()
    kan_parameters: dict[tuple[str, int], int | None] = {}
    for done, (scheme, position, candidate) in enumerate(todo):
        report(done, len(todo))
        fold = study.folds[scheme][position]
        identity = _identity(study, data, fold, candidate)
        path = directory and result_path(directory, scheme, fold, candidate)
        result = path and _finished(path, identity)
        if not result:
            own = candidate.label == study.candidates[0].label
            result = _run(study, scheme, fold, candidate, identity, kan_parameters.get((scheme, position)), own)
            if path:
                write_text(path, json.dumps(asdict(result)))
        if candidate.label == study.candidates[0].label:
            kan_parameters[scheme, position] = result.parameters
        yield (scheme, position, candidate), result
    report(len(todo), len(todo))


def run_learning_curve(
    study: Study, labels: list[str], directory: Path | None, report: Callable[[int, int], None]
) -> dict[str, dict[float, list[np.ndarray]]]:
    """Predictions of the held-out rows by models that are trained on a share of the training rows.

    Args:
        study: whose headline's folds of the first repeat are used; whole groups are left out.
        labels: of the models.
        directory, report: see :func:`run_folds`.

    Returns:
        label -> share -> predictions per fold.
    """
    scheme = study.config.headline
    folds = study.folds[scheme][: study.config.folds.splits]
    shares = study.config.report.learning_curve
    models = [candidate for candidate in study.candidates if candidate.label in labels]
    todo = [(share, fold, candidate) for share in shares for fold in folds for candidate in models]
    data, parameters = study.identity(), None
    curve: dict[str, dict[float, list[np.ndarray]]] = {label: {share: [] for share in shares} for label in labels}
    for done, (share, fold, candidate) in enumerate(todo):
        report(done, len(todo))
        part = _share_of(study, scheme, fold, share)
        identity = _identity(study, data, part, candidate)
        path = directory and result_path(directory, scheme, part, candidate)
        result = path and _finished(path, identity)
        if not result:
            result = _run(study, scheme, part, candidate, identity, parameters, own=False)
            if path:
                write_text(path, json.dumps(asdict(result)))
        if candidate.label == study.candidates[0].label:
            parameters = result.parameters
        curve[candidate.label][share].append(np.array(result.predicted))
    report(len(todo), len(todo))
    return curve


def _share_of(study: Study, scheme: str, fold: Fold, share: float) -> Fold:
    """The fold with a share of its training rows: the first groups in an order that only seed and groups decide.

    As many whole groups as make up the share; more where a class would have no row.
    """
    groups = study.groups(scheme)[fold.train]
    salt = f"{study.config.folds.seed}/"
    order = np.argsort([hashlib.sha256(f"{salt}{group}".encode()).hexdigest() for group in groups], kind="stable")
    count = max(1, round(share * len(order)))
    if study.classes:
        labels = study.target[fold.train[order]]
        firsts = [int(np.argmax(labels == label)) for label in np.unique(labels)]
        count = max(count, max(firsts) + 1)
    while count < len(order) and groups[order[count]] == groups[order[count - 1]]:
        count += 1
    return Fold(f"{fold.name}, share {share:g}", np.sort(fold.train[order[:count]]), fold.test)


def result_path(directory: Path, scheme: str, fold: Fold, candidate: Candidate) -> Path:
    """Where the result of a fit is kept; names are made harmless for file systems."""
    safe = hashlib.sha256(f"{scheme}/{candidate.label}".encode()).hexdigest()[:8]
    name = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in f"{scheme}-{candidate.label}")
    part = "".join(letter if letter.isalnum() else "_" for letter in fold.name)
    return directory / FOLDS / f"{name[:60]}-{safe}-{part}.fit.json"


def fit_candidate(
    study: Study,
    candidate: Candidate,
    rows: np.ndarray,
    groups: np.ndarray,
    kan_parameters: int | None = None,
    *,
    named: bool = False,
) -> tuple[BaseEstimator, dict[str, Any]]:
    """Fit a model on some of the rows, with its tuning within them.

    Args:
        study: the data.
        candidate: the model.
        rows: positions of the training rows.
        groups: (n,) of all rows, kept together by the tuning and by the model's own validation.
        kan_parameters: see :class:`katops.studies.models.Setting`.
        named: whether the estimator is told the names of targets and classes, and not only their numbers.

    Returns:
        the fitted estimator and the options that were chosen.

    Raises:
        UserError: the model cannot be fitted.
    """
    estimator = candidate.build(study.setting(kan_parameters))
    frame, target = study.design.frame.iloc[rows], study.target_of(rows, named)
    chosen: dict[str, Any] = {}
    try:
        if candidate.tune:
            estimator, chosen = tuned(study, candidate, estimator, rows, groups)
        return fit(estimator, frame, target, groups[rows]), chosen
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{candidate.label} cannot be fitted to {len(rows)} rows: {reason}") from error


def _run(
    study: Study, scheme: str, fold: Fold, candidate: Candidate, identity: str, kan_parameters: int | None, own: bool
) -> FoldResult:
    started = time.perf_counter()
    estimator, chosen = fit_candidate(study, candidate, fold.train, study.groups(scheme), kan_parameters)
    seconds = time.perf_counter() - started
    design = study.design.frame
    predict = partial(outputs, estimator, study)
    looked_into = own and scheme == study.config.headline
    with quietly():
        return FoldResult(
            identity,
            predict(design.iloc[fold.test]).tolist(),
            predict(design.iloc[fold.train]).tolist() if own else [],
            _deviation(estimator, study, fold.test) if own else [],
            permutation_importance(predict, study, fold.test, study.config.seed) if looked_into else [],
            parameter_count(estimator),
            seconds,
            chosen,
        )


def _deviation(estimator: BaseEstimator, study: Study, rows: np.ndarray) -> list[list[float]]:
    if study.classes or len(getattr(estimator, "models_", ())) < 2:
        return []
    _, deviation = estimator.predict(study.design.frame.iloc[rows], return_std=True)
    return np.asarray(deviation, dtype=float).reshape(len(rows), -1).tolist()


def _identity(study: Study, data: str, fold: Fold, candidate: Candidate) -> str:
    described = [
        data,
        fold.train.tolist(),
        fold.test.tolist(),
        candidate.name,
        candidate.options,
        candidate.tune,
        study.config.seed,
    ]
    return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()


def _finished(path: Path, identity: str) -> FoldResult | None:
    """The result of an earlier run, or ``None`` where there is none of the same data and options."""
    try:
        result = FoldResult(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return result if result.identity == identity else None
