"""Whose a trial is, where the locks of other machines are not seen."""

from pathlib import Path

import pytest

from katops.sweeps import mounts, ownership
from katops.sweeps.mounts import is_of_this_machine_alone
from katops.sweeps.ownership import Ownership


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock file on a file system that other machines see."""
    monkeypatch.setattr(ownership, "is_of_this_machine_alone", lambda path: False)
    return tmp_path / "0000.lock"


def test_a_trial_that_two_machines_take_at_once_belongs_to_the_last_to_write(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_machine_writes(seconds: float) -> None:
        shared.write_text("another machine", encoding="utf-8")

    monkeypatch.setattr(ownership.time, "sleep", other_machine_writes)
    assert Ownership.take(shared) is None
    assert shared.read_text(encoding="utf-8") == "another machine"


def test_a_trial_that_nobody_else_takes_is_owned_after_a_moment(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr(ownership.time, "sleep", waited.append)
    taken = Ownership.take(shared)
    assert taken is not None
    assert waited == [ownership.SETTLED]
    assert Ownership.take(shared) is None
    taken.release()


@pytest.mark.parametrize(
    ("path", "alone"),
    [("/work/sweep/a.lock", True), ("/nfs/sweep/a.lock", False), ("/nfs/local disk/a.lock", True), ("/fast", False)],
)
def test_a_file_system_of_one_machine_is_known_by_its_kind(
    path: str, alone: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "mountinfo"
    lines = (
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw",
        "28 27 0:30 / /nfs rw shared:2 - nfs4 server:/home rw",
        "29 28 8:1 / /nfs/local\\040disk rw - xfs /dev/sda1 rw",
        "30 27 0:31 / /fast rw - fuse.beegfs beegfs rw",
    )
    table.write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    assert is_of_this_machine_alone(Path(path)) is alone
