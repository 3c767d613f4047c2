"""The kernels for the CPU, numba and chunked plain torch, against the definition; threads, processes and caches."""

import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

import katops.ops
from katops.ops import cpu_team, rational_chunked, rational_cpu
from katops.ops.dispatch import BackendUnavailable
from katops.ops.memory_layout import GroupLayout, group_layout
from katops.ops.rational_kernels import RationalKernels
from katops.ops.rational_shapes import SHAPES
from katops.ops.rational_torch import TorchRational

CPU = torch.device("cpu")
ALL = (True, True, True)
GELU = SHAPES["gelu"]


@pytest.fixture(scope="module")
def numba_kernels() -> RationalKernels:
    return rational_cpu.load(CPU)


@pytest.fixture(params=["numba", "chunked"])
def kernels(request: pytest.FixtureRequest, numba_kernels: RationalKernels) -> RationalKernels:
    return numba_kernels if request.param == "numba" else rational_chunked.load(CPU)


@pytest.fixture
def threads() -> Iterator[None]:
    """Torch's number of threads is the one of before after the test."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def coefficients(groups: int, m: int = 5, n: int = 4, rows: tuple[int, int] | None = None) -> tuple[Tensor, Tensor]:
    rows = rows or (groups, groups)
    return torch.randn(rows[0], m + 1), torch.randn(rows[1], n)


def gelu_coefficients() -> tuple[Tensor, Tensor]:
    return torch.tensor([GELU.numerator]), torch.tensor([GELU.denominator])


# Values and gradients


@pytest.mark.parametrize("case", range(5))
def test_golden_values_and_gradients(shared: Path, kernels: RationalKernels, case: int) -> None:
    golden = load_file(shared / "golden" / "rational.safetensors")
    x, a, b, g = (golden[f"case{case}.{name}"] for name in ("x", "numerator", "denominator", "grad_output"))
    layout = group_layout(x, -1, max(len(a), len(b)))
    results = kernels.forward(x, a, b, layout, x.dtype), *kernels.backward(x, g, a, b, layout, ALL)
    for name, result in zip(("output", "grad_x", "grad_numerator", "grad_denominator"), results, strict=True):
        torch.testing.assert_close(result, golden[f"case{case}.{name}"], rtol=1e-5, atol=1e-5)


SHAPES_AND_GROUPS = {
    "one channel a group": ((700, 24), -1, 24),
    "three channels a group": ((800, 24), -1, 8),
    "five channels a group": ((500, 40), -1, 8),
    "24 channels a group": ((100, 192), -1, 8),
    "25 channels a group": ((90, 200), -1, 8),
    "96 channels a group": ((40, 768), -1, 8),
    "5000 channels a group": ((2, 40000), -1, 8),
    "one row": ((1, 24000), -1, 8),
    "one row of few": ((1, 30), -1, 10),
    "one group": ((33333,), -1, 1),
    "images": ((2, 16, 30, 31), 1, 4),
    "one large image": ((1, 2, 131, 151), 1, 2),
    "many groups": ((3, 140000), -1, 140000),
}


@pytest.mark.parametrize("name", SHAPES_AND_GROUPS)
def test_any_shape_agrees_with_the_definition(assert_right: Callable, kernels: RationalKernels, name: str) -> None:
    shape, channel_dim, groups = SHAPES_AND_GROUPS[name]
    x, g = 2 * torch.randn(shape), torch.randn(shape)
    assert_right(kernels, x, g, *coefficients(groups), group_layout(x, channel_dim, groups))


@pytest.mark.parametrize("types", [("bfloat16", "bfloat16"), ("float32", "bfloat16"), ("float64", "float64")])
@pytest.mark.parametrize("width", [24, 768])
def test_any_type_agrees_with_the_definition(
    assert_right: Callable, kernels: RationalKernels, types: tuple[str, str], width: int
) -> None:
    x_type, y_type = (getattr(torch, name) for name in types)
    x, g = 2 * torch.randn(23000 // width, width).to(x_type), torch.randn(23000 // width, width).to(y_type)
    a, b = coefficients(8)
    if x_type == torch.float64:
        a, b = a.double(), b.double()
    assert kernels.supports(x_type, a.dtype, y_type)
    assert_right(kernels, x, g, a, b, group_layout(x, -1, 8))


@pytest.mark.parametrize("rows", [(1, 8), (8, 1), (1, 1)])
def test_shared_rows_get_the_sum_of_the_groups_gradients(
    assert_right: Callable, kernels: RationalKernels, rows: tuple[int, int]
) -> None:
    x, g = torch.randn(800, 24), torch.randn(800, 24)
    a, b = coefficients(8, rows=rows)
    assert_right(kernels, x, g, a, b, group_layout(x, -1, max(rows)))


@pytest.mark.parametrize("degrees", [(1, 0), (0, 2)])
def test_polynomials_and_reciprocals_agree_with_the_definition(
    assert_right: Callable, kernels: RationalKernels, degrees: tuple[int, int]
) -> None:
    x, g = torch.randn(800, 24), torch.randn(800, 24)
    assert_right(kernels, x, g, *coefficients(4, *degrees), group_layout(x, -1, 4))


@settings(max_examples=50, deadline=None)
@given(outer=st.integers(1, 60), groups=st.integers(1, 9), inner=st.integers(1, 140), seed=st.integers(0, 99))
def test_the_numba_kernels_agree_with_the_definition_on_random_shapes(
    assert_right: Callable, numba_kernels: RationalKernels, outer: int, groups: int, inner: int, seed: int
) -> None:
    torch.manual_seed(seed)
    x, g = torch.randn(outer, groups * inner), torch.randn(outer, groups * inner)
    assert_right(numba_kernels, x, g, *coefficients(groups), GroupLayout(outer, groups, inner))


@pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True)])
def test_what_is_not_needed_is_none_and_the_rest_is_the_same(
    kernels: RationalKernels, needs: tuple[bool, bool, bool]
) -> None:
    x, g = torch.randn(100, 192), torch.randn(100, 192)
    tensors = x, g, *coefficients(8), group_layout(x, -1, 8)
    for given_, expected, needed in zip(
        kernels.backward(*tensors, needs), kernels.backward(*tensors, ALL), needs, strict=True
    ):
        assert (given_ is not None) == needed
        if needed:
            torch.testing.assert_close(given_, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("width", [24, 768])
def test_bfloat16_results_are_the_float32_results_rounded_once(numba_kernels: RationalKernels, width: int) -> None:
    x, g = (3 * torch.randn(40, width)).bfloat16(), torch.randn(40, width).bfloat16()
    a, b = coefficients(8)
    layout = group_layout(x, -1, 8)
    y = numba_kernels.forward(x.float(), a, b, layout, torch.float32)
    assert torch.equal(numba_kernels.forward(x, a, b, layout, torch.bfloat16), y.bfloat16())
    assert torch.equal(numba_kernels.forward(x.float(), a, b, layout, torch.bfloat16), y.bfloat16())
    grad_x = numba_kernels.backward(x.float(), g.float(), a, b, layout, ALL)[0]
    assert torch.equal(numba_kernels.backward(x, g, a, b, layout, ALL)[0], grad_x.bfloat16())
    assert torch.equal(numba_kernels.backward(x.float(), g, a, b, layout, ALL)[0], grad_x)


def test_other_types_are_refused_by_the_numba_kernels_and_computed_by_the_chunked_ones(
    numba_kernels: RationalKernels,
) -> None:
    for types in ((torch.float16, torch.float32, torch.float16), (torch.float32, torch.float64, torch.float32)):
        assert not numba_kernels.supports(*types)
        assert rational_chunked.load(CPU).supports(*types)


# Zero, huge, infinite and undefined


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_the_sign_of_zero_decides_the_derivative_there(kernels: RationalKernels, zero: float) -> None:
    """dy/dx = a_1 - sgn(x) a_0 |b_1|, and -0.0 as a coefficient counts as positive: dy/db_1 = -y |x| / Q."""
    a, b = coefficients(1)
    x = torch.full((20000,), zero)
    layout = GroupLayout(1, 1, len(x))
    grad_x, _, _ = kernels.backward(x, torch.ones_like(x), a, b, layout, ALL)
    torch.testing.assert_close(grad_x, (a[0, 1] - math.copysign(1, zero) * a[0, 0] * b[0, 0].abs()).expand(20000))
    x, b = torch.rand(20000), torch.full((1, 4), zero)
    y = kernels.forward(x, a, b, layout, torch.float32)
    _, _, grad_b = kernels.backward(x, torch.ones_like(x), a, b, layout, ALL)
    expected = -torch.stack([(y * x**j).double().sum() for j in range(1, 5)])
    torch.testing.assert_close(grad_b[0].double(), expected, rtol=1e-4, atol=1e-2)


HUGE = [5e3, -1e5, 1e7, -1e12, 1e30, 3.4e38, -3.4e38, math.inf, -math.inf]


@pytest.mark.parametrize("shape", ["gelu", "identity", "tanh"])
@pytest.mark.parametrize("layout", [GroupLayout(300, 1, 96), GroupLayout(300, 8, 12)])
def test_huge_and_infinite_input_gives_the_quotient_and_its_derivatives(
    kernels: RationalKernels, shape: str, layout: GroupLayout
) -> None:
    a, b = torch.tensor([SHAPES[shape].numerator]), torch.tensor([SHAPES[shape].denominator])
    x = torch.randn(math.prod(layout))
    x[:: len(x) // len(HUGE)][: len(HUGE)] = torch.tensor(HUGE)
    exact = TorchRational()
    y = kernels.forward(x, a, b, layout, torch.float32)
    expected = exact.forward(x.double(), a.double(), b.double(), layout, torch.float64).float()
    torch.testing.assert_close(y, expected, rtol=2e-6, atol=1e-6)
    g = torch.where(x.abs() > 1e6, 0, torch.randn(len(x)))
    slopes = kernels.backward(x, torch.ones_like(x), a, b, layout, ALL)[0]
    expected = exact.backward(x.double(), torch.ones_like(x).double(), a.double(), b.double(), layout, ALL)[0]
    torch.testing.assert_close(slopes, expected.float(), rtol=1e-5, atol=1e-5)
    grads = kernels.backward(x, g, a, b, layout, ALL)
    finite = torch.where(g == 0, 0, x)
    expected = exact.backward(finite.double(), g.double(), a.double(), b.double(), layout, ALL)
    for one, other in zip(grads[1:], expected[1:], strict=True):
        torch.testing.assert_close(one, other.float(), rtol=1e-5, atol=1e-4 * other.abs().max())


def test_huge_input_in_float64_and_in_high_degrees_is_left_to_the_definition(numba_kernels: RationalKernels) -> None:
    layout = GroupLayout(10, 2, 96)
    x, g = torch.randn(1920).double(), torch.randn(1920).double()
    x[7], x[8] = 1e200, -math.inf
    a, b = (tensor.double() for tensor in coefficients(2))
    y = numba_kernels.forward(x, a, b, layout, torch.float64)
    torch.testing.assert_close(y, TorchRational().forward(x, a, b, layout, torch.float64), rtol=1e-12, atol=1e-12)
    grads = numba_kernels.backward(x, g, a, b, layout, ALL)
    for one, other in zip(grads, TorchRational().backward(x, g, a, b, layout, ALL), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_huge_input_without_gradient_adds_nothing_to_the_coefficients(kernels: RationalKernels) -> None:
    a, b = gelu_coefficients()
    x, g = torch.randn(24000), torch.randn(24000)
    g[5], x[5] = 0, 0.5
    layout = GroupLayout(1, 1, len(x))
    expected = kernels.backward(x, g, a, b, layout, ALL)[1:]
    for huge in (1e5, 1e30, math.inf, -math.inf):
        x[5] = huge
        for one, other in zip(kernels.backward(x, g, a, b, layout, ALL)[1:], expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("where", ["x", "gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_nan_stays_in_its_element_and_its_group(kernels: RationalKernels, where: str, dtype: torch.dtype) -> None:
    x, g = torch.randn(100, 192).to(dtype), torch.randn(100, 192).to(dtype)
    (x if where == "x" else g)[3, 50] = math.nan
    x[4, 51] = 1e9
    a, b = coefficients(8)
    layout = group_layout(x, -1, 8)
    expected = torch.zeros(100, 192, dtype=torch.bool)
    expected[3, 50] = True
    assert torch.equal(kernels.forward(x, a, b, layout, dtype).isnan(), expected & (where == "x"))
    grad_x, grad_a, grad_b = kernels.backward(x, g, a, b, layout, ALL)
    assert torch.equal(grad_x.isnan(), expected)
    for gradient in (grad_a, grad_b):
        assert gradient[2].isnan().all()
        assert gradient[[0, 1, 3, 4, 5, 6, 7]].isfinite().all()


# The same bits, whatever the threads


@pytest.mark.parametrize("layout", [(100, 8, 96), (400, 16, 12), (1, 1, 90001), (2, 2, 33001)])
def test_the_bits_do_not_depend_on_the_number_of_threads(
    kernels: RationalKernels, threads: None, layout: tuple[int, int, int]
) -> None:
    layout = GroupLayout(*layout)
    x, g = torch.randn(math.prod(layout)), torch.randn(math.prod(layout))
    a, b = coefficients(layout.groups)
    results = []
    for count in (1, 2, 4, 2):
        torch.set_num_threads(count)
        results.append((kernels.forward(x, a, b, layout, torch.float32), *kernels.backward(x, g, a, b, layout, ALL)))
    for other in results[1:]:
        assert all(torch.equal(one, two) for one, two in zip(results[0], other, strict=True))


@pytest.mark.parametrize("team", [cpu_team.Sequential, cpu_team.Threads, cpu_team.team])
def test_every_team_gives_the_same_bits(
    numba_kernels: RationalKernels, monkeypatch: pytest.MonkeyPatch, threads: None, team: Callable
) -> None:
    layout = GroupLayout(100, 8, 96)
    x, g = torch.randn(math.prod(layout)), torch.randn(math.prod(layout))
    a, b = coefficients(8)
    torch.set_num_threads(1)
    alone = (numba_kernels.forward(x, a, b, layout, x.dtype), *numba_kernels.backward(x, g, a, b, layout, ALL))
    torch.set_num_threads(3)
    here = team()
    monkeypatch.setattr(cpu_team, "team", lambda: here)
    given = (numba_kernels.forward(x, a, b, layout, x.dtype), *numba_kernels.backward(x, g, a, b, layout, ALL))
    assert all(torch.equal(one, other) for one, other in zip(given, alone, strict=True))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="GNU's OpenMP is torch's on Linux only")
def test_the_threads_are_those_of_torch(numba_kernels: RationalKernels, threads: None) -> None:
    """A pool of its own would show up as new threads of the process."""
    assert isinstance(cpu_team.team(), cpu_team.OpenMP)
    torch.set_num_threads(3)
    large = torch.randn(2_000_000)
    large.exp()
    before = len(os.listdir("/proc/self/task"))
    numba_kernels.forward(large, *gelu_coefficients(), GroupLayout(1, 1, len(large)), torch.float32)
    assert len(os.listdir("/proc/self/task")) == before


# Processes, threads, caches


def run_script(repository: Path, script: str, **environment: str) -> str:
    """The output of a script in a process of its own."""
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_THE_MODELS + script],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


WITHOUT_THE_MODELS = "import sys; sys.argv[0] = 'katops'\n"
"""Makes a script import katops as the command does, which is twice as fast: the kernels need no models."""

PREAMBLE = """
import os, threading, torch
from katops.ops import cpu_team, rational_cpu
from katops.ops.memory_layout import GroupLayout
torch.set_num_threads(2)
kernels = rational_cpu.load(torch.device("cpu"))
torch.manual_seed(0)
x, a, b = torch.randn(100 * 768), torch.randn(1, 6), torch.randn(8, 4)
layout = GroupLayout(100, 8, 96)
def results():
    y = kernels.forward(x, a, b, layout, torch.float32)
    return (y, *kernels.backward(x, x, a, b, layout, (True, True, True)))
expected = results()
def same():
    # numpy's comparison: torch's own would start threads, which a forked child must not
    return all((one.numpy() == other.numpy()).all() for one, other in zip(results(), expected))
"""
FORK_AND_CONCURRENT = """
class Data(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index): return same()
def work():
    torch.set_num_threads(2)
    agree.extend(same() for _ in range(20))
for team in (cpu_team.team(), cpu_team.Threads()):
    cpu_team.team = lambda: team
    agree = []
    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers: worker.start()
    for worker in workers: worker.join()
    assert len(agree) == 80 and all(agree)
    loader = torch.utils.data.DataLoader(Data(), num_workers=2, multiprocessing_context="fork")
    assert all(bool(batch.all()) for batch in loader)
    child = os.fork()
    if child == 0:
        os._exit(0 if same() else 1)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_forked_children_and_concurrent_calls_give_the_same_bits_with_either_team(repository: Path) -> None:
    run_script(repository, PREAMBLE + FORK_AND_CONCURRENT)


def test_without_a_place_for_the_cache_the_kernels_are_compiled_in_every_process(
    monkeypatch: pytest.MonkeyPatch, assert_right: Callable
) -> None:
    from numba.core.caching import CacheImpl

    monkeypatch.setattr(CacheImpl, "_locator_classes", [])
    x, g = torch.randn(4, 96), torch.randn(4, 96)
    assert_right(rational_cpu.load(CPU), x, g, *coefficients(2, 1, 0), group_layout(x, -1, 2))


def test_a_second_process_reads_the_machine_code_from_the_cache(repository: Path, tmp_path: Path) -> None:
    script = """
import torch
from katops.ops import rational_cpu
from katops.ops.memory_layout import GroupLayout
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    kernels = rational_cpu.load(torch.device("cpu"))
    kernels.forward(torch.randn(200), torch.randn(1, 2), torch.randn(2, 0), GroupLayout(1, 2, 100), torch.float32)
print(len(compiled.buffer))
"""
    first, second = (int(run_script(repository, script, NUMBA_CACHE_DIR=str(tmp_path))) for _ in range(2))
    assert first > 0
    assert second < first


def test_without_numba_the_backend_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "katops.ops.rational_numba", raising=False)
    monkeypatch.delattr(katops.ops, "rational_numba", raising=False)
    with pytest.raises(BackendUnavailable, match="numba cannot be imported"):
        rational_cpu.load(CPU)


def test_a_numba_that_cannot_compile_is_a_reason_and_no_crash() -> None:
    class Kernels:
        Variant = staticmethod(lambda **arguments: tuple(arguments))

        @staticmethod
        def compile_forward(variant: tuple) -> None:
            raise TypeError("no such intrinsic\nand a page of details")

        compile_backward = compile_reduction = compile_forward

    kernels = rational_cpu.NumbaRational(Kernels, rational_chunked.load(CPU))
    with pytest.raises(BackendUnavailable, match=r"do not compile with this numba \(TypeError: no such intrinsic\)"):
        kernels.forward(torch.randn(8), *gelu_coefficients(), GroupLayout(1, 1, 8), torch.float32)


def test_a_spawned_worker_computes_the_same(repository: Path, tmp_path: Path) -> None:
    script = """
import torch
from katops.ops.rational import group_rational
class Data(torch.utils.data.Dataset):
    def __len__(self): return 4
    def __getitem__(self, index):
        torch.manual_seed(index)
        return group_rational(torch.randn(100, 8), torch.ones(1, 6), torch.ones(2, 4))
if __name__ == "__main__":
    loader = torch.utils.data.DataLoader(Data(), batch_size=None, num_workers=1, multiprocessing_context="spawn")
    assert all(torch.equal(given, Data()[index]) for index, given in enumerate(loader))
"""
    file = tmp_path / "spawned.py"
    file.write_text(WITHOUT_THE_MODELS + script)
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    subprocess.run([sys.executable, str(file)], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=200)
