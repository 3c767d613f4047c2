"""Cell-centred finite volumes for -div(a grad u) = f on the unit square, u = 0 on its boundary, and their solver."""

import numpy as np
from scipy import fft

from katops.generators.conjugate_gradients import Solution, conjugate_gradients

SCHEMES = ("arithmetic", "harmonic")


class FluxOperator:
    """u -> sum of the fluxes out of every point of a square grid, a (u - u_neighbour) through each of its four faces.

    Args:
        x_faces: (n, s + 1, s), the coefficients of the faces along axis 1; beyond the outer ones u is 0.
        y_faces: (n, s, s + 1), those of the faces along axis 2.
    """

    def __init__(self, x_faces: np.ndarray, y_faces: np.ndarray) -> None:
        self.x_faces, self.y_faces = x_faces, y_faces
        self._x_flux = np.empty_like(x_faces)
        self._y_flux = np.empty_like(y_faces)

    def __call__(self, u: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Write the sums of the fluxes out of the points into ``out`` and return it; u and out are (n, s, s)."""
        # 0 - u, because np.negative into a strided array is wrong for input strides of 64 bytes (NumPy 2.4, AVX-512).
        x_flux, y_flux = self._x_flux, self._y_flux
        x_flux[:, 0] = u[:, 0]
        np.subtract(u[:, 1:], u[:, :-1], out=x_flux[:, 1:-1])
        np.subtract(0.0, u[:, -1], out=x_flux[:, -1])
        x_flux *= self.x_faces
        y_flux[:, :, 0] = u[:, :, 0]
        np.subtract(u[:, :, 1:], u[:, :, :-1], out=y_flux[:, :, 1:-1])
        np.subtract(0.0, u[:, :, -1], out=y_flux[:, :, -1])
        y_flux *= self.y_faces
        np.subtract(x_flux[:, :-1], x_flux[:, 1:], out=out)
        out += y_flux[:, :, :-1]
        out -= y_flux[:, :, 1:]
        return out


class DiffusionOperator(FluxOperator):
    """u -> -h^2 div(a grad u) for a batch of coefficients, with the half-cell distance at the boundary.

    The flux through the face between cells i and i + 1 is a_{i+1/2} (u_{i+1} - u_i) / h, where a_{i+1/2} is the
    arithmetic mean (a_i + a_{i+1}) / 2 or the harmonic mean 2 a_i a_{i+1} / (a_i + a_{i+1}); through a face on the
    boundary, half a cell away from the centre, it is 2 a_i u_i / h. Second order for a smooth coefficient.

    Args:
        coefficient: (n, s, s), positive, at the cell centres.
        scheme: "arithmetic" or "harmonic".

    Source: Patankar, "Numerical heat transfer and fluid flow", 1980, section 4.2.
    """

    def __init__(self, coefficient: np.ndarray, scheme: str = "arithmetic") -> None:
        x_faces = _face_coefficients(coefficient, scheme)
        transposed = np.ascontiguousarray(coefficient.swapaxes(1, 2))
        super().__init__(x_faces, np.ascontiguousarray(_face_coefficients(transposed, scheme).swapaxes(1, 2)))


def _face_coefficients(a: np.ndarray, scheme: str) -> np.ndarray:
    """Coefficients of the faces along axis 1, (n, s + 1, s); the outer ones carry the factor 2 of the half distance."""
    faces = np.empty((a.shape[0], a.shape[1] + 1, a.shape[2]))
    lower, upper = a[:, :-1], a[:, 1:]
    faces[:, 1:-1] = (lower + upper) / 2 if scheme == "arithmetic" else 2 * lower * upper / (lower + upper)
    faces[:, 0] = 2 * a[:, 0]
    faces[:, -1] = 2 * a[:, -1]
    return faces


def _poisson_eigenvalues(size: int) -> np.ndarray:
    """Eigenvalues of the operator for a = 1; its eigenvectors are the sines of the DST-II."""
    one_axis = 4 * np.sin(np.pi * np.arange(1, size + 1) / (2 * size)) ** 2
    return one_axis[:, None] + one_axis


def solve_diffusion(
    coefficient: np.ndarray,
    source: np.ndarray,
    scheme: str = "arithmetic",
    tolerance: float = 1e-10,
    max_iterations: int = 500,
) -> Solution:
    """Solve -div(a grad u) = f on (0, 1)^2, u = 0 on the boundary, for a batch of coefficients.

    Conjugate gradients, preconditioned by the exact inverse for a = 1 (two sine transforms). The number of steps grows
    with the square root of max a / min a and does not depend on the grid.

    Args:
        coefficient: a, (n, s, s), positive, at the cell centres.
        source: f, (n, s, s) or broadcastable to it.
        scheme: see :class:`DiffusionOperator`.
        tolerance: where a sample stops, as ||A u - f|| / ||f||.
        max_iterations: where a sample is given up; its residual tells.
    """
    size = coefficient.shape[1]
    right_hand_side = np.broadcast_to(source, coefficient.shape) / size**2
    eigenvalues = _poisson_eigenvalues(size)

    def precondition(values: np.ndarray) -> np.ndarray:
        spectrum = fft.dstn(values, type=2, norm="ortho", axes=(1, 2))
        spectrum /= eigenvalues
        return fft.idstn(spectrum, type=2, norm="ortho", axes=(1, 2), overwrite_x=True)

    operator = DiffusionOperator(coefficient, scheme)
    return conjugate_gradients(operator, right_hand_side, precondition, tolerance, max_iterations)
