"""Pruning of fitted estimators: weakest edges out, the rest trained on, as far as cross-validation lets it go."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator
from torch import Tensor

from katops.errors import UserError
from katops.interpret.attribution import attribution
from katops.interpret.fitted import opened
from katops.interpret.pruning import compacted, mask_edges
from katops.interpret.style import CURVE, POINT, TEXT, axes_or_new, log_ticks, quiet
from katops.models.kan import KAN

if TYPE_CHECKING:
    import pandas

Loss = Callable[[Tensor, Tensor], Tensor]
RETRAINING_STEPS = 40
CLOSEST_LABELS = 0.25
"""Of numbers of edges whose logarithms differ by less, one is labelled."""


@dataclass(frozen=True)
class PruningPath:
    """Cross-validated error along the way from the whole network to a single edge.

    Attributes:
        edges: numbers of edges of a network, falling.
        error: mean over the folds of the error on held-out rows: mean squared error in units of the variance of the
            targets, or cross-entropy in nats.
        standard_error: of that mean.
        chosen: the number of edges of the pruned networks.
    """

    edges: list[int]
    error: np.ndarray
    standard_error: np.ndarray
    chosen: int

    def table(self) -> pandas.DataFrame:
        """As a table, one row per number of edges."""
        import pandas

        return pandas.DataFrame({"edges": self.edges, "error": self.error, "standard_error": self.standard_error})


def prune_estimator(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    folds: int = 5,
    groups: Any = None,
    share: float = 0.25,
    standard_errors: float = 1.0,
    random_state: int = 0,
) -> Any:
    """A new estimator with smaller networks, chosen by the rule of one standard error (Breiman et al. 1984).

    On each of ``folds`` parts of the rows, a clone of the estimator with one network is fitted to the other parts, and
    step by step its edges of the lowest scores are dropped and the rest trained on. The fewest edges whose error on
    held-out rows is within one standard error of the least one are what the members of the new estimator get, each
    pruned on its own and trained on with all rows.

    Args:
        estimator: a fitted :class:`katops.KANRegressor` or :class:`katops.KANClassifier`; it stays as it is.
        X, y: the rows of its fit.
        folds: parts, at least 2.
        groups: a label per row; rows of one group are never divided.
        share: of the edges that are dropped in each step, between 0 and 1.
        standard_errors: how many the error may rise.
        random_state: of the folds.

    Returns:
        the new estimator, with ``pruning_path_``, a :class:`PruningPath`.

    Raises:
        UserError: an argument is out of range, or the estimator is not fitted, inside a pipeline or monotone.
    """
    from sklearn.base import clone

    fitted = opened(estimator)
    if fitted.estimator is not estimator:
        raise UserError(
            "prune_estimator takes the estimator itself; give the last step of the pipeline and what it sees"
        )
    if estimator.monotone is not None:
        raise UserError("prune_estimator trains edges on without bounds, so that monotone would no longer hold")
    if not 0 < share < 1 or folds < 2:
        raise UserError(
            f"prune_estimator: share must lie between 0 and 1, folds be at least 2, got {share} and {folds}"
        )
    counts = _schedule(max(_count(model) for model in fitted.models), share)
    errors = []
    for train, test in folds_of(estimator, X, y, groups, folds, random_state):
        part = clone(estimator).set_params(ensemble=1)
        part.fit(
            rows_of(X, train), rows_of(y, train), **({} if groups is None else {"groups": np.asarray(groups)[train]})
        )
        errors.append(_errors_along(part, X, y, train, test, counts))
    path = _chosen(counts, np.array(errors), standard_errors)
    pruned = copy.deepcopy(estimator)
    scaled, targets = fitted.scaled(X), _targets(estimator, y)
    pruned.models_ = [
        compacted(_pruned_to(model, fitted.rows(model, scaled), targets, path.chosen, share, estimator))
        for model in fitted.models
    ]
    pruned.pruning_path_ = path
    return pruned


def _count(model: KAN) -> int:
    return int(sum(layer.mask.sum().item() for layer in model.layers))


def _schedule(edges: int, share: float) -> list[int]:
    counts = [edges]
    while counts[-1] > 1:
        counts.append(min(counts[-1] - 1, max(1, round(counts[-1] * (1 - share)))))
    return counts


def folds_of(estimator: Any, X: Any, y: Any, groups: Any, folds: int, random_state: int) -> Any:
    """Places of the rows to train on and of those held out, part by part; classes have their share in each."""
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    if groups is not None:
        return GroupKFold(folds, shuffle=True, random_state=random_state).split(X, y, groups)
    kind = StratifiedKFold if hasattr(estimator, "classes_") else KFold
    return kind(folds, shuffle=True, random_state=random_state).split(X, y)


def rows_of(table: Any, places: np.ndarray) -> Any:
    """Some rows of a data frame, a series or an array."""
    return table.iloc[places] if hasattr(table, "iloc") else np.asarray(table)[places]


def _targets(estimator: Any, y: Any) -> Tensor:
    """Targets on the scale of the outputs, (N, J), or numbers of the classes, (N, 1)."""
    if hasattr(estimator, "classes_"):
        numbers = np.searchsorted(estimator.classes_, np.asarray(y).ravel())
        return torch.from_numpy(numbers.astype(float)).unsqueeze(1)
    values = np.asarray(y, dtype=float).reshape(len(y), -1)
    return torch.from_numpy((values - estimator.target_offset_) / estimator.target_scale_)


def _loss(estimator: Any) -> Loss:
    from katops.estimators.losses import cross_entropy, logistic, pinball, squared_error

    if hasattr(estimator, "classes_"):
        return logistic if len(estimator.classes_) == 2 else cross_entropy
    return squared_error if getattr(estimator, "quantile", None) is None else pinball(estimator.quantile)


def _errors_along(
    estimator: Any, X: Any, y: Any, train: np.ndarray, test: np.ndarray, counts: list[int]
) -> list[float]:
    fitted = opened(estimator)
    model, loss = fitted.models[0], _loss(estimator)
    rows, targets = fitted.rows(model, fitted.scaled(rows_of(X, train))), _targets(estimator, rows_of(y, train))
    held, answers = fitted.rows(model, fitted.scaled(rows_of(X, test))), _targets(estimator, rows_of(y, test))
    factor = 1.0 if hasattr(estimator, "classes_") else 2.0  # the squared error of the fit is halved
    errors = []
    for count in counts:
        model = _dropped(model, rows, count)
        if count < counts[0]:
            retrain(model, rows, targets, loss, weight_decay=estimator.weight_decay)
        with torch.no_grad():
            errors.append(factor * loss(model(held).unsqueeze(1), answers.to(held)).mean().item())
    return errors


def _chosen(counts: list[int], errors: np.ndarray, standard_errors: float) -> PruningPath:
    mean, error = errors.mean(axis=0), errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
    best = int(mean.argmin())
    allowed = np.flatnonzero(mean <= mean[best] + standard_errors * error[best])
    return PruningPath(counts, mean, error, counts[int(allowed[-1])])


def _pruned_to(model: KAN, rows: Tensor, targets: Tensor, count: int, share: float, estimator: Any) -> KAN:
    for step in _schedule(_count(model), share)[1:]:
        if step < count:
            break
        model = _dropped(model, rows, step)
        retrain(model, rows, targets, _loss(estimator), weight_decay=estimator.weight_decay)
    return model


def _dropped(model: KAN, rows: Tensor, count: int) -> KAN:
    """A copy with the ``count`` edges of the highest scores."""
    scores = [edges.max(axis=0) for edges in attribution(model, rows).edges]
    present = [np.where(layer.mask.cpu().numpy() > 0, s, -1.0) for layer, s in zip(model.layers, scores, strict=True)]
    order = np.sort(np.concatenate([part.ravel() for part in present]))[::-1]
    least = order[min(count, len(order)) - 1]
    # the strongest edge of the last layer stays, or the output would be a constant before its time
    kept = [torch.from_numpy((part >= max(least, 0.0)) & (part >= 0)) for part in present]
    last = present[-1]
    kept[-1][np.unravel_index(last.argmax(), last.shape)] = True
    return mask_edges(model, rows, kept)


def retrain(
    model: KAN, rows: Tensor, targets: Tensor, loss: Loss, *, weight_decay: float = 0.0, steps: int = RETRAINING_STEPS
) -> None:
    """Train a network on in place, by L-BFGS with a strong Wolfe line search on all rows.

    Args:
        model: a KAN; masked edges stay out.
        rows: (N, inputs), scaled.
        targets: (N, J), as the loss takes them.
        loss: as in :mod:`katops.estimators.losses`.
        weight_decay: half of it times the sum of squared parameters is added to the loss.
        steps: iterations at most.
    """
    targets = targets.to(rows)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.LBFGS(parameters, max_iter=steps, history_size=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(model(rows).unsqueeze(1), targets).mean()
        value = value + weight_decay / 2 * sum(parameter.square().sum() for parameter in parameters)
        value.backward()
        return value

    before = copy.deepcopy(model.state_dict())
    optimiser.step(closure)
    for parameter in parameters:
        parameter.grad = None
    if not all(torch.isfinite(parameter).all() for parameter in parameters):
        model.load_state_dict(before)


def plot_pareto(path: PruningPath, *, ax: Axes | None = None, label: str = "cross-validated error") -> Axes:
    """Error against the number of edges, with one standard error, and the network that was chosen.

    Args:
        path: ``pruning_path_`` of a pruned estimator.
        ax: where to draw; a new figure by default.
        label: of the error.
    """
    ax = quiet(axes_or_new(ax, 5.0, 3.2))
    ax.errorbar(
        path.edges, path.error, path.standard_error, fmt="o-", color=CURVE, markersize=4, capsize=2.5, linewidth=1.2
    )
    best = int(np.argmin(path.error))
    ax.axhline(path.error[best] + path.standard_error[best], color="#888888", linestyle=":", linewidth=1)
    place = path.edges.index(path.chosen)
    ax.plot([path.chosen], [path.error[place]], "o", color=POINT, markersize=8, zorder=3)
    ax.annotate(
        f"{path.chosen} edges",
        (path.chosen, path.error[place]),
        xytext=(6, 8),
        textcoords="offset points",
        fontsize=TEXT,
        color=POINT,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5},
    )
    ax.set_xscale("log")
    ax.set_yscale("log")
    ticks = _apart([path.chosen, path.edges[0], *reversed(path.edges)])
    ax.set_xticks(ticks, [str(tick) for tick in ticks])
    ax.xaxis.set_minor_locator(NullLocator())
    log_ticks(ax.yaxis, *ax.get_ylim())
    ax.set_xlabel("edges", fontsize=TEXT)
    ax.set_ylabel(label, fontsize=TEXT)
    return ax


def _apart(counts: list[int]) -> list[int]:
    """Those whose labels do not touch on a logarithmic axis; earlier ones go first."""
    kept: list[int] = []
    for count in counts:
        if all(abs(np.log(count / other)) >= CLOSEST_LABELS for other in kept):
            kept.append(count)
    return sorted(kept)
