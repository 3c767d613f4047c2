"""Several jobs that begin one sweep at the same moment."""

import io
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from katops.config import parse_config
from katops.errors import UserError
from katops.generators.shards import ShardFolder
from katops.sweeps import generation
from katops.sweeps.plan import SWEEP_FILE, Plan
from katops.sweeps.preflight import check_base


def test_a_folder_in_which_another_job_is_just_beginning_the_sweep_is_joined(plan: Plan, tmp_path: Path) -> None:
    joined = replace(plan, directory=tmp_path / "begun")
    joined.directory.mkdir()
    (joined.directory / f".{SWEEP_FILE}.4711.partial").touch()
    joined.settle()
    assert (joined.directory / SWEEP_FILE).is_file()


def test_a_folder_with_a_half_written_file_of_something_else_is_refused(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / ".model.safetensors.4711.partial").touch()
    with pytest.raises(UserError, match="is not empty and is no sweep"):
        replace(plan, directory=tmp_path).settle()


def test_data_that_another_job_is_generating_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "darcy.h5"
    split = {"train": 4, "validation": 2, "test": 2}
    data = {"file": str(file), "generate": {"problem": "darcy", "samples": 8, "resolution": 8}, "split": split}
    config = parse_config({"name": "darcy", "data": data, "model": "mgno_tiny", "train": {"batch_size": 4}})
    printed = io.StringIO()
    with ExitStack() as other_job:
        other_job.enter_context(ShardFolder(file).locked())
        looks = iter([lambda: None, other_job.close])
        monkeypatch.setattr(generation.time, "sleep", lambda seconds: next(looks)())
        check_base(config, Console(file=printed, width=300))
    assert file.is_file()
    assert printed.getvalue().count("waiting: another process") == 1
