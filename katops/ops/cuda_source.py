"""The text of the CUDA sources, from the installed package or from the checkout beside it."""

from katops.ops.dispatch import BackendUnavailable
from katops.ops.sources import cuda_folder


def cuda_source(name: str) -> str:
    """The source of a kernel: ``cuda_source("rational.cu")``.

    Raises:
        BackendUnavailable: the file is missing.
    """
    try:
        return (cuda_folder() / name).read_text(encoding="utf-8")
    except OSError as error:
        raise BackendUnavailable(f"the CUDA source {name} cannot be read ({error}); install katops again") from error
