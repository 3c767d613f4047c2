"""A fitted estimator read off as a formula in original units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.errors import UserError
from katops.interpret.fitted import DerivedInputs, FittedTable, opened
from katops.interpret.formula import Formula
from katops.interpret.symbolic_classes import class_scores
from katops.interpret.symbolic_fit import fit_curves, suggestion_table
from katops.interpret.symbolic_gauge import normalised
from katops.interpret.symbolic_guess import guess_network, with_output
from katops.interpret.symbolic_library import SymbolicLibrary
from katops.interpret.symbolic_network import SymbolicNetwork
from katops.interpret.symbolic_path import complexity, shorter_networks
from katops.interpret.symbolic_refit import Refitted, refit
from katops.interpret.symbolic_result import THRESHOLD, Attempt, SymbolicResult, worst_r2
from katops.interpret.symbolic_search import search
from katops.interpret.symbolic_validation import formula_scores
from katops.models.kan import KAN

if TYPE_CHECKING:
    import pandas

SEARCH_ROWS = 400
MOST_EDGES = 40


def suggest(
    estimator: Any,
    X: Any,
    layer: int,
    sub_node: int,
    feature: int,
    *,
    library: SymbolicLibrary | None = None,
    topk: int = 5,
    member: int = 0,
) -> pandas.DataFrame:
    """Functions that one learned edge may be, the best score first: with R2, held-out R2, complexity and a, b, c, d.

    Edges of the first layer are functions of the column in its unit.

    Args:
        estimator: fitted.
        X: rows over whose range the edge is fitted.
        layer, sub_node, feature: the edge; see :class:`katops.layers.kan_linear.KANLinear` for its numbers.
        library: the standard one by default.
        topk: rows of the table.
        member: which network of the ensemble.

    Raises:
        UserError: there is no such edge or member.
    """
    fitted = opened(estimator)
    model = _member(fitted, member)
    scaled = fitted.scaled(X)
    rows = fitted.rows(model, scaled)
    if not 0 <= layer < len(model.layers):
        raise UserError(f"suggest: there is no layer {layer}; the network has {len(model.layers)}, counted from 0")
    chosen = model.layers[layer]
    if not (0 <= sub_node < chosen.sub_nodes and 0 <= feature < chosen.in_features):
        raise UserError(
            f"suggest: layer {layer} has sub-nodes 0 to {chosen.sub_nodes - 1} and inputs 0 to "
            f"{chosen.in_features - 1}, not the edge ({sub_node}, {feature})"
        )
    inputs = model.inputs_of_layers(rows)[layer]
    values = inputs.detach().double().cpu().numpy()
    if layer == 0:
        values = fitted.raw(scaled)[:, model.used_inputs]
    curve = model.edges(rows)[layer][:, sub_node, feature].detach().double().cpu().numpy()
    return suggestion_table(fit_curves(values[:, feature], curve, library)[0], topk)


def symbolic(
    estimator: Any,
    X: Any,
    y: Any = None,
    *,
    member: int | None = None,
    library: SymbolicLibrary | None = None,
    threshold: float = THRESHOLD,
    held_out: float = 0.25,
    exchange: bool = True,
    most_edges: int = MOST_EDGES,
    folds: int = 0,
    groups: Any = None,
    random_state: int = 0,
) -> SymbolicResult:
    """The formula of a fitted network, or a refusal.

    Every edge becomes the function that fits its curve best; then edges are exchanged, dropped and rounded while all
    numbers are fitted again to the targets, as long as the score falls (:mod:`katops.interpret.symbolic_search`).

    Args:
        estimator: fitted; small and sparse networks give short formulas, see
            :func:`katops.interpret.iterative_pruning.prune_estimator`.
        X: rows, such as those of the fit.
        y: their targets; without them, and for classifiers, the formula is fitted to the network.
        member: which network of the ensemble; the one nearest to the targets by default.
        library: what edges may be.
        threshold: held-out R2 below which the formula is refused.
        held_out: share of the rows that the fit of the formula does not see.
        exchange: False keeps the functions that fit the learned curves best, and fits their numbers alone.
        most_edges: networks with more edges are refused at once; a formula of that length explains nothing.
        folds: with at least 2, the estimator is also fitted, and read off, once without each part of the rows;
            ``cross_validation`` of the result has the scores there. It takes as long as so many fits and searches.
        groups: of these folds, a label per row; rows of one group are never divided.
        random_state: of the rows that are held out, and of the folds.

    With classes in y a formula is refused, too, where it finds the class of fewer held-out rows than the network, by
    more than one standard error, or where its probabilities say no more than the shares of the classes.

    Raises:
        UserError: an argument is out of range, or the estimator is not fitted.
    """
    if not 0 < held_out < 1:
        raise UserError(f"symbolic: held_out must lie between 0 and 1, got {held_out}")
    search_for = partial(
        _symbolic,
        member=member,
        library=library or SymbolicLibrary(),
        threshold=threshold,
        held_out=held_out,
        exchange=exchange,
        most_edges=most_edges,
        random_state=random_state,
    )
    result = search_for(estimator, X, y)
    if not folds:
        return result
    scores = formula_scores(estimator, X, y, search_for, folds=folds, groups=groups, random_state=random_state)
    return replace(result, cross_validation=scores)


def _symbolic(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    member: int | None,
    library: SymbolicLibrary,
    threshold: float,
    held_out: float,
    exchange: bool,
    most_edges: int,
    random_state: int,
) -> SymbolicResult:
    """:func:`symbolic` without its cross-validation."""
    fitted = opened(estimator)
    scaled = fitted.scaled(X)
    targets = None if y is None or fitted.is_classifier else np.asarray(y, dtype=float).reshape(len(scaled), -1)
    number = _nearest(fitted, scaled, targets) if member is None else member
    model = _member(fitted, number)
    answers = fitted.outputs_of(model, scaled)
    targets = answers if targets is None else targets
    order = np.random.default_rng(random_state).permutation(len(scaled))
    test, train = np.split(order, [max(1, round(held_out * len(order)))])
    edges = int(sum(layer.mask.sum().item() for layer in model.layers))
    network_r2 = worst_r2(targets[test], answers[test])
    if edges > most_edges:
        return _refused(
            f"the network has {edges} edges, more than {most_edges}; prune it first, or fit a smaller one",
            network_r2,
            threshold,
        )
    sources, columns, derived = _columns(fitted)
    raw = np.zeros((len(scaled), len(columns)))
    raw[:, sources] = fitted.raw(scaled)
    found = _read_off(fitted, model, scaled[train], raw[train], targets[train], sources, library, exchange)

    def attempt(name: str, one: Refitted) -> Attempt:
        said = one.network(raw)
        r2, held_out_r2 = worst_r2(targets[train], said[train]), worst_r2(targets[test], said[test])
        formula = Formula.of_network(
            one.network, columns, _output_names(fitted), positive=(raw > 0).all(axis=0), derived=derived
        )
        return Attempt(name, formula, one.score, r2, held_out_r2, complexity(one.network))

    best, said = attempt(f"member {number}", found), found.network(raw)
    few = train[:SEARCH_ROWS]
    shorter = [attempt("shorter", one) for one in shorter_networks(found, raw[few], targets[few], library)]
    classes = None
    if fitted.is_classifier and y is not None:
        labels = np.asarray(y).ravel()[test]
        classes = class_scores(labels, fitted.estimator.classes_, said[test], answers[test])
    reason = "" if classes is None else classes.objection
    if best.held_out_r2 < threshold:
        reason = f"held-out R2 of the best formula is {best.held_out_r2:.4g}, below {threshold:g}"
    return SymbolicResult(
        None if reason else best.formula,
        not reason,
        reason,
        best.r2,
        best.held_out_r2,
        network_r2,
        worst_r2(answers[test], said[test]),
        threshold,
        [best],
        shorter,
        classes,
    )


def _refused(reason: str, network_r2: float, threshold: float) -> SymbolicResult:
    nothing = float("-inf")
    return SymbolicResult(None, False, reason, nothing, nothing, network_r2, nothing, threshold)


def _member(fitted: FittedTable, member: int) -> KAN:
    if not 0 <= member < len(fitted.models):
        raise UserError(f"there is no member {member}; the ensemble has {len(fitted.models)}, counted from 0")
    return fitted.models[member]


def _nearest(fitted: FittedTable, scaled: np.ndarray, targets: np.ndarray | None) -> int:
    """The member whose answers are nearest to the targets, or to those of all members."""
    answers = np.stack([fitted.outputs_of(model, scaled) for model in fitted.models])
    goal = answers.mean(axis=0) if targets is None else targets
    return int(((answers - goal) ** 2 / fitted.scale**2).mean(axis=(1, 2)).argmin())


def _columns(fitted: FittedTable) -> tuple[list[int], list[str], DerivedInputs | None]:
    """Where the inputs stand among the columns of the formula, the names of these columns, and how they are derived.

    They are the columns of the table where all inputs are such columns; else the inputs themselves, such as levels.
    """
    if fitted.before is None and all(column.kind == "number" for column in fitted.columns):
        return [column.source for column in fitted.columns], list(fitted.estimator.feature_names), None
    derived = DerivedInputs(fitted.estimator.preprocessor_, fitted.before)
    return list(range(len(fitted.columns))), fitted.names, derived


def _output_names(fitted: FittedTable) -> list[str]:
    return [f"log-odds of {name}" for name in fitted.outputs] if fitted.is_classifier else fitted.outputs


def _read_off(
    fitted: FittedTable,
    model: KAN,
    scaled: np.ndarray,
    raw: np.ndarray,
    targets: np.ndarray,
    sources: Sequence[int],
    library: SymbolicLibrary,
    exchange: bool,
) -> Refitted:
    few = slice(0, SEARCH_ROWS)
    places = [sources[column] for column in model.used_inputs]
    rows = model.select(fitted.rows(model, scaled[few]))
    network = guess_network(model.layers, rows, raw[few][:, places], library)
    for edge in network.layers[0].edges:
        edge.source = places[edge.source]
    network = SymbolicNetwork(network.layers, raw.shape[1])
    network = with_output(network, fitted.scale, fitted.offset, library)
    if not exchange:
        return refit(normalised(network), raw, targets)
    found = search(network, raw[few], targets[few], library, passes=2)
    return search(found.network, raw, targets, library, passes=1) if len(raw) > SEARCH_ROWS else found
