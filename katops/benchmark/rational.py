"""The group rational function timed beside other ways to compute it, and beside GELU and a copy, in the same rounds."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from katops.benchmark.competitors import GELU, CannotRun, Competitor, Failed, Function
from katops.benchmark.machine import Machine
from katops.benchmark.memory import peak_extra_bytes
from katops.benchmark.timing import Calls, Clock, Progress, Timing, clock_for, time_interleaved
from katops.errors import UserError
from katops.ops.rational_accuracy import Errors, Results, errors
from katops.ops.rational_shapes import SHAPES

FORWARD = "forward"
BACKWARD = "backward"
BOTH = "forward + backward"

# Tensors of the size of x that are read or written: (x, y), (x, g, dx), and both.
_TENSORS_MOVED = {FORWARD: 2, BACKWARD: 3, BOTH: 5}
# Rounds may not take longer than this, unless the first few do.
_SECONDS_PER_OPERATION = 10.0


@dataclass(frozen=True)
class Case:
    """What is computed: degrees (5, 4), one numerator for all groups, as in KAT.

    Attributes:
        shape: of x.
        groups: of channels.
        dtype: of x and y; the coefficients are float32 (float64 for float64).
        device: where.
        channel_dim: axis of the channels: the last one of tokens, axis 1 of images (batch, channel, height, width).
    """

    shape: tuple[int, ...]
    groups: int = 8
    dtype: torch.dtype = torch.float32
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if not self.shape or min(self.shape) < 1:
            raise UserError(f"the shape needs sizes of 1 or more, e.g. 32,197,768; given: {self.shape}")
        channels = self.shape[self.channel_dim]
        if self.groups < 1 or channels % self.groups:
            raise UserError(
                f"{self.groups} groups do not divide {channels} channels (axis {self.channel_dim} of {self.shape}); "
                "choose a number of groups that does"
            )

    @property
    def channel_dim(self) -> int:
        return 1 if len(self.shape) == 4 else -1

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Of x."""
        return self.elements * self.dtype.itemsize


@dataclass(frozen=True)
class Measurement:
    """One row: what one competitor did in one operation, or the reason why it could not.

    Attributes:
        milliseconds: per call, median over the rounds.
        spread: distance between the quartiles over the median.
        gigabytes_per_second: useful bytes (each input read once, each output written once) over the time.
        fraction_of_copy: of the bandwidth of a large copy measured in the same run.
        ratio_to_gelu: the time over that of ``F.gelu`` in the same rounds; none where GELU could not run.
        error_y, error_dx, error_coefficients: largest error relative to its scale, see
            :mod:`katops.ops.rational_accuracy`.
        extra_memory: peak beyond inputs and incoming gradient, results included, in units of x.
        clock: what the times were read from: the wall, or CUDA events, which leave the cost of launches out.
        reason: why there is no number; empty where there is.
        failed: whether the reason is a mistake: neither something missing nor a lack of memory.
    """

    operation: str
    competitor: str
    device: str
    dtype: str
    shape: str
    groups: int
    milliseconds: float | None = None
    spread: float | None = None
    gigabytes_per_second: float | None = None
    fraction_of_copy: float | None = None
    ratio_to_gelu: float | None = None
    error_y: float | None = None
    error_dx: float | None = None
    error_coefficients: float | None = None
    extra_memory: float | None = None
    rounds: int = 0
    clock: str = ""
    threads: int = 0
    copy_gigabytes_per_second: float = 0.0
    versions: str = ""
    reason: str = ""
    failed: bool = False


@dataclass(frozen=True)
class InputSet:
    """x, the incoming gradient and the coefficients, all random: constants can run faster than data."""

    x: Tensor
    numerator: Tensor
    denominator: Tensor
    gradient: Tensor


def default_operations(device: torch.device) -> tuple[str, ...]:
    """The backward pass alone is timed on GPUs, where its bandwidth is a figure of its own."""
    return (FORWARD, BACKWARD, BOTH) if device.type == "cuda" else (FORWARD, BOTH)


def input_sets(case: Case) -> list[InputSet]:
    """One set on a CPU; on a GPU three or more, together several times its cache, to be used in turn."""
    count = 1
    if case.device.type == "cuda":
        cache = torch.cuda.get_device_properties(case.device).L2_cache_size
        count = max(3, math.ceil(4 * cache / (2 * case.bytes)))
    generator = torch.Generator(case.device).manual_seed(0)
    # more sets than that would only fill the launch queue: small tensors are for the cost of a call
    return [_input_set(case, generator) for _ in range(min(count, 32))]


def measure(
    case: Case,
    competitors: Sequence[Competitor],
    machine: Machine,
    *,
    rounds: int = 15,
    operations: Sequence[str] | None = None,
    clock: Clock | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> Iterator[Measurement]:
    """Time the competitors on a case, operation by operation; rows come as soon as their operation is done.

    Ctrl-C: rows of the operation under way come from the rounds complete by then, and KeyboardInterrupt is raised.

    Args:
        case: what is computed.
        competitors: one of them named ``F.gelu``, for the ratios.
        machine: where, from :func:`katops.benchmark.machine.describe`.
        rounds: at most; fewer if these take more than 10 seconds.
        operations: of "forward", "backward" and "forward + backward".
        clock: takes the times; by the device if not given.
        progress: gives, for an operation's name, a function to be told (done, total).
    """
    sets = input_sets(case)
    clock = clock or clock_for(case.device)
    operations = operations or default_operations(case.device)
    able: dict[str, _Contender] = {}
    for competitor in competitors:
        try:
            able[competitor.name] = _Contender(competitor, case, sets, operations)
        except CannotRun as reason:
            for operation in operations:
                failed = isinstance(reason, Failed)
                yield _row(case, machine, operation, competitor.name, reason=str(reason), failed=failed)
    for operation in operations:
        runs = {
            name: contender.preparation(operation)
            for name, contender in able.items()
            if operation in contender.operations
        }
        found = time_interleaved(
            runs,
            clock,
            rounds,
            longest=_SECONDS_PER_OPERATION,
            progress=progress(operation) if progress else None,
        )
        for name, timing in found.timings.items():
            yield able[name].measurement(machine, operation, timing, found.timings.get(GELU), clock.name)
        if found.interrupted:
            raise KeyboardInterrupt


class _Contender:
    """A competitor that has shown on a case that it can run forward and backward.

    Raises:
        CannotRun: it cannot; whatever it raised is the reason, since a peer's failure is no failure of the benchmark.
        Failed: the same where the reason is neither its own nor a lack of memory.
    """

    def __init__(self, competitor: Competitor, case: Case, sets: Sequence[InputSet], operations: Sequence[str]) -> None:
        self._case, self._sets, self._rational = case, sets, competitor.rational
        self._name, self._differentiated = competitor.name, competitor.backward
        self.operations = [name for name in operations if competitor.backward or name == FORWARD]
        try:
            self._function: Function = competitor.build(case)
            self._errors = self._trial()
            self._memory = {
                operation: peak_extra_bytes(self._call(operation, sets[0]), case.device)
                for operation in self.operations
            }
        except CannotRun:
            raise
        except Exception as error:
            first_line = (str(error).strip() or "no message").splitlines()[0]
            reason = f"{type(error).__name__}: {first_line}"
            raise (CannotRun if _out_of_memory(error) else Failed)(reason) from error

    def preparation(self, operation: str) -> Callable[[], Calls]:
        """What prepares the calls of an operation, one per input set."""
        return lambda: [self._call(operation, inputs) for inputs in self._sets]

    def measurement(
        self, machine: Machine, operation: str, timing: Timing, gelu: Timing | None, clock: str
    ) -> Measurement:
        """The row of an operation."""
        speed = _TENSORS_MOVED[operation] * self._case.bytes / timing.median
        backward = operation != FORWARD
        return _row(
            self._case,
            machine,
            operation,
            self._name,
            milliseconds=1e3 * timing.median,
            spread=timing.spread,
            gigabytes_per_second=speed / 1e9,
            fraction_of_copy=speed / machine.copy_bandwidth,
            ratio_to_gelu=timing.median / gelu.median if gelu else None,
            error_y=self._errors.y if self._errors else None,
            error_dx=self._errors.dx if self._errors and backward else None,
            error_coefficients=self._errors.coefficients if self._errors and backward else None,
            extra_memory=self._memory[operation] / self._case.bytes,
            rounds=len(timing.seconds),
            clock=clock,
        )

    def _trial(self) -> Errors | None:
        """Compiles what is to be compiled, and compares with float64."""
        inputs = self._sets[0]
        y = self._apply(inputs)
        if not self._differentiated:
            return None
        gradients = torch.autograd.grad(y, self._leaves(inputs), inputs.gradient)
        if not self._rational:
            return None
        return errors(
            Results(y.detach(), *gradients),
            inputs.x.detach(),
            inputs.numerator.detach(),
            inputs.denominator.detach(),
            inputs.gradient,
            self._case.channel_dim,
        )

    def _call(self, operation: str, inputs: InputSet) -> Callable[[], object]:
        return {FORWARD: self._forward, BACKWARD: self._backward, BOTH: self._both}[operation](inputs)

    def _apply(self, inputs: InputSet) -> Tensor:
        return self._function(inputs.x, inputs.numerator, inputs.denominator)

    def _leaves(self, inputs: InputSet) -> tuple[Tensor, ...]:
        return (inputs.x, inputs.numerator, inputs.denominator) if self._rational else (inputs.x,)

    def _forward(self, inputs: InputSet) -> Callable[[], object]:
        def call() -> Tensor:
            with torch.no_grad():
                return self._apply(inputs)

        return call

    def _backward(self, inputs: InputSet) -> Callable[[], object]:
        y, leaves = self._apply(inputs), self._leaves(inputs)
        return lambda: torch.autograd.grad(y, leaves, inputs.gradient)

    def _both(self, inputs: InputSet) -> Callable[[], object]:
        leaves = self._leaves(inputs)
        return lambda: torch.autograd.grad(self._apply(inputs), leaves, inputs.gradient)


def _input_set(case: Case, generator: torch.Generator) -> InputSet:
    compute = torch.promote_types(case.dtype, torch.float32)

    def normal(*shape: int, dtype: torch.dtype = compute) -> Tensor:
        return torch.randn(*shape, dtype=dtype, device=case.device, generator=generator)

    gelu = SHAPES["gelu"]
    numerator = torch.tensor([gelu.numerator], dtype=compute, device=case.device)
    denominator = torch.tensor([gelu.denominator], dtype=compute, device=case.device)
    return InputSet(
        normal(*case.shape, dtype=case.dtype).requires_grad_(),
        (numerator * (1 + 0.1 * normal(*numerator.shape))).requires_grad_(),
        (denominator + 0.1 * normal(case.groups, denominator.shape[1])).requires_grad_(),
        normal(*case.shape, dtype=case.dtype),
    )


def _out_of_memory(error: Exception) -> bool:
    """Whether a device or the host had no memory left; torch has no type of its own for the host's."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "DefaultCPUAllocator" in str(error)


def _row(case: Case, machine: Machine, operation: str, competitor: str, **values: object) -> Measurement:
    return Measurement(
        operation,
        competitor,
        machine.device,
        str(case.dtype).removeprefix("torch."),
        "x".join(map(str, case.shape)),
        case.groups,
        threads=machine.threads,
        copy_gigabytes_per_second=machine.copy_bandwidth / 1e9,
        versions=machine.versions,
        **values,
    )
