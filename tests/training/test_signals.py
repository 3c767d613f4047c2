"""Signals during a training."""

import contextlib
import json
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from katops import api, cli
from katops.errors import Preempted, ToldElsewhere
from katops.training.signals import Signals


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def next_batch(signals: Signals) -> None:
    signals.on_train_batch_start(None, None, None, 0)


def press_in_vain() -> None:
    """Ctrl-C, whose exception somebody takes for another one."""
    with contextlib.suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("nothing was raised")


def train(signals: Signals, steps: list[str], *, batches_after: int) -> None:
    with signals.listening():
        next_batch(signals)
        press_in_vain()
        for number in range(batches_after):
            next_batch(signals)
            steps.append(f"batch {number}")
        steps.append("end")


@pytest.mark.parametrize(("batches_after", "steps"), [(2, []), (0, ["end"])])
def test_an_interrupt_that_was_swallowed_is_raised_before_the_next_batch_or_at_the_end(batches_after, steps) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        train(Signals(), done, batches_after=batches_after)
    assert done == steps
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_that_does_not_end_the_program_does_not_end_the_training() -> None:
    pressed = []
    signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    signals = Signals()
    with signals.listening():
        signal.raise_signal(signal.SIGINT)
        next_batch(signals)
    assert pressed == [signal.SIGINT]


@pytest.mark.parametrize("ignored", [signal.SIG_IGN, signal.SIG_DFL])
def test_what_is_no_function_stays(ignored: signal.Handlers) -> None:
    signal.signal(signal.SIGINT, ignored)
    with Signals().listening():
        assert signal.getsignal(signal.SIGINT) == ignored


def test_other_threads_leave_the_handler_alone() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = []

    def train() -> None:
        with Signals().listening():
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_scheduler_that_takes_the_machine_back_only_leaves_a_note(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    signals = Signals()
    with signals.listening():
        signal.raise_signal(number)
        next_batch(signals)
    assert signals.ending == number.name
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [(Preempted("stopped by SIGTERM"), 75, "stopped by SIGTERM"), (ToldElsewhere("no"), 2, "")],
)
def test_the_command_ends_with_a_code_for_who_started_it(
    error: Exception, code: int, told: str, run_values: dict, tmp_path: Path, monkeypatch, capsys
) -> None:
    def stopped(*arguments: object, **options: object) -> None:
        raise error

    path = tmp_path / "run.yaml"
    path.write_text(json.dumps(run_values), encoding="utf-8")
    monkeypatch.setattr(api, "train", stopped)
    monkeypatch.setattr(sys, "argv", ["katops", "train", str(path)])
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert capsys.readouterr().err.strip() == told
