"""Options of models, which the schema leaves to the models themselves."""

import inspect
from typing import Any

from katops.config import BaseRunConfig, RunConfig, TableRunConfig
from katops.config.tables import LABEL, TUNE
from katops.errors import UserError, did_you_mean
from katops.models.options import allowed_options
from katops.registry import MODELS
from katops.sweeps.domains import Choices, Domain


def check_model_option(key: str, domains: dict[str, Domain], config: BaseRunConfig, place: str) -> None:
    """Refuse ``model.widht``.

    Args:
        key: of the space, with dots.
        domains: all keys of the space, since the model itself may be one of them.
        config: the configuration that is varied.
        place: how a message calls the key.

    Raises:
        UserError: no model of the sweep has such an option.
    """
    section, *rest = key.split(".")
    if section != "model" or not rest or rest[0] == "name":
        return
    names = _names(domains.get("model.name")) or [config.model.name]
    allowed = [_options(config, name) for name in names]
    if None in allowed or any(rest[0] in options for options in allowed):
        return
    known = sorted(set().union(*allowed))
    raise UserError(
        f"{place}: {' or '.join(map(repr, names))} has no option {rest[0]!r}{did_you_mean(rest[0], known)} Allowed: "
        f"{', '.join(known)}."
    )


def _names(domain: Domain | None) -> list[str]:
    return [str(name) for name in domain.choices] if isinstance(domain, Choices) else []


def _options(config: BaseRunConfig, name: str) -> list[str] | None:
    """The options of a model; ``None`` where it takes what it is given, as models of timm do."""
    if isinstance(config, RunConfig):
        return list(allowed_options(MODELS[name].factory))
    return [*_parameters_of_the_kan(), TUNE, LABEL] if isinstance(config, TableRunConfig) else None


def _parameters_of_the_kan() -> dict[str, Any]:
    from katops.estimators import KANRegressor

    return dict(inspect.signature(KANRegressor).parameters)
