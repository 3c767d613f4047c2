"""The most memory that a call holds at once, beyond what was there before."""

import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

_CPU = 0  # "Device Type" of a memory event in a profiler trace


def peak_extra_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Bytes at the peak of ``call``, its result included, above those held when it began.

    On a GPU and on the CPU alike, what torch's allocators hand out is counted; arrays of other libraries are not.
    """
    return _on_gpu(call, device) if device.type == "cuda" else _on_cpu(call)


def _on_gpu(call: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    result = call()
    torch.cuda.synchronize(device)
    del result
    return torch.cuda.max_memory_allocated(device) - before


def _on_cpu(call: Callable[[], object]) -> int:
    gc.collect()  # what dies during the call should be of the call
    with _quiet_profiler(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    del result
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    changes = [
        (event["ts"], event["args"]["Bytes"])
        for event in events
        if event.get("name") == "[memory]" and event["args"].get("Device Type") == _CPU
    ]
    held = peak = 0
    for _, change in sorted(changes, key=lambda item: item[0]):
        held += change
        peak = max(peak, held)
    return peak


@contextmanager
def _quiet_profiler() -> Iterator[None]:
    """Without the profiler's own log on stderr, in the middle of a progress bar."""
    name, silent = "KINETO_LOG_LEVEL", "99"
    before = os.environ.get(name)
    os.environ[name] = before or silent
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
