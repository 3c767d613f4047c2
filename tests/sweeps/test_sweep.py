"""Sweeps as a user runs them: every trial exactly once, whatever happens, and what is left behind."""

import csv
from pathlib import Path

import pytest

import katops
from katops.config import load_config, parse_config
from katops.errors import UserError
from katops.sweeps.plan import Plan
from katops.sweeps.queue import Queue
from katops.sweeps.results import SweepResult
from katops.sweeps.space import read_space

SPACE = {
    "model.weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
    "model.epochs": {"low": 2, "high": 4},
}


@pytest.fixture(scope="module")
def finished(values: dict, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    """Four trials, one after the other."""
    return katops.sweep(values, SPACE, trials=4, output=tmp_path_factory.mktemp("sweeps") / "four")


def test_a_sweep_leaves_a_folder_per_trial_and_a_table_of_all(finished: SweepResult) -> None:
    with (finished.directory / "trials.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["complete"] * 4
    for row, trial in zip(rows, finished.trials, strict=True):
        config = load_config(finished.directory / row["folder"] / "config.yaml")
        assert config.model.options["epochs"] == int(row["model.epochs"]) == trial.values["model.epochs"]
        assert list(trial.course) == [1, 2]  # the score after each fold
        assert trial.course[2] == pytest.approx(float(row["R²"]))


def test_the_report_is_one_page_with_all_trials_and_the_importance_of_each_parameter(finished: SweepResult) -> None:
    page = (finished.directory / "sweep.html").read_text(encoding="utf-8")
    best = max(finished.trials, key=lambda trial: trial.value)
    for words in (
        f"Best R²: {best.value:.4g}, by trial {best.number} with",
        "Importance",
        "Value against each",
        "all par",
    ):
        assert words in page
    assert "<script" not in page
    for trial in finished.trials:
        assert f"<td>{trial.values['model.weight_decay']:.4g}</td>" in page


def test_the_best_configuration_trains_as_it_stands_to_the_value_that_the_sweep_saw(
    finished: SweepResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [path.name for path in finished.best] == ["best-1.yaml", "best-2.yaml", "best-3.yaml"]
    monkeypatch.chdir(tmp_path)
    result = katops.train(finished.best[0])
    assert result.directory == Path("runs/rows-best-1")
    best = max(trial.value for trial in finished.trials)
    assert result.evaluations["folds"].score == pytest.approx(best, rel=1e-6)


def test_the_same_call_runs_nothing_twice(finished: SweepResult, values: dict) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished.directory.glob("trials/*/config.yaml")}
    again = katops.sweep(values, SPACE, trials=4, output=finished.directory)
    assert again.trials == finished.trials
    assert before == {path: path.stat().st_mtime_ns for path in finished.directory.glob("trials/*/config.yaml")}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"config": {"seed": 3}}, "cannot continue the sweep in .*: seed was 0 and is 3 now"),
        ({"space": {"model.epochs": [2, 3]}}, "its space was"),
        ({"seed": 1}, "its seed was 0 and is 1 now"),
        ({"pruner": "none"}, "its pruner was median and is none now"),
        ({"pruner": "best"}, "pruner should be median or hyperband or none; given: 'best'"),
        ({"engine": "spark"}, "engine should be optuna or ray; given: 'spark'"),
        ({"workers": 0}, "workers should be at least 1"),
        ({"config": {"data": {"file": "gone.csv", "target": "y"}}}, "gone.csv"),
    ],
)
def test_another_sweep_in_the_same_folder_is_refused(
    finished: SweepResult, values: dict, changed: dict, sentence: str
) -> None:
    options = {"space": SPACE, "trials": 4, "output": finished.directory, **changed}
    config = {**values, **options.pop("config", {})}
    with pytest.raises(UserError, match=sentence):
        katops.sweep(config, options.pop("space"), **options)


def test_a_mistake_that_is_in_every_trial_ends_the_sweep_before_anything_is_written(
    values: dict, tmp_path: Path
) -> None:
    config = {**values, "data": {"file": str(tmp_path / "gone.csv"), "target": "y"}}
    with pytest.raises(UserError, match=r"gone.csv"):
        katops.sweep(config, SPACE, trials=2, output=tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()
    unvalidated = {"name": "a", "data": {"file": "darcy.h5", "split": {"validation": 0}}, "model": "mgno_tiny"}
    with pytest.raises(UserError, match="sets none aside"):
        katops.sweep(unvalidated, {"seed": [0, 1]}, trials=2)


def test_a_folder_that_holds_something_else_is_refused(values: dict, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="is not empty and is no sweep"):
        katops.sweep(values, SPACE, trials=2, output=tmp_path)


def test_a_trial_that_cannot_be_trained_is_told_and_the_others_go_on(values: dict, tmp_path: Path) -> None:
    space = {"model.optimiser": ["adamw", "nonsense"]}
    result = katops.sweep(values, space, trials=4, output=tmp_path / "sweep")
    states = {trial.values["model.optimiser"]: trial.state for trial in result.trials}
    assert states == {"adamw": "complete", "nonsense": "failed"}
    failed = next(trial for trial in result.trials if trial.state == "failed")
    assert "nonsense" in failed.error
    page = (tmp_path / "sweep" / "sweep.html").read_text(encoding="utf-8")
    assert f"Trial {failed.number}: kan cannot be fitted" in page


def test_a_sweep_of_which_every_trial_fails_ends_after_three(values: dict, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"all of the first 3 trials failed.*nonsense"):
        katops.sweep(values, {"model.optimiser": ["nonsense"]}, trials=20, output=tmp_path / "sweep")
    assert len(list((tmp_path / "sweep" / "trials").iterdir())) == 3


def test_a_fault_of_the_machine_ends_the_sweep_and_costs_no_trial(values: dict, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    folder.mkdir()
    config = parse_config(values)
    Plan(folder, config, read_space({"seed": [0]}, config), trials=1).settle()
    (folder / "trials").touch()  # no folder can be made
    with pytest.raises(UserError, match=r"trial 0: cannot write .* the same command continues the sweep"):
        katops.sweep(values, {"seed": [0]}, trials=1, output=folder)
    (folder / "trials").unlink()
    (trial,) = katops.sweep(values, {"seed": [0]}, trials=1, output=folder).trials
    assert trial.state == "complete"


def test_a_trial_that_is_ended_early_can_be_trained_on(values: dict, tmp_path: Path) -> None:
    config = parse_config(values)
    plan = Plan(tmp_path / "sweep", config, read_space(SPACE, config), trials=6)
    plan.settle()
    queue = Queue(plan)
    queue.fill()
    for _ in range(5):  # five trials that no trial of this space can reach
        taken = queue.take()
        queue.report(taken.trial, 1, 2.0)
        queue.study.tell(taken.number, 2.0)
        taken.ownership.release()
    result = katops.sweep(values, SPACE, trials=6, output=plan.directory)
    trial = result.trials[5]
    assert (trial.state, list(trial.course)) == ("pruned", [1])
    assert trial.value == trial.course[1]
    assert f"ended early, step 1</td><td>{trial.value:.4g}" in (plan.directory / "sweep.html").read_text(
        encoding="utf-8"
    )
    folder = plan.folder(5)
    assert len(list(folder.glob("folds/*.fit.json"))) == 1
    katops.train(folder / "config.yaml", resume=True)
    assert len(list(folder.glob("folds/*.fit.json"))) == 2
    assert (folder / "model.safetensors").is_file()


def test_a_ray_cluster_runs_the_same_trials(finished: SweepResult, values: dict, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    result = katops.sweep(values, SPACE, trials=3, output=tmp_path / "sweep", engine="ray", workers=2)
    assert [trial.values for trial in result.trials] == [trial.values for trial in finished.trials[:3]]
    assert [trial.state for trial in result.trials] == ["complete"] * 3
    for one, other in zip(result.trials, finished.trials, strict=False):
        assert one.value == pytest.approx(other.value, rel=1e-6)
        assert one.course == pytest.approx(other.course, rel=1e-6)
    assert (result.directory / "trials" / "0002" / "report.html").is_file()
