"""Fields to fields in physical units."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from katops.data.adjustment import NOT_ADJUSTED, Adjustment
from katops.data.normalize import Normalizer
from katops.errors import UserError
from katops.fields import Channel, FieldMeta
from katops.models.build import build_model
from katops.predictors.adjusted import adjusted
from katops.predictors.dirichlet import dirichlet_sources, enforce
from katops.predictors.tensors import part


class FieldPredictor(nn.Module):
    """A model between its normaliser: physical units in, physical units out.

    y = decode(model(encode(x), time / time scale)), with frames folded into channels for the model, the constants after
    them.

    Args:
        model: maps (batch, steps_in * input channels + constant channels, \\*space) to
            (batch, steps_out * output channels, \\*space).
        normalizer: statistics of the training inputs and targets.
        meta: names, units and axes of the fields.
        dirichlet_values: outputs with a known value on the Dirichlet sides, a number or the name of the input channel
            that has it there; predictions then have exactly that value on these sides.

    Raises:
        UserError: see :func:`katops.predictors.dirichlet.dirichlet_sources`.
    """

    KIND = "fields"

    def __init__(
        self,
        model: nn.Module,
        normalizer: Normalizer,
        meta: FieldMeta,
        dirichlet_values: Mapping[str, float | str] | None = None,
    ) -> None:
        super().__init__()
        self.dirichlet_values = dict(dirichlet_values or {})
        self._dirichlet = dirichlet_sources(self.dirichlet_values, meta)
        self.model = model
        self.normalizer = normalizer
        self.meta = meta

    def forward(self, x: Tensor, time: Tensor | None = None, constants: Tensor | None = None) -> Tensor:
        """x (batch, steps_in, input channels, \\*space) -> (batch, steps_out, output channels, \\*space).

        Args:
            x: input fields in physical units.
            time: lead time of each sample (batch,), for models that take it.
            constants: (batch, constant channels, \\*space), where the data have channels that do not change in time.

        Raises:
            UserError: a shape does not fit the fields that the model was made for.
        """
        self._check(x)
        self._check_constants(x, constants)
        encoded = self.normalizer.encode_input(x).flatten(1, 2)
        if constants is not None:
            encoded = torch.cat([encoded, self.normalizer.encode_constants(constants)], 1)
        output = self.model(encoded, None if time is None else self.normalizer.encode_time(time))
        y = self.normalizer.decode_output(output.unflatten(1, (self.meta.steps_out, len(self.meta.outputs))))
        return enforce(y, x, constants, self._dirichlet, self.meta)

    def _check(self, x: Tensor) -> None:
        meta = self.meta
        if x.ndim == 3 + len(meta.axes) and x.shape[1:3] == (meta.steps_in, len(meta.inputs)):
            return
        space = ", ".join(axis.name for axis in meta.axes)
        names = ", ".join(channel.name for channel in meta.inputs)
        raise UserError(
            f"expected an input of shape (batch, time={meta.steps_in}, channel={len(meta.inputs)} [{names}], {space}); "
            f"given: {tuple(x.shape)}"
        )

    def _check_constants(self, x: Tensor, constants: Tensor | None) -> None:
        names = [channel.name for channel in self.meta.constants]
        given = None if constants is None else tuple(constants.shape)
        if given != ((x.shape[0], len(names), *x.shape[3:]) if names else None):
            raise UserError(
                f"expected constants of shape (batch={x.shape[0]}, channel={len(names)} [{', '.join(names)}], "
                f"{', '.join(map(str, x.shape[3:]))}); given: {given}"
                if names
                else f"the model takes no constants; given: {given}"
            )

    def predict(
        self,
        raw: Any,
        time: Any = None,
        constants: Any = None,
        *,
        batch_size: int = 16,
        adjustment: Adjustment = NOT_ADJUSTED,
    ) -> np.ndarray | Tensor | dict[str, np.ndarray | Tensor]:
        """Predict in physical units, without gradients, in batches, in evaluation mode.

        Args:
            raw: one of
                a mapping from the name of each input channel to an array (batch, [steps_in,] \\*space), and of each
                constant one to an array (batch, \\*space), or (batch,) where it is a parameter;
                an array (batch, [steps_in,] channel, \\*space). The time axis may be left out when ``steps_in`` is 1.
            time: lead time (batch,), or one number, for models that take it.
            constants: (batch, constant channels, \\*space) beside an array ``raw``, where the model takes some.
            batch_size: samples per forward pass.
            adjustment: from the levels and times of the input to those that the model has learned.

        Returns:
            What was given: a mapping from output names, a tensor, or an array, with the same axes as the input.

        Raises:
            UserError: a channel is missing or the shape does not fit.
        """
        if isinstance(raw, Mapping):
            inputs = self._stack_inputs(raw)
            constants = self._stack(self._spread(raw, inputs), self.meta.constants, 1) if self.meta.constants else None
            stacked = self.predict(inputs, time, constants, batch_size=batch_size, adjustment=adjustment)
            every_axis = (slice(None),) * len(self.meta.axes)
            return {channel.name: stacked[(..., i, *every_axis)] for i, channel in enumerate(self.meta.outputs)}
        given = raw if isinstance(raw, Tensor) else torch.as_tensor(np.asarray(raw))
        reference = next(self.model.parameters())
        x = given.to(reference.dtype)
        without_time = x.ndim == 2 + len(self.meta.axes) and self.meta.steps_in == 1
        x = x[:, None] if without_time else x
        self._check(x)
        lead = None if time is None else _for_each(torch.as_tensor(time, dtype=reference.dtype), len(x))
        constants = None if constants is None else torch.as_tensor(constants, dtype=reference.dtype)
        self._check_constants(x, constants)

        def batch_of(values: Tensor | None, start: int) -> Tensor | None:
            return None if values is None else values[start : start + batch_size].to(reference.device)

        predict = adjusted(self, adjustment, self.meta)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            parts = [
                predict(batch_of(x, start), batch_of(lead, start), batch_of(constants, start)).cpu()
                for start in range(0, len(x), batch_size)
            ]
        self.train(was_training)
        y = torch.cat(parts) if parts else x.new_empty((0, self.meta.steps_out, len(self.meta.outputs), *x.shape[3:]))
        y = y[:, 0] if without_time and self.meta.steps_out == 1 else y
        return y.to(given.device) if isinstance(raw, Tensor) else y.numpy()

    def _stack_inputs(self, raw: Mapping[str, Any]) -> Any:
        first = raw.get(self.meta.inputs[0].name)
        without_time = self.meta.steps_in == 1 and np.ndim(first) == 1 + len(self.meta.axes)
        return self._stack(raw, self.meta.inputs, 1 if without_time else 2)

    def _spread(self, raw: Mapping[str, Any], inputs: Any) -> Mapping[str, Any]:
        """Parameters that were given as one number per sample, at every grid point."""
        space = inputs.shape[-len(self.meta.axes) :]
        numbers = {name: raw[name] for name in self.meta.condition if name in raw and np.ndim(raw[name]) == 1}
        one_each = (slice(None), *(None,) * len(space))
        spread = {
            name: values[one_each].expand(-1, *space)
            if isinstance(values, Tensor)
            else np.broadcast_to(np.asarray(values)[one_each], (len(values), *space))
            for name, values in numbers.items()
        }
        return {**raw, **spread}

    def _stack(self, raw: Mapping[str, Any], channels: Sequence[Channel], axis: int) -> Any:
        missing = [channel.name for channel in channels if channel.name not in raw]
        if missing:
            names = [channel.name for channel in (*self.meta.inputs, *self.meta.constants)]
            raise UserError(f"the input lacks the channels {missing}; the model takes {names}, given: {list(raw)}")
        arrays = [raw[channel.name] for channel in channels]
        tensors = all(isinstance(array, Tensor) for array in arrays)
        return torch.stack(arrays, axis) if tensors else np.stack([np.asarray(array) for array in arrays], axis)

    def description(self) -> dict[str, Any]:
        """The JSON part of a model file that is its own."""
        enforced = {"dirichlet_values": self.dirichlet_values} if self.dirichlet_values else {}
        return {"meta": self.meta.to_dict(), **enforced}

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a model file."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        return tensors | {f"normalizer.{name}": value for name, value in self.normalizer.state_dict().items()}

    @classmethod
    def from_file(cls, header: dict[str, Any], tensors: Mapping[str, Tensor]) -> "FieldPredictor":
        """The predictor that a model file describes.

        Raises:
            UserError: the file names a model or an option that does not exist.
        """
        meta = FieldMeta.from_dict(header["meta"])
        model = build_model(header["model"]["name"], **header["model"]["arguments"])
        predictor = cls(model, Normalizer(meta), meta, header.get("dirichlet_values"))
        model.load_state_dict(part(tensors, "model."), assign=True)
        predictor.normalizer.load_state_dict(part(tensors, "normalizer."), assign=True)
        return predictor


def _for_each(time: Tensor, batch: int) -> Tensor:
    """A lead time of every sample.

    Raises:
        UserError: there is neither one number nor one for each.
    """
    if time.ndim == 0 or time.shape == (batch,):
        return time.expand(batch)
    raise UserError(f"expected one lead time, or one for each of {batch} samples; given: shape {tuple(time.shape)}")
