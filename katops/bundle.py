"""The self-contained model file: ``model.safetensors`` with everything that a prediction in physical units needs.

Weights, normaliser and the mean training target are tensors; name and arguments of the model, the description of the
fields, metrics, the fingerprint of the training data and versions are JSON in the metadata under the key ``katops``.
Nothing is ever unpickled.
"""

import json
import platform
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from katops import __version__
from katops.data.normalize import Normalizer
from katops.errors import UserError
from katops.fields import FieldMeta
from katops.files import atomic_path
from katops.models.build import build_model

FORMAT_VERSION = 1
FILE_NAME = "model.safetensors"
METADATA_KEY = "katops"

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""``MIGRATIONS[n]`` turns the header of format version n into that of version n + 1."""


class Predictor(nn.Module):
    """A model between its normaliser: physical units in, physical units out.

    y = decode(model(encode(x), time)), with frames folded into channels for the model.

    Args:
        model: maps (batch, steps_in * input channels, \\*space) to (batch, steps_out * output channels, \\*space).
        normalizer: statistics of the training inputs and targets.
        meta: names, units and axes of the fields.
    """

    def __init__(self, model: nn.Module, normalizer: Normalizer, meta: FieldMeta) -> None:
        super().__init__()
        self.model = model
        self.normalizer = normalizer
        self.meta = meta

    def forward(self, x: Tensor, time: Tensor | None = None) -> Tensor:
        """x (batch, steps_in, input channels, \\*space) -> (batch, steps_out, output channels, \\*space).

        Args:
            x: input fields in physical units.
            time: lead time of each sample (batch,), for models that take it.

        Raises:
            UserError: the shape of ``x`` does not fit the fields that the model was made for.
        """
        self._check(x)
        encoded = self.normalizer.encode_input(x).flatten(1, 2)
        output = self.model(encoded, time)
        return self.normalizer.decode_output(output.unflatten(1, (self.meta.steps_out, len(self.meta.outputs))))

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

    def predict(
        self, raw: Any, time: Any = None, *, batch_size: int = 16
    ) -> np.ndarray | Tensor | dict[str, np.ndarray | Tensor]:
        """Predict in physical units, without gradients, in batches, in evaluation mode.

        Args:
            raw: one of
                a mapping from the name of each input channel to an array (batch, [steps_in,] \\*space);
                an array (batch, [steps_in,] channel, \\*space). The time axis may be left out when ``steps_in`` is 1.
            time: lead time (batch,), for models that take it.
            batch_size: samples per forward pass.

        Returns:
            What was given: a mapping from output names, a tensor, or an array, with the same axes as the input.

        Raises:
            UserError: a channel is missing or the shape does not fit.
        """
        if isinstance(raw, Mapping):
            stacked = self.predict(self._stack(raw), time, batch_size=batch_size)
            every_axis = (slice(None),) * len(self.meta.axes)
            return {channel.name: stacked[(..., i, *every_axis)] for i, channel in enumerate(self.meta.outputs)}
        given = raw if isinstance(raw, Tensor) else torch.as_tensor(np.asarray(raw))
        reference = next(self.model.parameters())
        x = given.to(reference.dtype)
        without_time = x.ndim == 2 + len(self.meta.axes) and self.meta.steps_in == 1
        x = x[:, None] if without_time else x
        self._check(x)
        lead = None if time is None else torch.as_tensor(time, dtype=reference.dtype)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            parts = [
                self(
                    x[start : start + batch_size].to(reference.device),
                    None if lead is None else lead[start : start + batch_size].to(reference.device),
                ).cpu()
                for start in range(0, len(x), batch_size)
            ]
        self.train(was_training)
        y = torch.cat(parts) if parts else x.new_empty((0, self.meta.steps_out, len(self.meta.outputs), *x.shape[3:]))
        y = y[:, 0] if without_time and self.meta.steps_out == 1 else y
        return y.to(given.device) if isinstance(raw, Tensor) else y.numpy()

    def _stack(self, raw: Mapping[str, Any]) -> Any:
        names = [channel.name for channel in self.meta.inputs]
        missing = [name for name in names if name not in raw]
        if missing:
            raise UserError(f"the input lacks the channels {missing}; the model takes {names}, given: {list(raw)}")
        arrays = [raw[name] for name in names]
        tensors = all(isinstance(array, Tensor) for array in arrays)
        axis = 1 if self.meta.steps_in == 1 and np.ndim(arrays[0]) == 1 + len(self.meta.axes) else 2
        return torch.stack(arrays, axis) if tensors else np.stack([np.asarray(array) for array in arrays], axis)


@dataclass
class Bundle:
    """What a model file holds.

    Attributes:
        predictor: the model between its normaliser.
        header: the JSON part: ``model``, ``meta``, ``metrics``, ``data``, ``training``, ``versions``.
        mean_target: mean of the training targets, (steps_out, channel, \\*space); the "mean" baseline.
    """

    predictor: Predictor
    header: dict[str, Any] = field(default_factory=dict)
    mean_target: Tensor | None = None

    @property
    def model(self) -> nn.Module:
        """The bare network, on normalised fields."""
        return self.predictor.model

    @property
    def meta(self) -> FieldMeta:
        """Names, units and axes of the fields."""
        return self.predictor.meta

    def predict(self, raw: Any, time: Any = None, *, batch_size: int = 16) -> Any:
        """See :meth:`Predictor.predict`."""
        return self.predictor.predict(raw, time, batch_size=batch_size)


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "katops": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def save(path: str | Path, predictor: Predictor, *, mean_target: Tensor | None = None, **header: Any) -> Path:
    """Write the model file, atomically.

    Args:
        path: a file, or a folder to hold ``model.safetensors``.
        predictor: model and normaliser; the model must come from ``create_model`` or ``build_model``.
        mean_target: mean of the training targets, kept as a baseline.
        header: further JSON-able entries, such as ``metrics``, ``data``, ``training``.

    Raises:
        UserError: the model's arguments cannot be written as JSON (a callable that is not registered, for example).
    """
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / FILE_NAME
    recipe = getattr(predictor.model, "recipe", None)
    if recipe is None:
        raise UserError(
            f"cannot save a {type(predictor.model).__name__}: it does not say how it was built; make it with "
            f"katops.create_model and with registered layers only (katops.registry.LAYERS.register)"
        )
    header = {
        "format_version": FORMAT_VERSION,
        "model": recipe,
        "meta": predictor.meta.to_dict(),
        "versions": versions(),
        **header,
    }
    tensors = {f"model.{name}": value for name, value in predictor.model.state_dict().items()}
    tensors |= {f"normalizer.{name}": value for name, value in predictor.normalizer.state_dict().items()}
    if mean_target is not None:
        tensors["mean_target"] = mean_target
    contiguous = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={METADATA_KEY: json.dumps(header)})
    return path


def load(source: str | Path, device: str | torch.device = "cpu") -> Bundle:
    """Read a model file; nothing else is needed to predict.

    Args:
        source: a model file, a folder with ``model.safetensors`` (a run), or the id of a repository on the Hugging Face
            hub that holds one.
        device: where to put the model.

    Raises:
        UserError: there is no such file; it is not a katops model file; it is damaged, or newer than this version.
    """
    path = _locate(source)
    try:
        with safe_open(path, "pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{str(path)!r} is not a model file or is damaged ({error}); katops reads .safetensors only"
        ) from error
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{str(path)!r} is a safetensors file without a katops header; published weights are read by "
            f"katops.models.<family>.from_published"
        )
    try:
        header = _migrate(json.loads(metadata[METADATA_KEY]), path)
        predictor = _build(header, tensors)
    except UserError as error:
        raise UserError(f"{str(path)!r}: {error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{str(path)!r} is damaged, its parts do not belong together: {reason}") from error
    return Bundle(predictor.to(device).eval(), header, tensors.get("mean_target"))


def _build(header: dict[str, Any], tensors: dict[str, Tensor]) -> Predictor:
    """The predictor that a header describes, with its tensors."""
    meta = FieldMeta.from_dict(header["meta"])
    model = build_model(header["model"]["name"], **header["model"]["arguments"])
    predictor = Predictor(model, Normalizer(meta), meta)
    for part, module in (("model.", model), ("normalizer.", predictor.normalizer)):
        module.load_state_dict(_part(tensors, part), assign=True)
    return predictor


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            raise UserError(f"the folder {str(path)!r} holds no {FILE_NAME}; is its training finished?")
        return path / FILE_NAME
    if path.exists():
        return path
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)):
        return _from_hub(str(source))
    raise UserError(f"no model file {str(source)!r}")


def _from_hub(repository: str) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, FILE_NAME))
    except (OSError, ValueError) as error:  # the hub's own errors derive from these
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repository!r} is neither a file here nor a repository with {FILE_NAME} on the hub: {reason}"
        ) from error


def _migrate(header: dict[str, Any], path: Path) -> dict[str, Any]:
    version = header.get("format_version")
    if not isinstance(version, int) or not 1 <= version <= FORMAT_VERSION:
        raise UserError(
            f"{str(path)!r} has model file format {version!r}; katops {__version__} reads formats up to "
            f"{FORMAT_VERSION}; update katops"
        )
    while version < FORMAT_VERSION:
        header = MIGRATIONS[version](header)
        version = header["format_version"]
    return header


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
