"""How far predictions can be trusted, as a model file says it: widths of intervals, and where the training rows lie."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from katops.data.table_preprocessing import TablePreprocessor
from katops.errors import UserError
from katops.predictors.applicability import ApplicabilityDomain

ROWS = "domain.rows"
"""Name of the tensor of scaled training rows."""


@dataclass(frozen=True)
class TableReliability:
    """Measured on rows that the models which predicted them had not seen.

    Attributes:
        domain: where the training rows lie.
        half_widths: by level, such as 0.9, half the width of the interval of each target; empty for classification.
    """

    domain: ApplicabilityDomain
    half_widths: dict[float, tuple[float, ...]] = field(default_factory=dict)

    def half_width(self, level: float) -> np.ndarray:
        """Of the intervals of this level, (targets,).

        Raises:
            UserError: the level was not measured.
        """
        if level not in self.half_widths:
            raise UserError(
                f"no interval of level {level!r} was measured; there are: "
                f"{', '.join(str(known) for known in self.half_widths) or 'none'}; classes have none, and high levels "
                f"need more rows"
            )
        return np.array(self.half_widths[level])

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, all but the rows."""
        return {
            "quantile": self.domain.quantile,
            "threshold": self.domain.threshold,
            "half_widths": [[level, list(widths)] for level, widths in self.half_widths.items()],
        }

    def tensors(self) -> dict[str, Tensor]:
        """The rows, for the model file."""
        return {ROWS: torch.from_numpy(self.domain.rows)}

    @classmethod
    def from_file(
        cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor], preprocessor: TablePreprocessor
    ) -> "TableReliability":
        """What :meth:`to_dict` and :meth:`tensors` wrote."""
        domain = ApplicabilityDomain(preprocessor, values["quantile"])
        domain.rows, domain.threshold = tensors[ROWS].cpu().numpy(), values["threshold"]
        return cls(domain, {level: tuple(widths) for level, widths in values["half_widths"]})


def conformal_half_widths(residuals: np.ndarray, levels: tuple[float, ...]) -> dict[float, tuple[float, ...]]:
    """The ceil((n + 1) level)-th smallest |residual| of each target (Vovk et al. 2005, Lei et al. 2018, section 2.2).

    Args:
        residuals: of rows that were predicted by models that had not seen them, (n, targets).
        levels: between 0 and 1; those for which n is too small are left out.
    """
    sizes = np.sort(np.abs(residuals), axis=0)
    ranks = {level: math.ceil((len(sizes) + 1) * level) for level in levels}
    return {level: tuple(sizes[rank - 1].tolist()) for level, rank in ranks.items() if rank <= len(sizes)}
