"""A sweep that is killed: no trial is lost, none is run twice, and no process is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

import katops
from katops.report.figures import read_log

EPOCHS = 16


def start(folder: Path, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "katops", "sweep", "run.yaml", "--space", "space.yaml", "--trials", "3", *options]
    return subprocess.Popen([*command, "-o", "sweep"], cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL)


def wait_until(condition, process: subprocess.Popen, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the sweep ended by itself"
        assert time.monotonic() < end
        time.sleep(0.02)


def epochs(folder: Path) -> list[float]:
    """The seconds of the epochs of which there is a checkpoint."""
    seconds = read_log(folder / "log.csv").get("seconds", [])
    return list(seconds)[:-1]


def test_a_sweep_that_was_killed_twice_ends_with_every_trial_run_exactly_once(run_values, tmp_path: Path) -> None:
    data = {**run_values["data"], "split": {"train": 32, "validation": 8, "test": 8}}
    config = {**run_values, "output": None, "data": data, "train": {"epochs": EPOCHS, "batch_size": 8}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    space = {"train.learning_rate": {"low": 1e-3, "high": 1e-2, "log": True}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space), encoding="utf-8")
    trials = [tmp_path / "sweep" / "trials" / f"{number:04d}" for number in range(3)]

    def both_train() -> bool:
        return all(len(epochs(folder)) >= 2 for folder in trials[:2])

    def go_on() -> bool:
        return sum(len(epochs(folder)) for folder in trials) >= sum(map(len, seen.values())) + 2

    seen: dict[Path, list[float]] = {}
    for workers, trained in ((2, both_train), (1, go_on)):
        process = start(tmp_path, "--workers", str(workers))
        wait_until(trained, process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        wait_until_gone(process.pid)
        seen = {folder: epochs(folder) for folder in trials}
    result = katops.sweep(tmp_path / "run.yaml", space, trials=3, output=tmp_path / "sweep")

    assert [trial.state for trial in result.trials] == ["complete"] * 3
    assert sorted((tmp_path / "sweep" / "trials").iterdir()) == trials
    for folder in trials:
        log = read_log(folder / "log.csv")
        assert list(log["epoch"]) == list(range(1, EPOCHS + 1))
        # Epochs that were trained before a kill have not been trained again: how long they took is still the same.
        assert list(log["seconds"])[: len(seen[folder])] == seen[folder]
    for trial in result.trials:
        assert list(trial.course) == list(range(1, EPOCHS))


def wait_until_gone(session: int) -> None:
    """Until no process that the killed one had started is left."""
    end = time.monotonic() + 30
    while any(member_of(session, path) for path in Path("/proc").glob("[0-9]*/stat")):
        assert time.monotonic() < end, "a worker lives on after the sweep was killed"
        time.sleep(0.05)


def member_of(session: int, path: Path) -> bool:
    try:
        fields = path.read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return False
    return fields[0] != "Z" and int(fields[3]) == session
