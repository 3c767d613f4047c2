"""Times of several competitors, taken in rounds in which each of them runs once.

What disturbs a machine lasts longer than one call, so competitors timed one after another meet different machines. In
interleaved rounds they meet the same one, and a ratio of medians says more than either time.
"""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

Calls = Sequence[Callable[[], object]]
Progress = Callable[[int, int], object]

# Of GPU time per call that the host may be behind; forward and backward through autograd take it about 0.1 ms.
_HEAD_START_PER_CALL = 2e-4
_CYCLES_PER_SECOND = 2e9


class Clock(Protocol):
    """Runs calls one after another and says how long one takes; ``name`` is what it reads."""

    name: str

    def seconds_per_call(self, calls: Calls) -> float:
        """Mean time of a call; what the calls return is kept until the time is taken."""


class WallClock:
    """Time on the wall from the first call to the end of the work of the last.

    Args:
        synchronize: waits for the end of the work, where calls return before it.
        now: the time in seconds.
    """

    name = "wall"

    def __init__(
        self, synchronize: Callable[[], object] | None = None, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self._synchronize = synchronize or (lambda: None)
        self._now = now

    def seconds_per_call(self, calls: Calls) -> float:
        """Mean time of a call."""
        self._synchronize()
        start = self._now()
        results = [call() for call in calls]
        self._synchronize()
        elapsed = self._now() - start
        del results
        return elapsed / len(calls)


class CudaClock:
    """Time on the GPU, between two events around all calls.

    The GPU is kept busy while the host issues the calls, so that gaps between launches are not counted: the time is
    that of the kernels, as inside a large model. Results are kept, so that no call overwrites the last one's in cache.
    """

    name = "CUDA events"

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def seconds_per_call(self, calls: Calls) -> float:
        """Mean GPU time of a call."""
        with torch.cuda.device(self._device):
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda._sleep(int(_HEAD_START_PER_CALL * _CYCLES_PER_SECOND * len(calls)))
            start.record()
            results = [call() for call in calls]
            end.record()
            end.synchronize()
            del results
            return start.elapsed_time(end) / 1e3 / len(calls)


def clock_for(device: torch.device) -> Clock:
    """Events on a GPU, the wall elsewhere."""
    return CudaClock(device) if device.type == "cuda" else WallClock()


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one competitor, one number per round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over the rounds, seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Distance between the quartiles as a fraction of the median; differences below it are noise."""
        if len(self.seconds) < 2:
            return 0.0
        lower, _, upper = statistics.quantiles(self.seconds, n=4, method="inclusive")
        return (upper - lower) / self.median


@dataclass(frozen=True)
class Rounds:
    """Timings by competitor, all from the same complete rounds; empty where Ctrl-C came before the first was over."""

    timings: dict[str, Timing]
    interrupted: bool


def time_interleaved(
    competitors: Mapping[str, Callable[[], Calls]],
    clock: Clock,
    rounds: int,
    *,
    warm_up: int = 2,
    longest: float = math.inf,
    fewest: int = 3,
    progress: Progress | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Rounds:
    """Time every competitor once per round, each round starting with another one.

    Args:
        competitors: by name, a function that prepares the calls to be timed; the preparation is not timed.
        clock: takes the time of the calls.
        rounds: how many.
        warm_up: rounds that do not count.
        longest: seconds after which no other round begins, once there are ``fewest``.
        fewest: rounds that are made in any case.
        progress: told (rounds done, rounds) after each.
        now: the time in seconds, for ``longest``.

    Returns:
        complete rounds only; after Ctrl-C those that were complete by then.
    """
    names = list(competitors)
    samples: list[dict[str, float]] = []
    interrupted = False
    try:
        for _ in range(warm_up):
            _one_round(competitors, names, clock)
        start = now()
        while len(samples) < rounds and (len(samples) < fewest or now() - start < longest):
            first = len(samples) % len(names) if names else 0
            samples.append(_one_round(competitors, names[first:] + names[:first], clock))
            if progress:
                progress(len(samples), rounds)
    except KeyboardInterrupt:
        interrupted = True
    timings = {name: Timing(tuple(sample[name] for sample in samples)) for name in names} if samples else {}
    return Rounds(timings, interrupted)


def _one_round(competitors: Mapping[str, Callable[[], Calls]], order: Sequence[str], clock: Clock) -> dict[str, float]:
    return {name: clock.seconds_per_call(competitors[name]()) for name in order}
