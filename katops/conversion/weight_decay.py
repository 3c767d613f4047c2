"""Which parameters of a converted model timm's optimisers exempt from weight decay."""

from collections.abc import Iterable

from torch import nn

from katops.layers.group_rational import GroupRational


class NoWeightDecay:
    """Takes the place of a model's method ``no_weight_decay``, which timm's optimisers call.

    An attribute of the one converted model, since its class is that of unconverted models too; an object that holds
    names alone, so that copies and pickles of the model have their own.

    Args:
        names: of the exempt parameters.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    def __call__(self) -> set[str]:
        return set(self.names)


def exempt_rationals(model: nn.Module) -> None:
    """Add the coefficients of all rational functions to ``model.no_weight_decay()``.

    Decay would pull them to y = 0 rather than to a smaller function.
    """
    own = model.no_weight_decay() if hasattr(model, "no_weight_decay") else ()
    coefficients = {
        f"{path}.{name}".lstrip(".")
        for path, module in model.named_modules()
        if isinstance(module, GroupRational)
        for name, _ in module.named_parameters()
    }
    model.no_weight_decay = NoWeightDecay({*own, *coefficients})
