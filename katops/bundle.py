"""The self-contained model file: ``model.safetensors`` with everything that a prediction from raw input needs.

Weights and statistics are tensors; the kind of the model, its name and arguments, the description of its data (fields,
or classes and preprocessing), metrics, the fingerprint of the training data and versions are JSON in the metadata under
the key ``katops``. Nothing is ever unpickled.
"""

import json
import platform
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from katops import __version__
from katops.data.adjustment import Adjustment
from katops.errors import DataWarning, UserError, did_you_mean
from katops.fields import FieldMeta
from katops.files import atomic_path
from katops.predictors import FieldPredictor, ImagePredictor, TablePredictor
from katops.predictors.training_sets import Reading, name_of, reading_like, readings_of, same_units

FORMAT_VERSION = 1
FILE_NAME = "model.safetensors"
METADATA_KEY = "katops"

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""``MIGRATIONS[n]`` turns the header of format version n into that of version n + 1."""

AnyPredictor = FieldPredictor | ImagePredictor | TablePredictor

KINDS: dict[str, type[AnyPredictor]] = {kind.KIND: kind for kind in (FieldPredictor, ImagePredictor, TablePredictor)}
"""What the header's ``kind`` may say; files without it, older than image models, hold operators on fields."""


class WithoutHeader(UserError):
    """A safetensors file that katops did not write."""


@dataclass
class Bundle:
    """What a model file holds.

    Attributes:
        predictor: the model with what it needs to take raw input.
        header: the JSON part: ``kind``, ``model``, ``metrics``, ``data``, ``training``, ``versions``; ``meta`` for
            fields, ``classes`` and ``preprocessing`` for images, ``members``, ``preprocessing`` and ``targets`` for
            tables.
        mean_target: for fields, mean of the training targets, (steps_out, channel, \\*space); the "mean" baseline.
    """

    predictor: AnyPredictor
    header: dict[str, Any] = field(default_factory=dict)
    mean_target: Tensor | None = None

    @property
    def model(self) -> nn.Module:
        """The bare network, on normalised input."""
        return self.predictor.model

    @property
    def meta(self) -> FieldMeta:
        """Names, units and axes of the fields.

        Raises:
            UserError: the model works on images, which have none.
        """
        if not isinstance(self.predictor, FieldPredictor):
            raise UserError(f"a {_name(self)} works on {self._kind} and has no fields; see predictor.preprocessing")
        return self.predictor.meta

    def predict(
        self, raw: Any, time: Any = None, constants: Any = None, *, batch_size: int = 16, like: str | None = None
    ) -> Any:
        """Predict from raw input, in batches of ``batch_size`` and without gradients.

        Fields (mapping of names or array, in physical units) give fields in physical units, see
        :meth:`katops.predictors.FieldPredictor.predict`. Images (paths, PIL images, arrays) give class probabilities
        (images, classes), see :meth:`katops.predictors.ImagePredictor.predict`; :meth:`labels` gives class names.
        Tables (data frame, array or tensor with the columns of the training) give values in raw units or class
        probabilities, see :meth:`katops.predictors.TablePredictor.predict`.

        Args:
            raw: fields, images or the rows of a table.
            time: lead time (batch,) or a number, for models of fields that take it; of steady problems that of the
                training where none is given.
            constants: of fields, see :meth:`katops.predictors.FieldPredictor.predict`.
            batch_size: samples per forward pass, not used for tables.
            like: of a model that was trained on several data sets, the one whose levels and time scale the input has;
                the first one where none is given, with a warning where others have different ones.

        Raises:
            UserError: the input does not fit the model; there is no such data set; images have no times.
        """
        if not isinstance(self.predictor, FieldPredictor):
            if time is not None or constants is not None or like is not None:
                raise UserError(
                    f"a {_name(self)} works on {self._kind}, which have no time, constants or data set to be like"
                )
            if isinstance(self.predictor, TablePredictor):
                return self.predictor.predict(raw)
            return self.predictor.predict(raw, batch_size=batch_size)
        reading = self._reading(like)
        time = reading.get("lead_time") if time is None else time
        adjustment = Adjustment.from_header(reading)
        return self.predictor.predict(raw, time, constants, batch_size=batch_size, adjustment=adjustment)

    @property
    def _kind(self) -> str:
        """What the model works on, in the plural."""
        return {FieldPredictor.KIND: "fields", TablePredictor.KIND: "tables"}.get(self.predictor.KIND, "images")

    def _reading(self, like: str | None) -> Reading:
        if like is not None:
            return reading_like(self.header, like)
        first, *others = readings_of(self.header)
        different = [name_of(reading) for reading in others if not same_units(reading, first)]
        if different:
            warnings.warn(
                f"the input is taken for one like {name_of(first)}; {', '.join(different)} have other levels or times: "
                f"say which with like=",
                DataWarning,
                stacklevel=3,
            )
        return first

    def labels(self, images: Any, *, batch_size: int = 16) -> list[str]:
        """See :meth:`katops.predictors.ImagePredictor.labels` and :meth:`katops.predictors.TablePredictor.labels`.

        Raises:
            UserError: the model works on fields or predicts numbers, which have no classes.
        """
        if isinstance(self.predictor, TablePredictor):
            return self.predictor.labels(images)
        if not isinstance(self.predictor, ImagePredictor):
            raise UserError(f"a {_name(self)} works on fields and has no classes; see predict()")
        return self.predictor.labels(images, batch_size=batch_size)


def _name(bundle: Bundle) -> str:
    return bundle.model.recipe["name"]


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    return {
        "katops": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def save(path: str | Path, predictor: AnyPredictor, *, mean_target: Tensor | None = None, **header: Any) -> Path:
    """Write the model file, atomically.

    Args:
        path: a file, or a folder to hold ``model.safetensors``.
        predictor: the model and what is around it; the model must come from ``create_model`` or ``build_model``.
        mean_target: mean of the training targets, kept as a baseline.
        header: further JSON-able entries, such as ``metrics``, ``data``, ``training``.

    Raises:
        UserError: ``predictor`` is a bare model; the model's arguments cannot be written as JSON (a callable that is
            not registered, for example); or the model was changed after it was built and could not be built again.
    """
    if not isinstance(predictor, AnyPredictor):
        raise UserError(
            f"cannot save a {type(predictor).__name__}: a model file needs what is around the model too; give a "
            f"katops.predictors.FieldPredictor (normaliser, channels) or ImagePredictor (preprocessing, classes), or "
            f"call save() of a KANRegressor or KANClassifier"
        )
    path = Path(path)
    path = path if path.suffix == ".safetensors" else path / FILE_NAME
    recipe = getattr(predictor.model, "recipe", None)
    if recipe is None:
        raise UserError(
            f"cannot save a {type(predictor.model).__name__}: it does not say how it was built; make it with "
            f"katops.create_model and with registered layers only (katops.registry.LAYERS.register), or a classifier "
            f"of timm with katops.predictors.classifiers.build_classifier"
        )
    header = {
        "format_version": FORMAT_VERSION,
        "kind": predictor.KIND,
        "model": recipe,
        **predictor.description(),
        "versions": versions(),
        **header,
    }
    tensors = predictor.tensors()
    if mean_target is not None:
        tensors["mean_target"] = mean_target
    contiguous = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    _check_rebuilds(header, contiguous)
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata={METADATA_KEY: json.dumps(header)})
    return path


def _check_rebuilds(header: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Refuse to write what could not be read; the random numbers of the caller stay as they are."""
    try:
        with torch.random.fork_rng():
            _build(json.loads(json.dumps(header)), tensors)
    except (ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot save a {header['model']['name']}: it is no longer the model that its recipe builds ({reason}); "
            f"build it with the changed options"
        ) from error


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
        raise WithoutHeader(
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


def _build(header: dict[str, Any], tensors: dict[str, Tensor]) -> AnyPredictor:
    """The predictor that a header describes, with its tensors."""
    kind = header.get("kind", FieldPredictor.KIND)
    if kind not in KINDS:
        raise UserError(f"a model of kind {kind!r} is not known to katops {__version__}; update katops")
    return KINDS[kind].from_file(header, tensors)


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        if not (path / FILE_NAME).is_file():
            raise UserError(f"the folder {str(path)!r} holds no {FILE_NAME}; is its training finished?")
        return path / FILE_NAME
    if path.exists():
        return path
    # The name of a repository looks like a path; beside an existing folder of that name a mistyped run is more likely.
    if re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) and not path.parent.is_dir():
        return _from_hub(str(source))
    runs = [str(file.parent) for file in path.parent.glob(f"*/{FILE_NAME}")] if path.parent.is_dir() else []
    raise UserError(f"there is no run folder and no model file {str(source)!r}{did_you_mean(str(source), runs)}")


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
