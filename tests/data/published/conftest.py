"""Files in the exact published layouts, written from real trajectories on grids whose axes all differ in size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from katops.pdegym import find_set

PLANE, VOLUME = (12, 20), (6, 8, 10)


def _wave_numbers(space: tuple[int, ...]) -> list[np.ndarray]:
    return list(np.meshgrid(*(2j * np.pi * np.fft.fftfreq(n, 1 / n) for n in space), indexing="ij"))


def _flow(rng: np.random.Generator, frames: int) -> dict[str, np.ndarray]:
    """Vorticity and smoke in the periodic unit square, pseudo-spectral, classical Runge-Kutta."""
    kx, ky = _wave_numbers(PLANE)
    laplace = kx**2 + ky**2
    safe = np.where(laplace == 0, 1, laplace)
    back = np.fft.ifft2

    def state(vorticity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stream = np.where(laplace == 0, 0, -vorticity / safe)
        return back(ky * stream).real, back(-kx * stream).real

    def rate(both: np.ndarray) -> np.ndarray:
        u, v = state(both[0])
        advected = [np.fft.fft2(u * back(kx * part).real + v * back(ky * part).real) for part in both]
        return 2e-3 * laplace * both - np.array(advected)

    damping = np.exp(laplace.real / 150)
    both = np.array([np.fft.fft2(rng.normal(size=PLANE)) * damping * scale for scale in (30, 3)])
    both[:, 0, 0] = 0
    step, saved = 0.01, []
    for _ in range(frames):
        u, v = state(both[0])
        source = (
            np.fft.fft2(sum(a * back(k * np.fft.fft2(b)).real for a, k, b in ((u, kx, u), (v, ky, u)))) * kx
            + np.fft.fft2(sum(a * back(k * np.fft.fft2(b)).real for a, k, b in ((u, kx, v), (v, ky, v)))) * ky
        )
        saved.append([1 + 0.1 * back(both[1]).real, 5 + back(np.where(laplace == 0, 0, -source / safe)).real, u, v])
        for _ in range(3):
            one = rate(both)
            two = rate(both + step / 2 * one)
            three = rate(both + step / 2 * two)
            both = both + step / 6 * (one + 2 * two + 2 * three + rate(both + step * three))
    return dict(zip(("density", "pressure", "velocity_x", "velocity_y"), np.moveaxis(saved, 1, 0), strict=True))


@pytest.fixture(scope="session")
def line(shared: Path) -> np.ndarray:
    """Burgers trajectories of neuraloperator's test file: (5, 17, 16), float32."""
    with h5py.File(shared / "data" / "pde" / "burgers_test_16.h5") as file:
        return file["y"][:5].astype(np.float32)


@pytest.fixture(scope="session")
def plane() -> dict[str, np.ndarray]:
    """Incompressible flow with smoke: 4 trajectories of 6 frames on 12 x 20 points, float32."""
    runs = [_flow(np.random.default_rng(seed), 6) for seed in range(4)]
    fields = {name: np.stack([run[name] for run in runs]).astype(np.float32) for name in runs[0]}
    assert all(np.isfinite(values).all() and np.ptp(values) > 0.1 for values in fields.values())
    return fields


@pytest.fixture(scope="session")
def volume() -> dict[str, np.ndarray]:
    """Advection and diffusion in the periodic cube, exact: 3 trajectories of 5 frames on 6 x 8 x 10 points, float32."""
    wave = _wave_numbers(VOLUME)
    rng = np.random.default_rng(5)
    decay = 0.003 * sum(k**2 for k in wave) - sum(speed * k for speed, k in zip((1.0, 0.5, 0.2), wave, strict=True))
    start = np.fft.fftn(rng.normal(size=(5, 3, *VOLUME)), axes=(-3, -2, -1))
    frames = [np.fft.ifftn(start * np.exp(decay * time), axes=(-3, -2, -1)).real for time in np.arange(5) * 0.05]
    fields = np.stack(frames, axis=2).astype(np.float32)
    return dict(zip(("density", "pressure", "velocity_x", "velocity_y", "velocity_z"), fields, strict=True))


@pytest.fixture
def centres() -> Callable[..., np.ndarray]:
    """Cell centres of [lower, upper] in single precision, as PDEBench stores them."""

    def points(size: int, lower: float = 0.0, upper: float = 1.0) -> np.ndarray:
        return (lower + (upper - lower) * (np.arange(size) + 0.5) / size).astype(np.float32)

    return points


@pytest.fixture
def write_flat(tmp_path: Path) -> Callable[..., Path]:
    """PDEBench, family A: ``write({"tensor": ...}, {"x": ..., "t": ...}, beta=0.1)``; contiguous, unfiltered."""

    def write(arrays: Mapping, coordinates: Mapping, name: str = "flat.hdf5", **attributes: float) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            for key, values in arrays.items():
                file.create_dataset(key, data=values)
            for axis, points in coordinates.items():
                file.create_dataset(f"{axis}-coordinate", data=np.asarray(points, dtype=np.float32))
            file.attrs.update(attributes)
        return tmp_path / name

    return write


@pytest.fixture
def write_seeds(tmp_path: Path) -> Callable[..., Path]:
    """PDEBench, family B: ``write({3: (data, {"x": ..., "t": ...}, config)})``; lzf unless ``lzf=False``."""

    def write(seeds: Mapping, name: str = "seeds.h5", lzf: bool = True) -> Path:
        options = {"compression": "lzf"} if lzf else {}
        with h5py.File(tmp_path / name, "w") as file:
            for seed, (data, grid, config) in seeds.items():
                key = str(seed).zfill(4)
                file.create_dataset(f"{key}/data", data=data, dtype="float32", **options)
                for axis, points in grid.items():
                    file.create_dataset(f"{key}/grid/{axis}", data=points, dtype="float32", **options)
                if config is not None:
                    file[key].attrs["config"] = config
        return tmp_path / name

    return write


@pytest.fixture
def write_incompressible(tmp_path: Path) -> Callable[..., Path]:
    """PDEBench, family C: one chunk per frame, shuffle and lzf; ``latest`` is the last frame that was written."""

    def write(smoke, velocity, force, times, latest: int | None = None, name: str = "ns.h5") -> Path:
        fields = {"velocity": velocity, "particles": smoke, "force": force}
        latest = times.shape[1] - 1 if latest is None else latest
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["config"] = "sim_name: ns_sim_2d\ndomain_size:\n- 1\n- 1\nNU: 0.01\nDT: 5.0e-05\nseed: 7\n"
            file.attrs["latestIndex"] = latest
            for key, values in (*fields.items(), ("t", times)):
                chunks = (1, 1, *values.shape[2:])
                options = {"chunks": chunks, "compression": "lzf", "shuffle": True}
                item = file.create_dataset(key, values.shape, "float32", **options)
                if key == "force":
                    item[...] = values
                else:
                    item[:, : latest + 1] = values[:, : latest + 1]
        return tmp_path / name

    return write


@pytest.fixture
def well_field() -> Callable[..., SimpleNamespace]:
    """A field of The Well: its values and its flags."""

    def field(values, sample: bool = True, time: bool = True, dims=(True, True), **extra) -> SimpleNamespace:
        flags = {"sample_varying": sample, "time_varying": time, "dim_varying": list(dims), **extra}
        return SimpleNamespace(values=values, flags=flags)

    return field


@pytest.fixture
def write_well(tmp_path: Path) -> Callable[..., Path]:
    """The Well: fields of order 0, 1 and 2, grids, times, boundary conditions and scalars with their attributes."""

    def write(
        orders: tuple[Mapping, ...],
        grids: Mapping[str, np.ndarray],
        times: np.ndarray,
        n_samples: int,
        boundary: Mapping | None = None,
        scalars: Mapping | None = None,
        parameters: Mapping | None = None,
        grid_type: str = "cartesian",
        name: str = "well.hdf5",
        **file_options: object,
    ) -> Path:
        with h5py.File(tmp_path / name, "w", **file_options) as file:
            file.attrs.update(
                dataset_name="flow", grid_type=grid_type, n_spatial_dims=len(grids), n_trajectories=n_samples
            )
            file.attrs["simulation_parameters"] = list(parameters or {})
            file.attrs.update(parameters or {})
            dimensions = file.create_group("dimensions")
            dimensions.attrs["spatial_dims"] = list(grids)
            for key, points in {"time": times, **grids}.items():
                item = dimensions.create_dataset(key, data=np.asarray(points, dtype=np.float32))
                item.attrs.update(sample_varying=np.ndim(points) == 2, time_varying=False)
            conditions = file.create_group("boundary_conditions")
            for key, (kind, dims, mask) in (boundary or {}).items():
                group = conditions.create_group(key)
                group.attrs.update(bc_type=kind, sample_varying=False, time_varying=False)
                group.attrs["associated_dims"] = dims
                group.attrs["associated_fields"] = []
                if mask is not None:
                    group.create_dataset("mask", data=mask)
            for key, members in zip(("t0_fields", "t1_fields", "t2_fields"), (*orders, {}, {}, {}), strict=False):
                group = file.create_group(key)
                group.attrs["field_names"] = list(members)
                for field, entry in members.items():
                    group.create_dataset(field, data=entry.values).attrs.update(entry.flags)
            numbers = file.create_group("scalars")
            numbers.attrs["field_names"] = list(scalars or {})
            for key, (values, sample, time) in (scalars or {}).items():
                item = numbers.create_dataset(key, data=np.asarray(values, dtype=np.float32))
                item.attrs.update(sample_varying=sample, time_varying=time)
        return tmp_path / name

    return write


@pytest.fixture
def write_arena(tmp_path: Path) -> Callable[..., Path]:
    """PDEArena: one group named after the split, everything in double precision, contiguous."""

    def write(arrays: Mapping, split: str = "train", name: str = "arena.h5") -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            group = file.create_group(split)
            for key, values in arrays.items():
                group.create_dataset(key, data=values, dtype=float)
        return tmp_path / name

    return write


@pytest.fixture
def smoke_arrays(plane: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a Navier-Stokes file of PDEArena, with its wrong t, x, y and its right dt."""
    samples, frames, nx, ny = plane["density"].shape
    rows = np.ones((samples, 1))
    return {
        "u": plane["density"],
        "vx": plane["velocity_x"],
        "vy": plane["velocity_y"],
        "t": rows * np.linspace(18.0, 18.0 + 6.0 * frames, frames),
        "x": rows * np.linspace(0.0, 32.0, nx),
        "y": rows * np.linspace(0.0, 32.0, ny),
        "dt": np.full(samples, 6.0),
        "dx": np.full(samples, 32.0 / (nx - 1)),
        "dy": np.full(samples, 32.0 / (ny - 1)),
        "buo_y": np.full(samples, 0.5),
    }


@pytest.fixture
def read_all() -> Callable[..., list[np.ndarray]]:
    """All frames of the inputs (or of another kind): for each sample (frames, channels, \\*space), float32."""
    from katops.data.reading.reader import FieldReader, Request

    def read(layout, kind: str = "inputs") -> list[np.ndarray]:
        reader, found = FieldReader([layout]), []
        channels = len(getattr(layout, kind))
        for sample, frames in enumerate(layout.frames):
            steps = 1 if kind == "constants" else int(frames)
            out = np.full((1, steps, channels, *layout.space), np.nan, dtype=np.float32)
            place = (np.array([number]) for number in (0, sample, 0))
            reader.read(Request(kind, *place, steps, 1, out))
            found.append(out[0])
        reader.close()
        return found

    return read


@pytest.fixture
def write_set(tmp_path: Path, write_pdegym: Callable[..., Path]) -> Callable[..., tuple[Path, dict[str, np.ndarray]]]:
    """``path, arrays = write_set("CE-RP")``: a file in the layout of a set of PDEgym with few samples on a small grid.

    Every array holds other numbers: fields of size 1, a positive speed, an airfoil of 0 and 1.
    """

    def write(name: str, samples: int = 3, space: tuple[int, int] = PLANE) -> tuple[Path, dict[str, np.ndarray]]:
        entry = find_set(name)
        rng = np.random.default_rng(len(name))
        if entry.kind == "pdegym_helmholtz":
            numbers = {"a": rng.normal(1, 1, (samples, *space)), "u": rng.normal(size=(samples, *space))}
            numbers["bc"] = rng.normal(size=samples)
            path = tmp_path / entry.file
            with h5py.File(path, "w") as file:
                for sample in range(samples):
                    for key, values in numbers.items():
                        file[f"Sample_{sample}/{key}"] = values[sample]
            return path, numbers
        arrays = {}
        for key, shape in entry.variables.items():
            values = rng.normal(size=(samples, *shape[1:-2], *space))
            arrays[key] = (values if key != "c" else 3000 + 500 * values).astype(np.float32)
        if entry.kind == "pdegym_airfoil":
            arrays["solution"][:, 0] = arrays["solution"][:, 0] > 0.5
        return write_pdegym(entry.file, **arrays), arrays

    return write
