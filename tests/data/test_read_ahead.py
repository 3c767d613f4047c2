"""A background thread that is ahead: in order, with its errors, and gone when nobody listens."""

import gc
import itertools
import multiprocessing
import threading
import weakref

import pytest

from katops.data.reading.read_ahead import read_ahead


def _threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "katops-read-ahead"]


def _nothing(job: int) -> None:
    """Advice that is not needed."""


def test_results_come_in_order_and_the_thread_ends_with_them():
    assert list(read_ahead(iter(range(100)), lambda job: job**2, _nothing)) == [job**2 for job in range(100)]
    assert list(read_ahead(iter(()), str, _nothing)) == []
    assert not _threads()


def test_no_more_than_depth_results_wait():
    done, third = [], threading.Event()

    def work(job: int) -> int:
        done.append(job)
        if len(done) == 3:
            third.set()
        return job

    results = read_ahead(itertools.count(), work, _nothing, depth=2)
    assert next(results) == 0
    assert third.wait(10)
    # One was taken and two wait: the thread makes no fourth until another is taken.
    assert len(done) == 3
    results.close()
    assert len(done) == 3


def test_the_job_after_the_next_is_advised_before_the_next_is_worked_on():
    events = []
    list(read_ahead(iter(range(3)), lambda job: events.append(("work", job)), lambda job: events.append(("soon", job))))
    assert events == [("soon", 1), ("work", 0), ("soon", 2), ("work", 1), ("work", 2)]


@pytest.mark.parametrize("error", [ValueError("a sentence"), KeyboardInterrupt(), StopIteration()])
def test_what_the_work_raises_reaches_the_consumer_after_the_results_before_it(error):
    def work(job: int) -> int:
        if job == 2:
            raise error
        return job

    results = read_ahead(iter(range(5)), work, _nothing)
    assert [next(results), next(results)] == [0, 1]
    # A generator may not raise StopIteration: Python makes a RuntimeError of it.
    with pytest.raises(RuntimeError if isinstance(error, StopIteration) else type(error)) as caught:
        next(results)
    assert caught.value is error or caught.value.__cause__ is error
    assert not _threads()


def test_what_the_source_of_jobs_raises_reaches_the_consumer():
    def jobs():
        yield 1
        raise ValueError("no second job")

    with pytest.raises(ValueError, match="no second job"):
        list(read_ahead(jobs(), str, _nothing))


@pytest.mark.parametrize("end", ["close", "forget", "break", "error"])
def test_abandoned_results_end_the_thread(end):
    results = read_ahead(itertools.count(), str, _nothing)
    next(results)
    assert len(_threads()) == 1
    if end == "close":
        results.close()
    elif end == "forget":
        del results
    elif end == "break":
        for _ in results:
            break
        del results
    else:
        with pytest.raises(ZeroDivisionError):
            _fail(results)
        del results
    gc.collect()
    assert not _threads()


def _fail(results) -> None:
    for _ in results:
        raise ZeroDivisionError


def test_results_that_were_taken_are_not_kept_alive():
    class Batch:
        pass

    results = read_ahead(iter(range(5)), lambda job: Batch(), _nothing)
    first = weakref.ref(next(results))
    next(results)
    assert first() is None


# Python 3.12 and later warn about every fork of a process with threads.
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_is_told_that_the_thread_is_not_there_and_does_not_hang():
    results = read_ahead(itertools.count(), str, _nothing)
    next(results)
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def child() -> None:
        try:
            next(results)
        except RuntimeError as error:
            sender.send(str(error))
        results.close()

    process = context.Process(target=child)
    process.start()
    assert receiver.poll(30)
    assert "does not survive a fork" in receiver.recv()
    process.join(30)
    assert process.exitcode == 0
    assert next(results) == "1"
    results.close()
