"""The outcome of a search for a formula: the formula with what speaks for it, or a refusal with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.interpret.formula import Formula
from katops.interpret.symbolic_classes import ClassScores

if TYPE_CHECKING:
    import pandas

    from katops.interpret.symbolic_validation import FormulaScores

THRESHOLD = 0.9


@dataclass(frozen=True)
class Attempt:
    """One formula that was looked at.

    Attributes:
        name: of the network that it was read off.
        formula: in original units.
        score: n log(RSS / n) + (numbers + complexity) log n on the rows of the fit, the lower the better.
        r2: on the rows of the fit.
        held_out_r2: on held-out rows.
        complexity: complexities of its functions and the count of its fitted numbers.
    """

    name: str
    formula: Formula
    score: float
    r2: float
    held_out_r2: float
    complexity: float


@dataclass(frozen=True)
class SymbolicResult:
    """A formula, or why there is none.

    R2 of several outputs is that of the worst.

    Attributes:
        formula: ``None`` where it was refused.
        accepted: whether the held-out R2 reaches the threshold.
        reason: of a refusal, in a sentence; empty otherwise.
        r2: of the best formula on the rows of the fit; of the targets, or of the network where no targets were given.
        held_out_r2: the same on rows that the fit of the formula has not seen.
        network_r2: of the network on these held-out rows.
        fidelity: R2 of the formula as a description of the network, on these held-out rows.
        threshold: what was asked for.
        attempts: everything that was looked at, the best score first; also what was refused.
        shorter: the best formula with one function after the other dropped or made a straight line, see :meth:`pareto`.
        classes: of classifiers, with targets: accuracy and log loss of the formula and of the network.
        cross_validation: scores in folds, where they were asked for.
    """

    formula: Formula | None
    accepted: bool
    reason: str
    r2: float
    held_out_r2: float
    network_r2: float
    fidelity: float
    threshold: float
    attempts: list[Attempt] = field(default_factory=list)
    shorter: list[Attempt] = field(default_factory=list)
    classes: ClassScores | None = None
    cross_validation: FormulaScores | None = None

    def __bool__(self) -> bool:
        return self.accepted

    @property
    def accuracy(self) -> float | None:
        """Share of held-out rows whose class the formula finds; ``None`` without classes."""
        return None if self.classes is None else self.classes.accuracy

    @property
    def network_accuracy(self) -> float | None:
        """The same of the network."""
        return None if self.classes is None else self.classes.network_accuracy

    def table(self) -> pandas.DataFrame:
        """The attempts, the best score first."""
        return _table(self.attempts)

    def pareto(self) -> pandas.DataFrame:
        """The formulas that no other one beats in both complexity and held-out R2, the shortest first.

        Beside the attempts, those that come of the best one when it is made shorter step by step.
        """
        front: list[Attempt] = []
        for attempt in sorted([*self.attempts, *self.shorter], key=lambda one: (one.complexity, -one.held_out_r2)):
            if not front or attempt.held_out_r2 > front[-1].held_out_r2:
                front.append(attempt)
        return _table(front)

    def __str__(self) -> str:
        lines = [f"no formula: {self.reason}"]
        if self.accepted:
            lines = [str(self.formula), f"held-out R2 {self.held_out_r2:.6g} (network: {self.network_r2:.6g})"]
        lines += [str(part) for part in (self.classes, self.cross_validation) if part is not None]
        return "\n".join(lines)


def _table(attempts: Sequence[Attempt]) -> pandas.DataFrame:
    import pandas

    columns = {
        "network": "name",
        "complexity": "complexity",
        "score": "score",
        "r2": "r2",
        "held_out_r2": "held_out_r2",
    }
    rows = [
        {**{label: getattr(attempt, name) for label, name in columns.items()}, "formula": str(attempt.formula)}
        for attempt in attempts
    ]
    return pandas.DataFrame(rows, columns=[*columns, "formula"])


def worst_r2(y: Any, predicted: Any) -> float:
    """R2 of the worst output; minus infinity where a prediction is not finite."""
    y, predicted = (np.asarray(part, dtype=float).reshape(len(part), -1) for part in (y, predicted))
    if not np.isfinite(predicted).all():
        return -np.inf
    total = ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    rss = ((y - predicted) ** 2).sum(axis=0)
    return float(
        np.min(np.where(total > 0, 1 - rss / np.where(total > 0, total, 1.0), np.where(rss > 0, -np.inf, 1.0)))
    )
