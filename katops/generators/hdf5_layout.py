"""Writing generated samples in the katops HDF5 layout (docs/data_format.md), block by block."""

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from katops.data.writing import LayoutFile, create_layout, layout_file
from katops.generators.problem import Problem, Samples
from katops.registry import PROBLEMS

_SOFTWARE = ("numpy", "scipy", "torch")
"""What the last digits may depend on; it is stored, and does not tell files apart."""


def write_layout(
    path: Path, problem: Problem, samples: int, provenance: Mapping[str, Any], blocks: Iterable[Samples]
) -> None:
    """Write a data set to ``path``; one block is in memory at a time, and ``complete`` is written last.

    Args:
        path: the file, which is replaced.
        problem: gives the channels, axes, times and parameters.
        samples: number of samples in all blocks together.
        provenance: further root attributes.
        blocks: the samples in order.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    with layout_file(path) as file:
        arrays = create_layout(
            file.hdf5,
            name=problem.meta.name,
            samples=samples,
            fields=problem.fields,
            axes=problem.meta.axes,
            parameters=problem.meta.parameters,
            times=problem.times,
            time_unit=problem.meta.time_unit,
            attributes={**provenance, **_origin(problem)},
        )
        file.hdf5.attrs.update(_copy(blocks, arrays, file, samples))


def _origin(problem: Problem) -> dict[str, str]:
    """Where the recipe was published and what solved the equation."""
    name = problem.meta.name
    paper = PROBLEMS[name].paper if name in PROBLEMS else ""
    software = ", ".join(f"{package} {version(package)}" for package in _SOFTWARE)
    return {"software": software, **({"paper": paper} if paper else {})}


def _copy(
    blocks: Iterable[Samples], arrays: dict[str, h5py.Dataset], file: LayoutFile, samples: int
) -> dict[str, float]:
    """Copy the blocks into the datasets and return what the root attributes tell about the quality."""
    quality = file.hdf5.create_group("quality", track_order=True)
    start, worst, rejected = 0, {}, 0
    for block in blocks:
        stop = start + len(block.quality["rejected"])
        for name, values in block.quality.items():
            if name not in quality:
                arrays[f"quality/{name}"] = quality.create_dataset(name, (samples,), "<f8")
            worst[f"max_{name}"] = max(float(np.max(values)), worst.get(f"max_{name}", -np.inf))
        for name, values in flatten(block).items():
            arrays[name][start:stop] = values
        file.check()
        rejected += int(np.sum(block.quality["rejected"]))
        start = stop
    if start != samples:
        raise RuntimeError(f"{samples} samples were announced, {start} were written")
    del worst["max_rejected"]
    return {**worst, "rejected": rejected}


def flatten(block: Samples) -> dict[str, np.ndarray]:
    """``{"fields/pressure": array, ...}``."""
    groups = block._asdict().items()
    return {f"{group}/{name}": values for group, arrays in groups for name, values in arrays.items()}


def unflatten(arrays: Mapping[str, np.ndarray]) -> Samples:
    """Inverse of :func:`flatten`."""
    block = Samples({}, {}, {})
    for path, values in arrays.items():
        group, name = path.split("/", 1)
        getattr(block, group)[name] = values
    return block
