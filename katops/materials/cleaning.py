"""What is wrong in published tables, taken out by named rules that say which rows they touched."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from katops.materials.cards import DataCard

if TYPE_CHECKING:
    import pandas

SUM_TOLERANCE_PERCENT = 0.6
MISREAD_TOLERANCE = 0.005


@dataclass(frozen=True)
class CleaningStep:
    """One rule and what it did.

    Attributes:
        rule: its name.
        action: "dropped", "merged" (into the first row of the same inputs) or "kept" (told only).
        rows: numbers of the rows in the file, counted from 0 without the header.
        reason: one sentence.
    """

    rule: str
    action: str
    rows: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class Draft:
    """A table on its way: the frame, the sums of its fractions as stored, and how far they are from the formulas."""

    frame: "pandas.DataFrame"
    stored_sums: "pandas.Series"
    misread: "pandas.Series"
    input_keys: "pandas.Series"
    card: DataCard


def clean(draft: Draft) -> "tuple[pandas.DataFrame, list[CleaningStep]]":
    """Apply the rules that the card names, then treat rows that repeat the inputs of others."""
    steps, dropped = [], np.zeros(len(draft.frame), dtype=bool)
    for name in draft.card.cleaning:
        wrong, reason = RULES[name](draft)
        wrong = wrong & ~dropped
        if wrong.any():
            steps.append(CleaningStep(name, "dropped", tuple(draft.frame.index[wrong]), reason))
            dropped |= wrong
    frame, keys = draft.frame[~dropped], draft.input_keys[~dropped]
    repeated = keys.duplicated().to_numpy()
    if repeated.any():
        merge = draft.card.repeats == "merge"
        reason = "another row has the same inputs; " + (
            "numeric targets are the mean, the rest is that of the first row" if merge else "folds keep them together"
        )
        rows = tuple(frame.index[repeated])
        steps.append(CleaningStep("repeated_inputs", "merged" if merge else "kept", rows, reason))
        frame = _merged(frame, keys, draft.card) if merge else frame
    return frame, steps


def _merged(frame: "pandas.DataFrame", keys: "pandas.Series", card: DataCard) -> "pandas.DataFrame":
    numeric = [column.name for column in card.with_role("target") if column.kind == "number"]
    first = frame[~keys.duplicated()].copy()
    if numeric:
        means = frame[numeric].groupby(keys.to_numpy()).mean()
        first[numeric] = means.loc[keys[~keys.duplicated()]].to_numpy()
    return first


def _wrong_sum(draft: Draft) -> tuple[np.ndarray, str]:
    off = (draft.stored_sums - 1).abs() > SUM_TOLERANCE_PERCENT / 100
    return off.to_numpy(), f"the fractions do not sum to 100 ± {SUM_TOLERANCE_PERCENT} %"


def _misread_formulas(draft: Draft) -> tuple[np.ndarray, str]:
    wrong = (draft.misread > MISREAD_TOLERANCE).to_numpy()
    return wrong, "the fractions of the file are not those of its formula, so that either may be wrong"


def _yield_above_ultimate(draft: Draft) -> tuple[np.ndarray, str]:
    wrong = draft.frame["yield_strength"] > draft.frame["ultimate_tensile_strength"]
    return wrong.to_numpy(), "the yield strength is above the ultimate tensile strength"


def _contradictory_labels(draft: Draft) -> tuple[np.ndarray, str]:
    target = draft.card.with_role("target")[0].name
    labels = draft.frame[target].groupby(draft.input_keys).transform("nunique")
    return (labels > 1).to_numpy(), f"rows with the same inputs say different things about {target}"


RULES: dict[str, Callable[[Draft], tuple[np.ndarray, str]]] = {
    "wrong_sum": _wrong_sum,
    "misread_formulas": _misread_formulas,
    "yield_above_ultimate": _yield_above_ultimate,
    "contradictory_labels": _contradictory_labels,
}
"""Rules by name; each gives the rows that are wrong and the reason."""
