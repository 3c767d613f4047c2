"""Memory and descriptors do not grow with the data: measured in fresh processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from katops.data.reading.buffers import BufferRing

PREPARE = """
import os, resource, sys
sys.argv[0] = "katops"  # as the command, which imports katops without the models
import h5py, numpy as np
from katops.data import FieldDataset, Window, batch_loader, describe

def reserve(path, shape):
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    plan.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # The space is reserved and stays a hole on the disk.
    with h5py.File(path, "w") as file:
        h5py.h5d.create(file.id, b"u", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple(shape), plan)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

statement = dict(inputs=["u"], outputs=["u"], axes=["sample", "time", "x", "y"])
"""

THREE_EPOCHS = """
reserve(sys.argv[1], (64, 640, 256, 256))
dataset = FieldDataset(describe(sys.argv[1], **statement), window=Window(stride=32))
loader = batch_loader(dataset, batch_size=16, shuffle=True)
for _ in zip(loader, range(8)):
    pass
before, peaks = peak(), []
for epoch in range(3):
    count = 0
    for batch in loader:
        assert batch.x.shape == (16, 1, 1, 256, 256)
        count += len(batch.x)
    assert count == len(dataset) == 64 * 20
    peaks.append(peak() - before)
print(*peaks)
"""

MANY_FILES = """
layouts = []
for number in range(150):
    path = f"{sys.argv[1]}.{number}.h5"
    with h5py.File(path, "w") as file:
        # Contiguous ones are read with pread, the others by HDF5's library.
        file.create_dataset("u", data=np.full((2, 3, 12, 20), number, "f4"), compression="gzip" if number % 2 else None)
    layouts.append(describe(path, **statement))
dataset = FieldDataset(layouts)
most = 0
for batch in batch_loader(dataset, batch_size=100, shuffle=True):
    assert (batch.x[:, 0, 0, 3, 5] == batch.index[:, 0]).all()
    most = max(most, len(os.listdir("/proc/self/fd")))
print(most)
"""


def _run(code: str, argument: Path, repository: Path) -> list[int]:
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + code, str(argument)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_three_epochs_over_ten_gigabytes_leave_the_memory_as_it_was(tmp_path, repository):
    path = tmp_path / "sparse.h5"
    first, _, last = _run(THREE_EPOCHS, path, repository)
    assert path.stat().st_size > 10 * 2**30
    assert path.stat().st_blocks * 512 < 2**26, "the file should be sparse"
    batch = 2 * 16 * 256 * 256 * 4 / 2**20
    assert first < 4 * batch, "megabytes"
    assert last - first < batch


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_of_150_files_at_most_64_are_open(tmp_path, repository):
    (most,) = _run(MANY_FILES, tmp_path / "file", repository)
    assert most <= 64 + 30


def test_memory_is_used_again_only_when_nobody_holds_it():
    ring = BufferRing(pin_memory=False)
    first = ring.take((4, 3), torch.float32).fill_(1.0)
    place = first.data_ptr()
    kept = first[1:2].numpy()  # a view of a view
    del first
    second = ring.take((4, 3), torch.float32).fill_(2.0)
    assert second.data_ptr() != place
    np.testing.assert_array_equal(kept, 1.0)
    del kept
    again = ring.take((3, 4), torch.float32)
    assert again.data_ptr() == place
    assert ring.take((3, 4), torch.float64).dtype == torch.float64


def test_batches_that_are_kept_never_change():
    ring = BufferRing(pin_memory=False)
    kept = [ring.take((2, 5)).fill_(float(number)) for number in range(100)]
    assert [tensor.mean().item() for tensor in kept] == list(range(100))
    assert len({tensor.data_ptr() for tensor in kept}) == 100


def test_a_ring_holds_a_bounded_number_of_slots():
    ring = BufferRing(pin_memory=False)
    for size in range(1, 200):
        ring.take((size,))
    assert len(ring._slots) <= 16
    assert ring.take((0, 3)).shape == (0, 3)
