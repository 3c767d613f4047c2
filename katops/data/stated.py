"""What the command line says about data files, with and without a configuration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from katops.errors import UserError

_YAML_ENDINGS = (".yaml", ".yml")


def stated(config: Path | None = None, **options: str | float | None) -> tuple[str | list[str] | None, dict[str, Any]]:
    """(files, statement): what ``data.file`` names, ``None`` without a configuration, and arguments for ``describe``.

    Args:
        config: a configuration, or a YAML file with its ``data`` section alone.
        options: as on the command line, ``None`` where not given; they go before the configuration. Lists are separated
            by commas; ``boundary`` has an entry per axis, of which "dirichlet/neumann" is one with different sides and
            "y=neumann" one with the name of its axis;
            ``domain`` is "0:1,0:2".

    Raises:
        UserError: the configuration cannot be read or is one for images, or an option cannot be read.
    """
    files, statement = _of_config(config) if config else (None, {})
    for name, value in options.items():
        if value is not None and value != "":
            statement[name] = _PARSERS.get(name, _as_it_is)(value)
    return files, statement


def check_no_configuration(paths: list[str], command: str) -> None:
    """Refuse a configuration where data are expected.

    Args:
        paths: what was named.
        command: how the same is said with a configuration, ``{}`` standing for its name.

    Raises:
        UserError: one of the names ends like a YAML file's.
    """
    for path in paths:
        if path.lower().endswith(_YAML_ENDINGS):
            raise UserError(f"{path} is a configuration and not data; say {command.format(path)}")


def _of_config(path: Path) -> tuple[str | list[str], dict[str, Any]]:
    import dataclasses

    from katops.config import DataConfig, load_config
    from katops.data.layout import Statement

    data = load_config(path, ["model=mgno", "name=data"] if _is_data_alone(path) else None).data
    if not isinstance(data, DataConfig):
        raise UserError(f"{path} is a configuration for images; it says nothing about fields")
    values = {field.name: getattr(data, field.name) for field in dataclasses.fields(Statement)}
    for kind in ("inputs", "outputs", "constants"):
        if values[kind] is not None:
            values[kind] = [name for name in values[kind] if name not in data.fill]
    return data.file, {name: value for name, value in values.items() if value is not None}


def _is_data_alone(path: Path) -> bool:
    """Whether a YAML file holds a ``data`` section and nothing else, as ``katops inspect`` prints it."""
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False  # reading the configuration tells what is wrong
    return isinstance(values, dict) and list(values) == ["data"]


def _as_it_is(value: Any) -> Any:
    return value


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",")]


def _one_or_each(text: str) -> str | list[str]:
    """A name alone holds for every axis."""
    return _words(text) if "," in text else text.strip()


def _boundary(text: str) -> str | list[str | list[str]] | dict[str, str | list[str]]:
    if "=" in text:
        pairs = [word.partition("=") for word in _words(text)]
        return {axis.strip(): _sides(sides.strip()) for axis, _, sides in pairs}
    return [_sides(word) for word in _words(text)] if "/" in text else _one_or_each(text)


def _sides(word: str) -> str | list[str]:
    return [side.strip() for side in word.split("/")] if "/" in word else word


def _domain(text: str) -> list[list[float]]:
    try:
        pairs = [[float(end) for end in word.split(":")] for word in _words(text)]
    except ValueError:
        pairs = [[]]
    if any(len(pair) != 2 for pair in pairs):
        raise UserError(f"--domain {text!r} cannot be read; give lower:upper for each axis of space, e.g. 0:1,0:2")
    return pairs


_PARSERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("inputs", "outputs", "constants", "parameters", "axes"), _words),
    "boundary": _boundary,
    "grid": _one_or_each,
    "domain": _domain,
}
