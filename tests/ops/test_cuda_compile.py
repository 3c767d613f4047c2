"""Every instance of the CUDA kernels compiles for the devices we name, without spilling, within its registers."""

import ctypes
import importlib.metadata
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from katops.ops.cuda_source import cuda_source
from katops.ops.rational_cuda import Degrees, Types, instance_options
from katops.ops.rational_plan import vector_width

F32, F64, BF16, F16 = torch.float32, torch.float64, torch.bfloat16, torch.float16
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
REGISTERS = 65536  # of a multiprocessor


class Nvrtc:
    """NVIDIA's run-time compiler from its wheel, which needs neither a toolkit nor a device."""

    def __init__(self, library: Path) -> None:
        for builtins in sorted(library.parent.glob("libnvrtc-builtins.so*")):
            ctypes.CDLL(str(builtins))  # the compiler opens it by name and finds the one that is loaded
        self._library = ctypes.CDLL(str(library))

    def log(self, source: str, options: tuple[str, ...]) -> str:
        """Compile to machine code; the report of the assembler."""
        program = ctypes.c_void_p()
        self._library.nvrtcCreateProgram(ctypes.byref(program), source.encode(), b"rational.cu", 0, None, None)
        values = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        failed = self._library.nvrtcCompileProgram(program, len(options), values)
        size = ctypes.c_size_t()
        self._library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._library.nvrtcGetProgramLog(program, text)
        self._library.nvrtcDestroyProgram(ctypes.byref(program))
        assert not failed, text.value.decode()
        return text.value.decode()


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    for distribution in importlib.metadata.distributions():
        if (distribution.metadata["Name"] or "").startswith("nvidia-cuda-nvrtc"):
            for file in distribution.files or ():
                if re.fullmatch(r"libnvrtc\.so\.\d+", file.name):
                    return Nvrtc(Path(distribution.locate_file(file)))
    pytest.skip("compiling for a GPU needs NVIDIA's wheel nvidia-cuda-nvrtc")


class Usage(NamedTuple):
    """Of one function: bytes spilled, and registers where it is a kernel."""

    spilled: int
    registers: int | None


@cache
def usage(
    nvrtc: Nvrtc, architecture: str, types: Types, degrees: Degrees, width: int, segment: bool, needs: tuple | None
) -> dict[str, Usage]:
    options = instance_options(types, degrees, width, segment, needs)
    # CuPy adds -ftz=true
    log = nvrtc.log(cuda_source("rational.cu"), (*options, "-ftz=true", f"-arch={architecture}", "--ptxas-options=-v"))
    functions = re.findall(
        r"Function properties for (\S+)\n.*stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r"(?:\n.*Used (\d+) registers)?",
        log,
    )
    assert functions, log
    return {
        name: Usage(int(stores) + int(loads), int(registers) if registers else None)
        for name, stores, loads, registers in functions
    }


def widest(types: Types) -> int:
    return vector_width(64, 0, max(types.x.itemsize, types.y.itemsize), types.compute == F64)


def assert_fits(
    nvrtc: Nvrtc, architecture: str, types: Types, degrees: Degrees, width: int, segment: bool, needs: tuple | None
) -> None:
    functions = usage(nvrtc, architecture, types, degrees, width, segment, needs)
    options = dict(option[2:].split("=") for option in instance_options(types, degrees, width, segment, needs)[1:])
    threads, blocks = int(options["KATOPS_THREADS"]), int(options["KATOPS_BLOCKS"])
    kernel = "rational_forward" if needs is None else "rational_backward"
    expected = {kernel} if needs is None else {kernel, "sum_partials"}
    assert expected <= set(functions)
    assert all(function.spilled == 0 for function in functions.values()), functions
    assert functions[kernel].registers * threads * blocks <= REGISTERS


SAME = [Types(dtype, dtype, F32, F32) for dtype in (F32, BF16, F16)]
MIXED = [Types(F32, BF16, F32, F32), Types(F32, F16, F32, F32), Types(BF16, F32, F32, F32)]
DOUBLE = [Types(F64, F64, F64, F64), Types(F32, F32, F64, F64), Types(BF16, BF16, F64, F64)]
NEEDS = [None, (True, True), (True, False), (False, True)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("needs", NEEDS, ids=["forward", "all", "dx", "sums"])
@pytest.mark.parametrize("segment", [False, True], ids=["flat", "segment"])
def test_published_degrees_fit_their_registers_without_spills(
    nvrtc: Nvrtc, architecture: str, needs: tuple | None, segment: bool
) -> None:
    every = [*SAME, MIXED[0]]
    # Everything on one architecture; on the others, half of the types in each kind of kernel.
    for types in every if architecture == "sm_90" else every[segment::2]:
        assert_fits(nvrtc, architecture, types, Degrees(5, 4), widest(types), segment, needs)


@pytest.mark.parametrize("types", [*MIXED[1:], *DOUBLE], ids=lambda types: "-".join(str(t)[6:] for t in types))
@pytest.mark.parametrize("needs", [None, (True, True)], ids=["forward", "backward"])
def test_other_types_compile_without_spills(nvrtc: Nvrtc, types: Types, needs: tuple | None) -> None:
    for segment in (False, True):
        assert_fits(nvrtc, "sm_90", types, Degrees(5, 4), widest(types), segment, needs)


@pytest.mark.parametrize("degrees", [Degrees(3, 2), Degrees(7, 6), Degrees(0, 3), Degrees(2, 0)], ids=str)
def test_other_degrees_compile_without_spills(nvrtc: Nvrtc, degrees: Degrees) -> None:
    for types in SAME[:2]:
        for needs in (None, (True, True)):
            assert_fits(nvrtc, "sm_90", types, degrees, widest(types), False, needs)


@pytest.mark.parametrize("width", [1, 2, 4])
def test_narrow_vectors_compile_without_spills(nvrtc: Nvrtc, width: int) -> None:
    for types in (SAME[0], SAME[1]):
        for needs in (None, (True, True)):
            assert_fits(nvrtc, "sm_90", types, Degrees(5, 4), width, False, needs)


@pytest.mark.parametrize("coefficients", [BF16, F16])
def test_half_precision_coefficients_compile_without_spills(nvrtc: Nvrtc, coefficients: torch.dtype) -> None:
    types = Types(BF16, BF16, coefficients, coefficients)
    for needs in (None, (True, True)):
        assert_fits(nvrtc, "sm_90", types, Degrees(5, 4), 8, False, needs)


def test_the_caps_are_those_of_the_design(nvrtc: Nvrtc) -> None:
    """Registers on sm_90 with 16-byte vectors: at most 48 forward, 64 backward."""
    for types in SAME:
        forward = usage(nvrtc, "sm_90", types, Degrees(5, 4), widest(types), False, None)["rational_forward"]
        backward = usage(nvrtc, "sm_90", types, Degrees(5, 4), widest(types), False, (True, True))["rational_backward"]
        assert forward.registers <= 48
        assert backward.registers <= 64
