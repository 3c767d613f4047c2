"""Shards joined by ``--merge`` are the file of one call, until one of them is gone, which is told."""

import os
import resource
import shutil

import h5py
import numpy as np
import pytest
from typer.testing import CliRunner

from katops.cli import app
from katops.data import open_dataset
from katops.data.containers.probe import probe
from katops.data.formats import describe
from katops.data.inspection.inspect import inspect
from katops.data.reading.reader import FieldReader, Request
from katops.errors import UserError
from katops.generators import Darcy
from katops.generators.merge import merge
from katops.generators.parts import Part
from katops.generators.writer import is_complete, write

SAMPLES = 7


@pytest.fixture
def shards(problem, output):
    """Three files with the samples 0 and 1, 2 and 3, 4 to 6 of ``problem``."""
    return [write(problem, SAMPLES, 1, output, workers=1, part=Part(number, 3)) for number in (1, 2, 3)]


def test_the_joined_file_is_that_of_one_call_to_the_bit_and_tells_of_its_shards(problem, output, shards, contents):
    whole, joined = contents(write(problem, SAMPLES, 1, output.with_name("whole.h5"))), contents(merge(output))
    assert joined["/"] == {**whole["/"], "shards": 3}
    assert {**joined, "/": None} == {**whole, "/": None}
    assert "3 files" in " ".join(inspect(output).notes)
    assert probe(output).array("fields/pressure").stored_bytes == 0


def test_training_reads_from_the_joined_file_what_it_reads_from_the_folder(problem, output, shards):
    apart, joined = open_dataset(output.parent), open_dataset(merge(output))
    assert len(apart) == len(joined) == SAMPLES
    for index in range(SAMPLES):
        ours, theirs = joined[index], apart[index]
        np.testing.assert_array_equal(ours.x, theirs.x)
        np.testing.assert_array_equal(ours.y, theirs.y)


def test_the_folder_can_be_moved_as_a_whole(output, shards, contents, tmp_path):
    before = contents(merge(output))
    shutil.move(output.parent, tmp_path / "elsewhere")
    assert contents(tmp_path / "elsewhere" / output.name) == before
    elsewhere = sorted((tmp_path / "elsewhere").glob("*-of-3.h5"))
    assert contents(merge(tmp_path / "joined" / "beside.h5", elsewhere)) == before


def test_joining_again_changes_nothing_and_joined_samples_need_not_be_generated(problem, output, shards):
    stamp = merge(output).stat().st_mtime_ns
    calls = []
    assert merge(output) == write(problem, SAMPLES, 1, output, progress=lambda *call: calls.append(call))
    assert (output.stat().st_mtime_ns, calls) == (stamp, [(SAMPLES, SAMPLES)])
    with pytest.raises(UserError, match=r"is no shard|itself joined"):
        merge(output.with_name("again.h5"), [output])


def test_a_file_that_is_in_the_way_is_replaced_only_where_that_is_asked_for(problem, output, shards):
    write(problem, 2, 0, output)
    with pytest.raises(UserError, match=r"darcy\.h5' exists and holds other data: seed 0 instead of 1"):
        merge(output)
    assert describe(merge(output, overwrite=True)).n_samples == SAMPLES
    with pytest.raises(UserError, match="is one of the shards"):
        merge(shards[0], shards)


def test_samples_that_are_missing_or_there_twice_are_told(problem, output, shards):
    for named, message in (
        (shards[1:], r"samples 0 to 1 of 7 are missing, those before the ones of .*darcy-2-of-3\.h5"),
        (shards[::2], r"samples 2 to 3 of 7 are missing, those before the ones of .*darcy-3-of-3\.h5"),
        (shards[:2], r"samples 4 to 6 of 7 are missing, those after the ones of .*darcy-2-of-3\.h5"),
        ([*shards, shards[1]], r"darcy-2-of-3\.h5 and .*darcy-2-of-3\.h5 both hold samples 2 to 3"),
        ([*shards, write(problem, SAMPLES, 1, output, part=Part(2, 2))], r"-2-of-2\.h5 .*both hold samples"),
    ):
        with pytest.raises(UserError, match=message):
            merge(output, named)
    with pytest.raises(UserError, match=r"lie shards of sets of 2 and of 3 with its name"):
        merge(output)
    assert not output.exists()


def test_shards_are_found_by_name_and_must_all_be_there_and_whole(problem, output, shards):
    with pytest.raises(UserError, match=r"beside .*other\.h5' lie no shards with its name, such as other-01-of-16\.h5"):
        merge(output.with_name("other.h5"))
    shards[1].unlink()
    with pytest.raises(UserError, match=r"darcy-2-of-3\.h5 is missing; make it with katops generate --shard"):
        merge(output)
    stopped = pytest.raises(KeyboardInterrupt)
    with stopped:
        write(problem, SAMPLES, 1, output, workers=1, shard_size=1, part=Part(2, 3), progress=_stop)
    with pytest.raises(UserError, match=r"darcy-2-of-3\.h5 is unfinished, darcy-2-of-3\.h5\.partial is still there"):
        merge(output)
    assert not output.exists()


def _stop(done, total):
    if done:
        raise KeyboardInterrupt


def test_files_that_do_not_belong_together_are_told(problem, output, shards, tmp_path):
    def refused(path, message):
        with pytest.raises(UserError, match=message):
            merge(output, [shards[0], path, shards[2]])

    other = tmp_path / "other" / "darcy.h5"
    refused(write(problem, SAMPLES, 2, other, part=Part(2, 3)), r"different sets, the former has seed 2 instead of 1")
    refused(write(Darcy(16), SAMPLES, 1, tmp_path / "a.h5", part=Part(2, 3)), "has native_resolution 16 instead of 8")
    refused(write(problem, 8, 1, tmp_path / "b.h5", part=Part(2, 3)), "has set_samples 8 instead of 7")
    refused(write(problem, SAMPLES, 1, tmp_path / "c.h5", part=Part(2, 3), layout="well"), "has layout well instead")
    refused(write(problem, 2, 1, tmp_path / "d.h5"), r"d\.h5 is no shard of katops generate --shard")
    refused(write(problem, 7, 1, tmp_path / "e.mat", part=Part(2, 3), layout="fno"), r"e-2-of-3\.mat is not HDF5")
    with h5py.File(shards[1], "r+") as file:
        file.attrs["complete"] = False
    refused(shards[1], r"darcy-2-of-3\.h5 is incomplete")
    os.truncate(shards[1], 3000)
    refused(shards[1], r"darcy-2-of-3\.h5 is truncated")
    assert not output.exists()


@pytest.mark.parametrize("harm", ["gone", "cut", "shorter"])
def test_a_shard_that_is_gone_or_damaged_later_is_told_when_the_joined_file_is_opened(problem, output, shards, harm):
    merge(output)
    if harm == "gone":
        shards[1].unlink()
    elif harm == "cut":
        os.truncate(shards[1], 3000)
    else:
        write(problem, 4, 1, shards[1], overwrite=True, part=Part(1, 4))
        os.replace(Part(1, 4).path(shards[1]), shards[1])
    told = {"gone": "missing, e.g. 'd", "cut": "'darcy-2-of-3.h5' cannot be opened", "shorter": "has another shape"}
    with pytest.raises(UserError, match=rf"3 files, 1 of which are .*{told[harm]}"):
        open_dataset(output)
    assert not is_complete(problem, SAMPLES, 1, output)


def test_a_shard_that_is_gone_or_changed_while_it_is_read_is_told(output, shards):
    layout = describe(merge(output))
    out = np.empty((1, 1, 1, *layout.space), np.float32)
    request = Request("inputs", *np.zeros((3, 1), np.int64), 1, out=out)
    reader = FieldReader([layout])
    reader.read(request)
    assert np.isfinite(out).all()
    shards[1].rename(shards[1].with_suffix(".kept"))
    with pytest.raises(UserError, match=r"darcy-2-of-3\.h5 is missing now"):
        reader.read(request)
    with h5py.File(output, locking=False) as file:  # as katops has it open
        assert np.isnan(file["fields/pressure"][2:4]).all()
    shards[1].with_suffix(".kept").rename(shards[1])
    reader.read(request)
    os.utime(shards[2], ns=(0, 0))
    with pytest.raises(UserError, match=r"darcy-3-of-3\.h5, a part of .*darcy\.h5, has changed"):
        reader.read(request)


def test_more_shards_than_a_process_may_have_open_are_told_before_anything_is_read(output, shards, monkeypatch):
    layout = describe(merge(output))
    monkeypatch.setattr(resource, "getrlimit", lambda which: (66, 66))
    with pytest.raises(UserError, match=r"put together from 3 files, and this process may have 66 files open; raise"):
        FieldReader([layout])
    monkeypatch.setattr(resource, "getrlimit", lambda which: (67, 67))
    FieldReader([layout])


def test_the_command_joins_and_writes_a_card(output, shards):
    run = CliRunner().invoke(app, ["generate", "--merge", "-o", str(output), "--card"], catch_exceptions=False)
    assert f"{output}: 7 samples of darcy, joined from 3 shards" in run.output
    assert "in 3 files that this one joins" in output.with_suffix(".md").read_text()
    named = ["generate", "--merge", "-o", str(output.with_name("x.h5")), *map(str, shards)]
    assert "joined from 3 shards" in CliRunner().invoke(app, named).output
    with pytest.raises(UserError, match=r"generate --merge -o FILE\.h5 \[SHARD\.\.\.\]"):
        CliRunner().invoke(app, ["generate", "darcy", "--merge", "--samples", "3"], catch_exceptions=False)
