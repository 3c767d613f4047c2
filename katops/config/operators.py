"""``task: operator``: learn a map between fields from HDF5 files."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from katops.config.base import (
    BaseRunConfig,
    Component,
    Locate,
    NamedComponent,
    NonNegativeFloat,
    NonNegativeInt,
    Optimisation,
    PositiveInt,
    ReportConfig,
    Section,
    Seed,
    as_component,
)
from katops.errors import UserError

Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0.0, le=1.0)]
"""A number of samples (integer) or a fraction of them (0.0 to 1.0)."""


Paths = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
"""One path or several."""

GridName = Literal["cell_centres", "nodes", "periodic_nodes"]


class WindowConfig(Section):
    """Which frames of a trajectory form an input and a target (``katops.data.windows``)."""

    n_in: PositiveInt = 1
    n_out: PositiveInt = 1
    gap: NonNegativeInt = 0
    stride: PositiveInt = 1
    every: PositiveInt = 1
    first: NonNegativeInt = 0


class SplitConfig(Section):
    """How the samples of ``data.file`` are shared out; integers count samples, fractions are shares.

    ``preset`` takes the sizes and the order of a paper instead (``katops.data.splits.PRESETS``).
    """

    preset: str | None = None
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

    ``file`` and each of ``validation_files`` and ``test_files`` is a file, a folder or a pattern such as
    ``data/*.hdf5``. Published layouts describe themselves; ``inputs``, ``outputs`` and ``constants`` then select
    channels. For any other file the keys from ``format`` to ``time_step`` are the description. ``condition`` names
    parameters that the model is given as constant channels. ``dirichlet_values`` says what outputs are on the Dirichlet
    sides, a number or the name of an input; predictions then have exactly these values there.
    """

    file: str
    validation_files: Paths = Field(default_factory=list)
    test_files: Paths = Field(default_factory=list)
    generate: GenerateConfig | None = None
    format: str | None = None
    inputs: list[str] | None = None
    outputs: list[str] | None = None
    constants: list[str] | None = None
    parameters: list[str] | None = None
    condition: list[str] = Field(default_factory=list)
    channels: dict[str, list[str]] | None = None
    axes: list[str] | dict[str, list[str]] | None = None
    boundary: str | list[str | list[str]] | dict[str, str | list[str]] | None = None
    grid: GridName | list[GridName] | None = None
    domain: list[Annotated[list[float], Field(min_length=2, max_length=2)]] | None = None
    time_step: Annotated[float, Field(gt=0.0)] | None = None
    window: WindowConfig = WindowConfig()
    subsample: PositiveInt | list[PositiveInt] = 1
    subsample_method: Literal["stride", "block_mean", "spectral"] = "stride"
    crop: list[Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)] | None] | None = None
    exclude: list[NonNegativeInt] = Field(default_factory=list)
    split: SplitConfig = SplitConfig()
    normalizer: Literal["standard", "pointwise", "none"] = "standard"
    dirichlet_values: dict[str, float | str] = Field(default_factory=dict)
    memory: Literal["auto", "ram", "file"] = "auto"
    workers: NonNegativeInt = 0


class ScheduleConfig(Component):
    """A schedule of the learning rate with its options (``katops.training.optim``)."""

    name: Literal["one_cycle", "cosine", "constant", "step"]


class RolloutTrainingConfig(Section):
    """Training on the model's own predictions.

    ``steps`` calls of the model follow each other, and the loss is the mean over all of them. With ``pushforward`` it
    is the mean over the first and the last one, and no gradient flows from one call to another: one step from true
    frames, and one from what the model itself makes of them (Brandstetter, Worrall, Welling, arXiv 2202.03376).
    ``noise`` is the standard deviation of a normally distributed error of the first input, as a fraction of that of the
    channel (Sanchez-Gonzalez et al., arXiv 2002.09405).
    """

    steps: PositiveInt = 1
    pushforward: bool = False
    noise: NonNegativeFloat = 0.0


class RolloutReportConfig(Section):
    """A rollout of ``frames`` frames in every test trajectory, its input beginning at frame ``start``."""

    frames: PositiveInt
    start: NonNegativeInt = 0


class FieldReportConfig(ReportConfig):
    """What the report of a run on fields shows.

    ``semigroup`` compares one step of length 2t with two steps of t, for models that take the lead time.
    """

    rollout: RolloutReportConfig | None = None
    semigroup: bool = False


class TrainConfig(Optimisation):
    """The optimisation; ``loss`` is a registered metric that is differentiable."""

    loss: NamedComponent = Component(name="relative_l2")
    optimizer: Literal["adamw", "adam"] = "adamw"
    schedule: Annotated[ScheduleConfig, BeforeValidator(as_component)] = ScheduleConfig(name="one_cycle")
    rollout: RolloutTrainingConfig = RolloutTrainingConfig()


class RunConfig(BaseRunConfig):
    """One operator-learning run, as written in one YAML file."""

    task: Literal["operator"] = "operator"
    data: DataConfig
    model: NamedComponent
    train: TrainConfig = TrainConfig()
    report: FieldReportConfig = FieldReportConfig()

    def check_together(self, locate: Locate) -> None:
        """See :meth:`BaseRunConfig.check_together`."""
        super().check_together(locate)
        split, train, data = self.data.split, self.train, self.data
        if train.rollout.pushforward and train.rollout.steps < 2:
            raise UserError(
                f"{locate(('train', 'rollout', 'pushforward'))} needs train.rollout.steps of at least 2, given: "
                f"{train.rollout.steps}"
            )
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
        if split.preset is not None and (split.train is not None or split.test is not None or split.validation != 0.1):
            raise UserError(
                f"{locate(('data', 'split', 'preset'))} is {split.preset!r}, which fixes the sizes; drop train, "
                f"validation and test beside it"
            )
        if train.early_stopping is not None and split.validation == 0 and not data.validation_files:
            raise UserError(
                f"{locate(('train', 'early_stopping'))} needs validation samples, but data.split.validation is 0; "
                f"give some or drop early_stopping"
            )
        if data.test_files and split.test:
            raise UserError(
                f"{locate(('data', 'split', 'test'))} is {split.test}, but data.test_files name the test data; "
                f"keep one of them"
            )
