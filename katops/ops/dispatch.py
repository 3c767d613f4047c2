"""Which implementation of an operation runs for a tensor: backends with a rank, chosen per call from the device.

A backend that is missing or broken is not an error: the next one runs, with one warning that says why, and
:meth:`Dispatcher.status` (``katops doctor``) repeats the reason. :func:`use_backend` insists on one by name.
"""

import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import torch

from katops.errors import UserError, did_you_mean

_FORCED: ContextVar[str | None] = ContextVar("katops_backend", default=None)


class BackendUnavailable(Exception):
    """A backend cannot run on this machine; the message is one sentence that says why.

    Args:
        reason: the sentence.
        permanent: False where only this call cannot be served, so that the next call tries again.
    """

    def __init__(self, reason: str, permanent: bool = True) -> None:
        super().__init__(reason)
        self.permanent = permanent


class BackendWarning(UserWarning):
    """A fast backend is missing and a slower one runs in its place."""


class Implementation(Protocol):
    """What a backend provides for one device; the operations themselves are up to the kind of dispatcher."""

    def supports(self, *types: torch.dtype) -> bool:
        """Whether it computes with these types."""


Kernels = TypeVar("Kernels", bound=Implementation)


@dataclass(frozen=True)
class Backend(Generic[Kernels]):
    """One way to run an operation.

    Args:
        name: what the user calls it.
        device_types: ``("cuda",)``, ...; empty for every device.
        rank: the largest available rank runs.
        load: makes the implementation for a device, raises :class:`BackendUnavailable` where it cannot.
    """

    name: str
    device_types: tuple[str, ...]
    rank: int
    load: Callable[[torch.device], Kernels]

    def serves(self, device: torch.device) -> bool:
        """Whether it is meant for this kind of device."""
        return not self.device_types or device.type in self.device_types


@dataclass(frozen=True)
class BackendStatus:
    """A line of the report: the backend's name, whether it is available, and if not, why."""

    name: str
    available: bool
    reason: str


class Dispatcher(Generic[Kernels]):
    """The backends of one operation.

    Args:
        operation: its name, for messages.
        backends: at least one that serves every device and type and never fails to load.
    """

    def __init__(self, operation: str, backends: Sequence[Backend[Kernels]]) -> None:
        self.operation = operation
        self.backends = sorted(backends, key=lambda backend: -backend.rank)
        self._loaded: dict[tuple[str, torch.device], Kernels | str] = {}
        self._chosen: dict[tuple[str | None, torch.device, tuple[torch.dtype, ...]], tuple[str, Kernels]] = {}
        self._warned: set[tuple[str, torch.device]] = set()
        self._lock = threading.RLock()

    def choose(
        self,
        device: torch.device,
        types: tuple[torch.dtype, ...],
        backend: str | None = None,
        excluded: Collection[str] = (),
    ) -> tuple[str, Kernels]:
        """Name and implementation of the backend that runs for tensors of these types on this device.

        Args:
            backend: the one to insist on.
            excluded: the ones that cannot serve this call.

        Raises:
            UserError: that backend does not exist or cannot run here.
        """
        chosen = None if excluded else self._chosen.get((backend, device, types))
        return chosen if chosen is not None else self._choose(backend, device, types, excluded)

    def run(
        self, method: str, device: torch.device, types: tuple[torch.dtype, ...], arguments: tuple, backend: str | None
    ) -> Any:
        """Call a method of the chosen implementation; where it turns out to be unavailable, of the next one."""
        excluded: set[str] = set()
        while True:
            name, implementation = self.choose(device, types, backend, excluded)
            try:
                return getattr(implementation, method)(*arguments)
            except BackendUnavailable as error:
                if error.permanent:
                    self._withdraw(name, device, str(error))
                elif backend:
                    raise UserError(f"the backend {backend!r} of {self.operation} cannot run now: {error}") from None
                else:
                    excluded.add(name)
                    self._warn(name, device, str(error))

    def status(self, device: torch.device) -> list[BackendStatus]:
        """The backends for this device, best first, each with the reason if it cannot run."""
        lines = []
        for backend in self.backends:
            if backend.serves(device):
                loaded = self._load(backend, device)
                failed = isinstance(loaded, str)
                lines.append(BackendStatus(backend.name, not failed, loaded if failed else ""))
        return lines

    def _withdraw(self, name: str, device: torch.device, reason: str) -> None:
        """Stop using a backend on a device: what it promised when it was loaded turned out to be wrong."""
        with self._lock:
            self._loaded[name, device] = reason
            self._chosen = {key: value for key, value in self._chosen.items() if (value[0], key[1]) != (name, device)}

    def _choose(
        self, forced: str | None, device: torch.device, types: tuple[torch.dtype, ...], excluded: Collection[str]
    ) -> tuple[str, Kernels]:
        with self._lock:
            backends = self.backends if forced is None else [self._named(forced, device)]
            for backend in backends:
                usable = backend.serves(device) and backend.name not in excluded
                loaded = self._load(backend, device) if usable else None
                if isinstance(loaded, str):
                    if forced:
                        raise UserError(f"the backend {forced!r} of {self.operation} cannot run here: {loaded}")
                    self._warn(backend.name, device, loaded)
                elif loaded is not None and loaded.supports(*types):
                    if not excluded:
                        self._chosen[forced, device, types] = (backend.name, loaded)
                    return backend.name, loaded
        given = ", ".join(str(dtype).removeprefix("torch.") for dtype in types)
        raise UserError(f"the backend {forced!r} of {self.operation} does not compute with {given} on {device}")

    def _named(self, name: str, device: torch.device) -> Backend[Kernels]:
        names = [backend.name for backend in self.backends]
        if name not in names:
            raise UserError(
                f"{self.operation} has no backend {name!r}{did_you_mean(name, names)} Allowed: {', '.join(names)}."
            )
        backend = self.backends[names.index(name)]
        if not backend.serves(device):
            raise UserError(
                f"the backend {name!r} of {self.operation} runs on {' and '.join(backend.device_types)} tensors; "
                f"given one on {device}"
            )
        return backend

    def _load(self, backend: Backend[Kernels], device: torch.device) -> Kernels | str:
        """The implementation, or the reason why there is none; asked once per device."""
        key = (backend.name, device)
        with self._lock:
            if key not in self._loaded:
                try:
                    self._loaded[key] = backend.load(device)
                except BackendUnavailable as error:
                    self._loaded[key] = str(error)
            return self._loaded[key]

    def _warn(self, name: str, device: torch.device, reason: str) -> None:
        if (name, device) not in self._warned:
            self._warned.add((name, device))
            warnings.warn(
                f"{self.operation} runs without its backend {name!r} on {device}, slower: {reason}",
                BackendWarning,
                stacklevel=2,
            )


def forced_backend() -> str | None:
    """The backend that the surrounding :func:`use_backend` names."""
    return _FORCED.get()


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Insist on one backend by name, for the calls inside the block: ``with use_backend("torch"): ...``.

    The backward pass of an eager call uses the backend of its forward pass, wherever it runs; compiled graphs, and what
    activation checkpointing computes again, take what is insisted on where they run.
    """
    token = _FORCED.set(name)
    try:
        yield
    finally:
        _FORCED.reset(token)
