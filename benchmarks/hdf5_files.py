"""Files of random fields in the layouts of benchmarks/hdf5.py, and the byte ranges of their windows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

FRAMES = 51
CONFIG = "sim: {dam_radius: 0.5, inner_height: 2.0, gravity: 1.0}\nplot: {}\n"

Ranges = list[tuple[int, int]]


@dataclass(frozen=True)
class Case:
    """A file and the windows that are read from it.

    Attributes:
        layout: "contiguous", "frame chunks", "seed groups", "The Well" or "pairs".
        path: the file.
        samples: trajectories.
        side: grid points along x and y.
        steps: frames of a window, one half input, the other target.
        statement: what :func:`katops.data.describe` is told.
        ranges: (sample, first frame) -> (offset, bytes) of the window in the file.
    """

    layout: str
    path: Path
    samples: int
    side: int
    steps: int
    statement: dict
    ranges: Callable[[int, int], Ranges]

    @property
    def starts(self) -> int:
        """Windows of one trajectory."""
        return FRAMES - self.steps + 1 if self.layout != "pairs" else 1

    @property
    def window_bytes(self) -> int:
        """Bytes of one window."""
        return sum(size for _, size in self.ranges(0, 0))


def write(layout: str, folder: Path, n_bytes: int, side: int, steps: int) -> Case:
    """A file of about ``n_bytes`` in one of the layouts."""
    channels = {"The Well": 3, "pairs": 2 / FRAMES}.get(layout, 1)
    samples = max(40, round(n_bytes / (channels * FRAMES * side**2 * 4)))
    path = folder / f"{layout.replace(' ', '_')}_{side}" / f"data_{side}.hdf5"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            WRITERS[layout](file, samples, side)
    statement = {} if layout in ("seed groups", "The Well") else {"inputs": ["u"], "outputs": ["u"]}
    if statement:
        statement["axes"] = ["sample", "time", "x", "y"]
    if layout == "pairs":
        statement = {"inputs": ["x"], "outputs": ["y"], "axes": ["sample", "x", "y"]}
    with h5py.File(path, "r") as file:
        ranges = RANGES[layout](file, side, steps)
    return Case(layout, path, samples, side, steps, statement, ranges)


def _trajectories(samples: int, side: int, components: int = 0) -> Iterator[np.ndarray]:
    shape = (FRAMES, side, side, components) if components else (FRAMES, side, side)
    generator = np.random.default_rng(0)
    for _ in range(samples):
        yield generator.standard_normal(shape, np.float32)


def _flat(file: h5py.File, samples: int, side: int) -> None:
    u = file.create_dataset("u", (samples, FRAMES, side, side), "f4")
    for sample, values in enumerate(_trajectories(samples, side)):
        u[sample] = values


def _chunked(file: h5py.File, samples: int, side: int) -> None:
    u = file.create_dataset("u", (samples, FRAMES, side, side), "f4", chunks=(1, 1, side, side))
    for sample, values in enumerate(_trajectories(samples, side)):
        u[sample] = values


def _seeds(file: h5py.File, samples: int, side: int) -> None:
    """PDEBench's radial dam break."""
    centres = ((np.arange(side) + 0.5) / side * 5 - 2.5).astype("f4")
    for sample, values in enumerate(_trajectories(samples, side)):
        group = file.create_group(f"{sample:04d}")
        group.attrs["config"] = CONFIG
        group["data"] = values[..., None]
        group["grid/x"] = group["grid/y"] = centres
        group["grid/t"] = np.linspace(0, 1, FRAMES, dtype="f4")


def _well(file: h5py.File, samples: int, side: int) -> None:
    """The Well: pressure and velocity."""
    file.attrs.update(
        dataset_name="random", grid_type="cartesian", n_spatial_dims=2, n_trajectories=samples, simulation_parameters=[]
    )
    dimensions = file.create_group("dimensions")
    dimensions.attrs["spatial_dims"] = ["x", "y"]
    for name in "xy":
        dimensions[name] = ((np.arange(side) + 0.5) / side).astype("f4")
        dimensions[name].attrs.update(sample_varying=False, time_varying=False)
    dimensions["time"] = np.arange(FRAMES, dtype="f4")
    dimensions["time"].attrs.update(sample_varying=False, time_varying=True)
    boundary = file.create_group("boundary_conditions")
    for name in "xy":
        side_group = boundary.create_group(f"{name}_periodic")
        side_group.attrs.update(
            bc_type="PERIODIC", associated_dims=[name], associated_fields=[], sample_varying=False, time_varying=False
        )
        mask = np.zeros(side, bool)
        mask[[0, -1]] = True
        side_group["mask"] = mask
    file.create_group("scalars").attrs["field_names"] = np.array([], dtype="S1")
    flags = {"dim_varying": [True, True], "sample_varying": True, "time_varying": True}
    for order, name, components in ((0, "pressure", ()), (1, "velocity", (2,))):
        group = file.create_group(f"t{order}_fields")
        group.attrs["field_names"] = [name]
        field = group.create_dataset(name, (samples, FRAMES, side, side, *components), "f4")
        field.attrs.update(flags)
        for sample, values in enumerate(_trajectories(samples, side, *components)):
            field[sample] = values
    file.create_group("t2_fields").attrs["field_names"] = np.array([], dtype="S1")


def _pairs(file: h5py.File, samples: int, side: int) -> None:
    """What neuraloperator's HDF5 loader reads: x -> y."""
    generator = np.random.default_rng(0)
    for name in "xy":
        field = file.create_dataset(name, (samples, side, side), "f4")
        for sample in range(samples):
            field[sample] = generator.standard_normal((side, side), np.float32)


def _flat_ranges(file: h5py.File, side: int, steps: int) -> Callable[[int, int], Ranges]:
    base, frame = file["u"].id.get_offset(), side**2 * 4
    return lambda sample, start: [(base + (sample * FRAMES + start) * frame, steps * frame)]


def _chunked_ranges(file: h5py.File, side: int, steps: int) -> Callable[[int, int], Ranges]:
    offsets = np.zeros(file["u"].shape[:2], np.int64)

    def add(chunk: h5py.h5d.StoreInfo) -> None:
        offsets[chunk.chunk_offset[:2]] = chunk.byte_offset

    file["u"].id.chunk_iter(add)
    table, frame = offsets.tolist(), side**2 * 4
    return lambda sample, start: [(table[sample][start + step], frame) for step in range(steps)]


def _seed_ranges(file: h5py.File, side: int, steps: int) -> Callable[[int, int], Ranges]:
    bases, frame = [file[f"{name}/data"].id.get_offset() for name in file], side**2 * 4
    return lambda sample, start: [(bases[sample] + start * frame, steps * frame)]


def _well_ranges(file: h5py.File, side: int, steps: int) -> Callable[[int, int], Ranges]:
    fields = [(file["t0_fields/pressure"], side**2 * 4), (file["t1_fields/velocity"], side**2 * 8)]
    places = [(field.id.get_offset(), frame) for field, frame in fields]
    return lambda sample, start: [(base + (sample * FRAMES + start) * frame, steps * frame) for base, frame in places]


def _pair_ranges(file: h5py.File, side: int, steps: int) -> Callable[[int, int], Ranges]:
    bases, frame = [file[name].id.get_offset() for name in "xy"], side**2 * 4
    return lambda sample, _: [(base + sample * frame, frame) for base in bases]


WRITERS = {
    "contiguous": _flat,
    "frame chunks": _chunked,
    "seed groups": _seeds,
    "The Well": _well,
    "pairs": _pairs,
}
RANGES = {
    "contiguous": _flat_ranges,
    "frame chunks": _chunked_ranges,
    "seed groups": _seed_ranges,
    "The Well": _well_ranges,
    "pairs": _pair_ranges,
}
