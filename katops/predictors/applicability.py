"""Whether a row resembles those of the training: its distance to the nearest of them, and what is out of range."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy.spatial import cKDTree

from katops.data.table_preprocessing import TablePreprocessor, distinct_rows
from katops.errors import UserError


@dataclass(frozen=True)
class Applicability:
    """What is known of some rows, each (rows,).

    Attributes:
        distance: to the nearest training row, divided by the largest distance that counts as inside.
        out_of_range: number of columns whose value lies outside the range of the training rows.
        inside: whether the distance is at most 1 and no column is out of range.
    """

    distance: np.ndarray
    out_of_range: np.ndarray
    inside: np.ndarray


class ApplicabilityDomain:
    """The part of the space of inputs that training rows lie in.

    A row is inside if its Euclidean distance to the nearest training row, with inputs scaled as for the model, is at
    most the given quantile of the training rows' own distances to their nearest others, and no column is out of range
    (nearest-neighbour domain, Sheridan et al. 2004, J. Chem. Inf. Comput. Sci. 44, 1912, with Sahigara et al. 2012,
    Molecules 17, 4791, section 2.2).

    Args:
        preprocessor: from a table to scaled inputs; ``preprocessor_`` of a fitted estimator.
        quantile: of the training rows' distances, above 0 and at most 1.

    Attributes:
        rows: the distinct training rows, scaled.
        threshold: the largest distance that is inside.

    Raises:
        UserError: the quantile is out of range.
    """

    def __init__(self, preprocessor: TablePreprocessor, quantile: float = 0.95) -> None:
        if not 0 < quantile <= 1:
            raise UserError(f"quantile={quantile!r} must be above 0 and at most 1")
        self.preprocessor = preprocessor
        self.quantile = quantile

    def fit(self, table: Any) -> Self:
        """Take the training rows.

        Raises:
            UserError: there are fewer than two distinct rows.
        """
        self.rows = distinct_rows(self.preprocessor.transform(table))
        if len(self.rows) < 2:
            raise UserError("an applicability domain needs at least two rows that differ")
        nearest_other = cKDTree(self.rows).query(self.rows, k=2)[0][:, 1]
        self.threshold = float(np.quantile(nearest_other, self.quantile))
        return self

    def assess(self, table: Any) -> Applicability:
        """Distances, columns out of range and the verdict for the rows of a table."""
        distance = cKDTree(self.rows).query(self.preprocessor.transform(table, bounded=False))[0] / self.threshold
        out_of_range = self.preprocessor.out_of_range(table).sum(axis=1)
        return Applicability(distance, out_of_range, (distance <= 1) & (out_of_range == 0))
