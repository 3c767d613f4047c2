"""Everything that docs/your_data.md shows works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from katops.cli import app
from katops.config import DataConfig, GenerateConfig, PairsConfig, SplitConfig, WindowConfig, parse_config
from katops.data.formats import FORMATS, describe
from katops.data.windows import Window


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "your_data.md").read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in the folder of the test and return what it prints."""
    monkeypatch.chdir(tmp_path)

    def command(words: list[str], code: int = 0) -> str:
        done = CliRunner(env={"COLUMNS": "150"}).invoke(app, words)
        assert done.exit_code == code, done.output + repr(done.exception)
        return done.output

    return command


def test_the_commands_of_the_page_run_in_their_order(page, run, tmp_path):
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["a"] = rng.normal(size=(24, 12, 21))
        file["u"] = rng.normal(size=(24, 12, 21))
    (configuration,) = blocks(page, "yaml")
    (tmp_path / "mine.yaml").write_text(configuration)
    commands = [line for block in blocks(page, "bash") for line in block.splitlines()]
    assert [shlex.split(command)[1] for command in commands] == ["inspect", "train", "convert", "convert", "inspect"]
    said = {}
    for command in commands:
        words = shlex.split(command)[1:]
        small = ["train.epochs=1", "model.name=mgno", "model.hidden_channels=4"] if words[0] == "train" else []
        said[command] = run([*words, *small])
    assert (tmp_path / "mine.png").stat().st_size > 10_000
    assert "every value is finite" in said[commands[-1]]
    assert (tmp_path / "mine.h5.katops-statistics.json").exists()
    with h5py.File(tmp_path / "fast.h5") as one, h5py.File(tmp_path / "fast_again.h5") as other:
        np.testing.assert_array_equal(one["fields/u"], other["fields/u"])
        assert other["axes/x"].attrs["grid"] == "periodic_nodes"


def test_a_check_that_finds_something_ends_with_code_1(run, tmp_path):
    values = np.ones((5, 12, 20))
    values[2, 0, 0] = np.nan
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["a"], file["u"] = values, np.ones((5, 12, 20))
    assert "exclude: [2]" in run(["inspect", "mine.h5", "--check"], code=1)


def test_the_training_loop_of_the_page_gets_normalised_windows(page, run, tmp_path):
    values = 5.0 + 3.0 * np.random.default_rng(0).normal(size=(20, 12, 21))
    with h5py.File(tmp_path / "mine.h5", "w") as file:
        file["a"], file["u"] = values, values
    run(["convert", "mine.h5", "fast.h5", "--inputs", "a", "--outputs", "u", "--axes", "sample,x,y"])
    code, _ = blocks(page, "python")
    names = {}
    exec(code, names)
    assert names["x"].shape == (16, 1, 1, 12, 21)
    assert abs(float(names["x"].mean())) < 0.1
    assert abs(float(names["x"].std()) - 1.0) < 0.05


def test_the_plugin_of_the_page_recognises_its_files(page, tmp_path):
    _, code = blocks(page, "python")
    (tmp_path / "lab.py").write_text(code)
    with h5py.File(tmp_path / "ours.h5", "w") as file:
        file.attrs["our_lab"] = "yes"
        file["forcing"] = np.random.default_rng(0).normal(size=(5, 12, 20))
        file["response"] = np.random.default_rng(1).normal(size=(5, 12, 20))
    # In a process of its own, because a registered format stays.
    command = [sys.executable, "-m", "katops", "convert", "ours.h5", "fast.h5", "--plugin", "lab.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "inputs: [forcing]" in done.stdout
    with h5py.File(tmp_path / "fast.h5") as file:
        assert file["axes/x"].attrs["boundary"].tolist() == ["periodic", "periodic"]


def test_what_the_page_says_in_one_line_is_a_valid_configuration(page):
    (configuration,) = blocks(page, "yaml")
    values = yaml.safe_load(configuration)
    keys = "window|axes|subsample|subsample_method|channels|split|validation_files|test_files"
    lines = re.findall(rf"`((?:{keys}): ?[^`]*)`", page)
    assert len(lines) >= 5
    for line in lines:
        parse_config({**values, "data": {**values["data"], **yaml.safe_load(line)}})


def test_every_key_of_the_data_section_is_in_the_table_with_its_default(page):
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| [^|]* \| ([^|]*) \| [^|]+ \|$", page, re.MULTILINE))
    sections = {
        "": DataConfig,
        "window.": WindowConfig,
        "pairs.": PairsConfig,
        "split.": SplitConfig,
        "generate.": GenerateConfig,
    }
    kinds = [(prefix, kind.model_fields.items()) for prefix, kind in sections.items()]
    fields = {f"{prefix}{name}": field for prefix, members in kinds for name, field in members}
    assert set(rows) == set(fields) - {"window", "split"}
    for key, said in rows.items():
        default = fields[key].get_default(call_default_factory=True)
        if fields[key].is_required():
            assert said == "required"
        elif default is not None:
            assert said == f"`{default}`", key
        else:
            assert not said.startswith("`") or key == "channels", key


def test_the_matlab_command_of_the_page_converts_such_a_file(page, run, tmp_path, write_matlab73):
    values = np.random.default_rng(0).normal(size=(8, 6, 3, 5))
    write_matlab73("flow.mat", force=values[:, :, 0], w=values, nu=np.ones((1, 5)))
    text = next(block for block in blocks(page, "text") if block.startswith("katops convert"))
    said = run(shlex.split(text.replace("\\\n", " "))[1:])
    assert "assumed" not in said
    layout = describe(tmp_path / "flow.h5")
    sizes = dict(zip([axis.name for axis in layout.meta.axes], layout.space, strict=True))
    assert (layout.n_samples, set(layout.frames), sizes) == (5, {3}, {"x": 8, "y": 6})
    assert layout.meta.time_step == 0.05
    sides = {axis.name: axis.boundary for axis in layout.meta.axes}
    assert sides == {"x": ("periodic", "periodic"), "y": ("dirichlet", "neumann")}


def test_windows_are_counted_as_the_page_says(page):
    assert "20 frames with `n_in: 2, n_out: 1` give 18 windows" in page
    assert len(Window(n_in=2, n_out=1).starts(20)) == 18


def test_every_format_is_in_the_table(page):
    table = page[page.index("| data |") : page.index("**Axes.**")].lower()
    words = {"the_well": "the well", "fno": "fno", "geo": "geo-fno", "plain": "any other"}
    for entry in FORMATS:
        word = words.get(entry.name, words.get(entry.name.split("_")[0], entry.name.split("_")[0]))
        assert word in table, entry.name
