"""Weights of a scOT for one set of channels put into a scOT for another: by name, the rest at the right scale.

Only four tensors of a scOT know the channels: the filters that make tokens of a field, and the filters, biases and
seams that make a field of tokens. Everything else is taken as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.models.scot_published import check_conditioning, published_layout

EMBEDDING = "embeddings.patch_embeddings.projection.weight"
RECOVERY, RECOVERY_BIAS = "patch_recovery.projection.weight", "patch_recovery.projection.bias"
MIXUP = "patch_recovery.mixup.weight"
OF_CHANNELS = (EMBEDDING, RECOVERY, RECOVERY_BIAS, MIXUP)
# New inputs beside all the old ones: their share of what makes a token, so that the old ones stay what counts.
SHARE_OF_NEW = 0.1


@dataclass(frozen=True)
class Remark:
    """One tensor and what is to be said about it."""

    key: str
    reason: str


@dataclass(frozen=True)
class AdaptationReport:
    """What an adaptation took; ``print`` shows it.

    Attributes:
        taken: tensors that were taken whole.
        in_part: tensors of the model that were taken for some channels only.
        not_taken: tensors of the model that keep their initial values, and tensors of the source without a place.
        inputs, outputs: for each channel of the model where its weights come from.
    """

    taken: tuple[str, ...]
    in_part: tuple[Remark, ...]
    not_taken: tuple[Remark, ...]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.taken)} tensors taken, {len(self.in_part)} in part, {len(self.not_taken)} not taken."]
        lines += [f"input {name}: {origin}" for name, origin in self.inputs.items()]
        lines += [f"output {name}: {origin}" for name, origin in self.outputs.items()]
        lines += [f"in part: {remark.key}: {remark.reason}" for remark in self.in_part]
        lines += [f"not taken: {remark.key}: {remark.reason}" for remark in self.not_taken]
        return "\n".join(lines)


def adapt(
    source_state: Mapping[str, Tensor],
    source_inputs: Sequence[str],
    source_outputs: Sequence[str],
    model: nn.Module,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> AdaptationReport:
    """Load weights into a scOT with other channels, in place.

    An input that the source has by name keeps its filters. A new one gets the filters of a source channel, shuffled
    over the width of the tokens and with random signs, and scaled: together the new ones have what channels that
    fell away had, and a tenth of all where none did, so that tokens keep their spread.

    An output that the source has by name keeps its filters, bias and seams. A new one begins as a copy of a source
    output, of one that fell away if there is any; so its values have the spread of that output, and channels that are
    only renamed change nothing.

    Args:
        source_state: weights in the published layout, which is that of the model's own state dict.
        source_inputs, source_outputs: names of the source's channels, in order; for Poseidon ``density``,
            ``velocity_x``, ``velocity_y``, ``pressure``.
        model: the target, a :class:`katops.models.scot.ScOT` with the source's widths and patch size.
        inputs, outputs: names of the model's channels, in order; any strings.

    Raises:
        UserError: names are given twice or are not as many as the channels, the widths differ, the source's norms know
            the time and the model's do not (or the other way round), or ``learn_residual`` would add channels of
            another name.
    """
    state, own = published_layout(source_state), model.state_dict()
    _check(state, own, source_inputs, source_outputs, inputs, outputs)
    if model.learn_residual and tuple(inputs[: len(outputs)]) != tuple(outputs):
        raise UserError(
            f"learn_residual adds the first inputs to the outputs, and their names differ: {list(inputs)} and "
            f"{list(outputs)}; put the outputs first among the inputs, in their order"
        )
    fitting = {key: state[key] for key in own if key in state and state[key].shape == own[key].shape}
    fitting = {key: value for key, value in fitting.items() if key not in OF_CHANNELS}
    of_inputs, input_origins = _embedding(state[EMBEDDING], source_inputs, inputs)
    of_outputs, output_origins = _recovery(state, source_outputs, outputs)
    new = {EMBEDDING: of_inputs, **of_outputs}
    model.load_state_dict({**own, **fitting, **new})
    unchanged = {
        EMBEDDING: tuple(inputs) == tuple(source_inputs),
        **dict.fromkeys(of_outputs, tuple(outputs) == tuple(source_outputs)),
    }
    return AdaptationReport(
        taken=(*fitting, *(key for key, same in unchanged.items() if same)),
        in_part=tuple(
            Remark(key, _what_changed(*((source_inputs, inputs) if key == EMBEDDING else (source_outputs, outputs))))
            for key, same in unchanged.items()
            if not same
        ),
        not_taken=tuple(_left_out(state, own)),
        inputs=input_origins,
        outputs=output_origins,
    )


def _embedding(weight: Tensor, source: Sequence[str], names: Sequence[str]) -> tuple[Tensor, dict[str, str]]:
    """Filters (width, channels, p, p) for the channels ``names``."""
    result = weight.new_empty(weight.shape[0], len(names), *weight.shape[2:])
    new = [name for name in names if name not in source]
    lost = [channel for channel, name in enumerate(source) if name not in names]
    energy = weight.square().sum((0, 2, 3))
    wanted = energy[lost].sum() if lost else SHARE_OF_NEW * energy.sum()
    models = [(lost or range(len(source)))[index % len(lost or source)] for index in range(len(new))]
    factor = (wanted / energy[models].sum()).sqrt() if new and energy[models].sum() > 0 else 1.0
    origins = {}
    for place, name in enumerate(names):
        if name in source:
            result[:, place], origins[name] = weight[:, source.index(name)], "taken by name"
        else:
            channel = models[new.index(name)]
            result[:, place] = factor * _shuffled(weight[:, channel])
            origins[name] = f"new, filters of {source[channel]} shuffled over the width"
    return result, origins


def _shuffled(filters: Tensor) -> Tensor:
    """Filters (width, p, p) in random order and with random signs."""
    width = filters.shape[0]
    signs = 2.0 * torch.randint(2, (width, 1, 1)) - 1
    return filters[torch.randperm(width)] * signs.to(filters)


def _recovery(
    state: Mapping[str, Tensor], source: Sequence[str], names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Filters, biases and seams for the channels ``names``."""
    free = [channel for channel, name in enumerate(source) if name not in names]
    chosen, origins, first_of = [], {}, {}
    for place, name in enumerate(names):
        if name in source:
            channel, origins[name] = source.index(name), "taken by name"
        else:
            channel = free.pop(0) if free else place % len(source)
            origins[name] = f"new, begins as a copy of {source[channel]}"
        chosen.append(channel)
        if name in source or channel not in first_of:
            first_of[channel] = place
    weight, seams = state[RECOVERY][:, chosen], state[MIXUP]
    mixup = seams.new_zeros(len(names), len(names), *seams.shape[2:])
    for place, channel in enumerate(chosen):
        for other, across in first_of.items():
            # Of its own channel a copy sees itself; of the others it sees the first that carries their weights.
            mixup[place, place if other == channel else across] = seams[channel, other]
    return {RECOVERY: weight, RECOVERY_BIAS: state[RECOVERY_BIAS][chosen], MIXUP: mixup}, origins


def _what_changed(source: Sequence[str], names: Sequence[str]) -> str:
    kept = [name for name in names if name in source]
    new = [name for name in names if name not in source]
    lost = [name for name in source if name not in names]
    parts = ((kept, "taken"), (new, "new"), (lost, "left out"))
    return "; ".join(f"{what}: {', '.join(some)}" for some, what in parts if some)


def _left_out(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[Remark]:
    """Tensors of the body that do not fit, and tensors of the source that the model has no place for."""
    remarks = []
    for key, value in own.items():
        if key in OF_CHANNELS:
            continue
        if key not in state:
            remarks.append(Remark(key, "the source has no such tensor; it keeps its initial values"))
        elif state[key].shape != value.shape:
            shapes = f"{tuple(state[key].shape)} in the source, {tuple(value.shape)} here"
            remarks.append(Remark(key, f"another shape, {shapes}; it keeps its initial values"))
    return [*remarks, *(Remark(key, "the model has no place for it") for key in state if key not in own)]


def _check(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    source_inputs: Sequence[str],
    source_outputs: Sequence[str],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> None:
    lacking = [key for key in OF_CHANNELS if key not in state]
    if lacking:
        raise UserError(f"the source lacks {lacking[0]!r}; are these the weights of a scOT?")
    check_conditioning(state, own)
    source, target = state[EMBEDDING].shape, own[EMBEDDING].shape
    if (source[0], *source[2:]) != (target[0], *target[2:]):
        raise UserError(
            f"weights of width {source[0]} and patches of {source[2]} do not fit a model of width {target[0]} and "
            f"patches of {target[2]}; only the channels may differ"
        )
    for what, names, channels in (
        ("source_inputs", source_inputs, source[1]),
        ("source_outputs", source_outputs, state[RECOVERY].shape[1]),
        ("inputs", inputs, target[1]),
        ("outputs", outputs, own[RECOVERY].shape[1]),
    ):
        if len(names) != channels or len(set(names)) != len(names):
            raise UserError(f"{what} must name each of the {channels} channels once, got {list(names)}")
