"""Tables with known functions."""

import numpy as np
import pytest

pytest.importorskip("sklearn")


@pytest.fixture(scope="session")
def additive() -> tuple[np.ndarray, np.ndarray]:
    """200 rows of y = 100 + 20 x0 + 30 sin(2 x1) + 10 x2^2, and a column without meaning."""
    x = np.random.default_rng(0).uniform(-2, 2, size=(200, 4))
    return x, 100 + 20 * x[:, 0] + 30 * np.sin(2 * x[:, 1]) + 10 * x[:, 2] ** 2
