"""Modules that need packages which not everybody has installed."""

import importlib
from collections.abc import Sequence
from types import ModuleType

from katops.errors import UserError


def part_of_extra(module: str, extra: str, packages: Sequence[str], subject: str) -> ModuleType:
    """Import a module that needs packages of an extra.

    Args:
        module: its full name.
        extra: which brings the packages.
        packages: as they are imported.
        subject: what needs them, in the plural.

    Raises:
        UserError: one of the packages is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in packages:
            raise
        raise UserError(
            f"{subject} need the package {error.name!r}, which is not installed: pip install 'katops[{extra}]'"
        ) from error
