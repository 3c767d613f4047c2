"""How much a KAN's score drops when one column is shuffled among rows that it has not seen.

Permutation importance (L. Breiman, Mach. Learn. 45, 5 (2001), section 10): columns that say the same share their
importance, so that a column of little importance is not one without influence.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd

from katops.studies.metrics import classification_scores, regression_scores
from katops.studies.study import Study

SHUFFLES = 5


def permutation_importance(
    predict: Callable[[pd.DataFrame], np.ndarray], study: Study, rows: np.ndarray, seed: int
) -> list[float]:
    """Drop of the deciding score (R², mean over the targets, or F1) for each column of the design table.

    Args:
        predict: from design rows to (n, J) numbers or (n, K) probabilities, by a model fitted without the rows.
        study: the data.
        rows: positions of the rows.
        seed: of the shuffling.
    """
    generator = np.random.default_rng(seed)
    frame = study.design.frame.iloc[rows]
    before = _score(study, rows, predict(frame))
    # All shuffles of a column are predicted at once: reading a table costs more than its rows.
    repeated = pd.concat([frame] * SHUFFLES, ignore_index=True)
    drops = []
    for name in frame.columns:
        orders = np.concatenate([generator.permutation(len(frame)) for _ in range(SHUFFLES)])
        shuffled = repeated.assign(**{name: frame[name].iloc[orders].set_axis(repeated.index)})
        after = [_score(study, rows, part) for part in np.split(predict(shuffled), SHUFFLES)]
        drops.append(float(before - np.mean(after)))
    return drops


def _score(study: Study, rows: np.ndarray, predicted: np.ndarray) -> float:
    truth = study.target[rows]
    if study.classes:
        return classification_scores(truth, predicted, study.positive)["f1"]
    pairs = zip(truth.T, predicted.T, strict=True)
    return float(np.nanmean([regression_scores(one_truth, one)["r2"] for one_truth, one in pairs]))
