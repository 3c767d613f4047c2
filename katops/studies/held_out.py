"""Predictions of rows while they were held out, fit by fit.

With repeats, and where elements are held out one at a time, a row is held out by several fits. What is counted over
rows, such as coverage or a confusion matrix, is that of single fits: the mean of several fits is a model that nobody
has trained, and errs less than any of them. So that such a row counts once, each of its m predictions has weight 1/m.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class HeldOut:
    """All predictions that the folds of a scheme made of rows that they held out, N in number.

    Attributes:
        total: number of rows n of the study.
        row: (N,) position of the row.
        fold: (N,) number of the fold.
        predicted: (N, J) numbers or (N, K) probabilities.
    """

    total: int
    row: np.ndarray
    fold: np.ndarray
    predicted: np.ndarray

    @property
    def fits(self) -> np.ndarray:
        """(n,) how many fits held each row out."""
        return np.bincount(self.row, minlength=self.total)

    @property
    def rows(self) -> int:
        """How many rows were held out by some fit."""
        return int((self.fits > 0).sum())

    @property
    def weight(self) -> np.ndarray:
        """(N,) 1 / number of the fits that held the row out; the sum is :attr:`rows`."""
        return 1 / self.fits[self.row]

    def mean(self) -> np.ndarray:
        """(n, J or K) mean prediction over the fits that held each row out; NaN for rows that none did."""
        return self.mean_of(self.predicted)

    def mean_of(self, values: np.ndarray) -> np.ndarray:
        """(n, J) mean over the fits of any (N, J) values."""
        total = np.zeros((self.total, values.shape[1]))
        np.add.at(total, self.row, values)
        with np.errstate(invalid="ignore"):
            return total / self.fits[:, None]
