"""Run a script of timm, or any other, with the models of katops registered.

    python -m katops.timm path/to/pytorch-image-models/train.py --model kat_small ...

timm finds models of other packages only after these have been imported, and its scripts import nothing but timm.
"""

import runpy
import sys
from pathlib import Path

import katops.models  # noqa: F401 - registers the models
from katops.errors import UserError


def main() -> None:
    """Run the script named by the first argument as if it had been started itself."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        raise SystemExit("usage: python -m katops.timm SCRIPT.py [arguments of the script]")
    sys.argv = sys.argv[1:]
    script = Path(sys.argv[0])
    if not script.is_file():
        raise SystemExit(f"error: there is no script {str(script)!r}")
    sys.path[0] = str(script.resolve().parent)  # where Python looks for what the script imports
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except UserError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
