"""The folder of a run: what belongs to it, and what must not be touched."""

from pathlib import Path

from katops.config import load_config
from katops.errors import UserError

CONFIG_FILE = "config.yaml"
LOG_FILE = "log.csv"
CHECKPOINTS = "checkpoints"
TRIALS = "trials"
TRACKERS_FILE = "trackers.json"
TRACKED = {"tensorboard": "tensorboard", "mlflow": "mlflow.db", "wandb": "wandb"}
"""Files and folders of trackers in the folder of a training."""
_OF_TRACKERS = (TRACKERS_FILE, "mlflow.db*", "tensorboard/*", "wandb/**/*")
OWN_FILES = (
    CONFIG_FILE,
    LOG_FILE,
    "model.safetensors",
    "summary.json",
    "metrics.csv",
    "report.html",
    "held_out.csv",
    "figures/*.png",
    "folds/*.json",
    f"{CHECKPOINTS}/*.ckpt",
    f"{TRIALS}/*/{LOG_FILE}",
    f"{TRIALS}/*/model.safetensors",
    f"{TRIALS}/*/{CHECKPOINTS}/*.ckpt",
    *(f"{folder}{pattern}" for folder in ("", f"{TRIALS}/*/") for pattern in _OF_TRACKERS),
    ".*.partial",
    "*/.*.partial",
    f"{TRIALS}/**/.*.partial",
)
"""Everything that a run writes into its folder."""


def is_run(directory: Path) -> bool:
    """Whether a folder holds a run: a ``config.yaml`` that katops wrote or could have written."""
    if not (directory / CONFIG_FILE).is_file():
        return False
    try:
        load_config(directory / CONFIG_FILE)
    except UserError:
        return False
    return True


def check_directory(directory: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse a folder whose contents would be lost or mixed up; nothing is changed.

    Raises:
        UserError: the folder holds a run and neither ``resume`` nor ``overwrite`` is given, or both are; it holds
            something that is no run; it is a file.
    """
    if resume and overwrite:
        raise UserError("--resume continues a run and --overwrite replaces it; give one of them")
    if directory.exists() and not directory.is_dir():
        raise UserError(f"the output {str(directory)!r} is a file; give a folder")
    if not directory.is_dir() or not any(directory.iterdir()):
        return
    if not is_run(directory):
        raise UserError(f"the folder {str(directory)!r} is not empty and is no katops run; choose another (--output)")
    if not resume and not overwrite:
        raise UserError(
            f"{str(directory)!r} holds a run already; continue it with --resume, replace it with --overwrite, or "
            f"choose another folder with --output"
        )


def remove_run(directory: Path) -> None:
    """Remove the files of a run; files of others in the folder stay."""
    for pattern in OWN_FILES:
        for path in directory.glob(pattern):
            if path.is_symlink() or not path.is_dir():
                path.unlink()
