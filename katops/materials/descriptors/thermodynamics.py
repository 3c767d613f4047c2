"""Entropy, enthalpy and what criteria of phase formation make of them.

``fractions`` (..., elements) are atomic fractions c, ``pairs`` (elements, elements) Miedema's enthalpies of equiatomic
liquid pairs H (kJ/mol, zero diagonal), ``melting`` (elements,) melting temperatures (K), ``radius`` (elements,) in any
unit; results (...,). All are differentiable; an absent element gets gradient 0 from the entropy.
"""

import math

import torch
from torch import Tensor

from katops.materials.descriptors.numerics import capped_ratio, mean, root

GAS_CONSTANT = 8.314462618
"""R in J/mol/K (CODATA 2018, exact)."""

PACKING_FRACTIONS = (0.68, 0.74)
"""bcc and fcc: Ye et al. average the excess entropy over both."""


def mixing_entropy(fractions: Tensor) -> Tensor:
    """``ΔS = -R Σ c_i ln c_i`` (J/mol/K)."""
    present = fractions > 0
    logs = torch.where(present, fractions, 1.0).log()
    return GAS_CONSTANT * (0.0 - (fractions * logs).sum(-1))  # 0, not -0, for a pure element


def mixing_enthalpy(fractions: Tensor, pairs: Tensor) -> Tensor:
    """``ΔH = Σ_{i<j} 4 H_ij c_i c_j`` (kJ/mol), with its sign. Takeuchi and Inoue, Mater. Trans. 46, 2817 (2005)."""
    return 2 * torch.einsum("...i,ij,...j->...", fractions, pairs, fractions)


def omega(fractions: Tensor, pairs: Tensor, melting: Tensor) -> Tensor:
    """``Ω = T_m ΔS / (1000 |ΔH|)``, capped at 1000. Yang and Zhang, Mater. Chem. Phys. 132, 233 (2012)."""
    entropy = mean(fractions, melting) * mixing_entropy(fractions)
    return capped_ratio(entropy, 1000 * mixing_enthalpy(fractions, pairs).abs())


def inverse_omega(fractions: Tensor, pairs: Tensor, melting: Tensor) -> Tensor:
    """``1/Ω = 1000 |ΔH| / (T_m ΔS)``: smooth where ΔH changes sign; 0 for a pure element."""
    entropy = mean(fractions, melting) * mixing_entropy(fractions)
    pure = entropy == 0
    ratio = 1000 * mixing_enthalpy(fractions, pairs).abs() / torch.where(pure, 1.0, entropy)
    return torch.where(pure, 0.0, ratio)


def gibbs_energy(fractions: Tensor, pairs: Tensor, melting: Tensor, temperature: float | None = None) -> Tensor:
    """``ΔG = ΔH - T ΔS / 1000`` (kJ/mol), at the mean melting temperature unless ``temperature`` (K) is given."""
    kelvin = mean(fractions, melting) if temperature is None else temperature
    return mixing_enthalpy(fractions, pairs) - kelvin * mixing_entropy(fractions) / 1000


def king_phi(fractions: Tensor, pairs: Tensor, melting: Tensor) -> Tensor:
    """``Φ = ΔG_ss / -|ΔG_max|`` at the mean melting temperature, within ±1000.

    ``ΔG_max`` is approximated by the most negative pair enthalpy of the elements present, so that Φ is larger than
    that of King et al., Acta Mater. 104, 172 (2016), by roughly half the number of elements.
    """
    present = fractions > 0
    both = present[..., :, None] & present[..., None, :] & ~torch.eye(pairs.shape[0], dtype=bool, device=pairs.device)
    lowest = torch.where(both, pairs, torch.inf).amin((-2, -1))
    lowest = torch.where(both.any(-1).any(-1), lowest, 0.0)
    return capped_ratio(gibbs_energy(fractions, pairs, melting), -lowest.abs())


def enthalpy_spread(fractions: Tensor, pairs: Tensor, part: str = "all") -> Tensor:
    """``sqrt(Σ_{i<j} c_i c_j (H_ij - ΔH)²)`` (kJ/mol); ``part`` "above" or "below" takes pairs on one side of ΔH."""
    difference = pairs - mixing_enthalpy(fractions, pairs)[..., None, None]
    if part == "above":
        difference = difference.clamp_min(0)
    elif part == "below":
        difference = difference.clamp_max(0)
    weights = fractions[..., :, None] * fractions[..., None, :]
    return root((weights * difference**2).triu(1).sum((-2, -1)))


def excess_entropy(fractions: Tensor, radius: Tensor) -> Tensor:
    """Excess entropy ``S_E`` (J/mol/K) of a mixture of hard spheres, mean over :data:`PACKING_FRACTIONS`.

    Mansoori et al., J. Chem. Phys. 54, 1523 (1971), as used by Ye et al., Scripta Mater. 104, 53 (2015). With
    diameters d and ``σ_k = Σ c_i d_i^k``, ``ζ = 1/(1 - packing)``:
    ``S_E/R = 3/2 (ζ² - 1) y_1 + 3/2 (ζ - 1)² y_2 - [(ζ - 1)(ζ - 3)/2 + ln ζ] (1 - y_3)``.
    """
    diameter = 2 * radius
    second, third = mean(fractions, diameter**2), mean(fractions, diameter**3)
    weights = (fractions[..., :, None] * fractions[..., None, :]).triu(1)
    squared = (diameter[:, None] - diameter[None, :]) ** 2
    sums, products = diameter[:, None] + diameter[None, :], diameter[:, None] * diameter[None, :]
    y1 = (weights * sums * squared).sum((-2, -1)) / third
    y2 = second / third**2 * (weights * products * squared).sum((-2, -1))
    y3 = second**3 / third**2
    total = torch.zeros_like(y1)
    for packing in PACKING_FRACTIONS:
        zeta = 1 / (1 - packing)
        last = (zeta - 1) * (zeta - 3) / 2 + math.log(zeta)
        total = total + 1.5 * (zeta**2 - 1) * y1 + 1.5 * (zeta - 1) ** 2 * y2 - last * (1 - y3)
    return GAS_CONSTANT * total / len(PACKING_FRACTIONS)


def ye_phi(fractions: Tensor, pairs: Tensor, melting: Tensor, radius: Tensor) -> Tensor:
    """``φ = (ΔS - 1000 |ΔH| / T_m) / |S_E|``, within ±1000. Ye et al., Scripta Mater. 104, 53 (2015)."""
    enthalpy = 1000 * mixing_enthalpy(fractions, pairs).abs() / mean(fractions, melting)
    return capped_ratio(mixing_entropy(fractions) - enthalpy, excess_entropy(fractions, radius).abs())
