"""The command line: as it is installed, and in this process where that makes no difference."""

import json
import os
import shutil
import subprocess
import sys
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

import katops
from katops import cli
from katops.cli import app

COMMAND = Path(sys.executable).with_name("katops")


def run(*arguments: object, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the entry point in this process, which need not import torch again."""
    command = ["katops", *map(str, arguments)]
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        patch.chdir(cwd or Path.cwd())
        patch.setattr("sys.argv", command)
        patch.setenv("COLUMNS", "150")
        patch.setattr(cli, "console", Console(width=150))
        # The command sets both for its process.
        patch.setenv("GOMP_SPINCOUNT", "1000")
        patch.setattr(warnings, "showwarning", warnings.showwarning)
        try:
            code = cli.main()
        except SystemExit as stop:
            code = stop.code
    done = subprocess.CompletedProcess(command, code or 0, out.getvalue(), err.getvalue())
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


def installed(*arguments: object, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the installed entry point."""
    if not COMMAND.exists():
        pytest.skip("the katops command is not installed beside this Python")
    environment = {**os.environ, "COLUMNS": "150"}
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=180,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def trained(darcy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run made with the command line, on ``darcy.h5`` beside it, whose statistics have no place to be kept."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copy(darcy_file, folder / "darcy.h5")
    # Nobody, not even root, can put a file where a folder is.
    (folder / "darcy.h5.katops-statistics.json").mkdir()
    values = {
        "name": "small",
        "data": {"file": "darcy.h5", "split": {"train": 192, "validation": 16, "test": 16}},
        "model": {"name": "mgno", "hidden_channels": 6, "n_layers": 2, "schedule": [[1, 1], [1, 0]]},
        "train": {"epochs": 9, "batch_size": 8, "learning_rate": 1e-2},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    done = installed("train", "small.yaml", "train.epochs=2", "--output", "out", cwd=folder)
    assert "epoch 2/2" in done.stdout
    assert "mean predictor" in done.stdout
    (folder / "told.txt").write_text(done.stderr, encoding="utf-8")
    return folder / "out"


def run_python(script: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, cwd=cwd)


def test_python_m_katops_is_the_command_and_does_not_wait_for_torch_either(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "katops", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout.strip() == katops.__version__
    assert "| torch" not in done.stderr


@pytest.mark.parametrize("command", [["--help"], ["generate", "--help"], ["inspect", "nothing.h5"]])
def test_commands_that_need_no_torch_do_not_wait_for_it(command: list[str], tmp_path: Path) -> None:
    script = f"""
import sys
sys.argv = ["katops", *{command!r}]
from katops.cli import main
try:
    main()
except SystemExit:
    print("torch" in sys.modules)
"""
    assert run_python(script, tmp_path).stdout.splitlines()[-1] == "False"


def test_help_lists_the_commands() -> None:
    text = run("--help").stdout
    for command in ("train", "sweep", "evaluate", "predict", "generate", "inspect", "models"):
        assert command in text


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "generate", "inspect", "bench", "models"])
def test_help_shows_every_word_about_every_option(command: str) -> None:
    shown = CliRunner(env={"COLUMNS": "300"}).invoke(app, [command, "--help"]).output
    said = [text for text in (option.help for option in get_command(app).commands[command].params) if text]
    assert said
    assert [text for text in said if text not in shown] == []


@pytest.mark.parametrize(
    ("command", "default"),
    [
        ("bench", "(default: the GPU if there is one)"),
        ("bench", "(default: 32,197,768; for layers 8,197,384)"),
        ("train", "(default: runs/NAME)"),
        ("generate", "(default: number of cores)"),
    ],
)
def test_help_says_what_happens_without_an_option(command: str, default: str) -> None:
    assert default in CliRunner(env={"COLUMNS": "300"}).invoke(app, [command, "--help"]).output


def test_version() -> None:
    assert installed("--version").stdout.strip() == katops.__version__


def test_generate_makes_the_file_and_says_when_it_is_there_already(tmp_path: Path) -> None:
    arguments = ("generate", "darcy", "--samples", 5, "--resolution", 8, "--seed", 3, "-o", tmp_path / "darcy.h5")
    run(*arguments)
    with h5py.File(tmp_path / "darcy.h5") as file:
        assert file["fields/pressure"].shape == (5, 8, 8)
        assert file.attrs["seed"] == 3
    stamp = (tmp_path / "darcy.h5").stat().st_mtime_ns
    assert "already complete" in run(*arguments).stdout
    assert (tmp_path / "darcy.h5").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("generate", "darcy", "--samples", 2, "--resolution", 3, "-o", "x.h5"), "resolution"),
        (("generate", "darcy", "--samples", 2, "--resolutoin", 8, "-o", "x.h5"), "did you mean 'resolution'"),
        (("generate", "darcy", "--samples", 2, "--variant", "-o", "x.h5"), "needs a value"),
        (("generate", "darcy", "--samples", 2, "--source", "1e-9", "-o", "x.h5"), "source 1e-09 is out of range"),
        (("generate", "drcy", "--samples", 2, "-o", "x.h5"), "did you mean 'darcy'"),
        (("inspect", "nothing.h5"), "nothing.h5"),
        (("evaluate", "nothing", "nothing.h5"), "no model file"),
        (("predict", "nothing", "nothing.h5", "-o", "x.h5"), "no model file"),
        (("models", "mgnoo"), "did you mean 'mgno'"),
        (("train", "nothing.yaml"), "no configuration file 'nothing.yaml'"),
    ],
)
def test_bad_arguments_end_with_one_sentence_and_code_2(
    tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    done = run(*arguments, cwd=tmp_path, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = installed("inspect", tmp_path / "nothing.h5", "--debug", check=False)
    assert done.returncode != 0
    assert "Traceback" in done.stderr


# The file of this run has no place for its statistics, which is told whenever it is read.
@pytest.mark.filterwarnings("ignore:.*katops-statistics.json cannot be used")
def test_evaluating_the_training_file_uses_its_test_part_only(trained: Path, tmp_path: Path) -> None:
    run("evaluate", trained, trained.with_name("darcy.h5"), "-o", tmp_path / "report")
    again = json.loads((tmp_path / "report" / "summary.json").read_text())
    first = json.loads((trained / "summary.json").read_text())
    measured = [next(iter(summary["evaluations"].values())) for summary in (again, first)]
    assert measured[0]["samples"] == 16
    for predictor in ("model", "mean"):
        assert measured[0]["metrics"][predictor] == pytest.approx(measured[1]["metrics"][predictor])
    assert (tmp_path / "report" / "report.html").stat().st_size > 10_000


def test_a_part_of_another_file_is_refused(trained: Path, tmp_path: Path) -> None:
    run("generate", "darcy", "--samples", 4, "--resolution", 12, "--seed", 9, "-o", tmp_path / "other.h5")
    done = run("evaluate", trained, tmp_path / "other.h5", "--split", "test", check=False)
    assert done.returncode == 2
    assert "use 'all'" in done.stderr


def test_predict_keeps_coordinates_and_names_on_another_grid(trained: Path, tmp_path: Path) -> None:
    run("generate", "darcy", "--samples", 5, "--resolution", 17, "-o", tmp_path / "in.h5")
    alone = shutil.copy(trained / "model.safetensors", tmp_path / "alone.safetensors")
    run("predict", alone, tmp_path / "in.h5", "-o", tmp_path / "out.h5", "--batch-size", 2)
    with h5py.File(tmp_path / "in.h5") as source, h5py.File(tmp_path / "out.h5") as file:
        assert file.attrs["complete"]
        np.testing.assert_array_equal(file["axes/x"][:], source["axes/x"][:])
        assert dict(file["axes/y"].attrs)["grid"] == "cell_centres"
        np.testing.assert_array_equal(file["source/sample"][:], np.arange(5))
        expected = katops.load(alone).predict({"coefficient": source["fields/coefficient"][:]})["pressure"]
        np.testing.assert_allclose(file["fields/pressure"][:], expected, rtol=1e-4, atol=1e-7)
    done = run("predict", alone, tmp_path / "in.h5", "-o", tmp_path / "out.h5", check=False)
    assert (done.returncode, "exists already" in done.stderr) == (2, True)


def test_predictions_can_be_made_from_inputs_alone(trained: Path, darcy_file: Path, tmp_path: Path) -> None:
    shutil.copy(darcy_file, tmp_path / "inputs.h5")
    with h5py.File(tmp_path / "inputs.h5", "a") as file:
        del file["fields/pressure"]
    run("predict", trained, tmp_path / "inputs.h5", "-o", tmp_path / "out.h5")
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["fields/pressure"].shape == (224, 12, 12)


def test_inspect_prints_a_block_that_trains(darcy_file: Path, tmp_path: Path) -> None:
    from katops.config import parse_config
    from katops.training.data import open_run_data

    text = run("inspect", darcy_file).stdout
    block = text[text.index("data:") :].split("\n\n")[0]
    config = parse_config({"name": "from_inspect", "model": "mgno_tiny", **yaml.safe_load(block)})
    assert open_run_data(config.data, 8).meta.inputs[0].name == "coefficient"


def test_models_lists_every_registered_model_with_its_paper() -> None:
    text = run("models").stdout
    for name in katops.list_models():
        assert name in text
    assert "2310.19809" in text


def test_generation_survives_kill_9_and_continues(tmp_path: Path) -> None:
    arguments = [COMMAND, "generate", "darcy", "--samples", "200", "--resolution", "48", "-o", "darcy.h5"]
    process = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folder = tmp_path / "darcy.h5.partial"
    while process.poll() is None and len(list(folder.glob("shard-*.npz"))) < 3:
        time.sleep(0.005)
    process.kill()
    process.wait()
    kept = {path.name: path.stat().st_mtime_ns for path in folder.glob("shard-*.npz")}
    assert kept
    assert not (tmp_path / "darcy.h5").exists()
    run(*arguments[1:], cwd=tmp_path)
    run(*arguments[1:-1], "whole.h5", cwd=tmp_path)
    with h5py.File(tmp_path / "darcy.h5") as continued, h5py.File(tmp_path / "whole.h5") as whole:
        for name in ("fields/coefficient", "fields/pressure", "quality/residual"):
            np.testing.assert_array_equal(continued[name][:], whole[name][:])
    assert not folder.exists()


def test_a_warning_about_data_is_one_sentence_without_the_place_in_the_code(trained: Path) -> None:
    told = trained.with_name("told.txt").read_text(encoding="utf-8")
    [line] = [line for line in told.splitlines() if line.startswith("warning:")]
    assert "darcy.h5.katops-statistics.json cannot be used and is ignored" in line
    assert "store.py" not in told
