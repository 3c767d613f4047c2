"""Data that another process of the same sweep is generating."""

import time
from collections.abc import Callable
from typing import TypeVar

from katops.generators.shards import BeingGenerated

LOOK = 5.0
"""Seconds between two looks whether the other process is ready."""
Result = TypeVar("Result")


def once_generated(work: Callable[[], Result], say: Callable[[str], None] | None = None) -> Result:
    """What ``work()`` returns; it is called again while other processes generate the data that it needs.

    Args:
        work: may raise :class:`katops.generators.shards.BeingGenerated`.
        say: told a line when the waiting begins.
    """
    told = False
    while True:
        try:
            return work()
        except BeingGenerated as busy:
            if say is not None and not told:
                say(f"waiting: {str(busy).partition(';')[0]}")
            told = True
            time.sleep(LOOK)
