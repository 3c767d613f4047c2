"""Statistics of any element property over a composition, after Ward et al., npj Comput. Mater. 2, 16028 (2016).

``fractions`` (..., elements), ``values`` (elements,); results (...,) in the unit of the property. Minimum, maximum and
range are over the elements present.
"""

import torch
from torch import Tensor

from katops.materials.descriptors.numerics import mean, root, variance


def deviation(fractions: Tensor, values: Tensor) -> Tensor:
    """``sqrt(Σ c_i (p_i - p)²)``, the standard deviation."""
    return root(variance(fractions, values))


def minimum(fractions: Tensor, values: Tensor) -> Tensor:
    """``min p_i`` over ``c_i > 0``."""
    return torch.where(fractions > 0, values, torch.inf).amin(-1)


def maximum(fractions: Tensor, values: Tensor) -> Tensor:
    """``max p_i`` over ``c_i > 0``."""
    return torch.where(fractions > 0, values, -torch.inf).amax(-1)


def spread(fractions: Tensor, values: Tensor) -> Tensor:
    """``max p_i - min p_i`` over ``c_i > 0``."""
    return maximum(fractions, values) - minimum(fractions, values)


STATISTICS = {"mean": mean, "deviation": deviation, "minimum": minimum, "maximum": maximum, "range": spread}
"""Ends of names such as ``radius_mean``."""
