"""Atomic writing: the old file or the new one, readable by whom the user wants."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from katops.errors import UserError
from katops.files import atomic_path, write_text


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "notes.txt"
    write_text(target, "old")
    with pytest.raises(TypeError), atomic_path(target) as temporary:
        temporary.write_bytes(b"half") + "not a number"
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folders_are_made_and_the_file_is_whole(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "whole")
    assert (tmp_path / "a" / "b.txt").read_text() == "whole"


def test_files_follow_the_umask_even_when_the_writer_does_not(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "model.safetensors") as temporary:
        save_file({"a": torch.ones(1)}, temporary)
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write .*file/model"):
        write_text(tmp_path / "file" / "model.txt", "text")
    assert os.listdir(tmp_path) == ["file"]
