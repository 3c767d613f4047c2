"""Shapley values of additive networks, read off their curves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from katops.errors import UserError
from katops.interpret.fitted import FittedTable, opened, output_number

if TYPE_CHECKING:
    import pandas


def shapley_values(estimator: Any, X: Any, *, output: int | str = 0, background: Any = None) -> pandas.DataFrame:
    """What every column adds to every prediction, exactly, for networks without hidden nodes.

    The output of such a network is b + sum_i phi_i(x_i), so that the Shapley value of column i (Shapley 1953; as SHAP
    values with an interventional background, Lundberg & Lee 2017) needs no sampling: phi_i(x_i) minus the mean of
    phi_i over the background. A row sums to its prediction minus the mean prediction of the background. Inputs made of
    one column, such as its levels, are added up; over an ensemble it is the mean of the members.

    Args:
        estimator: fitted, with ``hidden=()``; also a pipeline that ends in one.
        X: rows to explain, (rows, columns).
        output: target or class, by name or number.
        background: rows that the mean is taken over, such as those of the fit; X by default.

    Returns:
        (rows, columns) in the unit of the target (classes: log-odds), with the index of X; ``attrs["base"]`` is the
        mean prediction of the background. Its columns are those that the estimator sees, of a pipeline's last step.

    Raises:
        UserError: the networks have hidden nodes or products; there is no such output, or no row.
    """
    import pandas

    fitted = opened(estimator)
    if not fitted.additive:
        raise UserError(
            "shapley_values: the networks have hidden nodes or products, so that columns interact; "
            "fit with hidden=() and no products, or use shap_values"
        )
    place = output_number(fitted, output)
    scaled = fitted.scaled(X)
    reference = scaled if background is None else fitted.scaled(background)
    if not len(scaled) or not len(reference):
        raise UserError("shapley_values: X and background need rows")
    values = _terms(fitted, scaled, place) - _terms(fitted, reference, place).mean(axis=0)
    names = [str(name) for name in fitted.estimator.feature_names]
    table = pandas.DataFrame(values, index=getattr(X, "index", None), columns=names)
    answers = [fitted.outputs_of(model, reference)[:, place] for model in fitted.models]
    table.attrs["base"] = float(np.mean(answers))
    return table


def _terms(fitted: FittedTable, scaled: np.ndarray, output: int) -> np.ndarray:
    """phi_i(x_i), mean over the members, added up over the inputs of each column, (rows, columns)."""
    sources = np.array([column.source for column in fitted.columns])
    terms = np.zeros((len(scaled), len(fitted.estimator.feature_names)))
    for model in fitted.models:
        with torch.no_grad():
            edges = model.edges(fitted.rows(model, scaled))[0][:, output].double().cpu().numpy()
        np.add.at(terms, (slice(None), sources[model.used_inputs]), edges * fitted.scale[output] / len(fitted.models))
    return terms
