"""The outcome of a search for a formula: the formula with what speaks for it, or a refusal with its reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from katops.interpret.formula import Formula

if TYPE_CHECKING:
    import pandas

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
    """

    name: str
    formula: Formula
    score: float
    r2: float
    held_out_r2: float


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
        accuracy, network_accuracy: of classifiers, with targets: the share of held-out rows whose class the formula and
            the network find.
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
    accuracy: float | None = None
    network_accuracy: float | None = None

    def __bool__(self) -> bool:
        return self.accepted

    def table(self) -> pandas.DataFrame:
        """The attempts, the best score first."""
        import pandas

        rows = [
            {
                "network": attempt.name,
                "score": attempt.score,
                "r2": attempt.r2,
                "held_out_r2": attempt.held_out_r2,
                "formula": str(attempt.formula),
            }
            for attempt in self.attempts
        ]
        return pandas.DataFrame(rows, columns=["network", "score", "r2", "held_out_r2", "formula"])

    def __str__(self) -> str:
        if not self.accepted:
            return f"no formula: {self.reason}"
        return f"{self.formula}\nheld-out R2 {self.held_out_r2:.6g} (network: {self.network_r2:.6g})"


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
