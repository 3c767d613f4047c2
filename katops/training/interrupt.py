"""Ctrl-C that cannot get lost."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import lightning


class Interrupt(lightning.Callback):
    """Ends the training where the KeyboardInterrupt of a Ctrl-C was swallowed: before the next batch, or at the end.

    fsspec, by which Lightning looks for checkpoints, takes every exception for a file that is not there.
    """

    def __init__(self) -> None:
        self._pressed = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Notice Ctrl-C, whose effect stays what it was; only the main thread can, and only where it has an effect."""
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return

        def notice(number: int, frame: FrameType | None) -> None:
            try:
                before(number, frame)
            except KeyboardInterrupt:
                self._pressed = True
                raise

        signal.signal(signal.SIGINT, notice)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        if self._pressed:
            raise KeyboardInterrupt

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Raise again what got lost."""
        if self._pressed:
            raise KeyboardInterrupt
