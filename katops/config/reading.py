"""From a YAML file and overrides to a checked configuration, and from a mistake to one sentence."""

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from katops.config.base import BaseRunConfig
from katops.config.images import ImageRunConfig
from katops.config.operators import RunConfig
from katops.config.presets import with_presets
from katops.config.tables import TableRunConfig
from katops.errors import UserError, did_you_mean

TASKS: dict[str, type[BaseRunConfig]] = {
    "operator": RunConfig,
    "image_classification": ImageRunConfig,
    "tables": TableRunConfig,
}
"""What the key ``task`` may say, and the schema it chooses."""

Checked = TypeVar("Checked", bound=BaseModel)
_NOT_A_SECTION = re.compile(r"a valid dictionary or instance of \w+")


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig | ImageRunConfig | TableRunConfig:
    """Read, merge, check.

    Args:
        path: YAML file.
        overrides: ``key.path=value`` strings that win over the file, e.g. ``train.epochs=5``.

    Raises:
        UserError: the file is missing or not YAML; a key is unknown, missing, of the wrong type or out of range; two
            keys contradict each other. The message names the file, the line where there is one, and the YAML path.
    """
    path = Path(path)
    text = _read(path)
    try:
        written = OmegaConf.create(text)
        if not isinstance(written, DictConfig) or not written:
            raise UserError(f"{path} must hold the keys {', '.join(RunConfig.model_fields)}; it holds no keys")
        merged = OmegaConf.merge(written, OmegaConf.from_dotlist(list(overrides or [])))
        values = OmegaConf.to_container(merged, resolve=True)
    except UserError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise UserError(f"{path} is not a valid configuration: {_one_line(error)}") from error
    return parse_config(values, Source(path, text, list(overrides or [])))


class Source:
    """Where a key was written, for error messages: called with a key path, it answers in words.

    Args:
        path: YAML file.
        text: its contents.
        overrides: ``key.path=value`` strings that went before the file.
    """

    def __init__(self, path: Path, text: str, overrides: list[str]) -> None:
        self.path, self.overrides = path, overrides
        self.tree = yaml.compose(text, Loader=yaml.SafeLoader)

    def __call__(self, keys: tuple[str, ...]) -> str:
        dotted = ".".join(keys)
        written = [override.split("=", 1)[0] for override in self.overrides]
        if any(key == dotted or key.startswith(f"{dotted}.") or dotted.startswith(f"{key}.") for key in written):
            return f"{dotted} (command line)"
        line, node = None, self.tree
        for key in keys:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []
            match = next(((k, v) for k, v in pairs if k.value == key), None)
            if match is None:
                break
            line, node = match[0].start_mark.line + 1, match[1]
        return f"{dotted} ({self.path}{f', line {line}' if line else ''})"


def parse_config(values: dict[str, Any], source: Any = None) -> RunConfig | ImageRunConfig | TableRunConfig:
    """Check plain containers against the schema.

    Args:
        values: what a YAML file would hold.
        source: maps a key path to the words that say where it was written; the dotted path by default.

    Raises:
        UserError: see :func:`load_config`.
    """
    config = check_types(values, source)
    config.check_together(source or ".".join)
    return config


def check_types(values: dict[str, Any], source: Any = None) -> RunConfig | ImageRunConfig | TableRunConfig:
    """Check every key by itself, and leave out the mistakes that need two keys to be seen.

    Args:
        values, source: see :func:`parse_config`.

    Raises:
        UserError: a key is unknown, missing, of the wrong type or out of range.
    """
    locate = source or ".".join
    schema = _schema(values, locate)
    values = with_presets(values, locate) if schema is RunConfig else values
    return validate(schema, values, locate)


def validate(schema: type[Checked], values: dict[str, Any], locate: Any) -> Checked:
    """An instance of a schema.

    Args:
        schema: what is allowed.
        values: plain containers.
        locate: see :func:`parse_config`.

    Raises:
        UserError: the values do not fit; one sentence about the first problem.
    """
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(error, values, locate, schema)) from error


def _schema(values: dict[str, Any], locate: Any) -> type[BaseRunConfig]:
    """The schema of the task; a mistyped ``task`` is found here, since every other key would be measured by it."""
    if "task" not in values:
        unknown = [str(key) for key in values if key not in RunConfig.model_fields]
        for key in difflib.get_close_matches("task", unknown, n=1, cutoff=0.7):
            raise UserError(f"{locate((key,))}: unknown key {key!r}; did you mean 'task'?")
    task = values.get("task", "operator")
    if not isinstance(task, str) or task not in TASKS:
        hint = did_you_mean(task, TASKS) if isinstance(task, str) else "."
        raise UserError(f"{locate(('task',))} should be {' or '.join(map(repr, TASKS))}; given: {task!r}{hint}")
    return TASKS[task]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        siblings = [str(p) for p in path.parent.glob("*.yaml")] if path.parent.is_dir() else []
        raise UserError(f"no configuration file {str(path)!r}{did_you_mean(str(path), siblings)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the configuration {str(path)!r}: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _sentence(error: ValidationError, values: dict[str, Any], locate: Any, schema: type[BaseModel]) -> str:
    """The first problem as one sentence; unknown keys first, the outermost before all, since they explain the rest."""
    problems = sorted(error.errors(), key=lambda problem: (problem["type"] != "extra_forbidden", len(problem["loc"])))
    problem = problems[0]
    keys = _yaml_path(problem["loc"], values)
    where = locate(keys)
    more = len({_yaml_path(other["loc"], values) for other in problems}) - 1
    tail = f" ({more} more problem{'s' if more > 1 else ''} after this one)" if more else ""
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(schema, keys[:-1])
        hint = did_you_mean(keys[-1], allowed)
        return f"{where}: unknown key {keys[-1]!r}{hint} Allowed: {', '.join(allowed)}.{tail}"
    if problem["type"] == "missing":
        return f"{where} is missing; it is required{tail}"
    choices = [_expectation(other) for other in problems if _yaml_path(other["loc"], values) == keys]
    is_bound = len(choices) > 1 and choices[0].startswith(("less than", "greater than"))
    expected = ("a number " if is_bound else "") + ", or ".join(choices)
    hint = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        names = [name.strip(" '") for name in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
        hint = did_you_mean(problem["input"], names)
    return f"{where} should be {expected}; given: {problem['input']!r}{hint}{tail}"


def _expectation(problem: Any) -> str:
    """One of pydantic's problems as the words that follow "should be"."""
    kind, context = problem["type"], problem.get("ctx", {})
    if kind in ("too_short", "too_long"):
        number = context["min_length" if kind == "too_short" else "max_length"]
        return f"a list of at {'least' if kind == 'too_short' else 'most'} {number} value{'s' if number > 1 else ''}"
    words = _NOT_A_SECTION.sub("keys and values", problem["msg"].removeprefix("Input should be "))
    return words.replace("a valid string", "a string").replace("a valid list", "a list")


def _yaml_path(location: tuple[Any, ...], values: dict[str, Any]) -> tuple[str, ...]:
    """The part of a pydantic location that exists in the YAML; union branches such as ``int`` are dropped."""
    keys: list[str] = []
    node: Any = values
    for index, key in enumerate(location):
        inside = isinstance(node, dict) or (isinstance(node, list) and isinstance(key, int))
        if not inside and index:
            break
        keys.append(str(key))
        node = node.get(key) if isinstance(node, dict) else node[key] if isinstance(key, int) else None
    return tuple(keys)


def _allowed_keys(schema: type[BaseModel], section: tuple[str, ...]) -> list[str]:
    for key in section:
        annotation = schema.model_fields[key].annotation
        schema = next(t for t in (annotation, *getattr(annotation, "__args__", ())) if isinstance(t, type))
    return list(schema.model_fields)
