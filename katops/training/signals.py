"""Signals during a training: Ctrl-C that cannot get lost, and the ones by which a scheduler takes the machine back."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import Any

import lightning

from katops.errors import Preempted

PREEMPTION = (signal.SIGTERM, signal.SIGUSR1)
"""What SLURM, Kubernetes, torchrun and ``kill`` send when a job has to end soon."""

Handler = Callable[[int, FrameType | None], Any]


class Signals(lightning.Callback):
    """Notices signals while a training runs.

    SIGINT keeps its effect, which is a KeyboardInterrupt in Python. Where that is swallowed the training ends before
    the next batch, or at the end (fsspec, by which Lightning looks for checkpoints, takes every exception for a file
    that is not there). SIGTERM and SIGUSR1 only set :attr:`ending`; who trains ends at a good moment.

    Attributes:
        ending: name of the signal that asks for an end, "SIGTERM" or "SIGUSR1"; ``None`` where none came.
    """

    def __init__(self) -> None:
        self.ending: str | None = None
        self._pressed = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notice signals; only the main thread can, and Ctrl-C only where it has an effect."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.getsignal(signal.SIGINT)
        with ExitStack() as handlers:
            if callable(before):
                handlers.enter_context(_handled_by(signal.SIGINT, self._noticing(before)))
            for number in PREEMPTION:
                handlers.enter_context(_handled_by(number, self._end))
            yield
        if self._pressed:
            raise KeyboardInterrupt

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Take SIGTERM back from Lightning, which would end the training in the middle of a step."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._end)

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise again what got lost."""
        if self._pressed:
            raise KeyboardInterrupt

    def _end(self, number: int, frame: FrameType | None) -> None:
        self.ending = signal.Signals(number).name

    def _noticing(self, before: Handler) -> Handler:
        def notice(number: int, frame: FrameType | None) -> None:
            try:
                before(number, frame)
            except KeyboardInterrupt:
                self._pressed = True
                raise

        return notice


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Have SIGTERM and SIGUSR1 raise :class:`katops.errors.Preempted`: what a run does before and after its training is
    done again, or goes on, with ``--resume``."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        raise Preempted(f"stopped by {name}; what was finished is kept, --resume continues")

    with ExitStack() as handlers:
        for number in PREEMPTION:
            handlers.enter_context(_handled_by(number, end))
        yield


@contextmanager
def _handled_by(number: signal.Signals, handler: Handler) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, signal.SIG_DFL if before is None else before)
