"""Sizes of atoms: mismatch, packing and local strain. ``radius`` (elements,) in pm, ``fractions`` (..., elements)."""

import torch
from torch import Tensor

from katops.materials.descriptors.numerics import capped_ratio, mean, relative_variance, root
from katops.materials.descriptors.thermodynamics import mixing_entropy


def size_mismatch(fractions: Tensor, radius: Tensor) -> Tensor:
    """``δ = 100 sqrt(Σ c_i (1 - r_i/r)²)`` (%), ``r = Σ c_i r_i``. Zhang et al., Adv. Eng. Mater. 10, 534 (2008)."""
    return 100 * root(relative_variance(fractions, radius))


def entropy_over_mismatch(fractions: Tensor, radius: Tensor) -> Tensor:
    """``Λ = ΔS / δ²`` (J/mol/K, δ in %), capped at 1000. Singh et al., Intermetallics 53, 112 (2014)."""
    return capped_ratio(mixing_entropy(fractions), 1e4 * relative_variance(fractions, radius))


def packing_misfit(fractions: Tensor, radius: Tensor) -> Tensor:
    """``γ = w(r_min)/w(r_max)``, the ratio of solid angles around the smallest and the largest atom present.

    ``w(q) = 1 - sqrt(((q + r)² - r²)/(q + r)²)``. Wang et al., Scripta Mater. 94, 28 (2015).
    """
    average, present = mean(fractions, radius), fractions > 0
    smallest = torch.where(present, radius, torch.inf).amin(-1)
    largest = torch.where(present, radius, -torch.inf).amax(-1)
    return _solid_angle(smallest, average) / _solid_angle(largest, average)


def local_strain(fractions: Tensor, radius: Tensor) -> Tensor:
    """``α₂ = Σ_i Σ_{j≥i} c_i c_j |r_i + r_j - 2r| / (2r)``. Wang et al., Intermetallics 64, 63 (2015)."""
    average = mean(fractions, radius)[..., None, None]
    weights = (fractions[..., :, None] * fractions[..., None, :]).triu()
    return (weights * (radius[:, None] + radius[None, :] - 2 * average).abs() / (2 * average)).sum((-2, -1))


def _solid_angle(atom: Tensor, average: Tensor) -> Tensor:
    outer = (atom + average) ** 2
    return 1 - ((outer - average**2) / outer).sqrt()
