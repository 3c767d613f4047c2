"""Activations as functions of one number, and the values that a sample sends through them."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

_VALUES_PER_CALL = 50_000
_MOST_PARAMETERS = 16  # of a learned activation such as PReLU or StarReLU; what has more is not worth trying

Activation = nn.Module | Callable[[Tensor], Tensor]


def activation_name(activation: Activation) -> str:
    """``GELU`` for a module, ``relu`` for a function."""
    return type(activation).__name__ if isinstance(activation, nn.Module) else activation.__name__


def scalar_function(activation: Activation) -> Callable[[np.ndarray], np.ndarray] | None:
    """The activation on float64 arrays, in evaluation mode; None where it does not act on each element alone.

    Softmax, GLU and PReLU with one slope per channel are of the latter kind. Whether an element influences another is
    tried out, since a module does not tell.
    """
    if isinstance(activation, nn.Module) and _size(activation) > _MOST_PARAMETERS:
        return None

    def function(x: np.ndarray) -> np.ndarray:
        module = copy.deepcopy(activation)
        if isinstance(module, nn.Module):
            module = module.cpu().double().eval()
        with torch.no_grad():
            return module(torch.tensor(x, dtype=torch.float64)).numpy()

    points = np.linspace(-3, 3, 65)
    try:
        whole, half = function(points), function(points[:32])
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
        return None
    elementwise = whole.shape == points.shape and np.allclose(whole[:32], half, rtol=0, atol=1e-12)
    return function if elementwise else None


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def is_identity(module: nn.Module) -> bool:
    """Whether a module passes on what it is given in evaluation mode, as dropout of any kind does."""
    function, points = scalar_function(module), np.linspace(-3, 3, 65)
    return function is not None and np.array_equal(function(points), points)


class Recorder(nn.Module):
    """An activation that keeps what it is given: the range exactly, and at most 50 000 values of each call.

    Args:
        activation: what it stands in for.
    """

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation
        self._chunks: list[np.ndarray] = []
        self._generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        values = x.detach().flatten()
        if values.numel() > _VALUES_PER_CALL:
            # Random places, since every k-th value may always be the same channel.
            places = torch.randint(values.numel(), (_VALUES_PER_CALL,), generator=self._generator)
            extremes = torch.stack(values.aminmax())
            values = torch.cat([values[places.to(values.device)], extremes])
        self._chunks.append(values.double().cpu().numpy())
        return self.activation(x)

    @property
    def called(self) -> bool:
        """Whether it was."""
        return bool(self._chunks)

    @property
    def values(self) -> np.ndarray:
        """The recorded inputs, empty where the sample never came through."""
        return np.concatenate(self._chunks) if self._chunks else np.empty(0)
