"""Effects that only rise or only fall: the weights of splines and lines for which that holds everywhere.

A spline whose coefficients rise from each to the next rises (de Boor 1978, chapter XI), and a sum and a chain of rising
functions rise. So the edges of a column rise or fall with it, those behind them rise, and none of them has a base
function, which would do both. In place of a coefficient its step from the one before it is looked for, which has a
bound; the values that rise are all those of a spline with rising coefficients (a sufficient condition).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.data.table_columns import ScaledColumn
from katops.errors import UserError, did_you_mean


def directions(monotone: Any, names: Sequence[str], columns: Sequence[ScaledColumn]) -> np.ndarray | None:
    """What is asked of each input of the networks, (inputs,), 1 to rise, -1 to fall, 0 for nothing; ``None`` for none.

    Args:
        monotone: a mapping from names or places of columns to 1 or -1, a sequence with one entry per column, or
            ``None``.
        names: of the columns of the table.
        columns: the inputs.

    Raises:
        UserError: there is no such column, it is not one of numbers, or an entry is not 1, -1 or 0.
    """
    if monotone is None:
        return None
    asked = _by_place(monotone, names)
    for place, direction in asked.items():
        if direction not in (-1, 0, 1) or isinstance(direction, bool):
            raise UserError(f"monotone: the entry of {names[place]!r} must be 1, -1 or 0, got {direction!r}")
        if direction and any(column.source == place and column.kind == "level" for column in columns):
            raise UserError(f"monotone: {names[place]!r} holds categories, which do not rise or fall")
    wanted = [asked.get(column.source, 0) if column.kind == "number" else 0 for column in columns]
    return np.array(wanted, dtype=np.int64) if any(wanted) else None


def _by_place(monotone: Any, names: Sequence[str]) -> dict[int, Any]:
    if isinstance(monotone, Mapping):
        found = {}
        for key, direction in monotone.items():
            place = list(names).index(key) if key in names else key
            if isinstance(place, str) or not 0 <= place < len(names):
                raise UserError(f"monotone: there is no column {key!r}{did_you_mean(str(key), names)}")
            found[int(place)] = direction
        return found
    if isinstance(monotone, str) or not isinstance(monotone, Sequence | np.ndarray) or len(monotone) != len(names):
        raise UserError(
            f"monotone={monotone!r} must be a mapping from columns to 1 or -1, or have one entry for each of "
            f"{len(names)} columns"
        )
    return dict(enumerate(monotone))


class RisingWeights:
    """Between the parameters of a network and coordinates in which rising and falling edges are bounds.

    Args:
        net: layers with splines on all edges, without products.
        wanted: see :func:`directions`.
    """

    def __init__(self, net: nn.Module, wanted: np.ndarray) -> None:
        self._signs: list[tuple[str, Tensor, torch.Size]] = []
        for name, parameter in net.named_parameters():
            _, number, kind = name.split(".")[:3]
            layer = net.layers[int(number)]
            sign = torch.as_tensor(wanted) if number == "0" else torch.ones(layer.in_features, dtype=torch.int64)
            self._signs.append((kind, sign.expand(layer.sub_nodes, -1), parameter.shape))

    def coordinates(self, vector: np.ndarray) -> np.ndarray:
        """Of all parameters, one after the other, moved to the nearest that rise."""
        return self._each(vector, lambda kind, sign, part: _steps(kind, sign, _rising(kind, sign, part)))

    def parameters(self, coordinates: np.ndarray) -> np.ndarray:
        """The inverse of :meth:`coordinates`."""
        return self._each(coordinates, _from_steps)

    def slopes(self, gradient: np.ndarray) -> np.ndarray:
        """The gradient in the coordinates, from that in the parameters."""
        return self._each(gradient, _slopes)

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest values of the coordinates."""
        lows, highs = [], []
        for kind, sign, shape in self._signs:
            low, high = torch.full(shape, -torch.inf), torch.full(shape, torch.inf)
            bound = sign != 0
            if kind == "coefficients":
                low[..., 1:][bound] = 0
            elif kind == "linear_weight":
                low[sign > 0] = 0
                high[sign < 0] = 0
            elif kind == "base_weight":
                low[bound] = high[bound] = 0
            lows.append(low.flatten())
            highs.append(high.flatten())
        return torch.cat(lows).double().numpy(), torch.cat(highs).double().numpy()

    def project(self, parameters: Sequence[nn.Parameter]) -> None:
        """Move the parameters to the nearest that rise, in place."""
        with torch.no_grad():
            for parameter, (kind, sign, _) in zip(parameters, self._signs, strict=True):
                parameter.copy_(_rising(kind, sign.to(parameter.device), parameter))

    def _each(self, vector: np.ndarray, change: Any) -> np.ndarray:
        parts = torch.from_numpy(vector).split([shape.numel() for *_, shape in self._signs])
        changed = [
            change(kind, sign, part.view(shape)) for part, (kind, sign, shape) in zip(parts, self._signs, strict=True)
        ]
        return torch.cat([part.flatten() for part in changed]).numpy()


def _rising(kind: str, sign: Tensor, part: Tensor) -> Tensor:
    """Weights moved to where their edges rise: midway of the least rising curve above and the greatest below."""
    if kind == "base_weight":
        return torch.where(sign != 0, 0.0, part)
    if kind == "linear_weight":
        return torch.where((sign != 0) & (part * sign < 0), 0.0, part)
    if kind != "coefficients":
        return part
    turned = part * sign[..., None]
    above = turned.cummax(-1).values
    below = turned.flip(-1).cummin(-1).values.flip(-1)
    return torch.where(sign[..., None] != 0, (above + below) / 2 * sign[..., None], part)


def _steps(kind: str, sign: Tensor, part: Tensor) -> Tensor:
    if kind != "coefficients":
        return part
    steps = torch.cat([part[..., :1], part.diff(dim=-1) * sign[..., None]], -1)
    return torch.where(sign[..., None] != 0, steps, part)


def _from_steps(kind: str, sign: Tensor, part: Tensor) -> Tensor:
    if kind != "coefficients":
        return part
    rest = part[..., :1] + part[..., 1:].cumsum(-1) * sign[..., None]
    return torch.where(sign[..., None] != 0, torch.cat([part[..., :1], rest], -1), part)


def _slopes(kind: str, sign: Tensor, part: Tensor) -> Tensor:
    if kind != "coefficients":
        return part
    behind = part.flip(-1).cumsum(-1).flip(-1)
    moved = torch.cat([behind[..., :1], behind[..., 1:] * sign[..., None]], -1)
    return torch.where(sign[..., None] != 0, moved, part)
