"""Jobs of several processes."""

import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SCENARIOS = Path(__file__).with_name("two_processes.py")


def torchrun(arguments: Sequence[str], processes: int = 2, **options: Any) -> subprocess.Popen:
    """A job on this machine; the caller waits for it."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*launcher, *arguments], env=environment, **pipes, **options)


@pytest.fixture(scope="session")
def scenarios() -> dict[str, Any]:
    """The functions of the script that torchrun starts, for one process."""
    return runpy.run_path(str(SCENARIOS))


class Ending(NamedTuple):
    """How a job has ended."""

    code: int
    output: str
    seconds: float


class Job(NamedTuple):
    """What two processes have left: the folder, what each of them found, and how those that did not end well ended."""

    folder: Path
    found: list[dict[str, Any]]
    endings: dict[str, Ending]


@pytest.fixture(scope="session")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Jobs of two processes: one that loses a process, one that is asked to end, and one that goes on with both."""
    folder = tmp_path_factory.mktemp("two-processes")
    endings = {name: run(name, folder) for name in ("dies", "terminated")}
    ending = run("everything", folder)
    assert ending.code == 0, ending.output
    return Job(folder, json.loads((folder / "found.json").read_text(encoding="utf-8")), endings)


def run(scenario: str, folder: Path) -> Ending:
    """One call of torchrun."""
    began = time.monotonic()
    process = torchrun([str(SCENARIOS), scenario, str(folder)])
    output, _ = process.communicate(timeout=600)
    return Ending(process.returncode, output, time.monotonic() - began)
