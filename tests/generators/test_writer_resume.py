"""Interrupted generation goes on where it was, and never with the wrong shards."""

import json
import os
import signal

import h5py
import numpy as np
import pytest

from katops.errors import UserError
from katops.generators import Darcy, writer
from katops.generators.shards import ShardFolder
from katops.generators.writer import is_complete, write


@pytest.fixture
def interrupt(problem, output):
    """Function: leave unfinished shards behind, as Ctrl-C does."""

    def interrupt(seed=0, **options):
        def stop(done, total):
            if done >= 4:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            write(problem, 12, seed, output, workers=1, shard_size=4, progress=stop, **options)

    return interrupt


def test_a_complete_file_is_left_alone(problem, output):
    write(problem, 5, seed=0, path=output)
    before, calls = os.stat(output), []
    write(problem, 5, seed=0, path=output, overwrite=True, progress=lambda *call: calls.append(call))
    assert calls == [(5, 5)]
    after = os.stat(output)
    # The time of the last access is not the file's own.
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)
    assert is_complete(problem, 5, 0, output)
    assert not is_complete(problem, 6, 0, output)
    assert not is_complete(problem, 5, 1, output)
    assert not is_complete(Darcy(8, "rough"), 5, 0, output)


def test_a_file_that_another_process_finished_in_between_is_told_as_complete(problem, output, monkeypatch):
    write(problem, 5, seed=0, path=output)
    found, calls = [], []

    def not_at_first(*arguments, look=writer.is_there):
        found.append(look(*arguments))
        return len(found) > 1 and found[-1]

    monkeypatch.setattr(writer, "is_there", not_at_first)
    write(problem, 5, seed=0, path=output, progress=lambda *call: calls.append(call))
    assert calls == [(5, 5)]


def test_generation_killed_in_the_middle_continues_to_the_same_file(problem, tmp_path, start, contents):
    reference = write(problem, 40, seed=1, path=tmp_path / "reference.h5")
    output = tmp_path / "killed.h5"
    code = """
        import os, signal
        from katops.generators import Darcy
        from katops.generators.writer import write

        class Killing(Darcy):
            def samples(self, seed, indices):
                if indices[0] >= 24:  # the seventh of ten shards; at most one other is being made
                    os.kill(os.getpid(), signal.SIGKILL)
                return super().samples(seed, indices)

        write(Killing(resolution=8), 40, 1, sys.argv[1], workers=2, shard_size=4)
    """
    killed = start(code, output)
    assert not killed.communicate(timeout=120)[1]
    assert killed.returncode == -signal.SIGKILL
    assert not output.exists()
    shards = {shard: shard.stat().st_mtime_ns for shard in ShardFolder(output).path.glob("shard-*.npz")}
    assert 4 <= len(shards) < 10

    calls = []

    def progress(done, total):
        calls.append(done)
        assert all(shard.stat().st_mtime_ns == time for shard, time in shards.items())

    write(problem, 40, seed=1, path=output, progress=progress)
    assert calls[0] == 4 * len(shards)
    assert contents(output) == contents(reference)
    assert sorted(os.listdir(tmp_path)) == ["killed.h5", "reference.h5"]


@pytest.mark.parametrize("moment", ["replace", "remove"])
def test_generation_killed_around_the_last_rename_is_finished_by_the_next_call(problem, output, monkeypatch, moment):
    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    def killed_at_the_output(source, target, replace=os.replace):
        return killed() if target == output else replace(source, target)

    with monkeypatch.context() as patch:
        if moment == "replace":
            patch.setattr(os, "replace", killed_at_the_output)
        else:
            patch.setattr(ShardFolder, "remove", killed)
        with pytest.raises(Killed):
            write(problem, 6, seed=0, path=output)
    assert ShardFolder(output).path.is_dir()
    calls = []
    write(problem, 6, seed=0, path=output, progress=lambda *call: calls.append(call))
    assert calls[0] == (6, 6)
    assert os.listdir(output.parent) == ["darcy.h5"]
    assert is_complete(problem, 6, 0, output)


def test_an_interrupted_call_keeps_its_shards(output, interrupt):
    interrupt()
    # The worker may have gone on with the next shards before it heard of the interruption.
    assert ShardFolder(output).shard(0).exists()
    assert not output.exists()


def test_a_damaged_shard_is_found_and_made_anew(problem, output, interrupt):
    interrupt()
    shard = ShardFolder(output).shard(0)
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    shard.write_bytes(damaged)
    with pytest.raises(UserError, match=r"shard-000000\.npz.*was damaged and is removed"):
        write(problem, 12, 0, output)
    write(problem, 12, 0, output)
    with h5py.File(output) as file:
        np.testing.assert_array_equal(file["fields/pressure"], problem.samples(0, range(12)).fields["pressure"])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "seed 0 instead of 1;"),
        ({"samples": 13}, "samples 12 instead of 13;"),
        ({"problem": Darcy(8, "rough")}, "variant smooth instead of rough, "),
        ({"problem": Darcy(16)}, "native_resolution 8 instead of 16;"),
        ({"shard_size": 5}, "shard_size 4 instead of 5;"),
    ],
)
def test_shards_of_other_data_are_neither_used_nor_lost(problem, output, changed, message, interrupt):
    interrupt()
    wanted = {"problem": problem, "samples": 12, "seed": 0, "path": output, **changed}
    with pytest.raises(UserError, match=rf"darcy\.h5\.partial'.*{message}.*overwrite") as caught:
        write(**wanted)
    assert "recipe_hash" not in str(caught.value)
    assert ShardFolder(output).shard(0).exists()
    calls = []
    write(**wanted, overwrite=True, progress=lambda *call: calls.append(call))
    assert calls[0][0] == 0
    assert is_complete(wanted["problem"], wanted["samples"], wanted["seed"], output)


def test_a_finished_file_is_returned_although_shards_of_other_data_lie_beside_it(problem, output, interrupt):
    write(problem, 6, seed=0, path=output)
    interrupt(seed=1, overwrite=True)
    assert write(problem, 6, seed=0, path=output) == output
    assert ShardFolder(output).shard(0).exists()


def test_a_manifest_that_cannot_be_read_is_told(problem, output, interrupt):
    interrupt()
    (ShardFolder(output).path / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"manifest\.json' cannot be read"):
        write(problem, 12, 0, output)


def test_the_manifest_tells_what_the_shards_are(problem, output, interrupt):
    interrupt()
    manifest = json.loads((ShardFolder(output).path / "manifest.json").read_text())
    assert {key: manifest[key] for key in problem.recipe} == problem.recipe
    assert (manifest["seed"], manifest["samples"], manifest["shard_size"]) == (0, 12, 4)
