"""Memory does not grow with the file: reading through 2 GB, measured in a fresh process."""

import os
import subprocess
import sys

READ_ALL = """
import resource, sys
import h5py, torch
from katops.data import FieldDataset, batch_loader, describe, fit_normalizer, Window

path = sys.argv[1]
plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # The space is reserved and stays a hole on the disk.
with h5py.File(path, "w") as file:
    space = h5py.h5s.create_simple((64, 128, 256, 256))
    h5py.h5d.create(file.id, b"u", h5py.h5t.IEEE_F32LE, space, plist)
layout = describe(path, inputs=["u"], outputs=["u"], axes=["sample", "time", "x", "y"])
dataset = FieldDataset(layout, window=Window(stride=4))
list(batch_loader(dataset, range(8), batch_size=8))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for batch in batch_loader(dataset, batch_size=8, shuffle=True):
    assert batch.x.shape == (8, 1, 1, 256, 256)
fit_normalizer(dataset, range(0, len(dataset), 16))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_peak_memory_stays_flat_while_two_gigabytes_are_read(tmp_path, repository):
    path = tmp_path / "sparse.h5"
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(path)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert path.stat().st_size > 2 * 2**30
    assert path.stat().st_blocks * 512 < 2**26, "the file should be sparse"
    assert int(done.stdout) < 200 * 1024, "kilobytes"
