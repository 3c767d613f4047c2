"""What the tests on a GPU share."""

from collections.abc import Iterator

import pytest
import torch

from katops.ops.rational import RATIONAL


@pytest.fixture
def kernels_run() -> Iterator[None]:
    """It is the CUDA kernels that run, before a test and after it: the definition would pass most tests as well."""
    device, types = torch.device("cuda", torch.cuda.current_device()), (torch.float32,) * 3
    assert RATIONAL.choose(device, types)[0] == "cupy"
    yield
    assert RATIONAL.choose(device, types)[0] == "cupy"
