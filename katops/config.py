"""The configuration of one run: YAML -> OmegaConf -> strict schema.

A configuration holds only what differs from the defaults below. It cannot execute code: names resolve through
registries, and a user's own Python file (``plugins``) is refused unless the caller allows it.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from katops.errors import UserError, did_you_mean

_NOT_A_SECTION = re.compile(r"a valid dictionary or instance of \w+")

PositiveInt = Annotated[int, Field(gt=0)]
NonNegativeInt = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0.0, le=1.0)]
"""A number of samples (integer) or a fraction of them (0.0 to 1.0)."""


class Section(BaseModel):
    """A part of the schema: no unknown keys, no silent conversion, immutable."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Component(BaseModel):
    """A registered name with its options; in YAML ``{name: h1, max_wavenumber: 20}`` or just ``h1``.

    The options are checked later, against the signature of what the name stands for.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """Everything except the name."""
        return dict(self.model_extra or {})


def _component(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamedComponent = Annotated[Component, BeforeValidator(_component)]


class WindowConfig(Section):
    """Which frames of a trajectory form an input and a target (``katops.data.windows``)."""

    n_in: PositiveInt = 1
    n_out: PositiveInt = 1
    gap: NonNegativeInt = 0
    stride: PositiveInt = 1
    every: PositiveInt = 1


class SplitConfig(Section):
    """How the samples of ``data.file`` are shared out; integers count samples, fractions are shares."""

    train: Share | None = None
    validation: Share = 0.1
    test: Share | None = None
    seed: Seed = 0


class GenerateConfig(BaseModel):
    """What ``katops generate`` makes when ``data.file`` does not exist yet; further keys are the problem's options."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)

    problem: str
    samples: PositiveInt
    seed: Seed = 0

    @property
    def options(self) -> dict[str, Any]:
        """Options of the problem, such as ``resolution``."""
        return dict(self.model_extra or {})


class DataConfig(Section):
    """Where the samples are and what their arrays mean.

    Files in the katops layout describe themselves; ``inputs`` and ``outputs`` then select channels. For any other HDF5
    file the keys from ``inputs`` to ``time_step`` are the description.
    """

    file: str
    test_files: list[str] = []
    generate: GenerateConfig | None = None
    inputs: list[str] | None = None
    outputs: list[str] | None = None
    axes: list[str] | None = None
    boundary: str | list[str | list[str]] | None = None
    grid: Literal["cell_centres", "nodes", "periodic_nodes"] | None = None
    time_step: Annotated[float, Field(gt=0.0)] | None = None
    window: WindowConfig = WindowConfig()
    subsample: PositiveInt = 1
    split: SplitConfig = SplitConfig()
    normalizer: Literal["standard", "none"] = "standard"
    workers: NonNegativeInt = 0


class TrainConfig(Section):
    """The optimisation.

    ``loss`` is a registered metric that is differentiable. ``precision`` uses Lightning's names. ``early_stopping`` is
    the number of epochs without a better validation error after which training ends; ``max_steps`` ends it after that
    many optimiser steps, whatever the epoch.
    """

    epochs: PositiveInt = 100
    batch_size: PositiveInt = 16
    loss: NamedComponent = Component(name="relative_l2")
    learning_rate: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] = 1e-3
    weight_decay: Annotated[float, Field(ge=0.0, allow_inf_nan=False)] = 1e-4
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = 1.0
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    early_stopping: PositiveInt | None = None
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = "32-true"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    max_steps: PositiveInt | None = None


class ReportConfig(Section):
    """What the report shows."""

    examples: PositiveInt = 3


class RunConfig(Section):
    """One run, as written in one YAML file."""

    name: str
    seed: Seed = 0
    output: str | None = None
    plugins: list[str] = []
    data: DataConfig
    model: NamedComponent
    train: TrainConfig = TrainConfig()
    report: ReportConfig = ReportConfig()

    @property
    def directory(self) -> Path:
        """Folder of the run: ``output``, or ``runs/<name>`` below the working directory."""
        return Path(self.output) if self.output else Path("runs") / self.name

    def to_yaml(self) -> str:
        """The resolved configuration, every default spelled out."""
        return yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True, width=120)


def load_config(path: str | Path, overrides: list[str] | None = None) -> RunConfig:
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
    return parse_config(values, _Source(path, text, list(overrides or [])))


class _Source:
    """Where a key was written, for error messages."""

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


def parse_config(values: dict[str, Any], source: Any = None) -> RunConfig:
    """Check plain containers against the schema.

    Args:
        values: what a YAML file would hold.
        source: maps a key path to the words that say where it was written; the dotted path by default.

    Raises:
        UserError: see :func:`load_config`.
    """
    locate = source or ".".join
    try:
        config = RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(_sentence(error, values, locate)) from error
    _check_together(config, locate)
    return config


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


def _sentence(error: ValidationError, values: dict[str, Any], locate: Any) -> str:
    """The first problem as one sentence; unknown keys first, since they explain what is missing."""
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    problem = problems[0]
    keys = _yaml_path(problem["loc"], values)
    where = locate(keys)
    more = len({_yaml_path(other["loc"], values) for other in problems}) - 1
    tail = f" ({more} more problem{'s' if more > 1 else ''} after this one)" if more else ""
    if problem["type"] == "extra_forbidden":
        allowed = _allowed_keys(keys[:-1])
        hint = did_you_mean(keys[-1], allowed)
        return f"{where}: unknown key {keys[-1]!r}{hint} Allowed: {', '.join(allowed)}.{tail}"
    if problem["type"] == "missing":
        return f"{where} is missing; it is required{tail}"
    expected = "; or ".join(
        _NOT_A_SECTION.sub("keys and values", other["msg"].removeprefix("Input should be "))
        for other in problems
        if _yaml_path(other["loc"], values) == keys
    )
    hint = ""
    if problem["type"] == "literal_error" and isinstance(problem["input"], str):
        names = [name.strip(" '") for name in problem["ctx"]["expected"].replace(" or ", ",").split(",")]
        hint = did_you_mean(problem["input"], names)
    return f"{where} should be {expected}; given: {problem['input']!r}{hint}{tail}"


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


def _allowed_keys(section: tuple[str, ...]) -> list[str]:
    schema: type[BaseModel] = RunConfig
    for key in section:
        annotation = schema.model_fields[key].annotation
        schema = next(t for t in (annotation, *getattr(annotation, "__args__", ())) if isinstance(t, type))
    return list(schema.model_fields)


def _check_together(config: RunConfig, locate: Any) -> None:
    """Mistakes that need two keys to be seen."""
    split, train, data = config.data.split, config.train, config.data
    shares = [split.train or 0, split.validation, split.test or 0]
    if all(isinstance(share, float) or share == 0 for share in shares) and sum(shares) > 1.0 + 1e-9:
        raise UserError(
            f"{locate(('data', 'split'))}: train, validation and test add up to {sum(shares):g} of the samples; "
            f"they may add up to 1 at most"
        )
    if isinstance(split.train, int) and split.train < train.batch_size:
        raise UserError(
            f"{locate(('train', 'batch_size'))} is {train.batch_size}, more than the {split.train} samples of "
            f"data.split.train; make the batch smaller or the split larger"
        )
    if train.early_stopping is not None and split.validation == 0:
        raise UserError(
            f"{locate(('train', 'early_stopping'))} needs validation samples, but data.split.validation is 0; "
            f"give some or drop early_stopping"
        )
    if "/" in config.name or config.name.strip() in {"", ".", ".."}:
        raise UserError(f"{locate(('name',))} must be usable as the name of a folder; given: {config.name!r}")
    if data.test_files and split.test:
        raise UserError(
            f"{locate(('data', 'split', 'test'))} is {split.test}, but data.test_files name the test data; "
            f"keep one of them"
        )
