"""The fingerprint follows the contents, not the name."""

import shutil

import h5py
import numpy as np
import pytest

from katops.data.fingerprints import fingerprint
from katops.data.formats import describe
from katops.errors import UserError


def test_a_copy_has_the_same_fingerprint_and_so_has_its_description(steady, tmp_path):
    copy = shutil.copy(steady, tmp_path / "other_name.hdf5")
    assert fingerprint(copy) == fingerprint(steady) == fingerprint(describe(steady))
    assert len(fingerprint(steady)) == 64


@pytest.mark.parametrize("sample", [0, 4, 8])
def test_a_change_in_the_first_middle_or_last_sample_is_noticed(steady, sample):
    before = fingerprint(steady)
    with h5py.File(steady, "r+") as file:
        file["fields/pressure"][sample, 11, 19] += 1.0
    assert fingerprint(steady) != before


def test_a_changed_attribute_is_noticed(steady):
    before = fingerprint(steady)
    with h5py.File(steady, "r+") as file:
        file.attrs["seed"] = 4
    assert fingerprint(steady) != before


@pytest.mark.parametrize("shape", [(3, 600, 700), (3, 5, 600, 700), (3, 2**19), (2, 3, 4)])
def test_large_samples_are_read_in_part_and_small_ones_whole(write_plain, shape):
    values = np.zeros(shape)
    before = fingerprint(write_plain(a=values))
    values[-1].flat[0] = 1.0
    assert fingerprint(write_plain(a=values)) != before


def test_any_hdf5_file_has_a_fingerprint(tmp_path):
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["text"] = ["a", "b"]
        file["scalar"] = 3
        file["empty"] = np.zeros((0, 4))
        file["null"] = h5py.Empty("f4")
        file["records"] = np.zeros(3, "f4,i4")
    assert fingerprint(path) == fingerprint(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="no file"):
        fingerprint(tmp_path / "none.h5")
