"""Who watches a run is told every step of it, and may end it."""

from pathlib import Path

import pytest

import katops
from katops.report.figures import read_log


class Enough(Exception):
    pass


def test_a_run_that_its_watcher_ended_has_a_whole_checkpoint_and_can_be_resumed(run_values, tmp_path: Path) -> None:
    run_values["train"]["epochs"] = 3

    def end(step: int, value: float) -> None:
        raise Enough

    with pytest.raises(Enough):
        katops.train(run_values, watch=end)
    folder = tmp_path / "run"
    first = read_log(folder / "log.csv")
    assert len(first["epoch"]) == 1
    assert (folder / "checkpoints" / "last.ckpt").is_file()

    told: list[tuple[int, float]] = []
    katops.train(run_values, resume=True, watch=lambda *step: told.append(step))
    log = read_log(folder / "log.csv")
    assert log["seconds"][0] == first["seconds"][0]  # the first epoch was not trained again
    # The first epoch is told once more: the one who ended the run may not have come to note it.
    assert told == [(1, log["validation_relative_l2"][0]), (2, log["validation_relative_l2"][1])]


def test_of_several_trainings_the_first_is_watched(image_values) -> None:
    image_values["train"]["epochs"] = 2
    told: list[int] = []
    katops.train({**image_values, "repeats": 2}, watch=lambda step, value: told.append(step))
    assert told == [1]
