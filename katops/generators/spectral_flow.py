"""Incompressible flow on the unit torus in Fourier space, without aliasing, batched in torch."""

import numpy as np
import torch
from torch import Tensor


class SpectralFlow:
    """The waves abs(k1), abs(k2) <= K of the vorticity (and of a tracer), and how they change.

    .. math:: w_t + u \\cdot \\nabla w = -d(-i \\nabla) w + f, \\quad u = U + (\\psi_y, -\\psi_x), \\quad
        -\\Delta \\psi = w, \\qquad c_t + u \\cdot \\nabla c = -d(-i \\nabla) c

    The mean velocity U does not change. Products are formed on M > 3 K points along each axis, so that the projection
    to the waves is exact (2/3 rule or 3/2 padding): without damping and force energy and enstrophy are conserved.
    The advection of the vorticity takes two inverse and two forward transforms, by

    .. math:: u \\cdot \\nabla w = (\\partial_{xx} - \\partial_{yy})(u v) + \\partial_{xy} (v^2 - u^2)

    (Basdevant, J. Comput. Phys. 50, 1983). Spectra are complex128 of the shape (fields, batch, M, K + 1), the first
    wave number from the discrete Fourier transform's order with zeros above K, divided by M^2.

    Only elementwise operations and transforms of single rows occur: a sample is the same bits in any batch.

    Args:
        waves: K.
        points: M.
        damping: (M, K + 1), the symbol d >= 0.
        force: (M, K + 1), the spectrum of f.
        device: where to compute.
    """

    def __init__(
        self, waves: int, points: int, damping: np.ndarray, force: np.ndarray | None, device: torch.device
    ) -> None:
        if points <= 3 * waves:
            raise ValueError(f"{points} points alias the products of {waves} waves")
        self.waves, self.points, self.device = waves, points, device
        k1, k2 = wave_numbers(waves, points)
        kept = np.abs(k1) <= waves
        x, y = 2 * np.pi * kept * k1 * np.ones_like(k2), 2 * np.pi * kept * k2
        square = np.where(x**2 + y**2 == 0, 1.0, x**2 + y**2)
        self.damping = self._tensor(damping)
        self._velocity = self._tensor(np.stack((1j * y / square, -1j * x / square)))[:, None]
        # Real multipliers of complex numbers, once for each of their two parts: torch has no fast mixed product.
        self._of_uv, self._of_difference = (self._doubled(part) for part in (x**2 - y**2, x * y))
        self._divergence = self._tensor(np.stack((-1j * x, -1j * y)))[:, None]
        self._force = None if force is None else self._tensor(force * kept)

    def rate(self, state: Tensor, mean: Tensor | None) -> Tensor:
        """Time derivative of a spectrum (fields, batch, M, K + 1) without the damping; mean is (2, batch) or None."""
        u, v = self.velocity(state[0], mean)
        products = self.to_waves(torch.stack((u * v, (v - u) * (v + u))))
        parts = torch.view_as_real(products)
        change = torch.view_as_complex((parts[0] * self._of_uv).add_(parts[1] * self._of_difference))
        if self._force is not None:
            change = change.add_(self._force)
        if len(state) == 1:
            return change[None]
        tracer = self.to_points(state[1])
        flux = self.to_waves(torch.stack((u * tracer, v * tracer))) * self._divergence
        return torch.stack((change, flux[0] + flux[1]))

    def velocity(self, vorticity: Tensor, mean: Tensor | None) -> Tensor:
        """(2, batch, M, M) of a vorticity (batch, M, K + 1)."""
        return self.to_points(self.velocity_waves(vorticity, mean))

    def velocity_waves(self, vorticity: Tensor, mean: Tensor | None) -> Tensor:
        """(2, batch, M, K + 1) of a vorticity (batch, M, K + 1)."""
        waves = vorticity * self._velocity
        if mean is not None:
            waves[..., 0, 0] = mean
        return waves

    def wave_speed(self, state: Tensor, mean: Tensor | None) -> Tensor:
        """(batch,), the largest of 2 pi K (abs(u) + abs(v)): how fast the shortest wave may turn."""
        return 2 * np.pi * self.waves * self.velocity(state[0], mean).abs().sum(0).amax((-2, -1))

    def to_points(self, waves: Tensor) -> Tensor:
        """(..., M, K + 1) to the values (..., M, M)."""
        return torch.fft.irfft(torch.fft.ifft(waves, dim=-2, norm="forward"), n=self.points, norm="forward")

    def to_waves(self, values: Tensor) -> Tensor:
        """(..., M, M) to (..., M, K + 1); the rows above K are not cleared."""
        return torch.fft.fft(torch.fft.rfft(values, norm="forward")[..., : self.waves + 1], dim=-2, norm="forward")

    def from_grid(self, values: np.ndarray) -> Tensor:
        """The waves of values (..., n, n) on the nodes i/n of a grid with n > 2 K, (..., M, K + 1)."""
        given = torch.fft.rfft2(torch.as_tensor(values, dtype=torch.float64, device=self.device), norm="forward")
        waves = torch.zeros(*given.shape[:-2], self.points, self.waves + 1, dtype=torch.complex128, device=self.device)
        waves[..., : self.waves + 1, :] = given[..., : self.waves + 1, : self.waves + 1]
        waves[..., -self.waves :, :] = given[..., -self.waves :, : self.waves + 1]
        return waves

    def to_grid(self, waves: Tensor, n: int) -> Tensor:
        """Values (..., n, n) on the nodes i/n of a grid with n > 2 K."""
        given = torch.zeros(*waves.shape[:-2], n, self.waves + 1, dtype=torch.complex128, device=self.device)
        given[..., : self.waves + 1, :] = waves[..., : self.waves + 1, :]
        given[..., -self.waves :, :] = waves[..., -self.waves :, :]
        return torch.fft.irfft(torch.fft.ifft(given, dim=-2, norm="forward"), n=n, norm="forward")

    def enstrophy_tail(self, vorticity: Tensor) -> Tensor:
        """(batch,), the share of the enstrophy in the waves with max(abs(k1), abs(k2)) > 0.9 K; 0 if well resolved."""
        k1, k2 = wave_numbers(self.waves, self.points)
        tail = self._tensor((np.maximum(np.abs(k1), k2) > 0.9 * self.waves).astype(np.float64))
        twice = self._tensor(np.where(k2 == 0, 1.0, 2.0))  # the waves -k are not stored
        density = twice * (vorticity.real.square() + vorticity.imag.square())
        # One sample at a time: a sum over a batch is cut into pieces that depend on its size.
        shares = [(one * tail).sum() / one.sum().clamp_min(1e-300) for one in density]
        return torch.stack(shares)

    def _tensor(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=self.device)

    def _doubled(self, values: np.ndarray) -> Tensor:
        return self._tensor(np.repeat(values[..., None], 2, axis=-1))


def wave_numbers(waves: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """k1 (points, 1) and k2 (1, waves + 1), float64."""
    return np.fft.fftfreq(points, 1 / points)[:, None], np.arange(waves + 1.0)[None, :]
