"""The heat equation u_t = D Laplace u, exact in time, with second-order central differences in space."""

import torch
from torch import Tensor


class HeatSemigroup:
    """u -> exp(t D Laplace_h) u on a torus, with the three-point difference along each of the last axes.

    The differences are diagonal in the Fourier basis. Each value becomes a mean of the others with positive weights:
    bounds are kept, and the sum of all is too.

    Args:
        sizes: number of points along each of the last axes.
        spacings: grid spacing along each of them.
        device: where the arrays live.
    """

    def __init__(self, sizes: tuple[int, ...], spacings: tuple[float, ...], device: torch.device | str = "cpu") -> None:
        self.sizes = sizes
        self._eigenvalues = [
            -((2 / spacing * torch.sin(torch.pi * torch.arange(size // 2 + 1, dtype=torch.float64) / size)) ** 2)
            for size, spacing in zip(sizes, spacings, strict=True)
        ]
        self._eigenvalues = [values.to(device) for values in self._eigenvalues]

    def factors(self, diffusion: Tensor | float) -> list[Tensor]:
        """What :meth:`__call__` needs for one value of D t, one array for each axis.

        Args:
            diffusion: D t, a number, or (n, 1, ...) with one axis of size 1 for each axis.
        """
        return [torch.exp(diffusion * values) for values in self._eigenvalues]

    def __call__(self, u: Tensor, factors: list[Tensor]) -> Tensor:
        """The array ``factors`` stands for a time later; u is (n, \\*sizes)."""
        for axis, (size, factor) in enumerate(zip(self.sizes, factors, strict=True), start=-len(self.sizes)):
            spectrum = torch.fft.rfft(u.transpose(axis, -1)) * factor
            u = torch.fft.irfft(spectrum, size).transpose(axis, -1)
        return u
