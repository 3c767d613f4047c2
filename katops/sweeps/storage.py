"""Where a study is kept: a journal file in the sweep's folder, or a database."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

from katops.errors import UserError
from katops.sweeps.plan import Plan

JOURNAL = "journal.log"
SWEEP = "sweep"
"""The attribute of a study that says which sweep it belongs to."""
PATIENCE = 60
"""Seconds that a process waits for its turn with an SQLite file."""


def open_study(plan: Plan) -> tuple[BaseStorage, optuna.Study]:
    """The study of a sweep and what keeps it; made where there is none.

    Raises:
        UserError: the database cannot be opened, a package for it is missing, or its study of this name is that of
            another sweep.
    """
    with _quiet():
        storage = _storage(plan)
        options = {"study_name": plan.name, "direction": plan.direction, "load_if_exists": True}
        study = optuna.create_study(storage=storage, **options)
    _check_same_sweep(study, plan)
    return storage, study


def _check_same_sweep(study: optuna.Study, plan: Plan) -> None:
    own = plan.fingerprint()
    if study.user_attrs.get(SWEEP, own) != own:
        raise UserError(
            f"the study {plan.name!r} belongs to another sweep (of another configuration, space, seed or pruner), "
            f"whose folder has the same name; give this one another (--output)"
        )
    if SWEEP not in study.user_attrs:
        study.set_user_attr(SWEEP, own)


def _storage(plan: Plan) -> BaseStorage:
    if plan.storage is None:
        path = plan.directory / JOURNAL
        _drop_half_a_line(path)
        return JournalStorage(JournalFileBackend(str(path)))
    from sqlalchemy.exc import SQLAlchemyError

    options = {"connect_args": {"timeout": PATIENCE}} if plan.storage.startswith("sqlite") else {}
    try:
        return RDBStorage(plan.storage, engine_kwargs=options)
    except (SQLAlchemyError, ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"--storage {plan.storage!r} cannot be opened; write sqlite:///sweep.db or postgresql://host/name: {reason}"
        ) from error


def _drop_half_a_line(path: Path) -> None:
    """Take away what a process could not write to its end, for want of space or power: the rest would be unreadable."""
    if not path.is_file():
        return
    lock = JournalFileSymlinkLock(str(path))
    lock.acquire()
    try:
        whole = path.read_bytes().rfind(b"\n") + 1
        if whole < path.stat().st_size:
            os.truncate(path, whole)
    finally:
        lock.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the news that a study was made."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
