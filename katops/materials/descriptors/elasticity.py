"""Elastic moduli of mixtures, and mismatches that strengthen them. Moduli (elements,) are in GPa."""

from torch import Tensor

from katops.materials.descriptors.numerics import mean, relative_variance, root


def voigt(fractions: Tensor, modulus: Tensor) -> Tensor:
    """Rule of mixtures ``K_V = Σ c_i K_i`` (GPa), the upper bound."""
    return mean(fractions, modulus)


def reuss(fractions: Tensor, modulus: Tensor) -> Tensor:
    """``K_R = 1 / Σ (c_i / K_i)`` (GPa), the lower bound."""
    return 1 / (fractions / modulus).sum(-1)


def hill(fractions: Tensor, modulus: Tensor) -> Tensor:
    """``K_H = (K_V + K_R) / 2`` (GPa). Hill, Proc. Phys. Soc. A 65, 349 (1952)."""
    return (voigt(fractions, modulus) + reuss(fractions, modulus)) / 2


def mismatch(fractions: Tensor, values: Tensor) -> Tensor:
    """``δ_p = sqrt(Σ c_i (1 - p_i/p)²)`` of any property, a pure number."""
    return root(relative_variance(fractions, values))


def local_modulus_mismatch(fractions: Tensor, shear: Tensor) -> Tensor:
    """``Σ_i Σ_j c_i c_j |G_i - G_j|`` (GPa). Wen et al., Acta Mater. 170, 109 (2019)."""
    weights = fractions[..., :, None] * fractions[..., None, :]
    return (weights * (shear[:, None] - shear[None, :]).abs()).sum((-2, -1))


def poisson_ratio(fractions: Tensor, bulk: Tensor, shear: Tensor) -> Tensor:
    """``μ = (3K - 2G) / (2 (3K + G))`` of the Hill means, as for an isotropic solid."""
    bulk_mean, shear_mean = hill(fractions, bulk), hill(fractions, shear)
    return (3 * bulk_mean - 2 * shear_mean) / (2 * (3 * bulk_mean + shear_mean))


def shear_strengthening(fractions: Tensor, bulk: Tensor, shear: Tensor) -> Tensor:
    """``2 δ_G / (1 + μ)``, the modulus mismatch scaled by Poisson's ratio: a proxy of solid-solution strengthening."""
    return 2 * mismatch(fractions, shear) / (1 + poisson_ratio(fractions, bulk, shear))


def peierls_nabarro_factor(fractions: Tensor, bulk: Tensor, shear: Tensor) -> Tensor:
    """``2 G / (1 - μ)`` (GPa) with the mean shear modulus. Wen et al., Acta Mater. 170, 109 (2019)."""
    return 2 * voigt(fractions, shear) / (1 - poisson_ratio(fractions, bulk, shear))


def lattice_distortion_energy(fractions: Tensor, radius: Tensor, bulk: Tensor, shear: Tensor) -> Tensor:
    """``G δ_r (1 + μ)/(1 - μ)`` (GPa), δ_r a pure number. Wen et al., Acta Mater. 170, 109 (2019)."""
    ratio = poisson_ratio(fractions, bulk, shear)
    return voigt(fractions, shear) * mismatch(fractions, radius) * (1 + ratio) / (1 - ratio)


def density(fractions: Tensor, mass: Tensor, volume: Tensor) -> Tensor:
    """``ρ = Σ c_i M_i / Σ c_i V_i`` (g/cm³): masses in g/mol, molar volumes in cm³/mol, volumes additive."""
    return mean(fractions, mass) / mean(fractions, volume)
