"""A user's own layers, models and problems: Python files that register them, run only where the user says so."""

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from katops.errors import UserError


def load_plugins(files: Sequence[str], *, allowed: bool) -> None:
    """Run the files, which register what they define.

    Args:
        files: Python files, from the ``plugins`` of a configuration.
        allowed: the user's consent; a configuration alone must not be able to run code.

    Raises:
        UserError: there are plugins but no consent; a file does not exist or fails.
    """
    if files and not allowed:
        raise UserError(
            f"plugins lists {', '.join(files)}, which would run as Python code; give --allow-plugins if you trust them"
        )
    for file in files:
        path = Path(file)
        if not path.is_file():
            raise UserError(f"plugins: there is no file {file!r}")
        # Two files may have the same name; the same file is run once.
        name = f"katops_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
        if name in sys.modules:
            continue
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise UserError(f"plugins: {file} failed with {type(error).__name__}: {error}") from error
