"""What a training step of the Poseidon sizes has to keep in memory, counted without computing anything.

    python benchmarks/activation_memory.py

Tensors are torch's fake ones, which have shapes and no values. Counted are the tensors that autograd keeps for the
backward pass of one sample of 4 channels on 128 x 128 points, weights left out, and the states of AdamW in float32:
weight, gradient, mean and mean square, 16 bytes a parameter. Writes ``benchmarks/results/activation_memory.csv``.
"""

import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from katops.benchmark import as_text, write_csv
from katops.models import build_model

RESULTS = Path(__file__).parent / "results"
MODELS = ("poseidon_tiny", "poseidon_base", "poseidon_large")
POINTS = 128
BYTES_PER_PARAMETER = 16


@dataclass(frozen=True)
class StepMemory:
    """One row: gigabytes (1e9 bytes) of a model.

    Attributes:
        states: weights, gradients and both moments of AdamW.
        per_sample: what is kept for the backward pass of one sample.
        fixed: what is kept whatever the batch: copies of weights that autocast makes, tables of biases.
    """

    model: str
    parameters: int
    precision: str
    activation_checkpointing: bool
    states: float
    per_sample: float
    fixed: float


def kept_bytes(name: str, precision: str, checkpointing: bool, batch: int) -> tuple[int, int]:
    """Parameters, and bytes that autograd keeps between the passes beside them."""
    with FakeTensorMode():
        model = build_model(name).train()
        model.set_grad_checkpointing(checkpointing)
        weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
        kept: dict[int, torch.UntypedStorage] = {}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in weights:
                kept[storage._cdata] = storage
            return tensor

        x, time = torch.randn(batch, model.in_channels, POINTS, POINTS), torch.rand(batch)
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16-mixed"),
        ):
            model(x, time)
        return sum(parameter.numel() for parameter in model.parameters()), sum(s.nbytes() for s in kept.values())


def measure(name: str, precision: str, checkpointing: bool) -> StepMemory:
    """One row; two batches tell what grows with the batch from what does not."""
    parameters, one = kept_bytes(name, precision, checkpointing, 1)
    _, two = kept_bytes(name, precision, checkpointing, 2)
    per_sample = two - one
    gigabytes = [round(value / 1e9, 3) for value in (BYTES_PER_PARAMETER * parameters, per_sample, one - per_sample)]
    return StepMemory(name, parameters, precision, checkpointing, *gigabytes)


def main() -> None:
    """Print and write the table."""
    rows = [
        measure(name, precision, checkpointing)
        for name in MODELS
        for precision in ("32-true", "bf16-mixed")
        for checkpointing in (False, True)
    ]
    header = [field.name for field in fields(StepMemory)]
    sys.stdout.write(as_text(header, [[str(value) for value in astuple(row)] for row in rows]) + "\n")
    write_csv(RESULTS / "activation_memory.csv", rows)


if __name__ == "__main__":
    main()
