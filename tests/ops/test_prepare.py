"""Compiling ahead, and the layers under autocast."""

import pytest
import torch

import katops
from katops.errors import UserError
from katops.ops import rational_backends, rational_torch
from katops.ops.dispatch import Backend, BackendUnavailable, BackendWarning, Dispatcher
from katops.ops.rational import group_rational


class Recorder:
    """Remembers what it was asked to prepare."""

    def __init__(self) -> None:
        self.prepared: list[tuple] = []

    def supports(self, *types: torch.dtype) -> bool:
        return types[0] != torch.float16

    def prepare(self, dtypes: tuple[torch.dtype, ...], degrees: tuple[int, int]) -> None:
        self.prepared.append((*dtypes, degrees))


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorder]:
    given = {"fast": Recorder(), "slow": Recorder()}
    given["slow"].supports = lambda *types: True
    backends = [Backend(name, (), rank, lambda _, name=name: given[name]) for rank, name in enumerate(("slow", "fast"))]
    monkeypatch.setattr(rational_backends, "RATIONAL", Dispatcher("group_rational", backends))
    return given


def test_each_type_is_prepared_by_the_backend_that_will_run_it(recorders: dict[str, Recorder]) -> None:
    name = katops.prepare("cpu", (torch.float32, torch.float16), (3, 2))
    assert name == "fast"
    assert recorders["fast"].prepared == [(torch.float32, (3, 2))]
    assert recorders["slow"].prepared == [(torch.float16, (3, 2))]


def test_a_backend_that_cannot_compile_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Recorder):
        def prepare(self, dtypes: tuple[torch.dtype, ...], degrees: tuple[int, int]) -> None:
            raise BackendUnavailable("the compiler is gone.")

    slow = Recorder()
    backends = [Backend("fast", (), 1, lambda _: Broken()), Backend("slow", (), 0, lambda _: slow)]
    monkeypatch.setattr(rational_backends, "RATIONAL", Dispatcher("group_rational", backends))
    with pytest.warns(BackendWarning, match="the compiler is gone"):
        assert katops.prepare("cpu", (torch.float32,)) == "slow"
    assert slow.prepared == [(torch.float32, (5, 4))]


def test_a_constant_and_very_many_coefficients_are_left_to_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recorder has no kernels: whatever reaches it fails."""
    definition = Backend("torch", (), 0, rational_torch.load)
    fast = Backend("fast", (), 1, lambda _: Recorder())
    monkeypatch.setattr(rational_backends, "RATIONAL", Dispatcher("group_rational", [fast, definition]))
    x = torch.rand(3, 4)
    constant, many = torch.full((2, 1), 7.0), torch.ones(2, 65)
    assert torch.equal(group_rational(x, constant, torch.ones(2, 0)), torch.full((3, 4), 7.0))
    y = group_rational(x, many, torch.ones(2, 0))
    torch.testing.assert_close(y, (x**65 - 1) / (x - 1), rtol=1e-4, atol=1e-4)
    with pytest.raises(AttributeError):
        group_rational(x, torch.ones(2, 64), torch.ones(2, 0))


def test_the_real_backend_is_named_and_runs_afterwards() -> None:
    assert katops.prepare("cpu") == "numba"
    katops.create_layer("rational", channels=8)(torch.randn(3, 8))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gpu",), "prepare: there is no device 'gpu' here"),
        (("cpu", (torch.int32,)), "dtypes must be floating-point types of torch; given: torch.int32"),
        (("cpu", ("float32",)), "given: 'float32'"),
        (("cpu", ()), r"dtypes must be a list of at least one type; given: \(\)"),
        (("cpu", torch.float32), "dtypes must be a list of at least one type; given: torch.float32"),
        (("cpu", (torch.float32,), (-1, 3)), r"degrees must be \(m, n\), not negative.*given: \(-1, 3\)"),
        (("cpu", (torch.float32,), (0, 0)), "one of them at least 1"),
        (("mps",), "prepare: there is no device 'mps' here"),
    ],
)
def test_what_cannot_be_prepared_is_refused_in_one_sentence(arguments: tuple, message: str) -> None:
    with pytest.raises(UserError, match=message):
        katops.prepare(*arguments)
