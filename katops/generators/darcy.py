"""Darcy flow with a random permeability, the steady benchmark of operator learning."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np

from katops.data.writing import StoredField
from katops.errors import UserError
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.darcy_coefficients import BumpPhases, GaussianPhases, MultiscaleWaves
from katops.generators.finite_volume import SCHEMES as FINITE_VOLUME_SCHEMES
from katops.generators.finite_volume import solve_diffusion
from katops.generators.linear_elements import solve_linear_elements
from katops.generators.options import known, real_number, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.sparse_direct import DirectSolution
from katops.generators.spline_differences import solve_spline_differences
from katops.registry import PROBLEMS

SOLVER_TOLERANCE = 1e-10
RESIDUAL_LIMIT = 1e-9
RESOLUTIONS = range(4, 8193)
DIRECT_RESOLUTIONS = range(8, 2049)  # the factors of 2048^2 unknowns take about 6 GB
POINTS_PER_BLOCK = 2**15  # larger blocks leave the cache, smaller ones pay more for Python


class Variant(NamedTuple):
    """One published data set.

    Attributes:
        coefficient: how it is drawn.
        native_resolution: cells along an axis of the grid that is solved; ``None`` for those that are stored.
        notes: where this data set and the published one differ.
    """

    coefficient: GaussianPhases | BumpPhases | MultiscaleWaves
    native_resolution: int | None
    notes: str


_SOLVED_BY_SPLINE = (
    "the published files were solved with scheme matlab_spline at {}; arithmetic agrees with it to about 2e-4 there"
)
VARIANTS = {
    "smooth": Variant(GaussianPhases(2.0, 3.0, 12.0, 3.0), None, _SOLVED_BY_SPLINE.format("421 x 421")),
    "rough": Variant(GaussianPhases(2.0, 5.0, 12.0, 2.0), None, _SOLVED_BY_SPLINE.format("512 x 512")),
    "pdebench": Variant(
        BumpPhases(5, 0.5, 1.8521453299843587, 1.0, 0.1),
        None,
        "the published files threshold at the mean of their batch and hold the state at time 2 of a pseudo-time march; "
        "here the threshold is the expectation of that mean, and the equation is solved",
    ),
    "multiscale": Variant(
        MultiscaleWaves(6),
        1024,
        "the published files keep every fourth of the 1023 interior nodes from the first one on; here those at the "
        "cell centres of the stored grid are kept",
    ),
}
SCHEMES = {
    **dict.fromkeys(("smooth", "rough", "pdebench"), (*FINITE_VOLUME_SCHEMES, "matlab_spline")),
    "multiscale": ("linear_elements",),
}


@PROBLEMS.register(
    "darcy",
    summary="steady Darcy flow, random coefficient -> pressure",
    paper="Li et al., Fourier neural operator for parametric partial differential equations, ICLR 2021",
)
class Darcy:
    """-div(a grad u) = f, u = 0 on the boundary; the input is a, the output is u.

    ==========  ============  =====================================  =============================================
    variant     domain        coefficient a                          published with
    ==========  ============  =====================================  =============================================
    smooth      (0, 1)^2      12 where a Gaussian field >= 0 (alpha  Li et al., ICLR 2021, appendix A.3, at 421^2
                              2, tau 3), else 3
    rough       (0, 1)^2      12 where a Gaussian field >= 0 (alpha  He, Liu, Xu, MgNO, ICLR 2024, at 512^2
                              2, tau 5), else 2
    pdebench    (0, 1)^2      1 where a sum of five bumps is high,   Takamoto et al., PDEBench, NeurIPS 2022, at
                              else 0.1                               128^2, f = 0.01, 0.1, 1, 10, 100
    multiscale  (-1, 1)^2     six scales of waves, max / min about   Liu, Xu, Zhang, HT-Net, 2022, at 1023^2
                              2e4
    ==========  ============  =====================================  =============================================

    See :mod:`katops.generators.darcy_coefficients`. Everything is stored at the cell centres
    ((i + 1/2) / s, (j + 1/2) / s), scaled to the domain.

    ===============  =====================================================================  ==================
    scheme           discretisation                                                         variants
    ===============  =====================================================================  ==================
    arithmetic       cell-centred finite volumes, arithmetic mean of a on the faces         all but multiscale
    harmonic         cell-centred finite volumes, harmonic mean; the closest to the         all but multiscale
                     solution of the equation
    matlab_spline    the published one of smooth and rough, with a spline of a              all but multiscale
    linear_elements  linear finite elements on right triangles, a at their centroids        multiscale
    ===============  =====================================================================  ==================

    All are second order for smooth a, about first order (harmonic: 1.5 to 2) across jumps. In relative L2
    arithmetic is 2e-4 and harmonic 2e-3 to 5e-3 away from matlab_spline at the published resolutions; at 64 x 64 it is
    up to 2e-2. Train and test on the same one.

    Args:
        resolution: s, the number of stored cells along each axis, 4 to 8192.
        variant: see above.
        scheme: see above; ``None`` is arithmetic, or linear_elements for multiscale.
        source: f, 1e-6 to 1e6.
        native_resolution: number of cells along each axis of the grid that is solved, of which points are kept: an odd
            multiple of s, or for multiscale, which is solved at the corners of its cells, an even multiple up to 2048.
            ``None`` is s, or 1024 for multiscale: a coarser grid does not resolve it (0.8 % away at 512).

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(
        self,
        resolution: int = 64,
        variant: str = "smooth",
        scheme: str | None = None,
        source: float = 1.0,
        native_resolution: int | None = None,
    ) -> None:
        self.resolution = whole_number("darcy", "resolution", resolution, RESOLUTIONS)
        self.variant = known("darcy", "variant", variant, VARIANTS)
        self.draw, usual_resolution, self.notes = VARIANTS[variant]
        self.scheme = known("darcy", "scheme", SCHEMES[variant][0] if scheme is None else scheme, SCHEMES[variant])
        self.source = real_number("darcy", "source", source, 1e-6, 1e6)
        if native_resolution is None:
            native_resolution = usual_resolution or self.resolution
        self.native_resolution = self._solvable(native_resolution)
        self.lower, self.upper = (-1.0, 1.0) if self._is_multiscale else (0.0, 1.0)
        self.times = None
        self.meta = FieldMeta(
            name="darcy",
            inputs=(Channel("coefficient"),),
            outputs=(Channel("pressure"),),
            axes=tuple(Axis(axis, lower=self.lower, upper=self.upper) for axis in ("x", "y")),
        )
        shape = (self.resolution, self.resolution)
        self.fields = {"coefficient": StoredField("input", "", shape), "pressure": StoredField("output", "", shape)}

    @property
    def _is_multiscale(self) -> bool:
        return isinstance(self.draw, MultiscaleWaves)

    def _solvable(self, native_resolution: Any) -> int:
        """The native resolution, if its grid has points at the centres of the stored cells."""
        allowed = DIRECT_RESOLUTIONS if self._is_multiscale else RESOLUTIONS
        native = whole_number("darcy", "native_resolution", native_resolution, allowed)
        parity = "even" if self._is_multiscale else "odd"
        ratio, rest = divmod(native, self.resolution)
        if rest or ratio % 2 != (parity == "odd"):
            raise UserError(
                f"darcy: native_resolution {native} of variant {self.variant} is no {parity} multiple of "
                f"resolution {self.resolution}"
            )
        return native

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        domain = f"({self.lower:g}, {self.upper:g})^2"
        return {
            "recipe": "darcy",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": f"-div(a grad u) = f in {domain}, u = 0 on the boundary",
            "source_term": self.source,
            "coefficient": _DISTRIBUTIONS[type(self.draw)],
            **asdict(self.draw),
            "solver": (
                "sparse LU factorisation (SuperLU), float64"
                if self._is_multiscale
                else "conjugate gradients preconditioned by the sine transform, float64"
            ),
            "solver_tolerance": RESIDUAL_LIMIT if self._is_multiscale else SOLVER_TOLERANCE,
            "residual_limit": RESIDUAL_LIMIT,
            "scheme": _DISCRETISATIONS[self.scheme],
            "native_resolution": self.native_resolution,
            "downsampling": "none" if self.native_resolution == self.resolution else "stride",
            "domain": domain,
            "grid": "cell_centres",
            "boundary": "dirichlet",
            "notes": self.notes,
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`; quality holds ``residual`` and ``rejected``."""
        block = max(1, POINTS_PER_BLOCK // self.native_resolution**2)

        def attempt(numbers: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            shape = (len(numbers), self.resolution, self.resolution)
            coefficient, pressure = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
            residual = np.empty(len(numbers))
            for start in range(0, len(numbers), block):
                part = slice(start, start + block)
                streams = [
                    self._stream(seed, int(index), int(redraw))
                    for index, redraw in zip(numbers[part], redraws[part], strict=True)
                ]
                solve = self._solve_waves if self._is_multiscale else self._solve_phases
                coefficient[part], pressure[part], residual[part] = solve(streams)
            fields = {"coefficient": coefficient, "pressure": pressure}
            return Samples(fields, {}, {"residual": residual}), residual <= RESIDUAL_LIMIT  # NaN fails

        return accepted_samples("darcy", indices, attempt)

    def coefficient(self, seed: int, index: int, redraw: int = 0) -> np.ndarray:
        """The stored coefficient a of one sample, (s, s), float64."""
        rng = self._stream(seed, index, redraw)
        if self._is_multiscale:
            return self._waves(self.draw.frequencies(rng))
        return self._kept(self.draw(rng, self.native_resolution))

    def _stream(self, seed: int, index: int, redraw: int) -> np.random.Generator:
        return random_stream(f"darcy/{self.variant}", seed, index, redraw)

    def _solve_phases(self, streams: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficient, pressure and residual of a block of samples."""
        drawn = np.stack([self.draw(rng, self.native_resolution) for rng in streams])
        if self.scheme == "matlab_spline":
            solution = solve_spline_differences(drawn, self.source, SOLVER_TOLERANCE)
        else:
            solution = solve_diffusion(drawn, self.source, self.scheme, SOLVER_TOLERANCE)
        return self._kept(drawn), self._kept(solution.u), solution.residual

    def _solve_waves(self, streams: list[np.random.Generator]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Coefficient, pressure and residual of a block of samples."""
        drawn = [self.draw.frequencies(rng) for rng in streams]
        solutions = [self._solve_linear_elements(frequencies) for frequencies in drawn]
        ratio = self.native_resolution // self.resolution
        kept = slice(ratio // 2 - 1, None, ratio)  # the first interior node is node 1
        pressure = np.stack([solution.u[kept, kept] for solution in solutions])
        residual = np.array([solution.residual for solution in solutions])
        return np.stack([self._waves(frequencies) for frequencies in drawn]), pressure, residual

    def _solve_linear_elements(self, frequencies: np.ndarray) -> DirectSolution:
        """The pressure at the interior nodes of the native grid."""
        return solve_linear_elements(
            lambda x, y: self.draw.evaluate(frequencies, x, y),
            self.source,
            self.native_resolution,
            self.lower,
            self.upper,
        )

    def _waves(self, frequencies: np.ndarray) -> np.ndarray:
        points = self.meta.axes[0].coordinates(self.resolution)
        return self.draw.evaluate(frequencies, points[:, None], points)

    def _kept(self, values: np.ndarray) -> np.ndarray:
        """The values at the centres of the stored cells, of those at the centres of the cells that are solved."""
        ratio = self.native_resolution // self.resolution
        return values[..., ratio // 2 :: ratio, ratio // 2 :: ratio]


_DISTRIBUTIONS = {
    GaussianPhases: "coefficient_positive where g >= 0, else coefficient_negative; g = tau^(alpha-1) (-Laplace + "
    "tau^2)^(-alpha/2) white noise, zero Neumann, zero mean (DCT-II)",
    BumpPhases: "coefficient_positive where sum exp(-|x - c|^2 / w) > threshold, else coefficient_negative; "
    "c ~ U(0, 1)^2, w ~ U(0, width)",
    MultiscaleWaves: "prod_k (1 + cos(pi a_k (x + y)) / 2) (1 + sin(pi a_k (y - 3 x)) / 2), "
    "a_k ~ U[2^(k-1), 1.5 2^(k-1)], k = 1 ... waves",
}
_DISCRETISATIONS = {
    "arithmetic": "cell-centred finite volumes, arithmetic face coefficients",
    "harmonic": "cell-centred finite volumes, harmonic face coefficients",
    "matlab_spline": "matlab_spline: not-a-knot spline to the nodes, five-point differences with arithmetic face "
    "coefficients, spline to the cell centres",
    "linear_elements": "linear finite elements on right triangles, coefficient at the centroids",
}
