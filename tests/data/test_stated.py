"""What the command line states about data files, for inspect and convert alike."""

import h5py
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from katops.cli import app
from katops.data.formats import describe
from katops.data.stated import stated
from katops.errors import UserError


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in the folder of the test and return what it prints."""
    monkeypatch.chdir(tmp_path)

    def command(*words: str, code: int = 0) -> str:
        done = CliRunner(env={"COLUMNS": "150"}).invoke(app, list(words))
        if isinstance(done.exception, UserError):
            assert code == 2
            return f"{done.output}{done.exception}"
        assert done.exit_code == code, done.output + repr(done.exception)
        return done.output

    return command


@pytest.fixture
def moved(tmp_path):
    """Arrays whose names and shapes mislead a guess: time in front, samples second, and numbers per sample."""
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "moved.h5", "w") as file:
        file["target"] = rng.normal(size=(7, 9, 12, 20))
        file["state"] = rng.normal(size=(7, 9, 12, 20))
        file["mask"] = np.ones((12, 20))
        file["reynolds"] = np.arange(9.0)
    return tmp_path / "moved.h5"


def _block(text: str) -> dict:
    return yaml.safe_load(text[text.index("data:\n") :].split("\n\n")[0])["data"]


STATED = ("--inputs", "state", "--outputs", "state,target", "--axes", "time,sample,x,y")


def test_inspect_uses_what_is_stated_for_the_block_the_picture_and_the_check(run, moved):
    with h5py.File(moved, "a") as file:
        file["state"][3, 5, 0, 0] = np.nan
    text = run("inspect", "moved.h5", *STATED, "--plot", "out.png", "--check", code=1)
    block = _block(text.split("picture")[0])
    assert (block["inputs"], block["outputs"]) == (["state"], ["state", "target"])
    assert block["axes"] == ["time", "sample", "x", "y"]
    assert "9 samples, 7 frames" in text
    assert "exclude: [5]" in text
    assert (moved.parent / "out.png").stat().st_size > 10_000


def test_what_is_stated_is_not_marked_as_a_guess(run, moved):
    text = run("inspect", "moved.h5", *STATED)
    lines = {line.split(":")[0].strip(): line for line in text[text.index("data:\n") :].splitlines()}
    assert all("# check" not in lines[key] for key in ("inputs", "outputs", "axes"))
    assert "# check" in lines["parameters"]
    assert "role (guess)" not in text


def test_inspect_takes_the_statement_and_the_file_of_a_configuration(run, moved):
    (moved.parent / "flow.yaml").write_text(
        "data:\n  file: moved.h5\n  inputs: [state]\n  outputs: [state]\n  constants: [mask]\n"
        "  axes: {state: [time, sample, x, y], mask: [x, y]}\n  boundary: [periodic, neumann]\n  time_step: 0.5\n"
    )
    text = run("inspect", "--config", "flow.yaml")
    block = _block(text)
    assert (block["constants"], block["boundary"], block["time_step"]) == (["mask"], ["periodic", "neumann"], 0.5)
    assert describe(block.pop("file"), **{k: v for k, v in block.items() if k != "window"}).n_samples == 9
    with_option = _block(run("inspect", "moved.h5", "--config", "flow.yaml", "--outputs", "state"))
    assert with_option["axes"] == block["axes"]


def test_a_format_can_be_chosen_when_inspecting(run, write_torch):
    values = np.random.default_rng(0).normal(size=(4, 12, 20))
    path = write_torch(x=values, y=values)
    assert "can be read in several ways" in run("inspect", str(path))
    text = run("inspect", str(path), "--format", "neuraloperator_navier_stokes")
    assert "several ways" not in text
    assert _block(text)["format"] == "neuraloperator_navier_stokes"
    assert "format plain" in run("inspect", str(path), "--format", "plain")


def test_without_a_file_inspect_says_what_is_missing(run):
    assert "katops inspect FILE" in run("inspect", code=2)


def test_convert_takes_everything_that_a_plain_file_needs(run, moved):
    options = ("--boundary", "periodic,dirichlet/neumann", "--grid", "periodic_nodes,nodes", "--domain", "-1:1,0:2")
    more = ("--parameters", "reynolds", "--time-step", "0.25", "--format", "plain")
    text = run("convert", "moved.h5", "out.h5", *STATED, *options, *more)
    assert "assumed" not in text
    assert "not carried" not in text
    layout = describe("out.h5")
    assert layout.meta.boundary == (("periodic", "periodic"), ("dirichlet", "neumann"))
    assert [axis.grid for axis in layout.meta.axes] == ["periodic_nodes", "nodes"]
    assert [(axis.lower, axis.upper) for axis in layout.meta.axes] == [(-1.0, 1.0), (0.0, 2.0)]
    assert layout.meta.time_step == 0.25
    assert layout.parameters[:, 0].tolist() == list(range(9))


def test_convert_says_what_it_assumes_and_what_it_leaves_behind(run, moved):
    text = run("convert", "moved.h5", "out.h5", *STATED)
    for part in (
        "boundary dirichlet assumed on all sides; say --boundary",
        "grid cell_centres assumed; say --grid",
        "domain [0, 1] assumed along x, y; say --domain",
        "time step 1 assumed between frames; say --time-step",
        "parameters not carried: reynolds; say --parameters reynolds",
    ):
        assert text.count(part) == 1
    assert "assumed" not in run("convert", "out.h5", "again.h5")


def test_coordinates_tell_convert_what_to_say(run, write_plain):
    values = np.random.default_rng(0).normal(size=(9, 12, 20))
    write_plain("grid.h5", a=values, u=values, x=np.linspace(0, 3, 12), y=(np.arange(20) + 0.5) / 10)
    text = run("convert", "grid.h5", "out.h5", "--inputs", "a", "--outputs", "u", "--axes", "sample,x,y")
    assert "say --grid nodes,cell_centres" in text
    assert "say --domain 0:3,0:2 (from the coordinates in x and y)" in text


def test_a_configuration_in_the_place_of_data_is_recognised(run, moved):
    (moved.parent / "flow.yaml").write_text("data: {file: moved.h5}\n")
    assert "say katops convert --config flow.yaml out.h5" in run("convert", "flow.yaml", "out.h5", code=2)
    assert "say katops inspect --config flow.yaml" in run("inspect", "flow.yaml", code=2)


def test_no_empty_bar_stands_before_an_error(run):
    text = run("convert", "nothing.h5", "out.h5", code=2)
    assert "no file 'nothing.h5'" in text
    assert "converting" not in text


@pytest.mark.parametrize("text", ["0:1:2", "0", "a:b", "0-1"])
def test_a_domain_that_cannot_be_read_is_refused(text):
    with pytest.raises(UserError, match="lower:upper for each axis"):
        stated(domain=text)


def test_options_go_before_the_configuration(tmp_path):
    path = tmp_path / "flow.yaml"
    path.write_text("data: {file: mine.h5, inputs: [a], outputs: [u], boundary: periodic}\n")
    files, statement = stated(path, inputs="b, c", boundary="neumann", grid=None)
    assert files == "mine.h5"
    assert statement == {"inputs": ["b", "c"], "outputs": ["u"], "boundary": "neumann"}
    assert stated() == (None, {})


def test_one_boundary_with_two_sides_is_that_of_one_axis():
    assert stated(boundary="dirichlet/neumann")[1] == {"boundary": [["dirichlet", "neumann"]]}
