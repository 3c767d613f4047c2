"""Where the weights of a training come from: fine-tuning a trained or a published model."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from katops.bundle import WithoutHeader, load
from katops.config import RunConfig
from katops.data.adjustment import Adjustment
from katops.errors import DataWarning, UserError
from katops.fields import FieldMeta
from katops.models.scot import ScOT, from_published
from katops.models.scot_channels import adapt
from katops.predictors import FieldPredictor
from katops.predictors.training_sets import readings_of
from katops.training.run_data import RunData

# Of the published Poseidon models, with the normalisation that the published code has for all fluids.
PUBLISHED_STATISTICS = {
    "density": (0.80, 0.31),
    "velocity_x": (0.0, 0.391),
    "velocity_y": (0.0, 0.356),
    "pressure": (0.0, 0.185),
}


@dataclass(frozen=True)
class Initial:
    """A model to start from.

    Attributes:
        state: its weights.
        inputs, outputs: names of its channels, as the net has them.
        statistics: {channel: (mean, standard deviation)} that its channels were normalised with.
        time_scale: the lead time that it saw as 1.
        adjustments: of the data sets that it was trained on, to these statistics and this time scale.
    """

    state: Mapping[str, Tensor]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    statistics: Mapping[str, tuple[float, float]]
    time_scale: float
    adjustments: tuple[Adjustment, ...] = ()


def start_from(config: RunConfig, predictor: FieldPredictor, data: RunData) -> str | None:
    """Put the weights of ``train.initial`` into the model; says in words what was taken.

    Channels are matched by name. With ``data.normalizer: initial`` the statistics of known channels and the time scale
    are taken too, so that a model of the same channels begins as the very function that it was; what the configuration
    states wins. Where the model has learned from data sets of different levels or time scales, and the configuration
    does not say which those of this run are, there is a warning.

    Raises:
        UserError: there is no such model, it is another architecture, or other channels where only scOT can change
            them; its statistics cannot be taken.
    """
    source = config.train.initial
    if source is None:
        return None
    initial = _open(source)
    if config.data.normalizer == "initial":
        _take_statistics(predictor, initial, data, source)
    inputs, outputs = channel_names(predictor.meta)
    same = (initial.inputs, initial.outputs) == (tuple(inputs), tuple(outputs))
    if isinstance(predictor.model, ScOT) and not same:
        report = adapt(initial.state, initial.inputs, initial.outputs, predictor.model, inputs, outputs)
        return f"weights of {source}: {report}"
    if not same:
        raise UserError(
            f"train.initial: {source} maps {', '.join(initial.inputs)} to {', '.join(initial.outputs)}, this run "
            f"{', '.join(inputs)} to {', '.join(outputs)}; only scOT models can change their channels"
        )
    _load(predictor.model, initial.state, source)
    return f"weights of {source}: all {len(initial.state)} tensors"


def channel_names(meta: FieldMeta) -> tuple[list[str], list[str]]:
    """Names of the channels of the net: frames are folded, "density@0", "density@1" where there are several."""

    def folded(names: Sequence[str], steps: int) -> list[str]:
        return list(names) if steps == 1 else [f"{name}@{step}" for step in range(steps) for name in names]

    inputs = folded([channel.name for channel in meta.inputs], meta.steps_in)
    outputs = folded([channel.name for channel in meta.outputs], meta.steps_out)
    return inputs + [channel.name for channel in meta.constants], outputs


def _open(source: str) -> Initial:
    if (Path(source) / "config.json").is_file():
        return _published(source)
    try:
        bundle = load(source)
    except WithoutHeader:
        return _published(source)
    if not isinstance(bundle.predictor, FieldPredictor):
        raise UserError(f"train.initial: {source} classifies images; name a model of fields")
    normalizer = bundle.predictor.normalizer
    inputs, outputs = map(tuple, channel_names(bundle.meta))
    return Initial(
        bundle.model.state_dict(),
        inputs,
        outputs,
        normalizer.known(),
        float(normalizer.time_scale),
        tuple(map(Adjustment.from_header, readings_of(bundle.header))),
    )


def _published(source: str) -> Initial:
    model = from_published(source)
    names = tuple(PUBLISHED_STATISTICS)
    if (model.in_channels, model.out_channels) != (len(names), len(names)):
        raise UserError(
            f"train.initial: {source} has {model.in_channels} input and {model.out_channels} output channels, whose "
            f"names are not known; published models have {', '.join(names)}"
        )
    return Initial(model.state_dict(), names, names, PUBLISHED_STATISTICS, 1.0)


def _take_statistics(predictor: FieldPredictor, initial: Initial, data: RunData, source: str) -> None:
    if not initial.statistics:
        raise UserError(
            f"data.normalizer is 'initial', but {source} has statistics of every point; take standard or pointwise"
        )
    normalizer = predictor.normalizer
    ours = {*normalizer.inputs, *normalizer.outputs, *normalizer.constants}
    normalizer.state({n: v for n, v in initial.statistics.items() if n in ours and n not in data.stated.statistics})
    if data.stated.time_scale is None:
        normalizer.time_scale.fill_(initial.time_scale)
    _warn_of_levels(initial, ours - set(data.stated.statistics), data.stated.time_scale is None, source)


def _warn_of_levels(initial: Initial, channels: set[str], scaled: bool, source: str) -> None:
    """Say what has to be stated about data that are like one of the data sets that the model moved or stretched.

    Args:
        initial: the model.
        channels: whose statistics were taken.
        scaled: whether its time scale was taken.
        source: its name.
    """
    moved = sorted({name for adjustment in initial.adjustments for name in adjustment.offset if name in channels})
    missing = [f"data.statistics of {', '.join(moved)}"] if moved else []
    if scaled and any(adjustment.time_factor != 1.0 for adjustment in initial.adjustments):
        missing.append("data.time_scale")
    if missing:
        warnings.warn(
            f"{source} has learned from data sets that were moved to one level and time scale, and the data of this "
            f"run are taken for data at these; state {' and '.join(missing)} as they were stated for the data set that "
            f"yours are like",
            DataWarning,
            stacklevel=2,
        )


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"train.initial: the weights of {source} do not fit this model: {reason}") from error
