"""The Poisson equation with a random number of Gaussian sources."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from katops.data.writing import StoredField
from katops.fields import Axis, Channel, FieldMeta
from katops.generators.gaussian_bumps import gaussian_bumps
from katops.generators.options import known, whole_number
from katops.generators.problem import Samples
from katops.generators.random_stream import random_stream
from katops.generators.redraw import accepted_samples
from katops.generators.sine_poisson import SCHEMES, solve_poisson
from katops.registry import PROBLEMS

RESIDUAL_LIMIT = 1e-9
RESOLUTIONS = range(5, 8194)
POINTS_PER_BLOCK = 2**16
CONTINUATION = 0.4  # P(n bumps) = 0.4 * 0.6^(n - 1)
LEAST_DEVIATION, LARGEST_DEVIATION = 0.025, 0.1

VARIANTS = {
    "mass": "the amplitudes m / (2 pi s^2), m ~ U(-1, 1), are not printed; they are inferred from the standard "
    "deviation of f in the released data, 4.755 (here 4.9); that of u is 0.053 instead of 0.0240",
    "literal": "unit Gaussians as printed: the standard deviation of f is 0.18, that of the released data is 4.755",
}


@PROBLEMS.register(
    "poisson",
    summary="Poisson equation, Gaussian sources -> potential",
    paper="Herde et al., Poseidon: efficient foundation models for PDEs, NeurIPS 2024",
)
class Poisson:
    """-Laplace u = f on (0, 1)^2, u = 0 on the boundary; the input is f, the output is u.

    f = sum_{i <= n} A_i exp(-|x - c_i|^2 / (2 s_i^2)) with n ~ Geometric(0.4) = 1, 2, ..., c_i ~ U(0, 1)^2 and
    s_i ~ U(0.025, 0.1). The printed recipe does not give the statistics of the released data, so there are two:

    =======  ========================================  =====================================================
    variant  A_i                                       agreement with the released data
    =======  ========================================  =====================================================
    mass     m_i / (2 pi s_i^2), m_i ~ U(-1, 1)        std of f 4.9 (released 4.755), of u 0.053 (0.0240)
    literal  1                                         std of f 0.18, of u 0.0035
    =======  ========================================  =====================================================

    The nodes include the boundary: (i / (s - 1), j / (s - 1)). ``compact`` is of fourth order; ``five_point`` is of
    second order and has the matrix of linear finite elements on right triangles, which the released data were made
    with.

    Source: Herde et al., "Poseidon: efficient foundation models for PDEs", NeurIPS 2024, appendix B (Poisson-Gauss, at
    128 x 128).

    Args:
        resolution: s, the number of nodes along each axis, 5 to 8193.
        variant: "mass" or "literal".
        scheme: "compact" or "five_point".

    Raises:
        UserError: an argument is of the wrong type, out of its range or unknown.
    """

    variants = tuple(VARIANTS)

    def __init__(self, resolution: int = 128, variant: str = "mass", scheme: str = "compact") -> None:
        self.resolution = whole_number("poisson", "resolution", resolution, RESOLUTIONS)
        self.variant = known("poisson", "variant", variant, VARIANTS)
        self.scheme = known("poisson", "scheme", scheme, SCHEMES)
        self.times = None
        self.meta = FieldMeta(
            name="poisson",
            inputs=(Channel("source"),),
            outputs=(Channel("solution"),),
            axes=(Axis("x", "nodes"), Axis("y", "nodes")),
        )
        shape = (self.resolution, self.resolution)
        self.fields = {"source": StoredField("input", "", shape), "solution": StoredField("output", "", shape)}

    @property
    def recipe(self) -> dict[str, Any]:
        """See :class:`~katops.generators.problem.Problem`."""
        compact = self.scheme == "compact"
        return {
            "recipe": "poisson",
            "variant": self.variant,
            "recipe_version": 1,
            "equation": "-Laplace u = f in (0, 1)^2, u = 0 on the boundary",
            "source_term": "sum_i A_i exp(-|x - c_i|^2 / (2 s_i^2)), c_i ~ U(0, 1)^2",
            "amplitude": "m_i / (2 pi s_i^2), m_i ~ U(-1, 1)" if self.variant == "mass" else "1",
            "number_of_bumps": f"geometric, P(n) = {CONTINUATION} (1 - {CONTINUATION})^(n - 1)",
            "least_deviation": LEAST_DEVIATION,
            "largest_deviation": LARGEST_DEVIATION,
            "solver": "sine transform, float64",
            "solver_tolerance": RESIDUAL_LIMIT,
            "residual_limit": RESIDUAL_LIMIT,
            "scheme": "nine-point compact differences, fourth order" if compact else "five-point differences",
            "native_resolution": self.resolution,
            "downsampling": "none",
            "domain": "(0, 1)^2",
            "grid": "nodes_inclusive",
            "boundary": "dirichlet",
            "notes": VARIANTS[self.variant],
        }

    def samples(self, seed: int, indices: Sequence[int]) -> Samples:
        """See :meth:`katops.generators.problem.Problem.samples`; quality holds ``residual`` and ``rejected``."""
        block = max(1, POINTS_PER_BLOCK // self.resolution**2)

        def attempt(numbers: np.ndarray, redraws: np.ndarray) -> tuple[Samples, np.ndarray]:
            shape = (len(numbers), self.resolution, self.resolution)
            source, solution = np.empty(shape, dtype=np.float32), np.empty(shape, dtype=np.float32)
            residual = np.empty(len(numbers))
            for start in range(0, len(numbers), block):
                part = slice(start, start + block)
                pairs = zip(numbers[part], redraws[part], strict=True)
                drawn = np.stack([self.source(seed, int(index), int(redraw)) for index, redraw in pairs])
                solved = solve_poisson(drawn, self.scheme)
                source[part], solution[part], residual[part] = drawn, solved.u, solved.residual
            fields = {"source": source, "solution": solution}
            return Samples(fields, {}, {"residual": residual}), residual <= RESIDUAL_LIMIT  # NaN fails

        return accepted_samples("poisson", indices, attempt)

    def source(self, seed: int, index: int, redraw: int = 0) -> np.ndarray:
        """The source f of one sample, (s, s), float64."""
        rng = random_stream(f"poisson/{self.variant}", seed, index, redraw)
        bumps = rng.geometric(CONTINUATION)
        x, y = rng.uniform(size=(2, bumps))
        deviation = rng.uniform(LEAST_DEVIATION, LARGEST_DEVIATION, bumps)
        amplitude = np.ones(bumps)
        if self.variant == "mass":
            amplitude = rng.uniform(-1, 1, bumps) / (2 * np.pi * deviation**2)
        return gaussian_bumps(amplitude, x, y, deviation, np.linspace(0, 1, self.resolution))
