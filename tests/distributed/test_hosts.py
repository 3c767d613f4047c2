"""Two machines, made of network namespaces of this one."""

import csv
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CAN_MAKE_HOSTS = os.geteuid() == 0 and shutil.which("ip") is not None


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with a cable between them, 10.77.0.1 and 10.77.0.2 on the interface "cable"."""
    if not CAN_MAKE_HOSTS:
        pytest.skip("making network namespaces needs root and the command ip")
    mark = uuid.uuid4().hex[:6]
    names = [f"katops-{mark}-{number}" for number in (1, 2)]
    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this machine makes no network namespaces: {error.stderr.strip()}")
    try:
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, 1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", "cable", "up")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def start(host: str, number: int, config: Path) -> subprocess.Popen:
    """A process on a host, with the variables that srun gives it."""
    slurm = {
        "SLURM_JOB_ID": "4711",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NODELIST": "10.77.0.1,10.77.0.2",
        "SLURM_PROCID": str(number),
        "SLURM_NODEID": str(number),
        "SLURM_LOCALID": "0",
    }
    environment = {**os.environ, **slurm, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "cable"}
    command = ["ip", "netns", "exec", host, sys.executable, "-m", "katops", "train", str(config)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment, **pipes)


def test_two_hosts_run_one_training(hosts: list[str], tmp_path: Path, scenarios: dict[str, Any]) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(json.dumps(scenarios["configuration"](tmp_path, "run", epochs=1, num_nodes=2)), encoding="utf-8")
    jobs = [start(host, number, config) for number, host in enumerate(hosts)]
    outputs = [job.communicate(timeout=300)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], outputs
    assert "2 processes on 2 machines" in outputs[0]
    with (tmp_path / "run" / "log.csv").open(encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["5"]
    assert (tmp_path / "run" / "model.safetensors").is_file()
