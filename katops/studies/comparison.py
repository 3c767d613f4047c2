"""Whether one model is better than another on the same folds: the corrected resampled t test.

Trainings on overlapping rows are not independent, and an ordinary t test over folds finds differences that are not
there. With d_j the difference of the scores on fold j of J, and n_test / n_train the mean ratio of the rows,
t = mean(d) / sqrt((1/J + n_test/n_train) var(d)) with J - 1 degrees of freedom (C. Nadeau, Y. Bengio, Inference for the
generalization error, Machine Learning 52, 239 (2003), eq. 24).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class Comparison:
    """The difference of two models over folds.

    Attributes:
        difference: mean of (score of the first - score of the second), in the score's unit.
        low, high: its interval at the level asked for.
        p_value: two-sided, of no difference.
        folds: number of folds with both scores.
    """

    difference: float
    low: float
    high: float
    p_value: float
    folds: int

    def verdict(self, sign: int, level: float = 0.95) -> str:
        """ "better", "worse" or "no different", where ``sign`` is +1 if larger scores are better."""
        if not self.p_value <= 1 - level:
            return "no different"
        return "better" if sign * self.difference > 0 else "worse"


def corrected_t_test(first: np.ndarray, second: np.ndarray, ratio: float, level: float = 0.95) -> Comparison:
    """Compare two models by their scores on the same folds.

    Args:
        first, second: (J,) scores; folds in which one is NaN are left out.
        ratio: mean of test rows / training rows.
        level: of the interval of the difference.
    """
    differences = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    differences = differences[np.isfinite(differences)]
    count = len(differences)
    mean = float(differences.mean()) if count else float("nan")
    if count < 2:
        return Comparison(mean, float("nan"), float("nan"), float("nan"), count)
    error = float(np.sqrt((1 / count + ratio) * differences.var(ddof=1)))
    if error == 0:
        return Comparison(mean, mean, mean, 1.0 if mean == 0 else 0.0, count)
    half = float(student.ppf((1 + level) / 2, count - 1)) * error
    p_value = float(2 * student.sf(abs(mean) / error, count - 1))
    return Comparison(mean, mean - half, mean + half, p_value, count)
