"""Benchmarks: what a row says, what is no number, and the kernel to compare with. Times themselves decide nothing."""

import dataclasses
import importlib.util
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from typer.testing import CliRunner

from katops import cli
from katops.benchmark import (
    CannotRun,
    Case,
    Competitor,
    LayerMeasurement,
    Machine,
    Measurement,
    as_text,
    command,
    describe,
    measure,
    measure_layers,
    present_device,
    read_csv,
    standard,
    write_csv,
)
from katops.benchmark.competitors import GELU
from katops.benchmark.formulas import by_horner, by_powers
from katops.benchmark.machine import copy_bandwidth
from katops.benchmark.memory import peak_extra_bytes
from katops.benchmark.rational import BACKWARD, BOTH, FORWARD
from katops.benchmark.results import number
from katops.benchmark.table import LAYER_HEADER, RATIONAL_HEADER, layer_cells, rational_cells, reasons
from katops.benchmark.timing import Calls, Timing, WallClock, time_interleaved
from katops.errors import UserError
from katops.ops.rational import RATIONAL, group_rational
from katops.ops.rational_accuracy import Results, errors

CPU = torch.device("cpu")
MACHINE = Machine("a machine", 1, "torch, numba", copy_bandwidth=1e10)
SMALL = Case((4, 6, 16), groups=4)


class ScriptedClock:
    """Says the times it was given, one after another, and runs the calls."""

    name = "script"

    def __init__(self, seconds: Sequence[float], interrupt_at: int | None = None) -> None:
        self.seconds, self.interrupt_at, self.measured = list(seconds), interrupt_at, 0

    def seconds_per_call(self, calls: Calls) -> float:
        if self.measured == self.interrupt_at:
            raise KeyboardInterrupt
        for call in calls:
            call()
        self.measured += 1
        return self.seconds[(self.measured - 1) % len(self.seconds)]


@pytest.fixture
def script(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Loads a file of benchmarks/ by its name."""
    monkeypatch.syspath_prepend(str(repository / "benchmarks"))

    def load(name: str) -> ModuleType:
        specification = importlib.util.spec_from_file_location(
            f"benchmark_{name}", repository / f"benchmarks/{name}.py"
        )
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


@pytest.fixture(autouse=True)
def _without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The profiler takes a quarter of a second per row; only the rows of two tests have their memory."""
    for module in ("rational", "layers"):
        monkeypatch.setattr(f"katops.benchmark.{module}.peak_extra_bytes", lambda call, device: call() is None)


@pytest.fixture(scope="module")
def rows() -> list[Measurement]:
    """A small case, measured in three rounds."""
    return list(measure(SMALL, of_torch(), MACHINE, rounds=3))


def of_torch(case: Case = SMALL) -> list[Competitor]:
    return standard(case.device, ["torch"], compiled=False)


# Timing


def test_rounds_interleave_and_each_begins_with_another_competitor() -> None:
    order = []
    runs = {name: (lambda name=name: [lambda: order.append(name)]) for name in "abc"}
    time_interleaved(runs, ScriptedClock([1.0]), rounds=3, warm_up=1)
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"


def test_medians_are_over_rounds_and_warm_up_does_not_count() -> None:
    runs = {"a": lambda: [lambda: None]}
    found = time_interleaved(runs, ScriptedClock([100.0, 100.0, 3.0, 1.0, 2.0]), rounds=3, warm_up=2)
    assert found.timings["a"].seconds == (3.0, 1.0, 2.0)
    assert found.timings["a"].median == 2.0
    assert found.timings["a"].spread == pytest.approx(0.5)
    assert not found.interrupted


def test_a_single_round_has_no_spread() -> None:
    assert Timing((2.0,)).spread == 0


@pytest.mark.parametrize(("at", "rounds"), [(0, 0), (3, 0), (4, 1), (5, 1), (6, 2)])
def test_after_an_interruption_complete_rounds_are_kept(at: int, rounds: int) -> None:
    runs = {name: (lambda: [lambda: None]) for name in "ab"}
    found = time_interleaved(runs, ScriptedClock([1.0, 2.0], interrupt_at=at), rounds=10, warm_up=1)
    assert found.interrupted
    assert {len(timing.seconds) for timing in found.timings.values()} == ({rounds} if rounds else set())


def test_no_round_begins_after_the_time_is_up_once_there_are_a_few() -> None:
    runs, passed = {"a": lambda: [lambda: None]}, iter(range(100))
    found = time_interleaved(runs, ScriptedClock([1.0]), rounds=50, longest=5.0, fewest=2, now=lambda: next(passed))
    assert len(found.timings["a"].seconds) == 6  # at 1, 2, 3, 4 after the first two
    passed = iter(range(0, 1000, 10))
    found = time_interleaved(runs, ScriptedClock([1.0]), rounds=50, longest=5.0, fewest=2, now=lambda: next(passed))
    assert len(found.timings["a"].seconds) == 2


def test_progress_is_told_after_every_round() -> None:
    told = []
    time_interleaved({"a": lambda: [int]}, ScriptedClock([1.0]), 3, progress=lambda *done: told.append(done))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_the_clock_on_the_wall_waits_for_the_work_and_divides_by_the_calls() -> None:
    events = []
    clock = WallClock(lambda: events.append("wait"), now=iter([10.0, 16.0]).__next__)
    assert clock.seconds_per_call([lambda: events.append("call")] * 3) == 2.0
    assert events == ["wait", "call", "call", "call", "wait"]


def test_copy_bandwidth_counts_reads_and_writes() -> None:
    assert copy_bandwidth(CPU, 4000, ScriptedClock([0.5])) == 2 * 4000 / 0.5


# Memory


@pytest.mark.parametrize(
    ("call", "tensors"),
    [(lambda x: x.clone(), 1), (lambda x: (x + 1) * 2, 2), (lambda x: ((x + 1) * 2) / 3, 2), (lambda x: x[1:], 0)],
)
def test_peak_memory_counts_results_and_temporaries_but_not_what_was_there(call: Callable, tensors: int) -> None:
    x = torch.randn(1000, 50)
    assert peak_extra_bytes(lambda: call(x), CPU) == pytest.approx(tensors * x.nbytes, abs=100)  # scalars


# Errors


def test_errors_are_relative_to_the_size_of_the_terms() -> None:
    # y = x / (1 + |x|) at x = 2: y = 2/3 with scale 2/3; dx = 1/9 with scale (1 + 2/3) / 3 = 5/9
    x, g = torch.tensor([[2.0]]), torch.tensor([[1.0]])
    a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0]])
    exact = Results(
        torch.tensor([[2 / 3]]), torch.tensor([[1 / 9]]), torch.tensor([[1 / 3, 2 / 3]]), torch.tensor([[-4 / 9]])
    )
    assert max(dataclasses.astuple(errors(exact, x, a, b, g))) < 1e-7
    off = Results(exact.y + 0.2, exact.dx - 0.1, exact.da + 0.1, exact.db)
    assert dataclasses.astuple(errors(off, x, a, b, g)) == pytest.approx((0.3, 0.18, 0.3), rel=1e-5)
    lost = Results(exact.y * math.nan, exact.dx * math.nan, exact.da, exact.db * math.nan)
    assert dataclasses.astuple(errors(lost, x, a, b, g)) == (math.inf,) * 3


@pytest.mark.parametrize("formula", [by_horner, by_powers, group_rational])
@pytest.mark.parametrize("rows_of_a", [1, 4])
def test_formulas_agree_with_float64(formula: Callable, rows_of_a: int) -> None:
    x = torch.randn(70, 3, 12, requires_grad=True)
    a, b = torch.randn(rows_of_a, 6, requires_grad=True), torch.randn(4, 4, requires_grad=True)
    g = torch.randn_like(x)
    y = formula(x, a, b)
    found = errors(Results(y.detach(), *torch.autograd.grad(y, (x, a, b), g)), x, a, b, g)
    assert found.y < 1e-6
    assert found.dx < 2e-6
    assert found.coefficients < 1e-5


def test_errors_of_images_read_the_channel_axis() -> None:
    x, g = torch.randn(2, 8, 5, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 8, 5, 3).double()
    a, b = torch.randn(1, 6).double().requires_grad_(), torch.randn(4, 4).double().requires_grad_()
    y = group_rational(x, a, b, channel_dim=1)
    results = Results(y.detach(), *torch.autograd.grad(y, (x, a, b), g))
    assert max(dataclasses.astuple(errors(results, x, a, b, g, channel_dim=1))) < 1e-12
    assert errors(results, x, a, b.flip(0), g, channel_dim=1).y > 1e-3


# Rows


def test_every_row_has_every_number_and_they_belong_together(rows: list[Measurement]) -> None:
    assert [(row.operation, row.competitor) for row in rows] == [
        (FORWARD, GELU),
        (FORWARD, "copy (clone)"),
        (FORWARD, "katops torch"),
        (FORWARD, "published formula"),
        (BOTH, GELU),
        (BOTH, "katops torch"),
        (BOTH, "published formula"),
    ]
    gelu = {row.operation: row for row in rows if row.competitor == GELU}
    for row in rows:
        assert (row.device, row.dtype, row.shape, row.groups, row.reason) == ("a machine", "float32", "4x6x16", 4, "")
        assert row.rounds == 3
        assert row.milliseconds > 0
        assert row.extra_memory >= 1
        assert row.ratio_to_gelu == pytest.approx(row.milliseconds / gelu[row.operation].milliseconds)
        moved = {FORWARD: 2, BOTH: 5}[row.operation] * 4 * 6 * 16 * 4
        assert row.gigabytes_per_second == pytest.approx(moved / row.milliseconds / 1e6)
        assert row.fraction_of_copy == pytest.approx(row.gigabytes_per_second / 10)
        rational = row.competitor not in (GELU, "copy (clone)")
        assert (row.error_y is not None) == rational
        assert (
            (row.error_dx is not None) == (row.error_coefficients is not None) == (rational and row.operation == BOTH)
        )
        found = [value for value in dataclasses.astuple(row) if isinstance(value, float)]
        assert all(map(math.isfinite, found))


def test_the_clock_and_the_rounds_decide_the_times() -> None:
    competitors = [one for one in of_torch() if one.name in (GELU, "katops torch")]
    clock = ScriptedClock([1e-3, 1e-3, 1e-3, 1e-3, 2e-3, 8e-3, 4e-3, 2e-3])  # warm-up, then two rounds in turns
    gelu, torch_backend = measure(SMALL, competitors, MACHINE, rounds=2, operations=[FORWARD], clock=clock)
    assert (gelu.milliseconds, torch_backend.milliseconds) == pytest.approx((2, 6))
    assert torch_backend.ratio_to_gelu == pytest.approx(3)
    assert torch_backend.clock == "script"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_types_are_measured(dtype: torch.dtype) -> None:
    case = dataclasses.replace(SMALL, dtype=dtype)
    row = list(measure(case, of_torch(case), MACHINE, rounds=1, operations=[BACKWARD]))[1]
    assert row.dtype == str(dtype).removeprefix("torch.")
    assert row.error_dx < 4 * torch.finfo(dtype).eps


def test_images_are_measured_with_channels_first() -> None:
    case = Case((2, 8, 5, 5), groups=4)
    rows = list(measure(case, of_torch(case), MACHINE, rounds=1, operations=[BOTH]))
    assert [row.competitor for row in rows] == [GELU, "katops torch", "published formula"]
    assert all(row.error_coefficients < 1e-5 for row in rows[1:])


def test_every_backend_that_is_available_takes_part_and_is_right() -> None:
    status = {f"katops {line.name}": line for line in RATIONAL.status(CPU)}
    rows = {
        row.competitor: row
        for row in measure(SMALL, standard(CPU, compiled=False), MACHINE, rounds=1, operations=[BOTH])
    }
    assert set(status) <= set(rows)
    for name, line in status.items():
        assert (rows[name].reason == "") == line.available
        if line.available:
            assert rows[name].error_y < 1e-6
            assert rows[name].error_dx < 2e-6
            assert rows[name].error_coefficients < 1e-5


def test_what_cannot_run_is_listed_with_its_reason_and_no_number() -> None:
    def refuse(case: Case) -> Callable:
        raise CannotRun("not on a Monday")

    def fail(case: Case) -> Callable:
        def function(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("no kernel\nimage")

        return function

    competitors = [*of_torch(), Competitor("refuses", refuse), Competitor("fails", fail)]
    rows = list(measure(SMALL, competitors, MACHINE, rounds=1))
    missing = [row for row in rows if row.reason]
    assert {(row.competitor, row.operation) for row in missing} == {
        (name, operation) for name in ("refuses", "fails") for operation in (FORWARD, BOTH)
    }
    assert {row.reason for row in missing} == {"not on a Monday", "RuntimeError: no kernel"}
    assert all(row.milliseconds is row.ratio_to_gelu is row.error_y is row.extra_memory is None for row in missing)
    assert reasons(rows) == ["refuses: not on a Monday", "fails: RuntimeError: no kernel"]
    assert all(set(rational_cells(row)[2:]) == {"-"} for row in missing)
    assert len(rows) == len(missing) + 7


def failing_with(error: Exception, name: str) -> Competitor:
    """One that raises when it is called."""

    def function(x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        raise error

    return Competitor(name, lambda case: function)


def test_where_gelu_cannot_run_there_are_times_without_ratios() -> None:
    competitors = [failing_with(torch.OutOfMemoryError("CUDA out of memory."), GELU), *of_torch()[1:]]
    rows = list(measure(SMALL, competitors, MACHINE, rounds=1))
    assert {row.reason for row in rows if row.competitor == GELU} == {"OutOfMemoryError: CUDA out of memory."}
    others = [row for row in rows if row.competitor != GELU]
    assert len(others) == 5
    for row in others:
        assert row.milliseconds > 0
        assert row.ratio_to_gelu is None
        assert rational_cells(row)[RATIONAL_HEADER.index("x GELU")] == "-"


def test_where_nothing_can_run_there_are_reasons_only() -> None:
    rows = list(measure(SMALL, [failing_with(MemoryError(), GELU)], MACHINE, rounds=2))
    assert [(row.operation, row.reason) for row in rows] == [
        (operation, "MemoryError: no message") for operation in (FORWARD, BOTH)
    ]


@pytest.mark.parametrize(
    ("error", "failed"),
    [
        (CannotRun("not on a Monday"), False),
        (torch.OutOfMemoryError("CUDA out of memory."), False),
        (MemoryError("an array of 9 TB"), False),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory"), False),
        (RuntimeError("an illegal memory access was encountered"), True),
        (UserError("the backend 'cupy' of group_rational cannot run here: it does not compile"), True),
        (TypeError("forward() takes 5 arguments"), True),
    ],
    ids=repr,
)
def test_a_mistake_is_told_from_what_is_missing_and_from_a_lack_of_memory(error: Exception, failed: bool) -> None:
    rows = list(measure(SMALL, [failing_with(error, "one")], MACHINE, rounds=1))
    assert [row.failed for row in rows] == [failed, failed]
    assert all(str(error) in row.reason for row in rows)
    assert all((type(error).__name__ in row.reason) == (type(error) is not CannotRun) for row in rows)


def test_a_backend_that_does_not_compute_with_a_type_is_no_mistake() -> None:
    case = dataclasses.replace(SMALL, dtype=torch.float16)
    numba = next(one for one in standard(CPU, ["numba"], compiled=False) if one.name == "katops numba")
    rows = list(measure(case, [numba], MACHINE, rounds=1))
    assert [row.failed for row in rows] == [False, False]
    assert {row.reason for row in rows} == {
        "the backend 'numba' of group_rational does not compute with float16, float32, float16 on cpu"
    }


def test_published_kernels_that_are_not_installed_are_said_to_be_missing() -> None:
    peers = [
        one
        for one in standard(torch.device("cuda"), ["torch"], compiled=False)
        if one.name in ("kat_rational", "FlashKAT")
    ]
    assert len(peers) == 2
    for peer in peers:
        if importlib.util.find_spec({"FlashKAT": "rational_kat"}.get(peer.name, peer.name)) is None:
            with pytest.raises(CannotRun, match="is not installed"):
                peer.build(SMALL)


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_compiled_torch_gives_the_rational_function() -> None:
    compiled = next(one for one in standard(CPU, ["torch"]) if one.name == "torch.compile")
    rows = list(measure(SMALL, [*of_torch(), compiled], MACHINE, rounds=1, operations=[BOTH]))
    row = next(row for row in rows if row.competitor == "torch.compile")
    assert row.reason == ""
    assert row.error_y < 1e-6
    assert row.error_dx < 2e-6
    assert row.error_coefficients < 1e-5


def test_an_interrupted_operation_yields_its_complete_rounds_and_then_stops() -> None:
    clock = ScriptedClock([1.0], interrupt_at=4 * 3 + 1)  # two rounds of warm-up and one that counts, of 4 competitors
    rows = measure(SMALL, of_torch(), MACHINE, rounds=9, clock=clock)
    assert [(row.operation, row.rounds) for row in itertools.islice(rows, 4)] == [(FORWARD, 1)] * 4
    with pytest.raises(KeyboardInterrupt):
        next(rows)


def test_a_case_that_cannot_be_is_refused() -> None:
    with pytest.raises(UserError, match="7 groups do not divide 16 channels"):
        Case((4, 6, 16), groups=7)
    with pytest.raises(UserError, match="sizes of 1 or more"):
        Case((4, 0, 16))
    with pytest.raises(UserError, match="no backend 'numbe' for cpu; did you mean 'numba'"):
        standard(CPU, ["numbe"])
    with pytest.raises(UserError, match="unknown device 'gpu'"):
        present_device("gpu")
    with pytest.raises(UserError, match=r"torch sees [0-9]+ GPUs"):
        present_device("cuda:99")


def test_the_machine_is_described() -> None:
    machine = describe(CPU, copy_bytes=2**16)
    assert machine.device
    assert machine.threads == torch.get_num_threads()
    assert f"torch {torch.__version__.partition('+')[0]}" in machine.versions
    assert machine.copy_bandwidth > 0


# Layers


def test_layers_are_measured_beside_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("katops.benchmark.layers.peak_extra_bytes", peak_extra_bytes)
    case = Case((2, 5, 16), groups=4)
    rows = list(measure_layers(["mlp", "group_rational_kan", "rational"], case, MACHINE, rounds=2))
    assert [(row.operation, row.layer) for row in rows] == [
        (operation, layer) for operation in (FORWARD, BOTH) for layer in ("mlp", "group_rational_kan", "rational")
    ]
    assert [row.parameters for row in rows[:3]] == [2 * 16 * 64 + 80, 2 * 16 * 64 + 80 + 2 * (6 + 16), 6 + 16]
    for row in rows:
        first = next(other for other in rows if other.operation == row.operation)
        assert row.ratio_to_first == pytest.approx(row.milliseconds / first.milliseconds)
        assert row.extra_megabytes * 1e6 >= 2 * 5 * 16 * 4
        assert len(layer_cells(row)) == len(LAYER_HEADER)


def test_all_channel_mixers_are_measured_by_default() -> None:
    rows = list(measure_layers([], Case((2, 3, 16)), MACHINE, rounds=1))
    assert {"linear", "mlp", "group_rational_kan", "group_rational_linear"} <= {row.layer for row in rows}


def test_layers_that_are_not_known_or_of_another_kind_are_refused() -> None:
    with pytest.raises(UserError, match="unknown layer 'mpl'; did you mean 'mlp'"):
        list(measure_layers(["mpl"], SMALL, MACHINE))
    with pytest.raises(UserError, match="slot 'space mixer'"):
        list(measure_layers(["multigrid"], SMALL, MACHINE))
    with pytest.raises(UserError, match="other than 4 axes"):
        list(measure_layers(["mlp"], Case((2, 8, 4, 4)), MACHINE))


# Files and text


def test_what_is_written_is_read_again(rows: list[Measurement], tmp_path: Path) -> None:
    rows = [
        *rows,
        dataclasses.replace(rows[0], milliseconds=None, reason='a "reason", with commas\nand lines', failed=True),
    ]
    write_csv(tmp_path / "new" / "rows.csv", rows)
    assert read_csv(tmp_path / "new" / "rows.csv", Measurement) == rows
    layers = [*measure_layers(["linear"], SMALL, MACHINE, rounds=1)]
    write_csv(tmp_path / "layers.csv", layers)
    assert read_csv(tmp_path / "layers.csv", LayerMeasurement) == layers


def test_the_csv_file_has_a_column_for_everything_that_is_promised(rows: list[Measurement], tmp_path: Path) -> None:
    write_csv(tmp_path / "rows.csv", rows)
    columns = (tmp_path / "rows.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {
        "operation", "competitor", "device", "dtype", "shape", "groups", "milliseconds", "spread",
        "gigabytes_per_second", "fraction_of_copy", "ratio_to_gelu", "error_y", "error_dx", "error_coefficients",
        "extra_memory", "reason",
    } <= set(columns)  # fmt: skip


def test_text_tables_line_up(rows: list[Measurement]) -> None:
    text = as_text(RATIONAL_HEADER, [rational_cells(row) for row in rows])
    header, *lines = text.splitlines()
    assert all(line[header.index("ms") - 1] == " " for line in lines)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0, "0"), (1.0, "1"), (12.3456, "12.3"), (1234.5, "1234"), (2.7e-7, "2.7e-07"), (0.00123, "0.00123")],
)
def test_numbers_have_a_few_digits(value: float | None, text: str) -> None:
    assert number(value) == text


# The command


def bench(*arguments: object) -> object:
    return CliRunner(env={"COLUMNS": "160"}).invoke(cli.app, ["bench", *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "describe", lambda device: MACHINE)
    file = tmp_path / "out.csv"
    done = bench(
        "--device", "cpu", "--shape", "4,6,16", "--groups", 4, "--backend", "torch", "--rounds", 2, "--csv", file
    )
    assert done.exit_code == 0, done.output
    rows = read_csv(file, Measurement)
    assert {row.competitor for row in rows} == {GELU, "copy (clone)", "katops torch", "published formula"}
    assert {row.rounds for row in rows} == {2}


def test_the_command_sets_the_threads_and_gives_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = [], torch.get_num_threads()
    monkeypatch.setattr(command, "describe", lambda device: seen.append(torch.get_num_threads()) or MACHINE)
    done = bench("--threads", before + 1, "--device", "cpu", "--shape", "2,8", "--backend", "torch", "--rounds", 1)
    assert done.exit_code == 0, done.output
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_the_command_measures_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "describe", lambda device: MACHINE)
    file = tmp_path / "layers.csv"
    done = bench("--layers", "linear,mlp", "--device", "cpu", "--shape", "2,3,16", "--rounds", 1, "--csv", file)
    assert done.exit_code == 0, done.output
    assert [row.layer for row in read_csv(file, LayerMeasurement)] == ["linear", "mlp"] * 2


def test_ctrl_c_keeps_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> object:
        yield Measurement(FORWARD, GELU, "a machine", "float32", "4x16", 4, milliseconds=1.5, spread=0.1)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "describe", lambda device: MACHINE)
    monkeypatch.setattr(command, "measure", interrupted)
    file = tmp_path / "out.csv"
    done = bench("--device", "cpu", "--csv", file)
    assert done.exit_code == 130
    assert [row.milliseconds for row in read_csv(file, Measurement)] == [1.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["radional"], "did you mean 'rational'"),
        (["--dtype", "bf16"], "unknown type 'bf16'"),
        (["--shape", "4x6"], "sizes separated by commas"),
        (["--device", "cpu", "--groups", "7"], "7 groups do not divide 768 channels"),
        (["--device", "cpu", "--backend", "nubma"], "did you mean 'numba'"),
        (["rational", "--layers", "mlp"], "belongs to the benchmark of layers"),
        (["layers", "--backend", "numba"], "belongs to the benchmark of the rational function"),
        (["--device", "cpu", "--layers", "mpl"], "did you mean 'mlp'"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_measured(arguments: list[str], message: str) -> None:
    done = bench(*arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)


# Scripts


CHECK_TRITON = """
import sys
sys.argv[0] = "katops"  # as the command, which imports katops without the models
import torch
import flash_rational_triton as flash
from katops.ops.rational_accuracy import Results, errors
from katops.ops.rational import group_rational

def check(shape, rows_of_a, groups, dtype):
    x, g = torch.randn(shape, dtype=dtype, requires_grad=True), torch.randn(shape, dtype=dtype)
    a, b = torch.randn(rows_of_a, 6, requires_grad=True), torch.randn(groups, 4, requires_grad=True)
    y = flash.flash_rational(x, a, b)
    found = errors(Results(y.detach(), *torch.autograd.grad(y, (x, a, b), g)), x, a, b, g)
    eps = torch.finfo(dtype).eps
    assert found.y < 8 * eps and found.dx < 16 * eps and found.coefficients < 1e-5, (shape, found)
    torch.testing.assert_close(y, group_rational(x, a, b))

torch.manual_seed(0)
check((3, 37, 24), 1, 8, torch.float32)
check((150, 192), 2, 2, torch.float32)
check((5, 7), 1, 1, torch.float32)
check((2, 3, 25), 5, 5, torch.float32)
check((70, 130), 1, 1, torch.float32)
check((70, 96), 1, 1, torch.float16)
for shape, a, b in (((4, 8), 5, 4), ((4, 8), 6, 3), ((4, 7), 6, 4)):
    try:
        flash.flash_rational(torch.randn(shape), torch.randn(1, a), torch.randn(4, b))
    except ValueError:
        continue
    raise AssertionError((shape, a, b))
"""


def test_the_triton_kernel_is_the_rational_function(repository: Path) -> None:
    pytest.importorskip("triton")
    # Triton decides when it is imported whether it interprets its kernels on the CPU.
    paths = os.pathsep.join([str(repository), str(repository / "benchmarks")])
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", CHECK_TRITON], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_script_has_cases_for_both_devices_and_its_goals_read_the_rows(script: Callable[[str], ModuleType]) -> None:
    module = script("rational")
    on_gpu, on_cpu = list(module.cases(torch.device("cuda"))), list(module.cases(CPU))
    assert {case.dtype for case in on_gpu} == {torch.float32, torch.bfloat16, torch.float16}
    assert {case.channel_dim for case in on_gpu} == {-1, 1}
    assert on_cpu[0].shape == (32, 197, 768)
    row = Measurement(FORWARD, "katops numba", "cpu", "float32", "32x197x768", 8, ratio_to_gelu=0.5)
    other = dataclasses.replace(row, competitor="katops cupy", shape="256x197x768", fraction_of_copy=0.96)
    assert list(module.goals([row, other])) == [
        "katops numba, forward: 0.50 x F.gelu, goal 0.9",
        "forward float32 256x197x768: 0.96 of a copy, goal 0.95",
    ]


def test_the_script_measures_a_case(script: Callable[[str], ModuleType]) -> None:
    module = script("rational")
    rows = list(module.measurements(Case((4, 6, 16), groups=4), MACHINE, rounds=1))
    assert {"katops torch", "published formula", GELU} <= {row.competitor for row in rows}


@pytest.mark.parametrize(
    ("name", "error", "code"),
    [
        ("katops fast", RuntimeError("an illegal memory access was encountered"), 1),
        ("katops fast", torch.OutOfMemoryError("CUDA out of memory."), 0),
        ("a peer", RuntimeError("an illegal memory access was encountered"), 0),
    ],
)
@pytest.mark.parametrize("where", ["odd shapes", "cases"])
def test_the_script_ends_with_1_where_a_backend_of_katops_fails_and_has_measured_the_others(
    script: Callable[[str], ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    name: str,
    error: Exception,
    code: int,
    where: str,
) -> None:
    module = script("rational")
    odd, ordinary = ((3, 5, 24), 8), Case((4, 6, 16), groups=4)
    failing_shape = odd[0] if where == "odd shapes" else ordinary.shape

    def competitors(device: torch.device, compiled: bool = True) -> list[Competitor]:
        failing = failing_with(error, name)

        def build(case: Case) -> Callable:
            return failing.build(case) if case.shape == failing_shape else group_rational

        return [*standard(device, ["torch"], compiled=False), dataclasses.replace(failing, build=build)]

    monkeypatch.setattr(module, "standard", competitors)
    monkeypatch.setattr(module, "ODD", (odd,))
    monkeypatch.setattr(module, "cases", lambda device: iter([ordinary]))
    monkeypatch.setattr(module, "describe", lambda device: MACHINE)
    threads = str(torch.get_num_threads())
    output = tmp_path / "rows.csv"
    arguments = ["rational.py", "--device", "cpu", "--threads", threads, "--rounds", "1", "--output", str(output)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert module.main() == code
    printed = capsys.readouterr().out
    told = f"{name}: {type(error).__name__}: {error}" in printed
    # of the odd shapes, only katops's own backends take part
    assert told == (where == "cases" or name.startswith("katops"))
    shape = "x".join(map(str, failing_shape))
    assert (f"MISTAKE: {name}, {shape} float32: RuntimeError: an illegal memory access" in printed) == (code == 1)
    measured = {row.competitor for row in read_csv(output, Measurement) if not row.reason}
    assert {GELU, "katops torch", "published formula"} <= measured


def test_a_training_step_is_compared_with_the_vit_of_the_same_rounds(script: Callable[[str], ModuleType]) -> None:
    module = script("kat_training_step")
    steps = {name: module.training_step(name, 1, CPU) for name in ("vit_tiny_patch16_224", "kat_tiny")}
    vit, kat = module.measurements(steps, CPU, 1, rounds=1)
    assert (vit.model, vit.ratio_to_vit) == ("vit_tiny_patch16_224", 1.0)
    assert kat.ratio_to_vit == pytest.approx(kat.milliseconds / vit.milliseconds)
    assert kat.images_per_second == pytest.approx(1e3 / kat.milliseconds)
    assert kat.backend in {line.name for line in RATIONAL.status(CPU)}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_measured_with_events(script: Callable[[str], ModuleType]) -> None:
    module = script("rational")
    case = Case((4, 197, 192), device=torch.device("cuda", 0))
    rows = [row for row in module.measurements(case, MACHINE, rounds=2) if not row.reason]
    assert {row.operation for row in rows} == {FORWARD, BACKWARD, BOTH}
    assert {"katops torch", GELU} <= {row.competitor for row in rows}
    assert {row.clock for row in rows} == {"CUDA events"}
    assert all(row.error_y < 1e-6 for row in rows if row.error_y is not None)


def test_transcription_of_mgno_gives_the_reference_output(script: Callable[[str], ModuleType], shared: Path) -> None:
    path = shared / "golden/mgno_dirichlet.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    width, layers, schedule = (config[key] for key in ("num_channel_u", "num_layer", "num_iteration"))
    net = script("mgno_transcription").TranscribedMgNO(1, width, layers, schedule)
    net.load_state_dict(state)
    torch.testing.assert_close(net(tensors["input"]), tensors["output"], rtol=1e-4, atol=1e-5)


def test_transcription_of_scot_gives_the_reference_output(script: Callable[[str], ModuleType], shared: Path) -> None:
    path = shared / "golden/scot_conditioned.safetensors"
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
    tensors = load_file(path)
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    sizes = ("image_size", "patch_size", "embed_dim", "depths", "num_heads", "skip_connections", "window_size")
    options = {name: config[name] for name in (*sizes, "mlp_ratio")}
    net = script("scot_transcription").TranscribedScOT(3, 3, **options)
    net.load_state_dict(state)
    x = tensors["input"].requires_grad_()
    y = net(x, tensors["time"])
    (gradient,) = torch.autograd.grad((y * tensors["grad_weight"]).sum(), x)
    torch.testing.assert_close(y, tensors["output"], rtol=1e-4, atol=2e-5)
    assert (gradient - tensors["grad_input"]).norm() < 1e-4 * tensors["grad_input"].norm()
