"""Memory of a whole run does not grow with the data file."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np

SIZE = 512
SAMPLE_BYTES = 4 * SIZE * SIZE
SCRIPT = """
import json, resource, sys
from katops import api
peaks = []
for values in json.loads(sys.argv[1]):
    api.train(values)
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)  # never less than the one before
print(*peaks)
"""


def sparse_file(path: Path, samples: int) -> Path:
    """A plain HDF5 file whose arrays are allocated but mostly never written: zeros that take no disk."""
    shape = (samples, SIZE, SIZE)
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with h5py.File(path, "w") as file:
        for name in (b"a", b"u"):
            space = h5py.h5s.create_simple(shape)
            h5py.h5d.create(file.id, name, h5py.h5t.IEEE_F32LE, space, creation)
        values = np.random.default_rng(0).normal(size=(8, SIZE, SIZE)).astype(np.float32)
        file["a"][:8], file["u"][:8] = values, values
    return path


def run_on(path: Path, samples: int) -> dict:
    """A configuration of two steps on a file."""
    return {
        "name": "memory",
        "output": str(path.with_suffix("")),
        "data": {
            "file": str(path),
            "inputs": ["a"],
            "outputs": ["u"],
            "axes": ["sample", "x", "y"],
            "split": {"train": samples - 8, "validation": 4, "test": 4},
        },
        "model": {"name": "mgno", "hidden_channels": 4, "n_layers": 1, "schedule": [[1, 0], [1, 0]]},
        "train": {"max_steps": 2, "batch_size": 2, "loss": "mae"},
    }


def test_a_run_on_a_3_gb_file_peaks_within_1_gb_of_the_same_run_on_a_small_file(tmp_path: Path) -> None:
    many = 3 * 2**30 // (2 * SAMPLE_BYTES)
    big = sparse_file(tmp_path / "big.h5", many)
    assert big.stat().st_size >= 3 * 2**30
    runs = [run_on(sparse_file(tmp_path / "small.h5", 40), 40), run_on(big, many)]
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(runs)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small, large = map(int, done.stdout.splitlines()[-1].split())
    assert large - small < 1024, f"{small} MB with 40 samples, {large} MB with {many}"
