"""Sums of Gaussian bumps on a square."""

import numpy as np


def gaussian_bumps(
    amplitude: np.ndarray, x: np.ndarray, y: np.ndarray, deviation: np.ndarray, points: np.ndarray
) -> np.ndarray:
    """sum_i A_i exp(-((X - x_i)^2 + (Y - y_i)^2) / (2 s_i^2)) on the grid ``points`` x ``points``.

    Args:
        amplitude: A, (n,).
        x, y: the centres, (n,).
        deviation: s, (n,).
        points: (s,), the coordinates along each axis.

    Returns:
        (s, s).
    """
    total = np.zeros((len(points), len(points)))
    for height, centre_x, centre_y, width in zip(amplitude, x, y, deviation, strict=True):
        along_x = height * np.exp(-((points - centre_x) ** 2) / (2 * width**2))
        total += along_x[:, None] * np.exp(-((points - centre_y) ** 2) / (2 * width**2))
    return total
