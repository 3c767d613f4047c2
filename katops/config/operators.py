"""``task: operator``: learn a map between fields from HDF5 files."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from katops.config.base import (
    BaseRunConfig,
    Component,
    Locate,
    NamedComponent,
    NonNegativeInt,
    Optimisation,
    PositiveInt,
    ReportConfig,
    Section,
    Seed,
)
from katops.errors import UserError

Share = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0.0, le=1.0)]
"""A number of samples (integer) or a fraction of them (0.0 to 1.0)."""


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
    test_files: list[str] = Field(default_factory=list)
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


class TrainConfig(Optimisation):
    """The optimisation; ``loss`` is a registered metric that is differentiable."""

    loss: NamedComponent = Component(name="relative_l2")
    schedule: Literal["one_cycle", "cosine", "constant"] = "one_cycle"


class RunConfig(BaseRunConfig):
    """One operator-learning run, as written in one YAML file."""

    task: Literal["operator"] = "operator"
    data: DataConfig
    model: NamedComponent
    train: TrainConfig = TrainConfig()
    report: ReportConfig = ReportConfig()

    def check_together(self, locate: Locate) -> None:
        """See :meth:`BaseRunConfig.check_together`."""
        super().check_together(locate)
        split, train, data = self.data.split, self.train, self.data
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
        if data.test_files and split.test:
            raise UserError(
                f"{locate(('data', 'split', 'test'))} is {split.test}, but data.test_files name the test data; "
                f"keep one of them"
            )
