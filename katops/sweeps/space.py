"""``SPACE.yaml``: the keys that a sweep varies, checked against the schema of the configuration before any trial."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from katops.config import BaseRunConfig, check_types
from katops.config.reading import Source, validate
from katops.errors import UserError, did_you_mean
from katops.sweeps.domains import Choices, Domain, Range, Suggester
from katops.sweeps.model_options import check_model_option
from katops.sweeps.overrides import with_value

OF_THE_SWEEP = ("task", "name", "output", "plugins")
"""Keys that are the same in all trials, or that the sweep itself sets."""

Locate = Callable[..., str]


@dataclass(frozen=True)
class Space:
    """The varied keys.

    Attributes:
        domains: key, with dots, to what it may be, in the order of the file.
    """

    domains: dict[str, Choices | Range]

    @property
    def is_conditional(self) -> bool:
        """Whether some keys are varied in some trials only."""
        return any(domain.when for domain in self.domains.values())

    def suggest(self, trial: Suggester) -> dict[str, Any]:
        """A value for every key that applies in one trial."""
        chosen: dict[str, Any] = {}
        for key, domain in self.domains.items():
            if domain.applies(chosen):
                chosen[key] = domain.suggest(trial, key)
        return chosen

    def values(self, labels: dict[str, Any]) -> dict[str, Any]:
        """What the parameters of a stored trial stand for, in the order of the file."""
        return {key: domain.value(labels[key]) for key, domain in self.domains.items() if key in labels}

    def apply(self, values: dict[str, Any], chosen: dict[str, Any]) -> dict[str, Any]:
        """The values of a configuration with those of a trial put in."""
        for key, value in chosen.items():
            values = with_value(values, key.split("."), value, key)
        return values

    def to_dict(self) -> dict[str, Any]:
        """The space as plain containers."""
        return {key: domain.model_dump() for key, domain in self.domains.items()}


def read_space(source: str | Path | dict[str, Any], config: BaseRunConfig) -> Space:
    """Read and check.

    Args:
        source: YAML file, or what it would hold: ``{"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}``.
        config: the configuration that is varied.

    Raises:
        UserError: the file is missing or not YAML; a key does not exist in the configuration; a value has a wrong type,
            is out of range, or stands for two keys at once. The message names the file, the line and the key.
    """
    written, locate = (source, ".".join) if isinstance(source, dict) else _read(Path(source))
    base = config.spelled_out()
    domains: dict[str, Choices | Range] = {}
    for key, value in written.items():
        place = locate((key,))
        domain = _domain(value, key, locate, place)
        _check_key(key, domains, place)
        _check_conditions(domain, domains, place)
        domain.check(place)
        domains[key] = _fitted(domain, key, base, locate)
    for key in domains:
        check_model_option(key, domains, config, locate((key,)))
    return Space(domains)


def _read(path: Path) -> tuple[dict[str, Any], Locate]:
    try:
        text = path.read_text(encoding="utf-8")
        found = OmegaConf.create(text)
        values = OmegaConf.to_container(found, resolve=True)
    except FileNotFoundError:
        siblings = [str(other) for other in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise UserError(f"no file {str(path)!r} for --space{did_you_mean(str(path), siblings)}") from None
    except (OSError, ValueError, TypeError, yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError(f"{path} is not a valid space: {' '.join(str(error).split())}") from error
    if not isinstance(found, DictConfig) or not values:
        raise UserError(f"{path} must hold keys of the configuration, such as train.learning_rate; it holds no keys")
    return {str(key): value for key, value in values.items()}, Source(path, text, [])


def _domain(value: Any, key: str, locate: Locate, place: str) -> Choices | Range:
    if isinstance(value, list):
        value = {"choices": value}
    if not isinstance(value, dict):
        raise UserError(
            f"{place} should be a list of values, or a range such as {{low: 1e-4, high: 1e-2, log: true}}; given: "
            f"{value!r}"
        )
    kind = Choices if "choices" in value else Range
    known = {"low", "high", "log", "step", "when", "choices"}
    if not known & set(value):
        raise UserError(
            f"{place} holds keys of its own ({', '.join(map(str, value))}); write the whole key with dots, such as "
            f"{key}.{next(iter(value), 'learning_rate')}"
        )
    return validate(kind, value, lambda keys: locate((key, *keys)))


def _check_key(key: str, before: dict[str, Any], place: str) -> None:
    if key.split(".")[0] in OF_THE_SWEEP:
        raise UserError(f"{place}: {key!r} is not for sweeps; vary keys of data, model, train, ... or the seed")
    for other in before:
        if key.startswith(f"{other}.") or other.startswith(f"{key}."):
            raise UserError(f"{place}: {other!r} holds {key!r} or the other way round; vary one of them")


def _check_conditions(domain: Domain, before: dict[str, Any], place: str) -> None:
    for key, wanted in domain.when.items():
        if not isinstance(before.get(key), Choices):
            raise UserError(f"{place}: when needs a key with listed values that stands before it; given: {key!r}")
        allowed = before[key].choices
        for value in wanted if isinstance(wanted, list) else [wanted]:
            if value not in allowed:
                raise UserError(f"{place}: when waits for {key} to be {value!r}, which is none of {allowed}")


def _fitted(domain: Choices | Range, key: str, base: dict[str, Any], locate: Locate) -> Choices | Range:
    """The domain, after its values have been tried in the configuration; a range in the type that the key has."""
    keys = key.split(".")

    def place(path: tuple[str, ...]) -> str:
        """The key of the space, for whatever part of it the schema complains about."""
        return locate((key,)) if path == tuple(keys)[: len(path)] else locate((key,)) + f" with {'.'.join(path)}"

    for value in domain.extremes:
        check_types(with_value(base, keys, value, place(())), place)
    if isinstance(domain, Range) and domain.whole and _allows(base, keys, domain.low + 0.5):
        # Options of models, whose types the schema does not know, are taken as they are written.
        free = _allows(base, keys, "a word that no number is")
        return domain if free else domain.of_fractions()
    return domain


def _allows(base: dict[str, Any], keys: list[str], value: Any) -> bool:
    try:
        check_types(with_value(base, keys, value, ""))
    except UserError:
        return False
    return True
