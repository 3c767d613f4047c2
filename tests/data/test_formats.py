"""Formats are recognised by content, can be stated and registered; what is wrong is said in one sentence."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from katops.data.formats import FORMATS, describe, register_format
from katops.data.layout import Statement
from katops.errors import UserError


def _refused(message: str, path: Path, **statement) -> None:
    with pytest.raises(UserError, match=message) as caught:
        describe(path, **statement)
    text = str(caught.value)
    assert path.name in text
    assert "\n" not in text


def _refused_without_name(message: str, path: Path, **statement) -> None:
    with pytest.raises(UserError, match=message):
        describe(path, **statement)


def test_a_file_without_outputs_can_be_described_for_prediction(steady):
    layout = describe(steady, outputs=[])
    assert layout.outputs == ()
    assert layout.meta.outputs == ()


def test_the_name_of_a_file_changes_nothing(steady, tmp_path):
    copies = [tmp_path / name for name in ("2D_CFD.hdf5", "train.mat", "no_extension")]
    for copy in copies:
        shutil.copy(steady, copy)
    assert all(describe(copy) == describe(steady) for copy in copies)


def test_a_missing_file_is_named_with_its_neighbour(steady, tmp_path):
    _refused("no file .*did you mean 'data.h5'", tmp_path / "dta.h5")
    _refused("folder .* does not exist", tmp_path / "nowhere" / "data.h5")


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        (b"", "is empty"),
        (b"time,x\n0,1\n", "is of a kind that is not read; HDF5, netCDF, MATLAB"),
        (b"PK\x03\x04" + b"\0" * 100, r"archive \(.npz, .pt, .zip\)"),
    ],
)
def test_other_containers_are_told_apart(tmp_path, contents, message):
    path = tmp_path / "data.h5"
    path.write_bytes(contents)
    _refused(message, path)


def test_a_folder_is_not_a_file(tmp_path):
    _refused("is a folder", tmp_path)


def test_a_user_block_before_the_data_is_skipped(tmp_path, plane):
    path = tmp_path / "matlab73.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["a"], file["b"] = np.ones((2, 12, 20)), np.ones((2, 12, 20))
    assert describe(path, **plane).n_samples == 2


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(steady, share):
    os.truncate(steady, int(share * steady.stat().st_size))
    _refused("is truncated", steady)


def test_damaged_metadata_is_refused(steady):
    contents = bytearray(steady.read_bytes())
    contents[40:400] = b"\xff" * 360
    steady.write_bytes(contents)
    _refused("damaged", steady)


def test_a_format_can_be_stated_and_must_fit(steady, write_plain):
    assert describe(steady, format="katops") == describe(steady)
    names = {"inputs": ["fields/coefficient"], "outputs": ["fields/pressure"], "axes": ["sample", "x", "y"]}
    assert describe(steady, format="plain", **names).format == "plain"
    _refused("does not hold what data.format: katops means", write_plain(a=np.ones((2, 12))), format="katops")
    _refused_without_name("unknown format 'katop'; did you mean 'katops'", steady, format="katop")


def test_what_a_file_says_itself_need_not_be_stated(steady):
    _refused("names its axes itself .x, y.; drop data.axes.*data.format: plain", steady, axes=["sample", "y", "x"])
    assert describe(steady, axes=["sample", "x", "y"]) == describe(steady)
    _refused("names its channels itself; drop data.channels", steady, channels={"fields/pressure": ["p"]})


def test_a_registered_format_is_recognised_and_two_that_fit_are_told_apart_by_name(write_plain, plane, monkeypatch):
    monkeypatch.setattr(FORMATS, "_formats", dict(FORMATS._formats))
    path = write_plain(a=np.ones((2, 12, 20)), b=np.ones((2, 12, 20)))

    def own(name: str) -> None:
        register_format(
            name,
            summary="the arrays a and b",
            recognise=lambda tree: set(tree.arrays) == {"/a", "/b"},
            describe=lambda tree, statement: replace(FORMATS["plain"].describe(tree, Statement(**plane)), format=name),
        )

    own("first")
    assert describe(path).format == "first"
    with pytest.raises(ValueError, match="registered already"):
        own("first")
    own("second")
    _refused("data.format: NAME, where NAME is one of first, second, or plain", path)
    assert describe(path, format="second").format == "second"


def test_describing_and_inspecting_need_no_torch(repository):
    code = (
        "import sys; sys.argv = ['katops']\n"
        "import katops.data.sources, katops.data.inspection.inspect, katops.data.windows, katops.data.fingerprints\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
