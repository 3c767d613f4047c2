"""``task: operator``: learn a map between fields from HDF5 files."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from katops.config.base import (
    READING_TIMEOUT,
    BaseRunConfig,
    Component,
    Locate,
    NamedComponent,
    NonNegativeFloat,
    NonNegativeInt,
    Optimisation,
    PositiveFloat,
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


def _as_mask(value: Any) -> Any:
    """A list of names masks these channels everywhere."""
    return dict.fromkeys(value) if isinstance(value, list) and all(isinstance(name, str) for name in value) else value


class WindowConfig(Section):
    """Which frames of a trajectory form an input and a target (``katops.data.windows``)."""

    n_in: PositiveInt = 1
    n_out: PositiveInt = 1
    gap: NonNegativeInt = 0
    stride: PositiveInt = 1
    every: PositiveInt = 1
    first: NonNegativeInt = 0


class PairsConfig(Section):
    """All pairs of earlier and later frames of a trajectory (``katops.data.pairs``), in place of a window.

    The frames are ``frames``, or every ``every``-th one from ``first`` to ``last`` (the last of the shortest trajectory
    where it is not given). ``identity`` counts pairs of a frame with itself, ``leads`` allows some distances of frames
    only. ``together`` pairs of a trajectory share a batch, so that its frames are read once for all of them.
    """

    frames: list[NonNegativeInt] | None = None
    first: NonNegativeInt = 0
    last: NonNegativeInt | None = None
    every: PositiveInt = 1
    identity: bool = True
    leads: list[NonNegativeInt] | None = None
    together: PositiveInt = 4


class SplitConfig(Section):
    """How the samples of ``data.file`` are shared out; integers count samples, fractions are shares.

    ``preset`` takes the sizes and the order of a paper instead (``katops.data.splits.PRESETS``); ``train`` beside it
    keeps the first of the training samples only.
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

    ``fill`` gives channels that the files lack (a number, or the name of an analytic field, see
    :data:`katops.data.analytic_fields.ANALYTIC_FIELDS`), and ``mask`` names outputs that are not learned, or where they
    are not: ``{density: airfoil}`` masks the density where the input ``airfoil`` is not zero. ``lead_time`` is what a
    model that takes the time is told of a steady problem, ``time_scale`` the time that it sees as 1 (the longest lead
    time of the training where it is not given). ``statistics`` states mean and standard deviation of channels in place
    of those of the training samples. ``mix`` lists several data sets, each with keys of its own beside those of the
    section.

    Reading a batch may take ``timeout`` seconds (0: any); what takes longer, a hanging file system or a dead process,
    ends the run.

    ``preset`` names a published data set (:data:`katops.pdegym.SETS`). What it stands for is written into the other
    keys before they are checked; those that are stated go before it.
    """

    file: str | None = None
    preset: str | None = None
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
    pairs: PairsConfig | None = None
    fill: dict[str, float | str] = Field(default_factory=dict)
    mask: Annotated[dict[str, str | None], BeforeValidator(_as_mask)] = Field(default_factory=dict)
    lead_time: PositiveFloat | None = None
    time_scale: PositiveFloat | None = None
    statistics: dict[str, Annotated[list[float], Field(min_length=2, max_length=2)]] = Field(default_factory=dict)
    subsample: PositiveInt | list[PositiveInt] = 1
    subsample_method: Literal["stride", "block_mean", "spectral"] = "stride"
    crop: list[Annotated[list[NonNegativeInt], Field(min_length=2, max_length=2)] | None] | None = None
    exclude: list[NonNegativeInt] = Field(default_factory=list)
    split: SplitConfig = SplitConfig()
    normalizer: Literal["standard", "pointwise", "none", "initial"] = "standard"
    dirichlet_values: dict[str, Annotated[float, Field(allow_inf_nan=False)] | str] = Field(default_factory=dict)
    memory: Literal["auto", "ram", "file"] = "auto"
    workers: NonNegativeInt = 0
    timeout: NonNegativeFloat = READING_TIMEOUT
    mix: list["MixedDataConfig"] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _inherit(cls, values: Any) -> Any:
        """What an entry of ``mix`` does not say is what the section says."""
        if not isinstance(values, dict) or not isinstance(values.get("mix"), list):
            return values
        shared = {key: value for key, value in values.items() if key not in NOT_INHERITED}
        return {**values, "mix": [{**shared, **entry} if isinstance(entry, dict) else entry for entry in values["mix"]]}

    @property
    def name(self) -> str:
        """The files, for messages and headers."""
        return self.file if self.file is not None else " + ".join(str(entry.file) for entry in self.mix)


NOT_INHERITED = ("file", "generate", "validation_files", "test_files", "mix")
"""Keys of ``data`` that belong to one data set."""


OF_THE_MODEL = ("normalizer", "dirichlet_values", "workers", "timeout")
"""Keys of ``data`` that one model has once, whatever it learns from."""


class MixedDataConfig(DataConfig):
    """One of several data sets: the keys of ``data``, and how often each of its windows is drawn in an epoch."""

    weight: PositiveFloat = 1.0


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
    """The optimisation; ``loss`` is a registered metric that is differentiable, or a loss (``katops.training.losses``).

    ``initial`` is where the weights come from: a model file, a run, a folder or hub id with published weights; channels
    are matched by name. ``rates`` gives parts of the model learning rates of their own (0 keeps them as they are):
    ``channels``, what the first and last layers do to channels; ``norms``; ``rest``.
    """

    loss: NamedComponent = Component(name="relative_l2")
    initial: str | None = None
    rates: dict[str, NonNegativeFloat] = Field(default_factory=dict)
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

    @property
    def is_validated(self) -> bool:
        """Whether epochs are compared on validation samples."""
        sections = self.data.mix or [self.data]
        return any(section.split.validation != 0 or bool(section.validation_files) for section in sections)

    def spelled_out(self) -> dict[str, Any]:
        """See :meth:`BaseRunConfig.spelled_out`: entries of a mixture say what they have of their own."""
        values = super().spelled_out()
        section = values["data"]
        for entry in section["mix"]:
            # What is stated beside a preset goes before it, also where the section says the same.
            shared = OF_THE_MODEL if entry["preset"] else section.keys() - {*NOT_INHERITED}
            for key in shared:
                if entry[key] == section[key]:
                    del entry[key]
        return values

    def check_together(self, locate: Locate) -> None:
        """See :meth:`BaseRunConfig.check_together`."""
        super().check_together(locate)
        self._check_sources(locate)
        train, data = self.train, self.data
        if train.rollout.pushforward and train.rollout.steps < 2:
            raise UserError(
                f"{locate(('train', 'rollout', 'pushforward'))} needs train.rollout.steps of at least 2, given: "
                f"{train.rollout.steps}"
            )
        sections = data.mix or [data]
        for section in sections:
            self._check_split(section, locate)
        split = data.split
        if isinstance(split.train, int) and split.train < train.batch_size and not data.mix and data.pairs is None:
            raise UserError(
                f"{locate(('train', 'batch_size'))} is {train.batch_size}, more than the {split.train} samples of "
                f"data.split.train; make the batch smaller or the split larger"
            )
        if train.early_stopping is not None and not self.is_validated:
            raise UserError(
                f"{locate(('train', 'early_stopping'))} needs validation samples, but data.split.validation is 0; "
                f"give some or drop early_stopping"
            )

    def _check_split(self, section: DataConfig, locate: Locate) -> None:
        """How the samples of one data set are shared out."""
        split = section.split
        shares = [split.train or 0, split.validation, split.test or 0]
        if all(isinstance(share, float) or share == 0 for share in shares) and sum(shares) > 1.0 + 1e-9:
            raise UserError(
                f"{locate(('data', 'split'))}: train, validation and test add up to {sum(shares):g} of the samples; "
                f"they may add up to 1 at most"
            )
        if split.preset is not None and (split.test is not None or split.validation != 0.1):
            raise UserError(
                f"{locate(('data', 'split', 'preset'))} is {split.preset!r}, which fixes the sizes; drop "
                f"validation and test beside it"
            )
        if section.test_files and split.test:
            raise UserError(
                f"{locate(('data', 'split', 'test'))} is {split.test}, but data.test_files name the test data; "
                f"keep one of them"
            )

    def _check_sources(self, locate: Locate) -> None:
        """What says where the windows come from."""
        data, train = self.data, self.train
        if (data.file is None) == (not data.mix):
            raise UserError(f"{locate(('data',))} needs either file or mix, the data sets that are mixed")
        for key in ("generate", "validation_files", "test_files"):
            if data.mix and getattr(data, key):
                raise UserError(f"{locate(('data', key))} belongs to one data set; write it into an entry of data.mix")
        for number, entry in enumerate(data.mix):
            if entry.mix or entry.file is None:
                raise UserError(f"{locate(('data', 'mix'))}: entry {number} needs file, and no mix of its own")
            for key in OF_THE_MODEL:
                if getattr(entry, key) != getattr(data, key):
                    raise UserError(
                        f"{locate(('data', 'mix'))}: entry {number} has {key}, which is the same for all data sets; "
                        f"write it into data"
                    )
        for section in (data, *data.mix):
            self._check_pairs(section, locate)
        if data.normalizer == "initial" and train.initial is None:
            raise UserError(f"{locate(('data', 'normalizer'))} is 'initial', but train.initial names no model")

    def _check_pairs(self, section: DataConfig, locate: Locate) -> None:
        pairs, where = section.pairs, ("data", "pairs")
        if pairs is None:
            return
        if section.window != WindowConfig():
            raise UserError(f"{locate(where)} take the place of data.window; keep one of them")
        # A saved configuration spells every default out.
        if pairs.frames is not None and (pairs.first, pairs.last, pairs.every) != (0, None, 1):
            raise UserError(f"{locate(where)} has frames, which say which frames there are; drop first, last and every")
        if self.train.rollout.steps > 1:
            raise UserError(
                f"{locate(('train', 'rollout', 'steps'))} is for windows that follow each other; data.pairs have none"
            )
