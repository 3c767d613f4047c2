"""Several processes and one file, several threads and the cores."""

import os

import pytest
import torch

from katops.generators import Darcy, writer
from katops.generators.shards import ShardFolder
from katops.generators.writer import is_complete, write


def test_a_second_process_is_refused_while_the_first_one_writes(problem, output, start):
    code = """
        from katops.errors import UserError
        from katops.generators import generate
        try:
            generate("darcy", sys.argv[1], samples=8, resolution=8)
        except UserError as error:
            print(error)
    """
    messages = []

    def progress(done, total):
        if done == 0:
            messages.append(start(code, output).communicate(timeout=120)[0])

    write(problem, 8, 0, output, progress=progress)
    assert f"another process (pid {os.getpid()}) is generating" in messages[0]
    assert is_complete(problem, 8, 0, output)


def test_two_processes_at_once_leave_one_whole_file(problem, tmp_path, start, contents):
    reference = write(problem, 64, 0, tmp_path / "reference.h5")
    output = tmp_path / "shared.h5"
    code = """
        import time
        from katops.errors import UserError
        from katops.generators import generate
        while True:
            try:
                generate("darcy", sys.argv[1], samples=64, resolution=8)
                break
            except UserError as error:
                assert "another process" in str(error), error
                time.sleep(0.001)
    """
    processes = [start(code, output) for _ in range(2)]
    errors = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert contents(output) == contents(reference)
    assert sorted(os.listdir(tmp_path)) == ["reference.h5", "shared.h5"]


def test_the_lock_of_a_dead_process_does_not_block(problem, output):
    folder = ShardFolder(output)
    folder.path.mkdir(parents=True)
    (folder.path / "lock").write_text("1")
    write(problem, 2, 0, output)
    assert is_complete(problem, 2, 0, output)


def test_files_of_others_in_the_folder_of_shards_are_not_removed(problem, output):
    folder = ShardFolder(output)
    folder.path.mkdir(parents=True)
    (folder.path / "notes.txt").write_text("mine")
    write(problem, 2, 0, output)
    assert os.listdir(folder.path) == ["notes.txt"]


@pytest.mark.parametrize(("workers", "samples", "share"), [(2, 8, 2), (16, 8, 1), (4, 2, 4), (1, 8, 4)])
def test_workers_share_the_cores_with_the_threads_of_torch(output, monkeypatch, workers, samples, share):
    class Counting(Darcy):
        def samples(self, seed, indices):
            counted.add(torch.get_num_threads())
            return super().samples(seed, indices)

    counted, before = set(), torch.get_num_threads()
    monkeypatch.setattr(writer, "available_cores", lambda: 4)
    try:
        torch.set_num_threads(4)
        write(Counting(8), samples, 0, output, workers=workers, shard_size=2)
        assert (counted, torch.get_num_threads()) == ({share}, 4)
    finally:
        torch.set_num_threads(before)
