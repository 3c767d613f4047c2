"""Where the CUDA sources are: inside the installed package, or beside it in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]


def cuda_folder(package: Path = PACKAGE) -> Path:
    """The folder with the ``.cu`` files.

    A wheel carries it as ``katops/cuda``; an editable install finds it beside the package, at the top of the checkout.

    Args:
        package: the folder of the ``katops`` package.

    Raises:
        FileNotFoundError: neither exists; the installation is incomplete.
    """
    for folder in (package / "cuda", package.parent / "cuda"):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"no CUDA sources in {package / 'cuda'} or {package.parent / 'cuda'}; install katops again")
