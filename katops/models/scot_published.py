"""Published scOT checkpoints (Poseidon): ``config.json`` beside ``model.safetensors`` or ``pytorch_model.bin``.

The weights on the hub (camlab-ethz/Poseidon-T, -B, -L) have the licence CC-BY-NC-4.0: they are not for commercial use.
Modules here have the published names, so that weights are taken key for key.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from katops.errors import DataWarning, UserError
from katops.models.published import is_hub_id, read_configuration, read_weights

Source = str | Path | Mapping[str, Tensor]
LICENCE = "CC-BY-NC-4.0"
WEIGHTS, PICKLED_WEIGHTS, CONFIGURATION = "model.safetensors", "pytorch_model.bin", "config.json"
_HUB_FILES = ([CONFIGURATION, WEIGHTS], [CONFIGURATION, PICKLED_WEIGHTS])
# Made from the window alone; old files may hold them.
_BUFFERS = ("relative_coords_table", "relative_position_index")
# Published name, our name, and what the published class takes where the file is silent.
FIELDS = (
    ("image_size", "image_size", 224),
    ("patch_size", "patch_size", 4),
    ("num_channels", "in_channels", 3),
    ("num_out_channels", "out_channels", 1),
    ("embed_dim", "embed_dim", 96),
    ("depths", "depths", [2, 2, 6, 2]),
    ("num_heads", "num_heads", [3, 6, 12, 24]),
    ("skip_connections", "skip_connections", [True, True, True]),
    ("window_size", "window_size", 7),
    ("mlp_ratio", "mlp_ratio", 4.0),
    ("qkv_bias", "qkv_bias", True),
    ("hidden_dropout_prob", "dropout", 0.0),
    ("attention_probs_dropout_prob", "attention_dropout", 0.0),
    ("drop_path_rate", "drop_path_rate", 0.1),
    ("hidden_act", "act_layer", "gelu"),
    ("layer_norm_eps", "norm_eps", 1e-5),
    ("residual_model", "skip_block", "convnext"),
    ("use_conditioning", "time_conditioning", False),
    ("learn_residual", "learn_residual", False),
)
# What published code does and this library makes a choice.
_AS_PUBLISHED = {"init": "published", "padded_keys": True}


def load_published(
    source: Source,
    config: Mapping[str, Any] | None,
    changes: Mapping[str, Any],
    build: Callable[..., nn.Module],
    strict: bool = True,
) -> nn.Module:
    """See :func:`katops.models.scot.from_published`; ``build`` makes the model from its options."""
    state, found = _read(source)
    config = config or found
    if config is None:
        raise UserError(
            "published scOT weights come without their configuration; give the folder that holds config.json, or "
            "config={'embed_dim': ..., 'depths': ..., ...}"
        )
    model = build(**{**options_from(config), **changes})
    fill(model, state, strict=strict)
    return model


def load_weights(model: nn.Module, source: Source, cache_dir: str | Path | None = None) -> None:
    """Published weights for a model that is there already, every tensor or none.

    Args:
        model: a scOT.
        source: a folder, a file, a hub id or a state dict.
        cache_dir: where downloads are kept.

    Raises:
        UserError: there is no such source, or the weights are not those of the model.
    """
    fill(model, _read(source, cache_dir)[0])


def options_from(config: Mapping[str, Any]) -> dict[str, Any]:
    """The published configuration in the words of :class:`katops.models.scot.ScOT`.

    Raises:
        UserError: it asks for what no published model has: absolute position embeddings, windows of a pretraining.
    """
    if config.get("use_absolute_embeddings"):
        raise UserError("the configuration has use_absolute_embeddings, which no published scOT has and katops has not")
    if any(config.get("pretrained_window_sizes") or ()):
        raise UserError("the configuration has pretrained_window_sizes, which published scOT code does not use")
    options = {ours: config.get(published, default) for published, ours, default in FIELDS}
    if isinstance(options["skip_connections"], list):  # published ones say True for 1
        options["skip_connections"] = [int(count) for count in options["skip_connections"]]
    # Published code adds no input without conditioning, whatever the configuration says.
    options["learn_residual"] = options["learn_residual"] and options["time_conditioning"]
    return {**options, **_AS_PUBLISHED}


def fill(model: nn.Module, state: Mapping[str, Tensor], *, strict: bool = True) -> None:
    """Put published weights into a model, key for key.

    Args:
        model: a scOT.
        state: in the published layout; ``gamma`` and ``beta`` are taken for ``weight`` and ``bias``.
        strict: whether all tensors of both sides must fit; otherwise what does not keeps its initial values, and one
            warning says how many.

    Raises:
        UserError: the weights are not those of the model.
    """
    state, own = published_layout(state), model.state_dict()
    check_conditioning(state, own)
    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    mismatched = [key for key, value in own.items() if key in state and value.shape != state[key].shape]
    sentence = _what_differs(missing, unknown, mismatched, state, own)
    if sentence and strict:
        raise UserError(f"the weights are not those of this scOT: {sentence}")
    if sentence:
        warnings.warn(f"weights were left out: {sentence}", DataWarning, stacklevel=3)
    model.load_state_dict({**own, **{key: state[key] for key in state if key in own and key not in mismatched}})


def published_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without buffers that are computed, and with today's names of scales and shifts."""
    renamed = {}
    for key, value in state.items():
        path, _, name = key.rpartition(".")
        if name not in _BUFFERS:
            renamed[f"{path}.{ {'gamma': 'weight', 'beta': 'bias'}.get(name, name) }"] = value
    return renamed


def _read(source: Source, cache_dir: str | Path | None = None) -> tuple[dict[str, Tensor], Mapping[str, Any] | None]:
    """State dict and configuration, where one comes with it."""
    if isinstance(source, Mapping):
        return read_weights(source, "scOT")
    path = Path(source)
    if not path.exists() and is_hub_id(source):
        path = _downloaded(str(source), cache_dir)
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        if (path / name).is_file():
            path = path / name
            break
    state, config = read_weights(path, "scOT")
    beside = path.parent / CONFIGURATION
    if config is None and beside.is_file():
        config = read_configuration(beside)
    return state, config


def _downloaded(repository: str, cache_dir: str | Path | None) -> Path:
    """The folder of a repository of the hub: configuration and weights, as safetensors where there are such."""
    from huggingface_hub import snapshot_download

    try:
        for files in _HUB_FILES:
            folder = Path(snapshot_download(repository, allow_patterns=files, cache_dir=cache_dir))
            if (folder / files[-1]).is_file():
                return folder
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repository!r} is neither a folder or file here nor a repository with scOT weights on the hub: {reason}"
        ) from error
    raise UserError(f"the repository {repository!r} holds neither {WEIGHTS} nor {PICKLED_WEIGHTS}")


def check_conditioning(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse weights of norms that know the time for norms that do not, and the other way round."""
    published, ours = "embeddings.norm.weight.weight" in state, "embeddings.norm.weight.weight" in own
    if "embeddings.norm.weight" in own and published:
        raise UserError(
            "the weights are those of a scOT whose norms know the time, and this model has time_conditioning=False; "
            "give time_conditioning=True (steady problems have time 1)"
        )
    if ours and "embeddings.norm.weight" in state:
        raise UserError(
            "the weights are those of a scOT without time conditioning; build the model with time_conditioning=False"
        )


def _what_differs(
    missing: list[str],
    unknown: list[str],
    mismatched: list[str],
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
) -> str:
    """The end of a sentence, "" where nothing does."""
    parts = [
        f"{len(keys)} {what}, beginning with {keys[0]!r}"
        for keys, what in ((missing, "weights of the model are missing"), (unknown, "have no place in it"))
        if keys
    ]
    if mismatched:
        key = mismatched[0]
        parts.append(
            f"{len(mismatched)} have another shape, beginning with {key!r}, {tuple(state[key].shape)} where "
            f"{tuple(own[key].shape)} is expected"
        )
    if mismatched and all(key.startswith(("embeddings.patch", "patch_recovery.")) for key in mismatched):
        parts.append("for other channels there is katops.models.scot_channels.adapt")
    return "; ".join(parts)
