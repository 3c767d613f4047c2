"""Darcy flow with a piecewise constant random permeability, the steady benchmark of operator learning."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from katops.data.writing import StoredField
from katops.errors import UserError, did_you_mean
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.finite_volume import SCHEMES, solve_diffusion
from katops.generators.gaussian_field import cosine_field
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.registry import PROBLEMS

SOLVER_TOLERANCE = 1e-10
RESIDUAL_LIMIT = 1e-9
SOURCE_TERM = 1.0
MAX_REDRAWS = 20
RESOLUTIONS = range(4, 8193)
POINTS_PER_BLOCK = 2**15  # larger blocks leave the cache, smaller ones pay more for Python


@dataclass(frozen=True)
class Variant:
    """The published constants of one data set: the Gaussian field and the two values of the coefficient."""

    alpha: float
    tau: float
    coefficient_positive: float
    coefficient_negative: float


VARIANTS = {
    "smooth": Variant(alpha=2.0, tau=3.0, coefficient_positive=12.0, coefficient_negative=3.0),
    "rough": Variant(alpha=2.0, tau=5.0, coefficient_positive=12.0, coefficient_negative=2.0),
}


@PROBLEMS.register(
    "darcy",
    summary="steady Darcy flow, piecewise constant coefficient -> pressure",
    paper="Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021",
)
class Darcy:
    """-div(a grad u) = 1 on (0, 1)^2, u = 0 on the boundary; the input is a, the output is u.

    The coefficient is a = a_positive where the Gaussian field g >= 0, else a_negative, with g from
    :func:`~katops.generators.gaussian_field.cosine_field`:

    ========  =====  ===  ==========  ==========  ==========================================
    variant   alpha  tau  a_positive  a_negative  published with
    ========  =====  ===  ==========  ==========  ==========================================
    smooth    2      3    12          3           Li et al., ICLR 2021, at 421 x 421
    rough     2      5    12          2           He, Liu, Xu, MgNO, ICLR 2024, at 512 x 512
    ========  =====  ===  ==========  ==========  ==========================================

    Everything lives at the cell centres ((i + 1/2) / s, (j + 1/2) / s) and is solved on the stored grid. The published
    files were solved with finite differences on a spline of a; the "arithmetic" scheme agrees with them to about 2e-4
    in relative L2 at 421 x 421, "harmonic" to about 2e-3 and is closer to the solution of the equation.

    Args:
        resolution: s, the number of cells along each axis, 4 to 8192.
        variant: "smooth" or "rough".
        scheme: mean of a on the faces, "arithmetic" or "harmonic".

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    def __init__(self, resolution: int = 64, variant: str = "smooth", scheme: str = "arithmetic") -> None:
        if isinstance(resolution, bool) or not isinstance(resolution, int | np.integer):
            raise UserError(f"darcy: resolution must be a whole number; given: {resolution!r}")
        if resolution not in RESOLUTIONS:
            raise UserError(
                f"darcy: resolution {resolution} is out of range; allowed: {RESOLUTIONS[0]} to {RESOLUTIONS[-1]}"
            )
        self.resolution = int(resolution)
        self.variant = _known("variant", variant, VARIANTS)
        self.scheme = _known("scheme", scheme, SCHEMES)
        self.constants = VARIANTS[variant]
        self.times = None
        self.meta = FieldMeta(
            name="darcy",
            inputs=(Channel("coefficient"),),
            outputs=(Channel("pressure"),),
            axes=(Axis("x"), Axis("y")),
        )
        shape = (self.resolution, self.resolution)
        self.fields = {"coefficient": StoredField("input", "", shape), "pressure": StoredField("output", "", shape)}

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        return {
            "recipe": "darcy",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "-div(a grad u) = f in (0, 1)^2, u = 0 on the boundary",
            "source_term": SOURCE_TERM,
            "random_field": "tau^(alpha-1) (-Laplace + tau^2)^(-alpha/2) white noise, zero Neumann, zero mean (DCT-II)",
            **asdict(self.constants),
            "solver": "conjugate gradients preconditioned by the sine transform, float64",
            "solver_tolerance": SOLVER_TOLERANCE,
            "residual_limit": RESIDUAL_LIMIT,
            "scheme": f"cell-centred finite volumes, {self.scheme} face coefficients",
            "native_resolution": self.resolution,
            "downsampling": "none",
            "domain": "(0, 1)^2",
            "grid": "cell_centres",
            "boundary": "dirichlet",
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`; quality holds ``residual`` and ``rejected``."""
        indices = list(indices)
        shape = (len(indices), self.resolution, self.resolution)
        coefficient, pressure = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
        residual, rejected = np.empty(len(indices)), np.empty(len(indices))
        block = max(1, POINTS_PER_BLOCK // self.resolution**2)
        for start in range(0, len(indices), block):
            part = slice(start, start + block)
            coefficient[part], pressure[part], residual[part], rejected[part] = self._block(seed, indices[part])
        fields = {"coefficient": coefficient, "pressure": pressure}
        return Samples(fields, parameters={}, quality={"residual": residual, "rejected": rejected})

    def coefficient(self, seed: int, index: int, redraw: int = 0) -> np.ndarray:
        """The coefficient a of one sample, (s, s), float64."""
        rng = random_stream(f"darcy/{self.variant}", seed, index, redraw)
        field = cosine_field(rng, self.resolution, self.constants.alpha, self.constants.tau)
        return np.where(field >= 0, self.constants.coefficient_positive, self.constants.coefficient_negative)

    def _block(self, seed: int, indices: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Coefficient, pressure, residual and number of redraws; samples that fail the gate are drawn again."""
        redraws = np.zeros(len(indices), dtype=np.int64)
        coefficient = np.empty((len(indices), self.resolution, self.resolution))
        pressure, residual = np.empty_like(coefficient), np.empty(len(indices))
        open_samples = np.arange(len(indices))
        while open_samples.size:
            drawn = np.stack([self.coefficient(seed, indices[i], int(redraws[i])) for i in open_samples])
            solution = solve_diffusion(drawn, SOURCE_TERM, self.scheme, SOLVER_TOLERANCE)
            coefficient[open_samples], pressure[open_samples] = drawn, solution.u
            residual[open_samples] = solution.residual
            open_samples = open_samples[~(solution.residual <= RESIDUAL_LIMIT)]  # NaN fails
            redraws[open_samples] += 1
            if (redraws > MAX_REDRAWS).any():
                raise RuntimeError(
                    f"darcy: the solver failed on {MAX_REDRAWS} draws in a row; last residual {residual}"
                )
        return coefficient, pressure, residual, redraws


def _known(option: str, value: str, allowed: Sequence[str]) -> str:
    """``value`` if it is one of ``allowed``."""
    if not isinstance(value, str) or value not in allowed:
        raise UserError(
            f"darcy: unknown {option} {value!r}{did_you_mean(str(value), allowed)} Allowed: {', '.join(allowed)}."
        )
    return value
