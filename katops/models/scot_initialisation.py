"""Initial weights of scOT."""

from torch import nn

from katops.layers.time_norm import TimeLayerNorm

STANDARD_DEVIATION = 0.02


def initialise(model: nn.Module, init: str) -> None:
    """Draw the weights of linear maps, convolutions and norms.

    Published: N(0, 0.02^2) for all weights of linear maps and convolutions, gains and shifts of norms included (the
    gain at time 0 is then 0), zero for their biases; the transposed convolution keeps torch's own initial values.

    Args:
        model: what has been built.
        init: ``published``, or ``unit_gain``: norms begin with gain 1 at time 0, and the last convolution passes on
            what it is given.
    """
    given = {part for mixer in _mixers(model) for part in mixer.modules()}
    for module in model.modules():
        if module in given:
            continue  # channel mixers of another kind know best how to begin
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=STANDARD_DEVIATION)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, TimeLayerNorm):
            module.reset_parameters(gain=1.0 if init == "unit_gain" else 0.0)
    if init == "unit_gain":
        nn.init.dirac_(model.patch_recovery.mixup.weight)


def _mixers(model: nn.Module) -> list[nn.Module]:
    """The modules that ``mlp_layer`` made."""
    found = [getattr(module, "mlp", None) for module in model.modules()]
    return [mixer for mixer in found if mixer is not None]
