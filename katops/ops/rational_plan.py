"""How the CUDA kernels of the group rational function divide the work: pure arithmetic on sizes and alignment.

The plan depends on nothing but sizes, alignment and the number of multiprocessors. The order of every sum follows from
the plan, hence the same bits from run to run.
"""

from typing import NamedTuple

from katops.ops.memory_layout import GroupLayout

VECTOR_BYTES = 16
SHARED_BYTES = 48 * 1024  # what every block may have without asking
FAR_VECTOR_BYTES = 16  # two indices per thread
SMALL_BLOCK = 128
PARTIALS = 2**22  # 16 MB of float32; more groups than that allows get fewer blocks
SMALLEST_SHARE = 0.85  # of the threads that must have work for the flat mapping


class LaunchBounds(NamedTuple):
    """What a kernel is compiled for: threads per block, and blocks per multiprocessor, which caps its registers."""

    threads: int
    blocks: int


class LaunchPlan(NamedTuple):
    """One launch.

    ``numbers`` are the kernel's arguments (vectors in all, groups, vectors of one group in a row, step of the walk);
    ``rows`` is the number of partial sums for each coefficient of each group, ``team`` the lanes that add up one.
    """

    width: int
    segment: bool
    grid: int
    threads: int
    shared_bytes: int
    numbers: tuple[int, int, int, int]
    rows: int
    team: int


def launch_bounds(coefficients: int, double: bool, backward: bool, segment: bool) -> LaunchBounds:
    """As many threads as the registers of an instance allow without spilling; ``coefficients`` counts a and b."""
    if double or coefficients > 20:
        return LaunchBounds(128, 1)
    if coefficients > 10:
        return LaunchBounds(256, 2)
    if backward:
        return LaunchBounds(256, 3) if segment else LaunchBounds(512, 2)
    return LaunchBounds(256, 4 if segment else 5)


def vector_width(elements: int, alignment: int, itemsize: int, double: bool) -> int:
    """The largest power of two that divides the elements of a group and the alignment, within 16 bytes.

    Args:
        elements: neighbouring elements of one group.
        alignment: addresses in elements, of all tensors, combined by "or".
        itemsize: bytes of the larger of the types.
        double: arithmetic in float64, where two at a time are enough.
    """
    width = min(VECTOR_BYTES // itemsize, 2) if double else VECTOR_BYTES // itemsize
    while width > 1 and (elements % width or alignment % width):
        width //= 2
    return width


def launch_plan(
    layout: GroupLayout,
    width: int,
    multiprocessors: int,
    flat_bounds: LaunchBounds,
    segment_bounds: LaunchBounds,
    sums: int = 0,
    sum_bytes: int = 4,
) -> LaunchPlan:
    """The mapping of the header of ``cuda/rational.cu`` for a tensor.

    Args:
        layout: where the groups lie.
        width: elements per vector; divides ``layout.inner``, or all elements where there is one group.
        multiprocessors: of the device.
        flat_bounds, segment_bounds: what the kernels are compiled for.
        sums: sums per group, 0 where none are needed.
        sum_bytes: bytes of each.
    """
    outer, groups, inner = layout
    if groups == 1:
        outer, inner = outer * inner // width, 1
    else:
        inner //= width
    total = outer * groups * inner
    largest_grid = max(1, PARTIALS // (groups * sums)) if sums else total
    bytes_per_thread = FAR_VECTOR_BYTES + sums * sum_bytes

    resident = multiprocessors * flat_bounds.threads * flat_bounds.blocks
    threads = flat_bounds.threads if total >= 3 * resident else SMALL_BLOCK
    while threads * bytes_per_thread > SHARED_BYTES:
        threads //= 2
    grid = min(-(-total // threads), max(1, resident // threads), largest_grid)
    step = grid * threads // (groups * inner) * groups * inner
    if step >= SMALLEST_SHARE * min(grid * threads, total):
        team = _team(sums * groups, threads)
        numbers = (total, groups, inner, step)
        return LaunchPlan(width, False, grid, threads, threads * bytes_per_thread, numbers, grid, team)

    fitting = [size for size in (256, 192, 128, 96, 64) if size * bytes_per_thread <= SHARED_BYTES]
    threads = _block_for_row(inner, [size for size in fitting if size <= segment_bounds.threads] or [32])
    tiles = -(-inner // threads)
    blocks = multiprocessors * segment_bounds.threads * segment_bounds.blocks // threads
    slots = min(max(1, blocks // groups), outer * tiles, largest_grid)
    numbers = (total, groups, inner, tiles)
    team = _team(sums, threads)
    return LaunchPlan(width, True, slots * groups, threads, threads * bytes_per_thread, numbers, slots, team)


def _block_for_row(inner: int, sizes: list[int]) -> int:
    """The largest block whose tiles waste the fewest lanes at the end of a row, to a twentieth."""
    return max(sizes, key=lambda size: (round(20 * inner / (-(-inner // size) * size)), size))


def _team(pairs: int, threads: int) -> int:
    """Lanes per sum: a warp where there are few sums, one thread where there are many."""
    team = 32
    while team > 1 and pairs * team > 4 * threads:
        team //= 2
    return team
