"""PDEgym as it lies on the Hub: in chunks, those of the waves with the speeds in a file of their own."""

import os
import shutil

import h5py
import numpy as np
import pytest

from katops.data import fingerprint, open_dataset
from katops.data.formats import describe
from katops.data.sources import find_all
from katops.errors import UserError

SPACE = (12, 20)


@pytest.fixture
def velocities():
    """Eleven samples, so that natural order and that of the alphabet differ."""
    return np.random.default_rng(1).normal(size=(11, 21, 3, *SPACE)).astype(np.float32)


@pytest.fixture
def waves():
    rng = np.random.default_rng(2)
    return rng.normal(size=(7, 21, *SPACE)).astype(np.float32), rng.normal(size=(9, *SPACE)).astype(np.float32) + 3000


@pytest.fixture
def folder(tmp_path, waves, write_pdegym):
    """solution_0.nc, solution_1.nc and c_0.nc, which has the speeds of a chunk that is not here."""
    solution, speed = waves
    (tmp_path / "Wave-Layer").mkdir()
    write_pdegym("Wave-Layer/solution_0.nc", solution=solution[:3])
    write_pdegym("Wave-Layer/solution_1.nc", solution=solution[3:])
    write_pdegym("Wave-Layer/c_0.nc", c=speed)
    return tmp_path / "Wave-Layer"


@pytest.mark.parametrize("pattern", ["", "/velocity_*.nc"])
def test_chunks_of_a_fluid_are_one_data_set_in_the_order_of_their_numbers(tmp_path, velocities, write_pdegym, pattern):
    (tmp_path / "NS-PwC").mkdir()
    for chunk in range(11):
        write_pdegym(f"NS-PwC/velocity_{chunk}.nc", velocity=velocities[chunk : chunk + 1])
    (tmp_path / "NS-PwC" / "README.md").write_text("licence: cc-by-nc-4.0\n")
    dataset = open_dataset(f"{tmp_path / 'NS-PwC'}{pattern}", inputs=["velocity"], outputs=["velocity"])
    assert (dataset.n_samples, len(dataset)) == (11, 11 * 20)
    for sample in range(11):
        np.testing.assert_array_equal(dataset[20 * sample + 4].x[0], velocities[sample, 4, :2])


def _check(dataset, waves, samples):
    solution, speed = waves
    assert dataset.n_samples == samples
    assert [channel.name for channel in dataset.meta.constants] == ["wave_speed"]
    for sample in range(samples):
        window = dataset[20 * sample + 5]
        np.testing.assert_array_equal(window.x[0, 0], solution[sample, 5])
        np.testing.assert_array_equal(window.y[0, 0], solution[sample, 6])
        np.testing.assert_array_equal(window.constants[0], speed[sample])


def test_chunks_of_waves_and_their_speeds_are_one_data_set(folder, waves):
    _check(open_dataset(folder), waves, 7)
    _check(open_dataset(str(folder / "*.nc")), waves, 7)
    layout = describe(find_all(folder)[0])
    assert (layout.format, layout.meta.name, layout.meta.licence) == ("pdegym", "pdegym_wave", "CC-BY-NC-4.0")
    np.testing.assert_allclose(layout.times, np.linspace(0, 1, 21))


def test_a_partial_download_of_waves_has_the_speeds_of_its_samples(folder, waves):
    (folder / "solution_1.nc").unlink()
    _check(open_dataset(folder), waves, 3)


def test_some_of_the_chunks_beside_all_of_them_are_another_data_set(folder, waves):
    few = open_dataset([folder / "c_0.nc", folder / "solution_0.nc"])
    _check(open_dataset(folder), waves, 7)
    _check(few, waves, 3)


def test_the_joined_file_copies_nothing_and_is_made_once(folder, waves):
    [path] = find_all(folder)
    assert path.parent == folder
    assert path.name.startswith(".")
    assert path.stat().st_size < waves[0].nbytes / 10
    before = path.stat().st_mtime_ns
    assert find_all(folder) == [path]
    assert path.stat().st_mtime_ns == before


def test_a_chunk_that_changed_is_joined_anew(folder, waves):
    find_all(folder)
    solution = np.concatenate([waves[0], waves[0][:2] + 1])
    with h5py.File(folder / "solution_1.nc", "r+") as file:
        del file["solution"]
        file["solution"] = solution[3:]
    _check(open_dataset(folder), (solution, waves[1]), 9)


def test_a_folder_of_waves_can_be_moved(folder, waves, tmp_path, monkeypatch):
    print_of_waves = fingerprint(find_all(folder)[0])
    shutil.move(folder, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert fingerprint(find_all("elsewhere")[0]) == print_of_waves
    _check(open_dataset("elsewhere"), waves, 7)


def test_waves_in_a_folder_that_cannot_be_written_are_joined_in_the_cache(folder, waves, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    beside = find_all(folder)[0]
    os.remove(beside)
    # Renaming a file onto a folder fails as writing does.
    beside.mkdir()
    [path] = find_all(folder)
    assert path.parent == tmp_path / "cache" / "katops" / "joined"
    _check(open_dataset(folder), waves, 7)


def test_a_chunk_that_is_missing_in_between_is_refused(folder):
    (folder / "solution_0.nc").unlink()
    with pytest.raises(UserError, match=r"holds solution_1\.nc, but not solution_0\.nc.*get that file too"):
        find_all(folder)


def test_fewer_speeds_than_solutions_are_refused(folder, waves, write_pdegym):
    write_pdegym("Wave-Layer/c_0.nc", c=waves[1][:5])
    with pytest.raises(UserError, match="holds 7 solutions and 5 speeds"):
        find_all(folder)


def test_chunks_on_other_grids_are_refused(folder, write_pdegym):
    write_pdegym("Wave-Layer/solution_1.nc", solution=np.zeros((2, 21, 6, 6), np.float32))
    with pytest.raises(UserError, match=r"solution_1\.nc: 'solution' has shape \(2, 21, 6, 6\), in solution_0\.nc"):
        find_all(folder)


def test_files_that_are_only_called_so_stay_what_they_are(tmp_path, write_plain):
    write_plain("c_0.h5", u=np.zeros((3, 12, 20)))
    write_plain("solution_0.h5", u=np.ones((3, 12, 20)))
    assert [path.name for path in find_all(tmp_path)] == ["c_0.h5", "solution_0.h5"]
