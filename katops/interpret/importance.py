"""Importance of the columns of a table: permutation, scores of the networks beside it, SHAP where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from katops.errors import DataWarning, UserError, did_you_mean
from katops.interpret.attribution import attribution
from katops.interpret.fitted import opened
from katops.interpret.style import CURVE, POINT, TEXT, axes_or_new, plain, quiet, text_size

if TYPE_CHECKING:
    import pandas

CORRELATED = 0.8
"""Columns whose ranks correlate by more than this stand in for one another when one of them is permuted."""


def feature_importance(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    repeats: int = 10,
    scoring: Any = None,
    groups: Sequence[Sequence[str]] | None = None,
    random_state: int | None = 0,
) -> pandas.DataFrame:
    """How much the score falls when columns are shuffled, beside the share that the networks themselves tell.

    Args:
        estimator: fitted; also a pipeline that ends in one.
        X, y: rows that the fit has not seen tell what helps on new rows; those of the fit tell what was used.
        repeats: shuffles of each column.
        scoring: as scikit-learn's; the estimator's own score (R2, accuracy) by default.
        groups: lists of column names that are shuffled together, such as correlated ones; others are shuffled alone.
        random_state: of the shuffles.

    Returns:
        One row per column or group, the most important first: ``importance`` and ``deviation``, the mean and the
        standard deviation of the fall of the score, and ``share`` of the attribution (for groups the sum), the mean
        over members and outputs, which sums to 1 and does not see that columns may be correlated.

    Warns:
        DataWarning: columns that are shuffled alone are strongly correlated, so that each looks less important.

    Raises:
        UserError: a group names a column that is not there, or one twice.
    """
    import pandas

    names = [str(name) for name in X.columns] if hasattr(X, "columns") else [f"x{k}" for k in range(np.shape(X)[1])]
    together = _groups(groups or [], names)
    correlated = _correlated_pairs(X, names, together)
    if correlated:
        pairs = ", ".join(f"{a} and {b} ({r:.2f})" for a, b, r in correlated[:3])
        warnings.warn(
            f"columns are strongly correlated: {pairs}{' and more' * (len(correlated) > 3)}; each shuffled alone seems "
            f"less important than it is; give them as groups=[[...]]",
            DataWarning,
            stacklevel=2,
        )
    falls = _permuted(estimator, X, y, together, repeats, scoring, random_state)
    shares = _shares(estimator, X, names)
    table = pandas.DataFrame(
        {
            "column": [" + ".join(names[place] for place in group) for group in together],
            "importance": falls.mean(axis=1),
            "deviation": falls.std(axis=1),
            "share": [shares[list(group)].sum() for group in together],
        }
    )
    return table.sort_values("importance", ascending=False, ignore_index=True)


def _groups(groups: Sequence[Sequence[str]], names: list[str]) -> list[list[int]]:
    taken: list[int] = []
    found = []
    for group in groups:
        places = []
        for name in group:
            if name not in names:
                raise UserError(f"groups: there is no column {name!r}{did_you_mean(str(name), names)}")
            places.append(names.index(name))
        taken.extend(places)
        found.append(places)
    if len(set(taken)) < len(taken):
        raise UserError("groups: a column may be in one group only")
    return found + [[place] for place in range(len(names)) if place not in taken]


def _permuted(
    estimator: Any, X: Any, y: Any, together: list[list[int]], repeats: int, scoring: Any, random_state: int | None
) -> np.ndarray:
    """Falls of the score, (groups, repeats)."""
    from sklearn.inspection import permutation_importance
    from sklearn.metrics import check_scoring

    if all(len(group) == 1 for group in together):
        found = permutation_importance(
            estimator, X, y, n_repeats=repeats, random_state=random_state, scoring=scoring, n_jobs=1
        )
        return found.importances[[group[0] for group in together]]
    # scikit-learn shuffles single columns only
    score, generator = check_scoring(estimator, scoring=scoring), np.random.default_rng(random_state)
    best = score(estimator, X, y)
    falls = np.empty((len(together), repeats))
    for number, group in enumerate(together):
        for repeat in range(repeats):
            falls[number, repeat] = best - score(estimator, _shuffled(X, group, generator), y)
    return falls


def _shuffled(X: Any, places: list[int], generator: np.random.Generator) -> Any:
    order = generator.permutation(len(X))
    changed = X.copy()
    if hasattr(changed, "iloc"):
        for place in places:
            changed.isetitem(place, X.iloc[order, place].array)
        return changed
    changed[:, places] = X[order][:, places]
    return changed


def _shares(estimator: Any, X: Any, names: list[str]) -> np.ndarray:
    """Mean share of the attribution of every column of the table; NaN where a pipeline has made other columns of it."""
    fitted = opened(estimator)
    scaled = fitted.scaled(X)
    scores = [attribution(model, fitted.rows(model, scaled)).normalised.mean(axis=0) for model in fitted.models]
    shares = np.zeros(len(names))
    if fitted.before is not None:
        return np.full(len(names), np.nan)
    np.add.at(shares, [column.source for column in fitted.columns], np.mean(scores, axis=0))
    return shares


def _correlated_pairs(X: Any, names: list[str], together: list[list[int]]) -> list[tuple[str, str, float]]:
    """Pairs of columns of numbers in different groups whose ranks are correlated, the strongest first."""
    import pandas

    numbers = pandas.DataFrame(X).set_axis(range(len(names)), axis=1).select_dtypes("number")
    group_of = {place: number for number, group in enumerate(together) for place in group}
    ranks = numbers.corr("spearman")
    found = []
    for position, first in enumerate(ranks.columns):
        for second in ranks.columns[position + 1 :]:
            value = float(ranks.loc[first, second])
            if abs(value) > CORRELATED and group_of[first] != group_of[second]:
                found.append((names[first], names[second], value))
    return sorted(found, key=lambda pair: -abs(pair[2]))


def shap_values(estimator: Any, X: Any, *, background: int = 100, random_state: int = 0) -> Any:
    """SHAP values of the predictions (Lundberg & Lee 2017) by the package ``shap``, an ``Explanation``.

    Args:
        estimator: fitted.
        X: rows to explain; some of them serve as background.
        background: how many.
        random_state: of their choice.

    Raises:
        UserError: ``shap`` is not installed.
    """
    try:
        import shap
    except ImportError:
        raise UserError("shap_values needs the package shap; install it with pip install shap") from None
    chosen = np.random.default_rng(random_state).permutation(len(X))[:background]
    rows = X.iloc[chosen] if hasattr(X, "iloc") else X[chosen]
    predict = estimator.predict_proba if hasattr(estimator, "predict_proba") else estimator.predict
    return shap.Explainer(predict, rows, seed=random_state)(X)


def plot_feature_scores(table: pandas.DataFrame, *, most: int = 20, ax: Axes | None = None) -> Axes:
    """The table of :func:`feature_importance` as bars with standard deviations; the share as a point beside.

    Args:
        table: from :func:`feature_importance`.
        most: rows shown at most.
        ax: where to draw; a new figure by default.
    """
    shown = table.head(most).iloc[::-1]
    ax = quiet(axes_or_new(ax, 5.6, 0.7 + 0.27 * len(shown)))
    places = np.arange(len(shown))
    ax.barh(places, shown["importance"], xerr=shown["deviation"], height=0.62, color=CURVE, ecolor="#555555", capsize=2)
    ax.set_yticks(places, [plain(name) for name in shown["column"]], fontsize=text_size(ax, len(shown)))
    ax.set_xlabel("fall of the score when shuffled", fontsize=TEXT)
    ax.axvline(0, color="#999999", linewidth=0.8)
    if shown["share"].notna().all():
        above = ax.twiny()
        above.plot(shown["share"], places, "D", color=POINT, markersize=4.5)
        above.set_xlim(0, max(1.05 * shown["share"].max(), 0.05))
        above.spines[["right", "bottom"]].set_visible(False)
        above.tick_params(labelsize=TEXT - 1, colors=POINT)
        above.set_xlabel("share of the attribution", fontsize=TEXT, color=POINT)
    return ax
