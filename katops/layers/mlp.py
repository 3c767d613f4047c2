"""Channel mixers for the slot ``mlp_layer``: called with in_features= and out_features=, (..., in) -> (..., out)."""

from collections.abc import Callable

from torch import Tensor, nn

from katops.layers.activation import build_activation
from katops.registry import LAYERS

LAYERS.register("linear", kind="channel mixer", summary="y = W x + b")(nn.Linear)


@LAYERS.register("mlp", kind="channel mixer", summary="one hidden layer, y = W2 act(W1 x + b1) + b2")
class MLP(nn.Module):
    """y = W2 act(W1 x + b1) + b2 on the last axis, (..., in_features) -> (..., out_features).

    Args:
        in_features, out_features: widths.
        hidden_features: width in between; twice the larger of the two where it is not given.
        act_layer: activation, see :func:`katops.layers.activation.build_activation`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: int | None = None,
        act_layer: Callable[..., nn.Module] = nn.GELU,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or 2 * max(in_features, out_features)
        self.hidden = nn.Linear(in_features, hidden_features)
        self.act = build_activation(act_layer, hidden_features)
        self.out = nn.Linear(hidden_features, out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.hidden(x)))
