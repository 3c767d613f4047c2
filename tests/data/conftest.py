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
def plane() -> dict[str, list[str]]:
    """The statement that a plain file holds steady fields in the plane, a -> b."""
    return {"inputs": ["a"], "outputs": ["b"], "axes": ["sample", "x", "y"]}
