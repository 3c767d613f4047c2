"""The data card tells what is in the file; the command writes it, a picture and the list of problems."""

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from katops.cli import app
from katops.data.formats import describe
from katops.errors import UserError
from katops.fields import Axis
from katops.generators import card_statistics
from katops.generators.card import Cost, write_card
from katops.generators.card_statistics import summaries
from katops.generators.wave import Wave
from katops.generators.writer import write
from katops.registry import PROBLEMS


def cells(text, row):
    """The cells of the first line of a table that starts with ``row``."""
    line = next(line for line in text.splitlines() if line.startswith(f"| {row} |"))
    return [cell.strip() for cell in line.strip("|").split("|")][1:]


def test_the_statistics_are_those_of_the_file(problem, output, monkeypatch):
    write(problem, 9, 0, output)
    layout = describe(output)
    at_once = summaries(layout)
    monkeypatch.setattr(card_statistics, "_BLOCK_BYTES", 2000)
    for whole, blocks in zip(at_once, summaries(layout), strict=True):
        with h5py.File(output) as file:
            values = file[f"fields/{whole.name}"][:].astype(float)
        numbers = [values.mean(), values.std(), values.min(), values.max()]
        np.testing.assert_allclose(whole[1:5], numbers, rtol=1e-12)
        np.testing.assert_allclose(blocks[1:5], numbers, rtol=1e-12)
        np.testing.assert_allclose(blocks.bands, whole.bands, rtol=1e-10)
        assert sum(whole.bands) == pytest.approx(1.0)


@pytest.mark.parametrize(("sides", "place"), [("periodic", 2), ("neumann", 1)])
def test_a_wave_belongs_to_one_band(sides, place):
    """Five cycles of a periodic axis; half of that, five half cycles, between mirrors."""
    x = (np.arange(32) + 0.5) / 32
    wave = np.cos((2 if sides == "periodic" else 1) * 5 * np.pi * x)
    axis = Axis("x", boundary=(sides, sides))
    energy = card_statistics._band_energy(wave[None, None] + 3.0, [axis])[0, 0]
    assert energy[place] == pytest.approx(0.5)
    assert energy.sum() == pytest.approx(0.5)


def test_the_card_of_a_wave_tells_units_boundary_statistics_quality_and_cost(tmp_path):
    problem = Wave(16)
    path = write(problem, 3, 0, tmp_path / "wave.h5")
    text = write_card(path, Cost(3, 6.0, 2, "Abacus 1")).read_text()
    assert cells(text, "wave_speed")[:2] == ["m/s", "constant"]
    assert cells(text, "displacement")[:2] == ["1", "input and output"]
    assert cells(text, "x")[-2:] == ["open", "open"]
    assert cells(text, "variant") == ["gaussian"]
    assert float(cells(text, "growth")[0]) >= 1.0
    assert "6 s on Abacus 1 with 2 threads, 2 s for each of 3 samples" in text
    assert problem.recipe["equation"] in text
    assert problem.recipe["notes"] in text
    assert PROBLEMS["wave"].paper in text
    with h5py.File(path) as file:
        assert file.attrs["recipe_hash"] in text
        assert file.attrs["software"] in text


def test_the_command_writes_card_and_picture_beside_the_file(tmp_path):
    arguments = ["generate", "darcy", "--samples", "4", "--resolution", "8", "--card", "--plot", "--layout", "well"]
    result = CliRunner().invoke(app, [*arguments, "--shard", "2/2", "-o", str(tmp_path / "darcy.h5")])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"darcy-2-of-2.{end}" for end in ("h5", "md", "png")]
    assert (tmp_path / "darcy-2-of-2.png").read_bytes()[:4] == b"\x89PNG"
    text = (tmp_path / "darcy-2-of-2.md").read_text()
    assert "![samples](darcy-2-of-2.png)" in text
    assert "for each of 2 samples" in text


@pytest.mark.parametrize(("option", "name"), [("--card", "data.md"), ("--plot", "data.png")])
def test_card_and_picture_do_not_replace_the_data(tmp_path, option, name):
    arguments = ["generate", "darcy", "--samples", "2", "--resolution", "8", option, "-o", str(tmp_path / name)]
    result = CliRunner().invoke(app, arguments)
    assert "give the data another suffix" in str(result.exception)
    assert not list(tmp_path.iterdir())


def test_the_list_names_every_problem_and_its_options():
    result = CliRunner().invoke(app, ["generate", "--list"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    for record in PROBLEMS:
        assert record.name in result.output
    assert "variant gaussian" in " ".join(result.output.split())


def test_what_is_missing_is_named():
    result = CliRunner().invoke(app, ["generate", "darcy", "--samples", "3"])
    assert isinstance(result.exception, UserError)
    assert "generate needs --output" in str(result.exception)
    result = CliRunner().invoke(app, ["generate", "--list", "drcy"])
    assert "did you mean 'darcy'" in str(result.exception)
