"""Bad input: one clear sentence, exit code 2, no traceback, nothing lost."""

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml

Change = Callable[[dict, Path], None]


def put(*keys: str, value: object) -> Change:
    """Set a key, making sections on the way."""

    def change(values: dict, folder: Path) -> None:
        for key in keys[:-1]:
            values = values.setdefault(key, {})
        values[keys[-1]] = value

    return change


def drop(*keys: str) -> Change:
    def change(values: dict, folder: Path) -> None:
        for key in keys[:-1]:
            values = values[key]
        del values[keys[-1]]

    return change


def damage(how: Callable[[Path], None]) -> Change:
    """Use a damaged copy of the data file."""

    def change(values: dict, folder: Path) -> None:
        copy = folder / "damaged.h5"
        copy.write_bytes(Path(values["data"]["file"]).read_bytes())
        how(copy)
        values["data"]["file"] = str(copy)

    return change


def nan_in_a_training_sample(path: Path) -> None:
    with h5py.File(path, "a") as file:
        file["fields/pressure"][:, 3, 3] = np.nan


def nan_in_the_last_sample(path: Path) -> None:
    with h5py.File(path, "a") as file:
        for sample in range(len(file["fields/coefficient"])):
            file["fields/coefficient"][sample, 0, 0] = np.inf


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(path: Path) -> None:
    path.write_text("x,y\n1,2\n", encoding="utf-8")


def not_complete(path: Path) -> None:
    with h5py.File(path, "a") as file:
        del file.attrs["complete"]


BAD = {
    "typo in a key": (put("train", "epoch", value=3), r"train\.epoch .*did you mean 'epochs'"),
    "typo in a section": (put("trian", value={}), r"unknown key 'trian'; did you mean 'train'"),
    "wrong type": (put("train", "epochs", value="many"), r"train\.epochs .*valid integer; given: 'many'"),
    "out of range": (put("train", "learning_rate", value=-1.0), r"train\.learning_rate .*greater than 0"),
    "missing key": (drop("model"), r"model .*is missing"),
    "unknown model": (put("model", value="mgno_tinny"), r"unknown model 'mgno_tinny'; did you mean 'mgno_tiny'"),
    "unknown model option": (
        put("model", "hiden_channels", value=8),
        r"'hiden_channels'.*did you mean 'hidden_channels'",
    ),
    "wrong type of a model option": (put("model", "n_layers", value="two"), r"'n_layers'.*must be an integer.*'two'"),
    "unknown layer": (put("model", "act_layer", value="gellu"), r"unknown layer 'gellu'; did you mean 'gelu'"),
    "groups that do not divide the width": (
        put("model", "norm_layer", value={"name": "group_norm", "groups": 4}),
        r"6.*4|4.*6",
    ),
    "unknown loss": (
        put("train", "loss", value="relative_l3"),
        r"unknown train.loss 'relative_l3'; did you mean 'relative_l",
    ),
    "unknown loss option": (put("train", "loss", value={"name": "h1", "maximum": 3}), r"unknown option 'maximum'"),
    "seed beyond 32 bits": (put("seed", value=2**40), r"seed .*less than"),
    "a number for a key": (lambda values, folder: values.update({3: "x"}), r"3"),
    "window stride on a steady problem": (put("data", "window", value={"stride": 7}), r"window.*stride 7"),
    "time step on a steady problem": (put("data", "time_step", value=0.3), r"time_step is 0\.3, but no channel"),
    "missing file": (put("data", "file", value="nowhere.h5"), r"nowhere\.h5"),
    "not HDF5": (damage(text), r"damaged\.h5.*HDF5"),
    "truncated file": (damage(cut_in_half), r"damaged\.h5"),
    "incomplete file": (damage(not_complete), r"damaged\.h5.*complete"),
    "file without the named channel": (put("data", "inputs", value=["coeficient"]), r"did you mean 'coefficient'"),
    "NaN in the targets": (damage(nan_in_a_training_sample), r"damaged\.h5.*pressure"),
    "infinity in the inputs": (damage(nan_in_the_last_sample), r"damaged\.h5.*coefficient"),
    "batch larger than the split": (put("train", "batch_size", value=193), r"batch_size .*193.*192"),
    "split larger than the file": (put("data", "split", "train", value=400), r"400.*224"),
    "no test samples": (put("data", "split", "test", value=0), r"test"),
    "window on a steady problem": (put("data", "window", value={"n_in": 2}), r"window.*n_in 2"),
    "subsampling to nothing": (put("data", "subsample", value=12), r"subsample"),
    "contradicting boundary": (put("model", "boundary", value="periodic"), r"boundary.*periodic"),
    "unknown boundary": (put("data", "boundary", value="perodic"), r"did you mean 'periodic'"),
    "half precision on the CPU": (
        lambda values, folder: values["train"].update(device="cpu", precision="16-mixed"),
        r"train\.precision is '16-mixed', which needs a GPU",
    ),
    "plugin without consent": (put("plugins", value=["mine.py"]), r"--allow-plugins"),
    "unknown problem": (
        put("data", "generate", value={"problem": "darci", "samples": 3}),
        r"unknown problem 'darci'; did you mean 'darcy'",
    ),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_it_is_told_in_one_sentence_with_exit_code_2(
    change: Change,
    message: str,
    run_values: dict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change(run_values, tmp_path)
    config = tmp_path / "bad.yaml"
    config.write_text(yaml.safe_dump(run_values), encoding="utf-8")
    (katops,) = entry_points(group="console_scripts", name="katops")
    monkeypatch.setattr("sys.argv", ["katops", "train", str(config)])
    with pytest.raises(SystemExit) as stop:
        katops.load()()
    output = capsys.readouterr()
    assert stop.value.code == 2, output
    assert re.search(message, " ".join(output.err.split())), output.err
    assert "Traceback" not in output.err + output.out
    assert len(output.err.strip().splitlines()) == 1
    assert not (tmp_path / "run" / "model.safetensors").exists()
