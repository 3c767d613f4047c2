"""The variables by which torchrun and srun tell a process that it is one of several."""

import os

TORCHRUN, STEP, TASKS = "TORCHELASTIC_RUN_ID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"


def is_one_of_several() -> bool:
    """Whether a launcher has started this process to train one model together with others.

    A batch script has the variables of SLURM too; only what srun has started is one of several.
    """
    return TORCHRUN in os.environ or (STEP in os.environ and int(os.environ.get(TASKS, "1")) > 1)


def stand_alone() -> None:
    """Make this process one that trains by itself, whoever has started its parents.

    The processes of a Ray cluster that ``srun ... ray start`` has brought up inherit the variables of that step.
    """
    for name in (TORCHRUN, STEP, TASKS):
        os.environ.pop(name, None)
