"""Small files in the layouts that are read: grids are never square, so that a transposition cannot hide."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

SPACE = (12, 20)
SAMPLES = 9
FRAMES = 7


@pytest.fixture
def fields() -> dict[str, np.ndarray]:
    """Steady coefficient and pressure, and a velocity that moves; every value tells where it comes from."""
    rng = np.random.default_rng(1)
    return {
        "coefficient": rng.integers(0, 2, (SAMPLES, *SPACE)).astype(np.float32) * 9 + 3,
        "pressure": rng.normal(size=(SAMPLES, *SPACE)).astype(np.float32),
        "velocity": rng.normal(size=(SAMPLES, FRAMES, *SPACE)).astype(np.float32),
    }


@pytest.fixture
def write_katops(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays in the katops layout: ``write({name: (role, array)}, times=..., name=...)``."""

    def write(channels: dict, times=None, name: str = "data.h5", parameters: dict | None = None) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w", track_order=True) as file:
            file.attrs.update(format="katops", format_version=1, name="example", seed=3)
            fields = file.create_group("fields", track_order=True)
            for channel, (role, values) in channels.items():
                fields[channel] = values
                fields[channel].attrs.update(role=role, unit="Pa" if channel == "pressure" else "")
            for position, (axis, size) in enumerate(zip("xy", SPACE, strict=True)):
                item = file.create_dataset(f"axes/{axis}", data=(np.arange(size) + 0.5) / size * (position + 1))
                item.attrs.update(position=position, grid="cell_centres", lower=0.0, upper=position + 1.0, unit="m")
                item.attrs["boundary"] = ["dirichlet", "neumann"] if position else ["dirichlet", "dirichlet"]
            if times is not None:
                file["time"] = np.asarray(times, dtype=np.float64)
                file["time"].attrs["unit"] = "s"
            for parameter, values in (parameters or {}).items():
                file[f"parameters/{parameter}"] = np.asarray(values, dtype=np.float64)
            file.attrs["complete"] = True
        return path

    return write


@pytest.fixture
def steady(write_katops: Callable[..., Path], fields: dict[str, np.ndarray]) -> Path:
    """Coefficient -> pressure, 9 samples of 12 x 20."""
    return write_katops({"coefficient": ("input", fields["coefficient"]), "pressure": ("output", fields["pressure"])})


@pytest.fixture
def moving(write_katops: Callable[..., Path], fields: dict[str, np.ndarray]) -> Path:
    """A static coefficient and a velocity with 7 frames half a second apart, one parameter."""
    return write_katops(
        {"coefficient": ("input", fields["coefficient"]), "velocity": ("state", fields["velocity"])},
        times=1.0 + 0.5 * np.arange(FRAMES),
        name="moving.h5",
        parameters={"viscosity": np.linspace(0.1, 0.9, SAMPLES)},
    )


@pytest.fixture
def write_plain(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays under their names into a bare HDF5 file."""

    def write(name: str = "plain.h5", **arrays: np.ndarray) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            for key, values in arrays.items():
                file[key] = values
        return path

    return write


@pytest.fixture
def write_matlab5(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays as MATLAB 5 files hold them, compressed or not."""

    def write(name: str = "five.mat", compressed: bool = False, **arrays: np.ndarray) -> Path:
        from scipy.io import savemat

        savemat(tmp_path / name, arrays, do_compression=compressed)
        return tmp_path / name

    return write


@pytest.fixture
def write_matlab73(tmp_path: Path) -> Callable[..., Path]:
    """Write arrays as MATLAB does from 7.3 on: a user block, all axes reversed, chunks with deflate or contiguous."""

    def write(name: str = "seven.mat", compressed: bool = True, **arrays: np.ndarray) -> Path:
        path = tmp_path / name
        with h5py.File(path, "w", userblock_size=512) as file:
            for key, values in arrays.items():
                values = np.atleast_2d(values)
                kind = {"b": "logical", "f": "double" if values.dtype.itemsize == 8 else "single"}.get(
                    values.dtype.kind, values.dtype.name
                )
                stored = np.ascontiguousarray(values.astype(np.uint8) if kind == "logical" else values).T
                chunks = tuple(min(size, 5) for size in stored.shape)
                filters = {"chunks": chunks, "compression": "gzip", "compression_opts": 3} if compressed else {}
                file.create_dataset(key, data=stored, **filters).attrs["MATLAB_class"] = np.bytes_(kind)
                if kind == "logical":
                    file[key].attrs["MATLAB_int_decode"] = np.int32(1)
        with path.open("r+b") as file:
            header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64, Created on: Tue Jun 18 12:00:00 2019 HDF5 schema 1.00 ."
            file.write(header.ljust(116) + b"\0" * 8 + b"\x00\x02IM")
        return path

    return write


@pytest.fixture
def write_torch(tmp_path: Path) -> Callable[..., Path]:
    """Save a dictionary of tensors; ``sample_fastest`` lays them out as the files of neuraloperator are."""

    def write(name: str = "tensors.pt", sample_fastest: bool = False, **arrays: np.ndarray) -> Path:
        import torch

        def reverse(tensor: torch.Tensor) -> torch.Tensor:
            return tensor.permute(tuple(range(tensor.ndim))[::-1])

        tensors = {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in arrays.items()}
        if sample_fastest:
            tensors = {key: reverse(reverse(tensor).contiguous()) for key, tensor in tensors.items()}
        torch.save(tensors, tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture
def write_numpy(tmp_path: Path) -> Callable[..., Path]:
    """Write one array (.npy), in C or Fortran order, or several (.npz)."""

    def write(array: np.ndarray | None = None, name: str = "array.npy", **arrays: np.ndarray) -> Path:
        with (tmp_path / name).open("wb") as file:
            np.savez(file, **arrays) if array is None else np.save(file, array)
        return tmp_path / name

    return write


@pytest.fixture
def write_netcdf(tmp_path: Path) -> Callable[..., Path]:
    """Write variables as netCDF-4 stores them.

    ``write({name: (dimensions, values, attributes)}, {dimension: (coordinates, attributes)})``; dimensions without
    coordinates are marked as the netCDF library marks them.
    """

    def write(variables: dict, coordinates: dict | None = None, name: str = "data.nc") -> Path:
        coordinates = coordinates or {}
        path = tmp_path / name
        sizes = {d: n for dims, values, *_ in variables.values() for d, n in zip(dims, values.shape, strict=True)}
        with h5py.File(path, "w", track_order=True) as file:
            for dimension, size in sizes.items():
                if dimension in coordinates:
                    values, attributes = coordinates[dimension]
                    file[dimension] = values
                    file[dimension].attrs.update(attributes)
                    file[dimension].make_scale(dimension)
                else:
                    file.create_dataset(dimension, (size,), ">f4")
                    file[dimension].make_scale(f"This is a netCDF dimension but not a netCDF variable. {size:9d}")
            for variable, (dims, values, *attributes) in variables.items():
                file[variable] = values
                file[variable].attrs.update(attributes[0] if attributes else {})
                for position, dimension in enumerate(dims):
                    file[variable].dims[position].attach_scale(file[dimension])
        return path

    return write


@pytest.fixture
def write_pdegym(write_netcdf: Callable[..., Path]) -> Callable[..., Path]:
    """Write arrays as PDEgym's files hold them: named dimensions without coordinates, no attribute."""

    def write(name: str = "pdegym.nc", **arrays: np.ndarray) -> Path:
        names = {5: ("member", "frame", "field", "x", "y"), 4: ("member", "frame", "x", "y"), 3: ("member", "x", "y")}
        return write_netcdf({key: (names[values.ndim], values) for key, values in arrays.items()}, name=name)

    return write


@pytest.fixture
def read_channel() -> Callable[..., np.ndarray]:
    """All values of a channel as (sample, time, \\*space), without axes that it lacks; by the layout and no reader."""

    def read(layout, name: str) -> np.ndarray:
        from katops.data.containers.loading import load_array

        array = next(array for array in layout.arrays if array.name == name)
        if layout.container in ("hdf5", "matlab73"):
            with h5py.File(layout.path) as file:
                values = file[array.datasets[0]][()]
        else:
            values = load_array(layout.path, layout.container, array.datasets[0])
        assert values.shape == array.shape
        components = iter(array.component)
        values = values[tuple(next(components) if axis == "channel" else slice(None) for axis in array.axes)]
        left = [axis for axis in array.axes if axis != "channel"]
        wanted = ["sample", "time", *(axis.name for axis in layout.meta.axes)]
        return values.transpose([left.index(axis) for axis in wanted if axis in left])

    return read


@pytest.fixture
def plane() -> dict[str, list[str]]:
    """The statement that a plain file holds steady fields in the plane, a -> b."""
    return {"inputs": ["a"], "outputs": ["b"], "axes": ["sample", "x", "y"]}
