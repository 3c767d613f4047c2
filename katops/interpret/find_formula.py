"""A closed formula for a table: small KANs of several shapes, each read off as a formula, the best one told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from katops.data.table_preprocessing import TablePreprocessor
from katops.data.table_reading import has_categories
from katops.errors import UserError
from katops.interpret.fitted import DerivedInputs
from katops.interpret.formula import Formula
from katops.interpret.formula_shapes import (
    TRANSFORMS,
    FormulaShape,
    SmallKAN,
    eliminate_edges,
    fit_shape,
    standard_shapes,
)
from katops.interpret.symbolic_guess import guess_network, with_output
from katops.interpret.symbolic_library import SymbolicLibrary
from katops.interpret.symbolic_network import SymbolicEdge, SymbolicLayer
from katops.interpret.symbolic_path import complexity, shorter_networks
from katops.interpret.symbolic_refit import Refitted
from katops.interpret.symbolic_result import THRESHOLD, Attempt, SymbolicResult, worst_r2
from katops.interpret.symbolic_search import search
from katops.progress import bar

NETWORK_ROWS, SEARCH_ROWS, FINAL_ROWS = 500, 300, 2000
FEWEST_ROWS = 40
# Networks whose error is within this factor of the least are read off, so many of them at most.
NEAR_THE_BEST, MOST_ATTEMPTS = 2.5, 5
# A formula as close to the data as the closest network, up to this factor, and of small complexity, ends the search.
AS_GOOD, SHORT = 1.08, 3


@dataclass
class _Candidate:
    """A fitted shape.

    Attributes:
        rows, target, weight: what it was fitted to, (N, columns), (N, 1) and (N, 1).
        error: mean squared error in the target itself, in units of its variance.
        inner: the same of the transformed and standardised target.
    """

    shape: FormulaShape
    model: SmallKAN
    rows: Tensor
    target: Tensor
    weight: Tensor
    offset: np.ndarray
    scale: np.ndarray
    error: float
    inner: float

    def predict(self, scaled: Tensor, library: SymbolicLibrary) -> np.ndarray:
        """The target, (N, 1)."""
        with torch.no_grad():
            out = self.model(scaled).numpy() * self.scale + self.offset
        if not self.shape.transform:
            return out
        transform = TRANSFORMS[self.shape.transform]
        with np.errstate(all="ignore"):
            return library[transform.inverse].value(np.maximum(out, 0) if transform.inverse == "sqrt" else out)


def find_formula(
    X: Any,
    y: Any,
    *,
    columns: Sequence[str] | None = None,
    library: SymbolicLibrary | None = None,
    shapes: Sequence[FormulaShape] | None = None,
    threshold: float = THRESHOLD,
    held_out: float = 0.2,
    random_state: int = 0,
    verbose: bool = False,
) -> SymbolicResult:
    """Search for a closed formula y = f(columns).

    Small KANs of several shapes (sums and products of univariate functions, with an outer function, of y or of log y,
    y^2, 1/y) are fitted by least squares with sparse edges; needless edges are eliminated; the best networks are read
    off by :func:`katops.interpret.symbolic_search.search`, and the formula of the lowest score wins. It takes
    from half a minute to twenty minutes on a core for two to five columns.

    Args:
        X: array or DataFrame, (N, columns); the fewer the better. Levels of columns of text and gaps become columns of
            1 and 0, missing values stand at the median; the formula then takes rows as they are in X.
        y: (N,); the formula is named after a Series that has a name.
        columns: names; those of the DataFrame, else x0, x1, ...
        library: what the univariate functions may be.
        shapes: of the networks; see :func:`katops.interpret.formula_shapes.standard_shapes`.
        threshold: held-out R2 below which the formula is refused.
        held_out: share of the rows that decide about that and nothing else.
        random_state: of these rows and of the networks.
        verbose: show a progress bar.

    Raises:
        UserError: the table has fewer than 40 rows, infinite values, or gaps in y, or an argument is out of range.
    """
    target = y.name if isinstance(getattr(y, "name", None), str) else "y"
    names, x, y, derived = _checked(X, y, columns, held_out)
    library = library or SymbolicLibrary()
    order = np.random.default_rng(random_state).permutation(len(x))
    test, train = np.split(order, [max(1, round(held_out * len(order)))])
    middle, half = _range(x[train])
    scaled = torch.from_numpy((x - middle) / half)
    shapes = list(standard_shapes(x.shape[1]) if shapes is None else shapes)
    with bar(Console(stderr=True), "formulas", verbose) as report:
        total = len(shapes) + 2 * MOST_ATTEMPTS
        few = train[:NETWORK_ROWS]
        fitted = []
        for number, shape in enumerate(shapes):
            fitted.extend(_fitted(shape, scaled[few], y[few], library, random_state))
            report(number + 1, total)
        network_r2 = max(worst_r2(y[test], candidate.predict(scaled[test], library)) for candidate in fitted)
        if network_r2 < threshold:
            reason = f"the best network reaches a held-out R2 of {network_r2:.4g}, below {threshold:g}: no law is seen"
            nothing = float("-inf")
            return SymbolicResult(None, False, reason, nothing, nothing, network_r2, nothing, threshold)
        likely = _likely(fitted, scaled[few], y[few], library)
        report(len(shapes) + MOST_ATTEMPTS, total)
        tried: list[tuple[Attempt, _Candidate, Refitted]] = []

        def attempt(name: str, found: Refitted) -> Attempt:
            return _attempt(name, found, (names, target, derived), x, y, train, test)

        for number, candidate in enumerate(likely):
            found = _read_off(candidate, scaled, x, y, train, library, [attempt for attempt, *_ in tried])
            tried.append((attempt(candidate.shape.name, found), candidate, found))
            report(len(shapes) + MOST_ATTEMPTS + number + 1, total)
            close = 1 - tried[-1][0].r2 < AS_GOOD * min(other.error for other in likely)
            if close and found.network.complexity <= SHORT * len(names):
                break
    tried.sort(key=lambda one: one[0].score)
    _, candidate, found = tried[0]
    few = train[:SEARCH_ROWS]
    shorter = [attempt("shorter", one) for one in shorter_networks(found, x[few], y[few], library)]
    answers = candidate.predict(scaled[test], library)
    said = found.network(x[test])
    return _result([attempt for attempt, *_ in tried], shorter, answers, said, y[test], threshold)


def _checked(
    X: Any, y: Any, columns: Sequence[str] | None, held_out: float
) -> tuple[list[str], np.ndarray, np.ndarray, DerivedInputs | None]:
    names = [str(name) for name in X.columns] if hasattr(X, "columns") else None
    derived = None
    if has_categories(X) or _has_gaps(X):
        derived = DerivedInputs(TablePreprocessor.fit(X, "minmax", columns))
        names, X, columns = [column.name for column in derived.preprocessor.columns], derived(X), None
    try:
        x, y = np.array(X, dtype=float), np.array(y, dtype=float)
    except (TypeError, ValueError) as error:
        raise UserError(f"find_formula: X and y must hold numbers only: {error}") from None
    if x.ndim != 2 or y.size != len(x) or not x.shape[1]:
        raise UserError(f"find_formula: expected X (rows, columns) and y (rows,), got {x.shape} and {y.shape}")
    if len(x) < FEWEST_ROWS:
        raise UserError(f"find_formula: {len(x)} rows cannot tell formulas apart; at least {FEWEST_ROWS} are needed")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("find_formula: y must be finite, and X must hold no infinite values; drop such rows")
    if y.std() == 0 or not np.ptp(x, axis=0).any():
        raise UserError(f"find_formula: {'y' if y.std() == 0 else 'X'} is constant")
    if not 0 < held_out < 1:
        raise UserError(f"find_formula: held_out must lie between 0 and 1, got {held_out}")
    names = list(columns) if columns is not None else names or [f"x{k}" for k in range(x.shape[1])]
    if len(names) != x.shape[1]:
        raise UserError(f"find_formula: columns must be {x.shape[1]} names, got {len(names)}")
    return names, x, y.reshape(-1, 1), derived


def _has_gaps(X: Any) -> bool:
    if hasattr(X, "isna"):
        return bool(X.isna().any(axis=None))
    values = np.asarray(X)
    return values.ndim == 2 and values.dtype.kind == "f" and bool(np.isnan(values).any())


def _range(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    low, high = x.min(axis=0), x.max(axis=0)
    return (low + high) / 2, np.where(high > low, (high - low) / 2, 1.0)


def _fitted(
    shape: FormulaShape, scaled: Tensor, y: np.ndarray, library: SymbolicLibrary, seed: int
) -> list[_Candidate]:
    """The shape fitted, or nothing where its transform of the target does not apply."""
    rows, target, weight = scaled, y, np.ones_like(y)
    if shape.transform:
        transform = TRANSFORMS[shape.transform]
        kept = transform.rows(y)
        if transform.inverse not in library or not kept.any():
            return []
        rows, target, weight = scaled[kept], transform.forward(y[kept]), transform.weight(y[kept])
    offset, scale = target.mean(axis=0), target.std(axis=0)
    standard, weight = torch.from_numpy((target - offset) / scale), torch.from_numpy(weight)
    model, inner = fit_shape(shape, rows, standard, weight, seed=seed)
    candidate = _Candidate(shape, model, rows, standard, weight, offset, scale, np.inf, inner)
    candidate.error = _error(candidate, scaled, y, library)
    return [candidate] if np.isfinite(candidate.error) else []


def _error(candidate: _Candidate, scaled: Tensor, y: np.ndarray, library: SymbolicLibrary) -> float:
    return float(np.mean((candidate.predict(scaled, library) - y) ** 2) / y.var())


def _likely(fitted: list[_Candidate], scaled: Tensor, y: np.ndarray, library: SymbolicLibrary) -> list[_Candidate]:
    """The networks near the best one, without needless edges; those that need few edges for little error first."""
    least = min(candidate.error for candidate in fitted)
    near = sorted((c for c in fitted if c.error <= NEAR_THE_BEST * least), key=lambda c: c.model.alive)
    near = near[: MOST_ATTEMPTS + 3]
    for candidate in near:
        candidate.inner = eliminate_edges(
            candidate.model, candidate.rows, candidate.target, candidate.weight, candidate.inner
        )
        candidate.error = _error(candidate, scaled, y, library)
    n, numbers_of_an_edge = len(y), 4
    near.sort(key=lambda c: n * np.log(c.error) + numbers_of_an_edge * c.model.alive * np.log(n))
    return near[:MOST_ATTEMPTS]


def _read_off(
    candidate: _Candidate,
    scaled: Tensor,
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    library: SymbolicLibrary,
    attempts: list[Attempt],
) -> Refitted:
    few, more = train[:SEARCH_ROWS], train[:FINAL_ROWS]
    guess = guess_network(candidate.model.layers, scaled[few], x[few], library)
    network = with_output(guess, candidate.scale, candidate.offset, library)
    if candidate.shape.transform:
        function = library[TRANSFORMS[candidate.shape.transform].inverse]
        edge = SymbolicEdge(0, 0, function, free=[function.scale, function.shift, True])
        network.layers.append(SymbolicLayer([edge], np.zeros(1), np.ones(1, dtype=bool)))
    found = search(network, x[few], y[few], library, passes=2)
    best = min((1 - attempt.r2 for attempt in attempts), default=np.inf)
    hopeless = found.rss / len(few) > 2 * best
    return search(found.network, x[more], y[more], library, passes=0 if hopeless else 2)


def _attempt(
    name: str,
    found: Refitted,
    names: tuple[list[str], str, DerivedInputs | None],
    x: np.ndarray,
    y: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
) -> Attempt:
    columns, target, derived = names
    formula = Formula.of_network(found.network, columns, [target], positive=(x > 0).all(axis=0), derived=derived)
    said = found.network(x)
    scores = found.score, worst_r2(y[train], said[train]), worst_r2(y[test], said[test])
    return Attempt(name, formula, *scores, complexity(found.network))


def _result(
    attempts: list[Attempt],
    shorter: list[Attempt],
    answers: np.ndarray,
    said: np.ndarray,
    y: np.ndarray,
    threshold: float,
) -> SymbolicResult:
    best = attempts[0]
    accepted = best.held_out_r2 >= threshold
    reason = "" if accepted else f"held-out R2 of the best formula is {best.held_out_r2:.4g}, below {threshold:g}"
    return SymbolicResult(
        best.formula if accepted else None,
        accepted,
        reason,
        best.r2,
        best.held_out_r2,
        worst_r2(y, answers),
        worst_r2(answers, said),
        threshold,
        attempts,
        shorter,
    )
