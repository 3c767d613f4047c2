"""Finding out that a process is gone."""

import threading
import time
from datetime import timedelta

import pytest
from torch import distributed as dist

from katops.distributed import heartbeat as module
from katops.distributed import launch
from katops.distributed.heartbeat import Heartbeat
from katops.distributed.launch import _wait_for_all, is_loss
from katops.distributed.processes import Processes
from katops.errors import ToldElsewhere, UserError


class Failure(Exception):
    """Of the work of a process."""


@pytest.fixture
def store() -> dist.TCPStore:
    return dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.fixture
def endings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of the processes that have ended themselves; only their heartbeats end in place of them."""
    codes: list[int] = []

    monkeypatch.setattr(module.os, "_exit", codes.append)
    monkeypatch.setattr(module, "GRACE", 0.05)
    return codes


def of_rank(store: dist.Store, rank: int, lost_after: float = 0.5) -> Heartbeat:
    return Heartbeat(store, Processes(rank, 2), interval=0.05, lost_after=lost_after)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_does_not_count_is_lost_and_named(store, endings, capfd) -> None:
    with of_rank(store, 0).beating():
        wait_for(lambda: endings)
    assert endings == [1]
    assert "process 1 of the 2 of this job is gone" in capfd.readouterr().err


def test_processes_that_count_stay(store, endings) -> None:
    with of_rank(store, 0, lost_after=5.0).beating(), of_rank(store, 1, lost_after=5.0).beating():
        time.sleep(0.5)
    assert not endings


def test_a_process_that_has_left_in_order_is_not_missed(store, endings) -> None:
    with of_rank(store, 0).beating():
        with of_rank(store, 1, lost_after=60.0).beating():
            time.sleep(0.2)
        time.sleep(1.0)
    assert not endings


def test_a_process_that_has_failed_ends_the_others_at_once(store, endings) -> None:
    def fail() -> None:
        with of_rank(store, 1, lost_after=60.0).beating():
            raise Failure

    with of_rank(store, 0, lost_after=60.0).beating():
        with pytest.raises(Failure):
            fail()
        wait_for(lambda: endings)


def test_a_store_that_does_not_answer_ends_the_processes_that_wait_for_it(store, endings, capfd) -> None:
    beat = of_rank(store, 0)
    hangs = threading.Event()

    class Silent:
        def set(self, key: str, value: str) -> None:
            hangs.wait(60)
            raise RuntimeError

    beat._store = Silent()
    with beat.beating():
        wait_for(lambda: endings)
        hangs.set()
    assert "the others meet at of the 2 of this job is gone" in capfd.readouterr().err


def test_who_does_not_come_is_named_by_the_first_who_has(store, monkeypatch) -> None:
    monkeypatch.setattr(launch, "ARRIVAL", timedelta(milliseconds=300))
    with pytest.raises(UserError, match=r"of the 3 processes of this job, \[1, 2\] have not come") as error:
        _wait_for_all(store, 0, 3)
    assert not isinstance(error.value, ToldElsewhere)
    with pytest.raises(ToldElsewhere):
        _wait_for_all(store, 1, 3)


def test_only_the_first_process_tells_of_a_loss(store) -> None:
    beats = [of_rank(store, rank) for rank in (0, 1)]
    assert [beat.tells() for beat in beats] == [True, False]


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (RuntimeError("[..gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:4711"), True),
        (dist.DistNetworkError("failed to recv, got 0 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_what_says_that_a_process_is_gone_is_told_from_other_errors(error: RuntimeError, lost: bool) -> None:
    assert is_loss(error) is lost


def test_threads_of_a_heartbeat_end_with_it(store) -> None:
    before = threading.active_count()
    with of_rank(store, 0, lost_after=60.0).beating():
        assert threading.active_count() == before + 2
    assert threading.active_count() == before
