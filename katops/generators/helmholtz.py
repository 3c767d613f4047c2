"""The Helmholtz equation in a random medium."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from katops.data.writing import StoredField
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.bilinear_elements import solve_helmholtz_neumann
from katops.generators.helmholtz_media import BumpMedium, CosineMedium
from katops.generators.linear_elements import five_point_matrix
from katops.generators.options import known, real_number, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.sparse_direct import DirectSolution, solve_direct
from katops.registry import PROBLEMS

RESIDUAL_LIMIT = 1e-9
RESOLUTIONS = range(8, 1026)
POSEIDON_FREQUENCY = 5 * np.pi / 2
HUANG_FREQUENCY = 1000.0
WINDOW = (0.35, 0.65)  # of the top side, where the flux is 1
NO_LIMIT = 1e12


class Variant(NamedTuple):
    """One published data set.

    Attributes:
        coefficient: name of the input field.
        boundary: the condition on all sides.
        resolution: nodes along each axis as published.
        max_abs: samples whose max |u| is above are refused.
        equation, scheme, medium, notes: for the recipe.
    """

    coefficient: str
    boundary: str
    resolution: int
    max_abs: float
    equation: str
    scheme: str
    medium: str
    notes: str


VARIANTS = {
    "poseidon": Variant(
        coefficient="coefficient",
        boundary="dirichlet",
        resolution=128,
        max_abs=28.0,
        equation="-Laplace u - w^2 a u = 0 in (0, 1)^2, u = b on the boundary, b ~ U(0.25, 0.5)",
        scheme="five-point differences",
        medium="a = (a_bar - min) / (max - min), a_bar = -sum_{i <= n} A_i exp(-|x - c_i|^2 / (2 s_i^2)), "
        "n ~ U{2, ..., 7}, A ~ U(0.5, 10), s ~ U(0.05, 0.1), c ~ U(0.2, 0.8)^2",
        notes="325 of 20000 published samples were removed for a reason that is not printed; here max_abs removes as "
        "many, those nearest to resonance; the mean and standard deviation of u in the released data, 0.115 and 0.828, "
        "are not reached",
    ),
    "huang": Variant(
        coefficient="wave_speed",
        boundary="neumann",
        resolution=101,
        max_abs=NO_LIMIT,
        equation="Laplace u + w^2 / c^2 u = 0 in (0, 1)^2, du/dn = 1 on the top for 0.35 <= x <= 0.65, else 0",
        scheme="bilinear finite elements, 3 x 3 Gauss points, consistent mass matrix",
        medium="c = 20 + tanh(sum over 100 cosine modes xi_l (pi^2 |l|^2 + 9)^(-1) phi_l), xi_l ~ N(0, 1)",
        notes="the error of the scheme is part of the published data: 12 elements to a wavelength at 101 nodes",
    ),
}


@PROBLEMS.register(
    "helmholtz",
    summary="Helmholtz equation, random medium -> wave field",
    paper="Herde et al., Poseidon: efficient foundation models for PDEs, NeurIPS 2024",
)
class Helmholtz:
    """Time-harmonic waves in a random medium on the unit square, at the nodes (i / (s - 1), j / (s - 1)).

    ========  ======================================================  ===============================================
    variant   problem                                                 published with
    ========  ======================================================  ===============================================
    poseidon  -Laplace u - w^2 a u = 0, u = b on the boundary,        Herde et al., Poseidon, NeurIPS 2024, appendix
              w = 5 pi / 2; from a (``coefficient``) and the          B, at 128 x 128
              parameter b (``boundary_value``) to u
    huang     Laplace u + w^2 / c^2 u = 0, w = 1000, du/dn = 1 on     de Hoop, Huang, Qian, Stuart, 2022, section
              0.35 <= x <= 0.65 of the top, else 0; from c            4.2, at 101 x 101; used by He, Liu, Xu, MgNO,
              (``wave_speed``) to u                                   ICLR 2024
    ========  ======================================================  ===============================================

    The media are in :mod:`katops.generators.helmholtz_media`. ``poseidon`` is solved with five-point differences,
    ``huang`` with bilinear finite elements, both of second order, by a sparse LU factorisation. w^2 lies inside the
    spectrum: near resonance u is large, and ``poseidon`` refuses the largest ones, about 1.6 % as the number of
    published samples suggests.

    Args:
        resolution: s, the number of nodes along each axis, 8 to 1025; ``None`` is the published one.
        variant: "poseidon" or "huang".
        max_abs: samples with a larger max |u| are drawn again; ``None`` is 28 for poseidon and no limit for huang.

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(self, resolution: int | None = None, variant: str = "poseidon", max_abs: float | None = None) -> None:
        self.variant = known("helmholtz", "variant", variant, VARIANTS)
        self.published = VARIANTS[variant]
        resolution = self.published.resolution if resolution is None else resolution
        self.resolution = whole_number("helmholtz", "resolution", resolution, RESOLUTIONS)
        max_abs = self.published.max_abs if max_abs is None else max_abs
        self.max_abs = real_number("helmholtz", "max_abs", max_abs, 0.5, NO_LIMIT)
        self.times = None
        sides = (self.published.boundary, self.published.boundary)
        parameters = (Channel("boundary_value"),) if self._is_dirichlet else ()
        self.meta = FieldMeta(
            name="helmholtz",
            inputs=(Channel(self.published.coefficient),),
            outputs=(Channel("solution"),),
            parameters=parameters,
            axes=(Axis("x", "nodes", boundary=sides), Axis("y", "nodes", boundary=sides)),
        )
        shape = (self.resolution, self.resolution)
        self.fields = {
            self.published.coefficient: StoredField("input", "", shape),
            "solution": StoredField("output", "", shape),
        }

    @property
    def _is_dirichlet(self) -> bool:
        return self.variant == "poseidon"

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        return {
            "recipe": "helmholtz",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": self.published.equation,
            "angular_frequency": POSEIDON_FREQUENCY if self._is_dirichlet else HUANG_FREQUENCY,
            "medium": self.published.medium,
            "max_abs": self.max_abs,
            "solver": "sparse LU factorisation (SuperLU), float64",
            "solver_tolerance": RESIDUAL_LIMIT,
            "residual_limit": RESIDUAL_LIMIT,
            "scheme": self.published.scheme,
            "native_resolution": self.resolution,
            "downsampling": "none",
            "domain": "(0, 1)^2",
            "grid": "nodes_inclusive",
            "boundary": self.published.boundary,
            "notes": self.published.notes,
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`; quality holds ``residual``, ``rejected`` and
        ``peak``, the largest |u|: close to the limit is close to resonance.
        """

        def attempt(numbers: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            shape = (len(numbers), self.resolution, self.resolution)
            coefficient, solution = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
            residual, peak, boundary = np.empty((3, len(numbers)))
            for i, (index, redraw) in enumerate(zip(numbers, redraws, strict=True)):
                rng = random_stream(f"helmholtz/{self.variant}", seed, int(index), int(redraw))
                medium = BumpMedium(rng) if self._is_dirichlet else CosineMedium(rng)
                coefficient[i] = medium(np.linspace(0, 1, self.resolution))
                solved = self.solve(medium)
                solution[i], residual[i], peak[i] = solved.u, solved.residual, np.abs(solved.u).max()
                boundary[i] = medium.boundary_value if self._is_dirichlet else 0.0
            fields = {self.published.coefficient: coefficient, "solution": solution}
            parameters = {"boundary_value": boundary} if self._is_dirichlet else {}
            accepted = (residual <= RESIDUAL_LIMIT) & (peak <= self.max_abs)  # NaN fails
            return Samples(fields, parameters, {"residual": residual, "peak": peak}), accepted

        return accepted_samples("helmholtz", indices, attempt)

    def solve(self, medium: BumpMedium | CosineMedium) -> DirectSolution:
        """u at the nodes, (s, s), and the residual."""
        if isinstance(medium, BumpMedium):
            squared = POSEIDON_FREQUENCY**2 * medium(np.linspace(0, 1, self.resolution))
            return solve_helmholtz_dirichlet(squared, medium.boundary_value)
        nodes = np.linspace(0, 1, self.resolution)
        spare = 1e-9  # 0.35 and 0.65 are not numbers of a computer
        flux = ((nodes >= WINDOW[0] - spare) & (nodes <= WINDOW[1] + spare)).astype(np.float64)

        def squared_wave_number(x: np.ndarray, _: np.ndarray) -> np.ndarray:
            return (HUANG_FREQUENCY / medium(x)) ** 2

        return solve_helmholtz_neumann(squared_wave_number, self.resolution - 1, flux)


def solve_helmholtz_dirichlet(squared_wave_number: np.ndarray, boundary_value: float) -> DirectSolution:
    """Solve -Laplace u - k^2 u = 0 on (0, 1)^2 with a constant u on the boundary, by five-point differences.

    Second order away from resonance. Solved once for the value 1 and scaled, which is exact.

    Args:
        squared_wave_number: k^2, (s, s), at the nodes, both ends included.
        boundary_value: u on the boundary.

    Returns:
        The values at all nodes, (s, s), and the residual.
    """
    size = len(squared_wave_number) - 2
    scaled = squared_wave_number[1:-1, 1:-1].ravel() / (size + 1) ** 2
    laplacian = five_point_matrix(np.ones((size + 1, size)), np.ones((size, size + 1)))
    matrix = (laplacian - sparse.diags_array(scaled)).tocsc()
    # u = 1 + v with v = 0 on the boundary
    solution = solve_direct(matrix, scaled, pivot_threshold=0.1)
    u = np.ones(squared_wave_number.shape)
    u[1:-1, 1:-1] += solution.u.reshape(size, size)
    return DirectSolution(boundary_value * u, solution.residual)
