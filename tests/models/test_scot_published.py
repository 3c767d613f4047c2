"""Published scOT weights: the reference's outputs and gradients, sizes and keys, and what is refused."""

import json
import shutil

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from katops.errors import DataWarning, UserError
from katops.models import build_model, create_model
from katops.models.scot import from_published, to_published

CASES = ("conditioned", "residual_resample", "unconditioned_resnet")
SIZES = {
    "poseidon_tiny": (20_774_444, 844),
    "poseidon_base": (157_729_988, 1580),
    "poseidon_large": (628_575_524, 1580),
    "scot_tiny": (20_774_444, 844),
    "scot_small": (39_901_076, 1580),
    "scot_base": (157_729_988, 1580),
    "scot_large": (628_575_524, 1580),
}


@pytest.fixture
def golden(shared):
    def load(case):
        path = shared / "golden" / f"scot_{case}.safetensors"
        with safe_open(path, "pt") as file:
            config = json.loads(file.metadata()["config"])
        tensors = load_file(path)
        state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
        return tensors, state, config

    return load


def output_and_gradient(model, tensors, dtype):
    x = tensors["input"].to(dtype).requires_grad_()
    output = model.to(dtype)(x, tensors["time"].to(dtype))
    (gradient,) = torch.autograd.grad((output * tensors["grad_weight"]).sum(), x)
    return output, gradient


@pytest.mark.parametrize("case", CASES)
def test_published_weights_give_the_reference_output_and_input_gradient(golden, case):
    tensors, state, config = golden(case)
    output, gradient = output_and_gradient(from_published(state, config).eval(), tensors, torch.float32)
    # Rounding goes with the largest values, of which small ones are differences; its amount depends on the CPU.
    largest = tensors["output"].abs().max().item()
    torch.testing.assert_close(output, tensors["output"], rtol=1e-4, atol=1e-5 * largest)
    assert (gradient - tensors["grad_input"]).norm() < 1e-4 * tensors["grad_input"].norm()


@pytest.mark.parametrize("case", CASES)
def test_in_double_precision_they_agree_to_the_rounding_of_the_file(golden, case):
    tensors, state, config = golden(case)
    output, gradient = output_and_gradient(from_published(state, config).eval(), tensors, torch.float64)
    assert (output - tensors["output"]).norm() < 1e-7 * tensors["output"].norm()
    assert (gradient - tensors["grad_input"]).norm() < 2e-6 * tensors["grad_input"].norm()


@pytest.mark.parametrize("name", SIZES)
def test_full_size_has_the_published_numbers_of_parameters_and_tensors(name):
    with torch.device("meta"):
        model = create_model(name, in_channels=4, out_channels=4)
    assert (sum(parameter.numel() for parameter in model.parameters()), len(model.state_dict())) == SIZES[name]


def layer_keys(path, width, heads, ratio=4):
    hidden = ratio * width
    return {
        **{f"{path}.attention.self.{key}": shape for key, shape in {
            "logit_scale": (heads, 1, 1),
            "continuous_position_bias_mlp.0.weight": (512, 2),
            "continuous_position_bias_mlp.0.bias": (512,),
            "continuous_position_bias_mlp.2.weight": (heads, 512),
            "query.weight": (width, width), "query.bias": (width,),
            "key.weight": (width, width),
            "value.weight": (width, width), "value.bias": (width,),
        }.items()},
        f"{path}.attention.output.dense.weight": (width, width),
        f"{path}.attention.output.dense.bias": (width,),
        f"{path}.intermediate.dense.weight": (hidden, width), f"{path}.intermediate.dense.bias": (hidden,),
        f"{path}.output.dense.weight": (width, hidden), f"{path}.output.dense.bias": (width,),
        **norm_keys(f"{path}.layernorm_before", width), **norm_keys(f"{path}.layernorm_after", width),
    }  # fmt: skip


def norm_keys(path, width):
    names = {"weight.weight": (width, 1), "weight.bias": (width,), "bias.weight": (width, 1), "bias.bias": (width,)}
    return {f"{path}.{name}": shape for name, shape in names.items()}


def published_keys(embed_dim, depths, heads=(3, 6, 12, 24), skips=(2, 2, 2, 0)):
    """The published key tree with shapes, 4 channels in and out, patches of 4."""
    keys = {
        "embeddings.patch_embeddings.projection.weight": (embed_dim, 4, 4, 4),
        "embeddings.patch_embeddings.projection.bias": (embed_dim,),
        **norm_keys("embeddings.norm", embed_dim),
        "patch_recovery.projection.weight": (embed_dim, 4, 4, 4),
        "patch_recovery.projection.bias": (4,),
        "patch_recovery.mixup.weight": (4, 4, 5, 5),
    }
    for level, depth in enumerate(depths):
        width, place = embed_dim * 2**level, len(depths) - 1 - level
        for block in range(depth):
            keys |= layer_keys(f"encoder.layers.{level}.blocks.{block}", width, heads[level])
            keys |= layer_keys(f"decoder.layers.{place}.blocks.{block}", width, heads[level])
        if level < len(depths) - 1:
            keys[f"encoder.layers.{level}.downsample.reduction.weight"] = (2 * width, 4 * width)
            keys |= norm_keys(f"encoder.layers.{level}.downsample.norm", 2 * width)
        if level > 0:
            keys[f"decoder.layers.{place}.upsample.upsample.weight"] = (2 * width, width)
            keys[f"decoder.layers.{place}.upsample.mixup.weight"] = (width // 2, width // 2)
            keys |= norm_keys(f"decoder.layers.{place}.upsample.norm", width // 2)
        for block in range(skips[level]):
            path = f"residual_blocks.{level}.{block}"
            keys |= {
                f"{path}.weight": (width,),
                f"{path}.dwconv.weight": (width, 1, 7, 7), f"{path}.dwconv.bias": (width,),
                f"{path}.pwconv1.weight": (4 * width, width), f"{path}.pwconv1.bias": (4 * width,),
                f"{path}.pwconv2.weight": (width, 4 * width), f"{path}.pwconv2.bias": (width,),
                **norm_keys(f"{path}.norm", width),
            }  # fmt: skip
    return keys


@pytest.mark.parametrize(
    ("name", "embed_dim", "depth"), [("poseidon_tiny", 48, 4), ("poseidon_base", 96, 8), ("poseidon_large", 192, 8)]
)
def test_key_tree_is_the_published_one(name, embed_dim, depth):
    with torch.device("meta"):
        model = create_model(name)
    found = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert found == published_keys(embed_dim, [depth] * 4)


@pytest.fixture
def published(golden, tmp_path):
    """A folder in the published layout, with what the test needs to check what is read from it."""
    tensors, state, config = golden("conditioned")
    folder = tmp_path / "Poseidon-X"
    folder.mkdir()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    extras = {"architectures": ["SwinForPDE"], "hidden_size": 16, "model_type": "swinv2", "torch_dtype": "float32"}
    (folder / "config.json").write_text(json.dumps({**config, **extras}))
    return folder, tensors, state, config


def agrees(model, tensors):
    output = model.eval()(tensors["input"], tensors["time"])
    torch.testing.assert_close(output, tensors["output"], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["folder", "safetensors", "both", "pickled", "gamma and buffers"])
def test_published_files_are_read(published, kind):
    folder, tensors, state, _ = published
    source = folder
    if kind == "safetensors":
        source = folder / "model.safetensors"
    elif kind == "both":
        torch.save({key: value + 1 for key, value in state.items()}, folder / "pytorch_model.bin")
    elif kind == "pickled":
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    elif kind == "gamma and buffers":
        old = {
            key.replace("0.0.weight", "0.0.gamma") if key == "residual_blocks.0.0.weight" else key: value
            for key, value in state.items()
        }
        path = "encoder.layers.0.blocks.0.attention.self"
        old[f"{path}.relative_coords_table"] = torch.zeros(1, 7, 7, 2)
        old[f"{path}.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
        save_file(old, folder / "model.safetensors")
    agrees(from_published(source), tensors)


def hub(folder, monkeypatch):
    """A hub that has the files of a folder, by the real function's signature."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot_download(repo_id, *, allow_patterns, cache_dir=None):
        if repo_id != "camlab-ethz/Poseidon-T":
            raise LocalEntryNotFoundError(f"no {repo_id} and no network")
        downloaded = folder.parent / "cache"
        downloaded.mkdir(exist_ok=True)
        for name in allow_patterns:
            if (folder / name).is_file():
                shutil.copy(folder / name, downloaded / name)
        return str(downloaded)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)


def test_name_on_the_hub_may_have_a_dot_and_a_weight_file_is_never_looked_for_there(published, monkeypatch):
    hub(published[0], monkeypatch)
    with pytest.raises(UserError, match=r"'somebody/scot-1\.5' is neither a folder or file here nor a repository"):
        from_published("somebody/scot-1.5")
    with pytest.raises(UserError, match=r"there is no file or folder runs/model\.safetensors"):
        from_published("runs/model.safetensors")


@pytest.mark.parametrize(
    ("text", "message"), [('{"embed_dim": 8,', "config.json is no JSON"), ("[1]", "config.json holds a list")]
)
def test_damaged_configuration_is_told(published, text, message):
    folder = published[0]
    (folder / "config.json").write_text(text)
    for source in (folder, folder / "model.safetensors"):
        with pytest.raises(UserError, match=message):
            from_published(source)


@pytest.mark.parametrize("pickled", [False, True])
def test_hub_id_is_downloaded(published, monkeypatch, pickled):
    folder, tensors, state, _ = published
    if pickled:
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin")
    hub(folder, monkeypatch)
    agrees(from_published("camlab-ethz/Poseidon-T"), tensors)


def sizes(config):
    return {
        "in_channels": 3, "out_channels": 3, "image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 2],
        "num_heads": [1, 2], "skip_connections": [1, 0], "window_size": 4, "mlp_ratio": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize("way", ["hub", "file", "folder", "checkpoint_path"])
def test_timm_loads_the_weights(published, monkeypatch, way):
    folder, tensors, _, config = published
    hub(folder, monkeypatch)
    options = {
        "hub": {"pretrained": True},
        "file": {"pretrained": True, "pretrained_cfg_overlay": {"file": str(folder / "model.safetensors")}},
        "folder": {"pretrained": True, "pretrained_cfg_overlay": {"file": str(folder)}},
        "checkpoint_path": {"checkpoint_path": str(folder / "model.safetensors")},
    }[way]
    agrees(timm.create_model("poseidon_tiny", **sizes(config), **options), tensors)


def test_new_models_have_no_published_weights():
    with pytest.raises(UserError, match="'scot_tiny' has no published weights"):
        timm.create_model("scot_tiny", pretrained=True)


def test_unknown_repository_is_told(published, monkeypatch):
    hub(published[0], monkeypatch)
    with pytest.raises(UserError, match="'camlab-ethz/Poseidon-X' is neither a folder or file here nor a repository"):
        from_published("camlab-ethz/Poseidon-X")


@pytest.mark.parametrize("case", CASES)
def test_round_trip_to_the_published_layout_is_bit_for_bit(golden, tmp_path, case):
    tensors, state, config = golden(case)
    model = from_published(state, config).eval()
    folder = to_published(model, tmp_path / "shared", config={"p": 1})
    written = load_file(folder / "model.safetensors")
    assert set(written) == set(state)
    assert all(torch.equal(written[key], value) for key, value in state.items())
    assert json.loads((folder / "config.json").read_text())["p"] == 1
    again = from_published(folder).eval()
    inputs = tensors["input"], tensors["time"]
    torch.testing.assert_close(again(*inputs), model(*inputs), rtol=0, atol=0)
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"


@pytest.mark.parametrize(
    "change", [{"mlp_ratio": 2.7}, {"window_size": 3, "padded_keys": True}, {"skip_block": "resnet"}]
)
def test_model_of_other_sizes_comes_back_from_the_published_layout(tmp_path, change):
    model = build_model("scot", **{**sizes(None), **change}).eval()
    again = from_published(to_published(model, tmp_path)).eval()
    inputs = torch.randn(2, 3, 32, 32), torch.rand(2)
    torch.testing.assert_close(again(*inputs), model(*inputs), rtol=0, atol=0)


def test_written_configuration_repeats_the_one_that_was_read(golden, tmp_path):
    _, state, config = golden("conditioned")
    folder = to_published(from_published(state, config), tmp_path)
    written = json.loads((folder / "config.json").read_text())
    ours = set(config) - {"p", "channel_slice_list_normalized_loss"}
    assert {key: written[key] for key in ours} == {key: config[key] for key in ours}


def test_model_that_published_code_cannot_compute_is_not_written(tmp_path):
    small = sizes(None)
    for change, word in (
        ({"learn_residual": True, "scale_by_time": True}, "scale_by_time"),
        ({"mlp_layer": "group_rational_kan"}, "mlp_layer"),
        ({"norm_layer": "layer_norm"}, "norm_layer"),
        ({"boundary": "periodic", "wrap": True}, "wrap"),
        ({"learn_residual": True, "time_conditioning": False}, "learn_residual without time_conditioning"),
        ({"window_size": 3}, "windows that reach beyond the grid of 32 points"),
    ):
        with pytest.raises(UserError, match=f"cannot compute what this model does with .*{word}"):
            to_published(build_model("scot", **{**small, **change}), tmp_path)
    partly = build_model("scot", **small)
    partly.decoder["layers"][1].blocks[0].intermediate["act"] = torch.nn.GELU("tanh")
    with pytest.raises(UserError, match="cannot compute what this model does with mlp_layer or act_layer"):
        to_published(partly, tmp_path)
    with pytest.raises(UserError, match="works on one square grid; give image_size"):
        to_published(build_model("scot", **{**small, "image_size": None}), tmp_path)
    for size in (30, 31):
        with pytest.raises(UserError, match=f"needs an image_size that is a multiple of 4 .*, got {size}"):
            to_published(build_model("scot", **{**small, "image_size": size}), tmp_path)
    assert to_published(build_model("scot", **{**small, "image_size": None}), tmp_path, image_size=32).is_dir()


def test_conditioned_weights_do_not_go_into_an_unconditioned_model_or_back(golden):
    _, state, config = golden("conditioned")
    with pytest.raises(UserError, match="norms know the time, and this model has time_conditioning=False"):
        from_published(state, {**config, "use_conditioning": False})
    _, state, config = golden("unconditioned_resnet")
    with pytest.raises(UserError, match="scOT without time conditioning; build the model with time_conditioning=False"):
        from_published(state, config, time_conditioning=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"embed_dim": 16},
            r"beginning with 'embeddings.patch_embeddings.projection.weight', \(8, 3, 2, 2\) where \(16, 3, 2, 2\) is",
        ),
        ({"num_channels": 4}, "for other channels there is katops.models.scot_channels.adapt"),
        ({"depths": [2, 3]}, "weights of the model are missing, beginning with 'encoder.layers.1.blocks.2"),
        ({"depths": [2, 1]}, "have no place in it, beginning with 'decoder.layers.0.blocks.1"),
        ({"use_absolute_embeddings": True}, "has use_absolute_embeddings"),
        ({"pretrained_window_sizes": [8, 8]}, "has pretrained_window_sizes"),
        ({"residual_model": "convnet"}, "unknown skip_block 'convnet'"),
        ({"skip_connections": 2}, "option 'skip_connections' of model 'scot' must be a list"),
    ],
)
def test_configuration_that_is_not_that_of_the_weights_is_refused(golden, change, message):
    _, state, config = golden("conditioned")
    with pytest.raises(UserError, match=message):
        from_published(state, {**config, **change})


def test_what_does_not_fit_is_left_out_with_a_warning_if_asked_for(golden):
    _, state, config = golden("conditioned")
    with pytest.warns(DataWarning, match="weights were left out: .*'embeddings.patch_embeddings.projection.weight'"):
        model = from_published(state, {**config, "num_channels": 5}, strict=False)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    key = "encoder.layers.0.blocks.0.output.dense.weight"
    assert torch.equal(model.state_dict()[key], state[key])


def test_weights_without_configuration_and_pickled_code_are_refused(golden, tmp_path):
    _, state, config = golden("conditioned")
    with pytest.raises(UserError, match="come without their configuration"):
        from_published(state)
    torch.save({"model": state, "callback": print}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="holds more than tensors"):
        from_published(tmp_path, config)


def test_published_defaults_fill_what_a_configuration_does_not_say(golden):
    _, state, config = golden("unconditioned_resnet")
    with pytest.raises(UserError, match="the weights are not those of this scOT"):
        from_published(state, {key: value for key, value in config.items() if key != "embed_dim"})
    model = from_published(state, config)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.decoder["layers"] for block in stage.blocks]
    assert max(rates) == pytest.approx(0.1)
