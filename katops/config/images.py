"""``task: image_classification``: train a timm model, or one of ours, on labelled images."""

from typing import Annotated, Literal

from pydantic import Field

from katops.config.base import (
    READING_TIMEOUT,
    BaseRunConfig,
    Locate,
    NamedComponent,
    NonNegativeFloat,
    NonNegativeInt,
    Optimisation,
    PositiveFloat,
    PositiveInt,
    Probability,
    ReportConfig,
    Section,
    Seed,
)
from katops.errors import UserError

DIGITS, FOLDER = "digits", "folder"

Fraction = Annotated[float, Field(gt=0.0, lt=1.0)]
Interval = Annotated[list[PositiveFloat], Field(min_length=2, max_length=2)]
Channels = Annotated[list[float], Field(min_length=1)]


class AugmentationConfig(Section):
    """How training images are varied, by ``timm.data.create_transform``.

    ``scale`` and ``ratio`` are area and aspect ratio of the random crop that is resized to the input size;
    ``auto_augment`` is timm's notation, such as ``rand-m9-mstd0.5``, and takes the place of ``color_jitter``;
    ``random_erasing`` is the probability that a rectangle is replaced by noise (timm's mode "pixel").
    """

    scale: Interval = Field(default=[0.08, 1.0])
    ratio: Interval = Field(default=[0.75, 4 / 3])
    hflip: Probability = 0.5
    color_jitter: NonNegativeFloat = 0.4
    auto_augment: str | None = None
    random_erasing: Probability = 0.0


class ImageDataConfig(Section):
    """Which images, how they are split, and how they reach the model.

    ``dataset`` is ``digits`` (scikit-learn's 1797 images of 8 x 8), ``folder`` (a folder per class below
    ``root/<split>``; the split ``.`` is ``root`` itself), or what ``timm.data.create_dataset`` understands, such as
    ``torch/cifar10``. A split is a name, or a fraction of the training images, drawn per class with ``split_seed``.
    Without a test split the validation images are the ones reported on, and the report says so. ``input_size`` is
    [channels, height, width]; it and ``mean`` to ``crop_pct`` come from the data set or the model where absent.
    Reading a batch by ``workers`` may take ``timeout`` seconds (0: any).
    """

    dataset: str = FOLDER
    root: str | None = None
    download: bool = False
    train_split: str = "train"
    validation_split: Fraction | str | None = 0.1
    test_split: Fraction | str | None = None
    split_seed: Seed = 0
    class_map: str | None = None
    input_size: Annotated[list[PositiveInt], Field(min_length=3, max_length=3)] | None = None
    mean: Channels | None = None
    std: Channels | None = None
    interpolation: Literal["nearest", "bilinear", "bicubic"] | None = None
    crop_pct: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    augmentation: AugmentationConfig | None = AugmentationConfig()
    workers: NonNegativeInt = 0
    timeout: NonNegativeFloat = READING_TIMEOUT


class ImageTrainConfig(Optimisation):
    """The optimisation, with timm's optimisers and schedule.

    The learning rate rises linearly from ``warmup_learning_rate`` over ``warmup_epochs``, then follows half a cosine
    to ``min_learning_rate`` (arXiv 1608.03983) or stays; both are advanced with every optimiser step, and planned for
    ``epochs``: ``max_steps`` cuts the training off without making the cosine shorter. ``layer_decay`` multiplies the
    rate by that factor for each layer below the head. ``mixup`` and ``cutmix`` are the alphas of their beta
    distributions (arXiv 1710.09412, 1905.04899), used up to ``mixup_off_epoch``.
    """

    weight_decay: NonNegativeFloat = 0.05
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = None
    batch_size: PositiveInt = 64
    optimizer: str = "adamw"
    schedule: Literal["cosine", "constant"] = "cosine"
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    warmup_epochs: NonNegativeInt = 5
    warmup_learning_rate: NonNegativeFloat = 1e-5
    min_learning_rate: NonNegativeFloat = 0.0
    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.1
    mixup: NonNegativeFloat = 0.0
    cutmix: NonNegativeFloat = 0.0
    mixup_off_epoch: PositiveInt | None = None

    @property
    def mixes(self) -> bool:
        """Whether training images are mixed with each other."""
        return self.mixup > 0 or self.cutmix > 0


class ImageRunConfig(BaseRunConfig):
    """One image-classification run: the model, and the models it is compared with, each trained ``repeats`` times.

    Training k of a model has the seed ``seed + k``; data, splits and budget are the same for all of them.
    """

    task: Literal["image_classification"]
    data: ImageDataConfig
    model: NamedComponent
    compare: list[NamedComponent] = Field(default_factory=list)
    repeats: PositiveInt = 1
    train: ImageTrainConfig = ImageTrainConfig()
    report: ReportConfig = ReportConfig(examples=12)

    @property
    def is_validated(self) -> bool:
        """Whether epochs are compared on validation images."""
        return self.data.validation_split is not None

    def check_together(self, locate: Locate) -> None:
        """See :meth:`BaseRunConfig.check_together`."""
        super().check_together(locate)
        self._check_source(locate)
        self._check_splits(locate)
        self._check_sizes(locate)
        self._check_training(locate)

    def _check_source(self, locate: Locate) -> None:
        data = self.data
        if data.dataset == DIGITS and data.root is not None:
            raise UserError(f"{locate(('data', 'root'))}: the images of 'digits' come with scikit-learn; drop root")
        if data.dataset == FOLDER and data.root is None:
            raise UserError(f"{locate(('data', 'dataset'))} is 'folder', which needs data.root, the folder of images")
        if data.dataset == DIGITS and data.train_split != "train":
            raise UserError(f"{locate(('data', 'train_split'))}: 'digits' has no named splits; drop train_split")
        for key in ("validation_split", "test_split"):
            if data.dataset == DIGITS and isinstance(getattr(data, key), str):
                raise UserError(
                    f"{locate(('data', key))} is {getattr(data, key)!r}, but 'digits' has no named splits; "
                    f"give a fraction such as 0.2"
                )

        if data.download and data.dataset in (DIGITS, FOLDER):
            raise UserError(
                f"{locate(('data', 'download'))} is true, but the images of {data.dataset!r} are not downloaded; "
                f"drop download"
            )

    def _check_splits(self, locate: Locate) -> None:
        data = self.data
        shares = [share for share in (data.validation_split, data.test_split) if isinstance(share, float)]
        if not shares and data.split_seed != ImageDataConfig().split_seed:
            raise UserError(
                f"{locate(('data', 'split_seed'))} is {data.split_seed}, but no split is a fraction of the training "
                f"images, so there is nothing to draw; drop split_seed"
            )
        if sum(shares) >= 1.0:
            raise UserError(
                f"{locate(('data', 'test_split'))}: validation and test take {sum(shares):g} of the training images; "
                f"they must leave some to train on"
            )
        if data.validation_split is None and data.test_split is None:
            raise UserError(
                f"{locate(('data', 'validation_split'))} and data.test_split are both null; give one of them, or there "
                f"are no images to measure the accuracy on"
            )
        if self.train.early_stopping is not None and not self.is_validated:
            raise UserError(
                f"{locate(('train', 'early_stopping'))} needs validation images, but data.validation_split is null; "
                f"give some or drop early_stopping"
            )

    def _check_sizes(self, locate: Locate) -> None:
        data = self.data
        for key in ("mean", "std"):
            values = getattr(data, key)
            if values and data.input_size and len(values) not in (1, data.input_size[0]):
                raise UserError(
                    f"{locate(('data', key))} has {len(values)} values, but data.input_size has {data.input_size[0]} "
                    f"channels; give one value, or one per channel"
                )
        if data.std and min(data.std) <= 0:
            raise UserError(f"{locate(('data', 'std'))} should be greater than 0; given: {data.std}")
        if data.input_size and data.input_size[0] not in (1, 3):
            raise UserError(
                f"{locate(('data', 'input_size'))} starts with {data.input_size[0]} channels; images have 1 (grey) or "
                f"3 (colour); write [channels, height, width]"
            )
        for key in ("scale", "ratio"):
            interval = getattr(data.augmentation, key, None)
            if interval and interval[0] > interval[1]:
                raise UserError(f"{locate(('data', 'augmentation', key))} is {interval}; write [smallest, largest]")

    def _check_training(self, locate: Locate) -> None:
        train = self.train
        if train.warmup_epochs >= train.epochs:
            raise UserError(
                f"{locate(('train', 'warmup_epochs'))} is {train.warmup_epochs}, but train.epochs is {train.epochs}; "
                f"the warm-up must end before the training does"
            )
        if not train.warmup_epochs and train.warmup_learning_rate != ImageTrainConfig().warmup_learning_rate:
            raise UserError(
                f"{locate(('train', 'warmup_learning_rate'))} is {train.warmup_learning_rate:g}, but "
                f"train.warmup_epochs is 0; drop it or give warm-up epochs"
            )
        smallest = {"min_learning_rate": train.min_learning_rate}
        if train.warmup_epochs:
            smallest["warmup_learning_rate"] = train.warmup_learning_rate
        if max(smallest.values()) > train.learning_rate:
            raise UserError(
                f"{locate(('train', 'learning_rate'))} is {train.learning_rate:g}, less than "
                + " or ".join(f"train.{key} ({value:g})" for key, value in smallest.items())
            )
        if train.mixes and train.batch_size % 2:
            raise UserError(
                f"{locate(('train', 'batch_size'))} is {train.batch_size}, but mixup and cutmix pair the images of a "
                f"batch; give an even number"
            )
        if train.mixup_off_epoch is not None and not train.mixes:
            raise UserError(
                f"{locate(('train', 'mixup_off_epoch'))} is {train.mixup_off_epoch}, but train.mixup and train.cutmix "
                f"are 0; drop it or give one of them"
            )
