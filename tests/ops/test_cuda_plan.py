"""The launch plan of the CUDA kernels: what the threads visit, and the accuracy of the order of the sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from katops.ops.memory_layout import GroupLayout
from katops.ops.rational_plan import SHARED_BYTES, LaunchPlan, launch_bounds, launch_plan, vector_width


def plan_for(layout: GroupLayout, itemsize: int = 2, multiprocessors: int = 132, backward: bool = True) -> LaunchPlan:
    elements = layout.outer * layout.inner if layout.groups == 1 else layout.inner
    width = vector_width(elements, 0, itemsize, double=False)
    bounds = [launch_bounds(10, False, backward, segment) for segment in (False, True)]
    return launch_plan(layout, width, multiprocessors, *bounds, sums=10 if backward else 0)


def walks(plan: LaunchPlan) -> list[tuple[int, np.ndarray]]:
    """Group and vectors of every thread, as the kernel's Walk has it."""
    total, groups, inner, step = plan.numbers
    result = []
    for block in range(plan.grid):
        for thread in range(plan.threads):
            if not plan.segment:
                first = block * plan.threads + thread
                visited = np.arange(first, total, step) if first < step else np.arange(0)
                result.append((first % (groups * inner) // inner, visited))
                continue
            slots, slot, group = plan.grid // groups, block // groups, block % groups
            tiles = np.arange(slot, total // (groups * inner) * step, slots)
            column = tiles % step * plan.threads + thread
            row = tiles // step * groups * inner
            result.append((group, (row + group * inner + column)[column < inner]))
    return result


@settings(max_examples=50, deadline=None)
@given(
    outer=st.integers(1, 400),
    groups=st.integers(1, 40),
    inner=st.integers(1, 300),
    itemsize=st.sampled_from([2, 4, 8]),
    multiprocessors=st.integers(1, 4),
    backward=st.booleans(),
)
def test_every_vector_is_visited_once_by_a_thread_of_its_group(
    outer: int, groups: int, inner: int, itemsize: int, multiprocessors: int, backward: bool
) -> None:
    check_coverage(GroupLayout(outer, groups, inner), itemsize, multiprocessors, backward)


def check_coverage(layout: GroupLayout, itemsize: int, multiprocessors: int, backward: bool = True) -> LaunchPlan:
    plan = plan_for(layout, itemsize, multiprocessors, backward)
    total, groups, inner, _ = plan.numbers
    assert total * plan.width == layout.outer * layout.groups * layout.inner
    visits = np.zeros(total, dtype=np.int64)
    for group, visited in walks(plan):
        visits[visited] += 1
        assert (visited % (groups * inner) // inner == group).all()
    assert (visits == 1).all()
    assert plan.threads % 32 == 0
    assert plan.shared_bytes <= SHARED_BYTES
    return plan


def test_random_shapes_of_every_kind_are_covered() -> None:
    generator = np.random.default_rng(0)
    segments = 0
    for _ in range(400):
        outer, groups, inner = (int(2 ** generator.uniform(0, top)) for top in (5, 4, 11))
        segments += check_coverage(GroupLayout(outer, groups, inner), 4, 1).segment
    assert 20 < segments < 380


@pytest.mark.parametrize(
    ("layout", "itemsize"),
    [
        (GroupLayout(1, 1, 2**31 + 5), 2),
        (GroupLayout(2**22 + 1, 8, 96), 2),
        (GroupLayout(3, 2, 2**30 + 7), 2),
        (GroupLayout(256 * 197 * 64, 8, 384), 4),
    ],
)
def test_more_than_two_to_the_31_elements_are_covered(layout: GroupLayout, itemsize: int) -> None:
    """By counting: the last thread's last vector is in range, and the visits add up."""
    plan = plan_for(layout, itemsize)
    total, groups, inner, step = plan.numbers
    assert total * plan.width == layout.outer * layout.groups * layout.inner
    threads = plan.grid * plan.threads
    assert threads < 2**32
    if plan.segment:
        assert step < 2**31
        assert (step - 1) * plan.threads < inner <= step * plan.threads
        assert plan.rows * groups == plan.grid
    else:
        assert step % (groups * inner) == 0
        assert 0 < step <= threads
        first = np.arange(step)
        assert ((total - first + step - 1) // step).sum() == total


@pytest.mark.parametrize("channels", [768, 3072])
@pytest.mark.parametrize("itemsize", [2, 4])
def test_transformer_shapes_are_flat_and_keep_all_threads_busy(channels: int, itemsize: int) -> None:
    plan = plan_for(GroupLayout(256 * 197, 8, channels // 8), itemsize)
    assert not plan.segment
    assert plan.width * itemsize == 16
    assert plan.numbers[3] >= 0.97 * plan.grid * plan.threads
    assert plan.grid * plan.threads == 132 * 1024


def test_a_single_row_is_cut_into_segments_and_one_group_never_is() -> None:
    assert plan_for(GroupLayout(1, 8, 2**24)).segment
    assert not plan_for(GroupLayout(1, 1, 2**24)).segment


def test_the_partial_sums_of_many_groups_stay_small() -> None:
    for groups in (768, 2**16, 2**20):
        plan = plan_for(GroupLayout(1000, groups, 1))
        assert plan.rows * groups * 10 <= max(2**22, groups * 10)


@pytest.mark.parametrize(
    ("elements", "alignment", "width"), [(96, 0, 8), (12, 0, 4), (96, 2, 2), (25, 0, 1), (8, 5, 1)]
)
def test_vectors_respect_groups_and_alignment(elements: int, alignment: int, width: int) -> None:
    assert vector_width(elements, alignment, 2, double=False) == width
    assert vector_width(elements, alignment, 4, double=False) == min(width, 4)
    assert vector_width(elements, alignment, 8, double=True) == min(width, 2)


@pytest.mark.parametrize("bias", [0.0, 0.05])
def test_the_order_of_the_sums_keeps_1e_5_at_1e8_elements(bias: float) -> None:
    """As many elements per thread as 1e8 give on 132 multiprocessors, in float32; fewer blocks, to be quick."""
    per_thread = 10**8 // (132 * 1024)
    threads, blocks = 512, 52
    generator = np.random.default_rng(1)
    rows, exact, spread = [], 0.0, 0.0
    for _ in range(blocks):
        terms = generator.standard_normal((per_thread, threads), dtype=np.float32) + np.float32(bias)
        terms *= generator.random(threads, dtype=np.float32) + np.float32(0.5)
        exact += terms.sum(dtype=np.float64)
        spread += np.square(terms, dtype=np.float64).sum()
        column = np.zeros(threads, dtype=np.float32)
        for term in terms:  # a thread adds its elements one after another
            column += term
        lanes = np.zeros(32, dtype=np.float32)
        for group in column.reshape(-1, 32):  # a warp walks over the columns ...
            lanes += group
        while len(lanes) > 1:  # ... and adds its lanes by a tree
            lanes = lanes[: len(lanes) // 2] + lanes[len(lanes) // 2 :]
        rows.append(lanes[0])
    error = abs(np.sum(rows, dtype=np.float64) - exact)
    assert error < 1e-5 * np.sqrt(spread)
    if bias:
        assert error < 1e-5 * abs(exact)
