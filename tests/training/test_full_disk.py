"""A disk that is full: one sentence, nothing is lost, and training goes on where there is room."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from katops import api
from katops.bundle import load
from katops.errors import UserError

pytestmark = pytest.mark.usefixtures("undrawn_figures")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine mounts no file systems")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_ends_a_training_with_a_sentence_and_what_is_saved_continues(
    small_disk: Path, run_values: dict[str, Any], tmp_path: Path
) -> None:
    run_values["train"] = {**run_values["train"], "epochs": 2, "device": "cpu"}
    run_values["report"] = {"examples": 1}
    values = {**run_values, "output": str(small_disk / "run")}
    # Room for the first checkpoints, and for nothing after them.
    with pytest.raises(UserError, match="No space left on device"):
        api.train(values, progress=False)
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    continued = api.train(values, resume=True, progress=False)
    whole = load(api.train({**run_values, "output": str(tmp_path / "whole")}, progress=False).directory)
    weights = whole.model.state_dict()
    assert all(torch.equal(continued.bundle.model.state_dict()[name], weights[name]) for name in weights)
