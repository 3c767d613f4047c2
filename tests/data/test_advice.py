"""The operating system is asked for the next batch while data come from the disk, and left alone while they do not."""

import os

import h5py
import numpy as np
import pytest

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.reading import advice

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="this system takes no advice")


@pytest.fixture
def dataset(tmp_path) -> FieldDataset:
    with h5py.File(tmp_path / "u.h5", "w") as file:
        file["u"] = np.zeros((30, 2, 12, 20), "f4")
    return FieldDataset(describe(tmp_path / "u.h5", inputs=["u"], outputs=["u"], axes=["sample", "time", "x", "y"]))


@pytest.fixture
def system(monkeypatch) -> dict:
    """What is in the cache, which ranges were looked up there and which were asked for."""
    state = {"cached": True, "looked": [], "asked": []}

    def is_cached(descriptor, offset, size):
        state["looked"].append((offset, size))
        return state["cached"]

    monkeypatch.setattr(advice, "_is_cached", is_cached)
    monkeypatch.setattr(os, "posix_fadvise", lambda _, offset, size, __: state["asked"].append((offset, size)))
    return state


def test_what_is_on_the_disk_is_asked_for_batch_after_batch(dataset, system):
    system["cached"] = False
    for _ in range(40):
        dataset.prefetch([3, 11, 4])
    one_frame = 12 * 20 * 4
    assert len(system["asked"]) == 40 * 2
    assert {size for _, size in system["asked"]} == {2 * one_frame * 2, 2 * one_frame}


def test_what_is_in_the_cache_is_hardly_looked_up(dataset, system):
    for _ in range(100):
        dataset.prefetch(np.arange(0, 30, 2))
    assert system["asked"] == []
    assert 0 < len(system["looked"]) < 100 * 2


def test_what_falls_out_of_the_cache_is_asked_for_again(dataset, system):
    for _ in range(50):
        dataset.prefetch([0, 1])
    system["cached"] = False
    for _ in range(60):
        dataset.prefetch([0, 1])
    assert len(system["asked"]) > 40


def test_a_system_that_does_not_tell_is_asked(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"abc")
    descriptor = os.open(tmp_path / "a", os.O_RDONLY)
    try:
        assert not advice._is_cached(descriptor, 2, 5)
        monkeypatch.delattr(os, "RWF_NOWAIT", raising=False)
        assert not advice._is_cached(descriptor, 0, 3)
    finally:
        os.close(descriptor)
