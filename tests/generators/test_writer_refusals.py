"""Bad arguments, files in the way and full disks are told in one sentence."""

import os

import h5py
import pytest

from katops.errors import UserError
from katops.generators import Darcy
from katops.generators.parts import Part
from katops.generators.shards import ShardFolder
from katops.generators.writer import is_complete, write


@pytest.mark.parametrize(
    ("changed", "message"),
    [({"seed": 1}, "seed 0 instead of 1;"), ({"problem": Darcy(16)}, "native_resolution 8 instead of 16;")],
)
def test_a_file_with_other_data_is_not_replaced_unless_asked(problem, output, changed, message, contents):
    write(problem, 4, seed=0, path=output)
    before = contents(output)
    wanted = {"problem": problem, "samples": 4, "seed": 0, "path": output, **changed}
    with pytest.raises(UserError, match=rf"exists and holds other data: {message}"):
        write(**wanted)
    assert contents(output) == before
    assert os.listdir(output.parent) == ["darcy.h5"]
    write(**wanted, overwrite=True)
    assert contents(output) != before


@pytest.mark.parametrize("kind", ["text", "cut", "incomplete", "foreign"])
def test_a_file_that_is_no_whole_data_set_is_not_taken_for_one(problem, output, kind):
    write(problem, 4, seed=0, path=output)
    if kind == "text":
        output.write_text("notes")
    elif kind == "cut":
        output.write_bytes(output.read_bytes()[:3000])
    elif kind == "incomplete":
        with h5py.File(output, "r+") as file:
            del file.attrs["complete"]
    else:
        with h5py.File(output, "w") as file:
            file.attrs["complete"] = [1, 2]
    assert not is_complete(problem, 4, 0, output)
    with pytest.raises(UserError, match="exists and is not a whole katops data file; choose another output"):
        write(problem, 4, 0, output)
    write(problem, 4, 0, output, overwrite=True)
    assert is_complete(problem, 4, 0, output)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"samples": 0}, "samples must be at least 1; given: 0"),
        ({"samples": 2.5}, "samples must be a whole number, at least 1; given: 2.5"),
        ({"samples": True}, "samples must be a whole number"),
        ({"seed": -1}, "seed must be 0 to 18446744073709551615; given: -1"),
        ({"seed": 2**64}, "seed must be 0 to"),
        ({"seed": "0"}, "seed must be a whole number"),
        ({"workers": 0}, "workers must be at least 1"),
        ({"shard_size": 0}, "shard_size must be at least 1"),
    ],
)
def test_a_bad_argument_is_told_in_one_sentence_and_leaves_nothing_behind(problem, output, changed, message):
    with pytest.raises(UserError, match=message):
        write(**{"problem": problem, "samples": 4, "seed": 0, "path": output, **changed})
    assert not output.parent.exists()


def test_the_largest_seed_is_stored_and_recognised(problem, output):
    write(problem, 2, seed=2**64 - 1, path=output)
    assert is_complete(problem, 2, 2**64 - 1, output)


def test_a_folder_is_no_output(problem, tmp_path):
    with pytest.raises(UserError, match=r"is a folder; give the name of a file in it, such as .*data\.h5"):
        write(problem, 2, 0, tmp_path, overwrite=True)
    with pytest.raises(UserError, match="is a folder; give the name of a file in it"):
        write(problem, 2, 0, tmp_path, part=Part(1, 2))
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}-1-of-2*"))


def test_a_file_in_the_place_of_the_folder_is_told(problem, tmp_path):
    (tmp_path / "data").write_text("")
    with pytest.raises(UserError, match=r"cannot write '.*data/darcy\.h5\.partial'"):
        write(problem, 2, 0, tmp_path / "data" / "darcy.h5")


@pytest.mark.parametrize(("limit", "shards"), [(5_000, 0), (60_000, 8)])
def test_a_full_disk_is_told_and_the_finished_shards_are_used_afterwards(problem, output, start, limit, shards):
    """A limit on the size of files stands in for the full disk: hit by the first shard, then by the assembled file."""
    code = f"""
        import resource
        from katops.errors import UserError
        from katops.generators import Darcy
        from katops.generators.writer import write
        resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
        try:
            write(Darcy(resolution=8), 256, 0, sys.argv[1], shard_size=32)
        except UserError as error:
            print(error)
    """
    message, errors = start(code, output).communicate(timeout=120)
    assert message.startswith("cannot write")
    assert "File too large; the finished shards are kept, the same command goes on from them" in message
    assert len(message.splitlines()) == 1
    assert not errors
    assert not output.exists()
    assert len(list(ShardFolder(output).path.glob("shard-*.npz"))) == shards
    write(problem, 256, 0, output)
    assert is_complete(problem, 256, 0, output)
    assert os.listdir(output.parent) == ["darcy.h5"]
