"""Parts for job arrays: each job makes one file, and the files together are the data set of one call."""

import h5py
import numpy as np
import pytest

from katops.data import open_dataset
from katops.data.convert_file import convert_file
from katops.data.sources import describe_all
from katops.errors import DataWarning, UserError
from katops.generators import generate
from katops.generators.parts import Part
from katops.generators.writer import write

OPTIONS = {"samples": 11, "seed": 2, "resolution": 8}


def test_the_parts_hold_every_sample_once():
    for samples, count in ((11, 4), (16, 16), (7, 1)):
        indices = [i for number in range(1, count + 1) for i in Part(number, count).indices(samples)]
        assert indices == list(range(samples))


def test_the_files_of_all_parts_are_read_as_the_data_set_of_one_call(tmp_path):
    whole = generate("darcy", tmp_path / "whole.h5", **OPTIONS)
    parts = [generate("darcy", tmp_path / "parts" / "darcy.h5", shard=f"{k}/3", **OPTIONS) for k in (3, 1, 2)]
    assert sorted(path.name for path in parts) == [f"darcy-{k}-of-3.h5" for k in (1, 2, 3)]
    layouts = describe_all(tmp_path / "parts")
    assert [layout.n_samples for layout in layouts] == [3, 4, 4]
    merged = convert_file(str(tmp_path / "parts" / "darcy-*-of-3.h5"), tmp_path / "merged.h5")
    with h5py.File(whole) as expected, h5py.File(merged) as found:
        for name in ("coefficient", "pressure"):
            stored = np.concatenate([h5py.File(layout.path)[f"fields/{name}"][:] for layout in layouts])
            np.testing.assert_array_equal(stored, expected[f"fields/{name}"])
            np.testing.assert_array_equal(found[f"fields/{name}"], expected[f"fields/{name}"])


def test_shards_that_are_missing_and_samples_that_are_there_twice_are_told(tmp_path, recwarn):
    folder = tmp_path / "parts"
    second, third = (generate("darcy", folder / "darcy.h5", shard=f"{k}/3", **OPTIONS) for k in (2, 3))
    with pytest.warns(DataWarning, match=r"samples 0 to 2 of the 11 to be generated are missing"):
        open_dataset(folder)
    third.unlink()
    with pytest.warns(DataWarning, match=r"samples 0 to 2, 7 to 10 of the 11"):
        open_dataset(folder)
    second.unlink()
    recwarn.clear()
    for k in (1, 2, 3):
        generate("darcy", folder / "darcy.h5", shard=f"{k}/3", **OPTIONS)
    open_dataset(folder)
    assert not recwarn.list
    generate("darcy", folder / "whole.h5", **OPTIONS)
    with pytest.warns(DataWarning, match=r"both hold samples 0 to 2 of the same generated set"):
        open_dataset(folder)


def test_an_interrupted_part_continues_with_its_own_samples(problem, output):
    def stop(done, total):
        if done >= 2:
            raise KeyboardInterrupt

    part = Part(2, 2)
    with pytest.raises(KeyboardInterrupt):
        write(problem, 9, 0, output, workers=1, shard_size=2, progress=stop, part=part)
    calls = []
    path = write(problem, 9, 0, output, part=part, progress=lambda *call: calls.append(call))
    assert 2 <= calls[0][0] < 5
    with h5py.File(path) as file:
        assert (file.attrs["first_sample"], file.attrs["samples"]) == (4, 5)
        np.testing.assert_array_equal(file["fields/pressure"], problem.samples(0, range(4, 9)).fields["pressure"])


def test_a_part_is_not_taken_for_a_whole_of_as_many_samples(problem, output):
    part = write(problem, 10, 0, output, part=Part(2, 2))
    with pytest.raises(UserError, match="first_sample 5 instead of 0"):
        write(problem, 5, 0, part)


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", ""])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UserError, match="write 1/16, 2/16"):
        Part.parse(text)


def test_more_parts_than_samples_are_refused(tmp_path):
    with pytest.raises(UserError, match="3 samples cannot be made in 4 shards;"):
        generate("darcy", tmp_path / "x.h5", samples=3, shard="1/4", resolution=8)


def test_the_numbers_of_the_files_have_equal_width():
    assert str(Part(3, 16).path("data/darcy.h5")) == "data/darcy-03-of-16.h5"
    assert str(Part(1, 1).path("data/darcy.h5")) == "data/darcy.h5"


def test_shards_named_apart_in_a_folder_that_has_all_of_them_are_no_gap(tmp_path, recwarn):
    """Some for training, others for validation and testing."""
    parts = [generate("darcy", tmp_path / "darcy.h5", shard=f"{k}/3", **OPTIONS) for k in (1, 2, 3)]
    assert [len(open_dataset(part)) for part in parts] == [3, 4, 4]
    assert not recwarn.list
    parts[2].unlink()
    with pytest.warns(DataWarning, match=r"samples 3 to 10 of the 11 to be generated are missing"):
        open_dataset(parts[0])
