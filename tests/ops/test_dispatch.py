"""Which backend runs, why the better ones do not, and what insisting on one does."""

import threading

import pytest
import torch

from katops.errors import UserError
from katops.ops.dispatch import (
    Backend,
    BackendUnavailable,
    BackendWarning,
    Dispatcher,
    forced_backend,
    use_backend,
)

CPU = torch.device("cpu")
FLOAT = (torch.float32,)


class Implementation:
    """Says who it is; may turn out to be unavailable when it is used."""

    def __init__(self, name: str, *types: torch.dtype, failure: BackendUnavailable | None = None) -> None:
        self.name, self.types, self.failure = name, types, failure

    def supports(self, *types: torch.dtype) -> bool:
        return not self.types or set(types) <= set(self.types)

    def who(self, suffix: str) -> str:
        if self.failure:
            raise self.failure
        return self.name + suffix


def backend(name: str, rank: int, devices: tuple[str, ...] = (), failure: str = "", **options) -> Backend:
    def load(device: torch.device) -> Implementation:
        if failure:
            raise BackendUnavailable(failure)
        return Implementation(name, *options.get("types", ()), failure=options.get("later"))

    return Backend(name, devices, rank, load)


def run(dispatcher: Dispatcher, name: str | None = None, types: tuple[torch.dtype, ...] = FLOAT) -> str:
    return dispatcher.run("who", CPU, types, ("!",), name)


def test_the_highest_rank_that_serves_device_and_types_runs() -> None:
    dispatcher = Dispatcher(
        "op",
        [
            backend("slow", 0),
            backend("other", 9, ("cuda",)),
            backend("fast", 2, ("cpu",), types=FLOAT),
            backend("middle", 1),
        ],
    )
    assert run(dispatcher) == "fast!"
    assert run(dispatcher, types=(torch.float64,)) == "middle!"
    assert dispatcher.choose(torch.device("meta"), FLOAT)[0] == "middle"


def test_a_missing_backend_is_said_once_with_its_reason_and_the_next_one_runs() -> None:
    dispatcher = Dispatcher("op", [backend("slow", 0), backend("fast", 1, failure="fast is not installed.")])
    with pytest.warns(BackendWarning, match="op runs without its backend 'fast' on cpu, slower: fast is not installed"):
        assert run(dispatcher) == "slow!"
    assert run(dispatcher, types=(torch.float64,)) == "slow!"  # a second warning would be an error here
    assert [(line.name, line.available, line.reason) for line in dispatcher.status(CPU)] == [
        ("fast", False, "fast is not installed."),
        ("slow", True, ""),
    ]


def test_a_backend_that_fails_when_it_is_used_is_withdrawn() -> None:
    later = BackendUnavailable("it does not compile.")
    dispatcher = Dispatcher("op", [backend("slow", 0), backend("fast", 1, later=later)])
    with pytest.warns(BackendWarning, match="it does not compile"):
        assert run(dispatcher) == "slow!"
    assert run(dispatcher) == "slow!"
    assert not dispatcher.status(CPU)[0].available


def test_a_backend_that_cannot_serve_one_call_is_asked_again_for_the_next() -> None:
    later = BackendUnavailable("a graph is being captured.", permanent=False)
    fast = Implementation("fast", failure=later)
    dispatcher = Dispatcher("op", [backend("slow", 0), Backend("fast", (), 1, lambda device: fast)])
    with pytest.warns(BackendWarning, match="a graph is being captured"):
        assert run(dispatcher) == "slow!"
    fast.failure = None
    assert run(dispatcher) == "fast!"


def test_where_one_call_cannot_be_served_the_next_backend_runs_unless_one_is_insisted_on() -> None:
    busy = BackendUnavailable("a graph is being captured.", permanent=False)
    dispatcher = Dispatcher("op", [backend("slow", 0), backend("middle", 1), backend("fast", 2, later=busy)])
    with pytest.warns(BackendWarning, match="a graph is being captured"):
        assert run(dispatcher) == "middle!"
    assert run(dispatcher, "slow") == "slow!"
    with pytest.raises(UserError, match="the backend 'fast' of op cannot run now: a graph is being captured"):
        run(dispatcher, "fast")


def test_insisting_on_a_backend_overrides_the_rank_and_nothing_else_runs() -> None:
    dispatcher = Dispatcher(
        "op",
        [
            backend("slow", 0),
            backend("fast", 2),
            backend("gone", 1, failure="gone is gone."),
            backend("gpu", 3, ("cuda",)),
            backend("narrow", 1, types=FLOAT),
        ],
    )
    assert run(dispatcher, "slow") == "slow!"
    with pytest.raises(UserError, match="the backend 'gone' of op cannot run here: gone is gone"):
        run(dispatcher, "gone")
    with pytest.raises(UserError, match="'gpu' of op runs on cuda tensors; given one on cpu"):
        run(dispatcher, "gpu")
    with pytest.raises(UserError, match="op has no backend 'fasst'; did you mean 'fast'"):
        run(dispatcher, "fasst")
    with pytest.raises(UserError, match="'narrow' of op does not compute with float64 on cpu"):
        run(dispatcher, "narrow", (torch.float64,))


def test_the_block_that_insists_is_local_to_its_thread_and_ends() -> None:
    seen = []
    with use_backend("slow"):
        with use_backend("fast"):
            assert forced_backend() == "fast"
        assert forced_backend() == "slow"
        thread = threading.Thread(target=lambda: seen.append(forced_backend()))
        thread.start()
        thread.join()
    assert (forced_backend(), seen) == (None, [None])


def test_a_backend_is_loaded_once_however_many_threads_ask() -> None:
    loads = []

    def load(device: torch.device) -> Implementation:
        loads.append(device)
        return Implementation("only")

    dispatcher = Dispatcher("op", [Backend("only", (), 0, load)])
    threads = [threading.Thread(target=run, args=(dispatcher,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [CPU]
