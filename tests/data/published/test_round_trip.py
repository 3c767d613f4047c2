"""The same trajectories in every layout give the same samples, bit for bit."""

import io

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from katops.data.dataset import FieldDataset
from katops.data.formats import describe
from katops.data.resample import Resample
from katops.data.windows import Window
from katops.errors import UserError

STEP = 0.25
KINDS = ("katops", "flat", "seeds", "ns", "well", "smoke", "maxwell", "ks", "matlab5", "matlab73", "torch")
SCALARS = {1: ("u",), 2: ("smoke", "velocity_x", "velocity_y"), 3: ("velocity_x", "velocity_y", "velocity_z")}
PLACES = {
    1: ("katops", "flat", "seeds", "well", "ks", "matlab5", "matlab73", "torch"),
    2: ("katops", "flat", "seeds", "ns", "well", "smoke", "matlab5", "matlab73", "torch"),
    3: ("katops", "flat", "seeds", "ns", "well", "maxwell", "matlab5", "matlab73", "torch"),
}
CASES = [(dims, kind) for dims, kinds in PLACES.items() for kind in kinds]


@pytest.fixture
def trajectories(line, plane, volume):
    """``trajectories(dims)``: channel -> (N, T, \\*space), float32."""

    def fields(dims: int) -> dict[str, np.ndarray]:
        if dims == 1:
            return {"u": line}
        source = {**(plane if dims == 2 else volume)}
        return {name: source["density" if name == "smoke" else name] for name in SCALARS[dims]}

    return fields


@pytest.fixture
def save(tmp_path, centres, write_flat, write_seeds, write_incompressible, write_well, well_field, write_arena):
    """``save(kind, fields)`` writes one layout and gives what a configuration has to say about the file."""

    def last(fields: dict) -> np.ndarray:
        return np.stack(list(fields.values()), axis=-1)

    def grid(fields: dict) -> dict[str, np.ndarray]:
        space = next(iter(fields.values())).shape[2:]
        return {axis: centres(size) for axis, size in zip("xyz", space, strict=False)}

    def katops(fields, times):
        with h5py.File(tmp_path / "katops.h5", "w", track_order=True) as file:
            file.attrs.update(format="katops", format_version=1, name="round trip")
            group = file.create_group("fields", track_order=True)
            for name, values in fields.items():
                group.create_dataset(name, data=values).attrs.update(role="state", unit="")
            for position, (axis, points) in enumerate(grid(fields).items()):
                item = file.create_dataset(f"axes/{axis}", data=points.astype(float))
                item.attrs.update(position=position, grid="cell_centres", lower=0.0, upper=1.0, unit="")
                item.attrs["boundary"] = ["wall", "wall"]
            file.create_dataset("time", data=times).attrs["unit"] = ""
            file.attrs["complete"] = True
        return tmp_path / "katops.h5", {}

    def flat(fields, times):
        stored = {"u": "tensor", "smoke": "density", "velocity_x": "Vx", "velocity_y": "Vy", "velocity_z": "Vz"}
        arrays = {stored[name]: values for name, values in fields.items()}
        extra = {"density": arrays["Vx"]} if "Vz" in arrays else {}
        one_more = np.append(times, times[-1] + STEP)
        path = write_flat({**extra, **arrays}, {**grid(fields), "t": one_more}, Nu=0.1)
        return path, {"inputs": ["velocity"], "outputs": ["velocity"]} if extra else {}

    def seeds(fields, times):
        entry = {**grid(fields), "t": times}
        path = write_seeds({3 * i + 1: (data, entry, None) for i, data in enumerate(last(fields))})
        # One channel in one dimension is taken for diffusion-sorption, which calls it u too.
        return path, {"channels": {"data": list(fields)}}

    def ns(fields, times):
        smoke = fields.get("smoke", next(iter(fields.values())))[..., None]
        velocity = last({name: values for name, values in fields.items() if name != "smoke"})
        rows = np.tile(times.astype(np.float32), (len(smoke), 1))
        path = write_incompressible(smoke, velocity, np.zeros_like(velocity[:, 0]), rows)
        return path, {"inputs": list(fields), "outputs": list(fields), "constants": []}

    def well(fields, times):
        dims = (True,) * len(grid(fields))
        scalars = {k: well_field(v, dims=dims) for k, v in fields.items() if not k.startswith("velocity")}
        parts = last({k: v for k, v in fields.items() if k.startswith("velocity")} or {"u": fields.get("u")})
        vectors = {} if "u" in fields else {"velocity": well_field(parts, dims=dims)}
        return write_well((scalars, vectors), grid(fields), times, len(parts)), {}

    def smoke(fields, times):
        samples = len(fields["smoke"])
        stored = dict(zip(("u", "vx", "vy"), fields.values(), strict=True))
        stored |= {axis: np.tile(np.linspace(0, 1, len(points)), (samples, 1)) for axis, points in grid(fields).items()}
        wrong = np.tile(1.1 * times, (samples, 1))
        return write_arena({**stored, "t": wrong, "dt": np.full(samples, STEP), "buo_y": np.ones(samples)}), {}

    def maxwell(fields, times):
        path = write_arena({"d_field": last(fields), "h_field": 0 * last(fields)}, split="test")
        return path, {"inputs": ["electric_field"], "outputs": ["electric_field"], "time_step": STEP}

    def ks(fields, times):
        samples, _, points = fields["u"].shape
        one = np.ones(samples)
        return write_arena({"pde_17-16": fields["u"], "dt": STEP * one, "dx": one / points, "v": one}, "valid"), {}

    def stated(fields):
        axes = ["sample", "time", *grid(fields)]
        return {"inputs": list(fields), "outputs": list(fields), "axes": axes, "time_step": STEP, "format": "plain"}

    def matlab5(fields, times):
        scipy.io.savemat(tmp_path / "v5.mat", {key: values.astype(float) for key, values in fields.items()})
        return tmp_path / "v5.mat", stated(fields)

    def matlab73(fields, times):
        path = tmp_path / "v73.mat"
        with h5py.File(path, "w", userblock_size=512) as file:
            for key, values in fields.items():
                file.create_dataset(key, data=values.T.astype(float), compression="gzip", chunks=True)
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
        with path.open("r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
        return path, stated(fields)

    def torch_file(fields, times):
        # As in the published files, the samples lie closest together.
        strided = {
            key: torch.from_numpy(np.moveaxis(values, 0, -1).copy()).movedim(-1, 0) for key, values in fields.items()
        }
        torch.save(strided, tmp_path / "fields.pt")
        return tmp_path / "fields.pt", stated(fields)

    writers = dict(
        zip(KINDS, (katops, flat, seeds, ns, well, smoke, maxwell, ks, matlab5, matlab73, torch_file), strict=True)
    )

    def write(kind: str, fields: dict, **changes):
        times = STEP * np.arange(next(iter(fields.values())).shape[1])
        path, statement = writers[kind](fields, times)
        return describe(path, **{"boundary": "wall", **statement, **changes})

    return write


@pytest.mark.parametrize(("dims", "kind"), CASES)
def test_every_layout_gives_the_same_samples_bit_for_bit(save, trajectories, dims, kind):
    fields = trajectories(dims)
    expected = np.stack(list(fields.values()), axis=2)
    window = Window(n_in=2, n_out=1, gap=1, stride=2)
    data = FieldDataset(save(kind, fields), window=window)
    n_samples, n_frames = expected.shape[:2]
    places = [(n, s) for n in range(n_samples) for s in range(0, n_frames - 3, 2)]
    assert len(data) == len(places)
    order = np.random.default_rng(0).permutation(len(places))
    batch = data.read(order)
    for row, number in enumerate(order):
        sample, start = places[number]
        assert torch.equal(batch.x[row], torch.from_numpy(expected[sample, start : start + 2]))
        assert torch.equal(batch.y[row], torch.from_numpy(expected[sample, start + 3 : start + 4]))
        assert batch.index[row].tolist() == [0, sample, start, 1]
        assert batch.times_in[row].tolist() == [STEP * start, STEP * (start + 1)]
        assert batch.times_out[row].tolist() == [STEP * (start + 3)]
        assert batch.time[row].item() == 2 * STEP
    assert batch.x.dtype == batch.y.dtype == torch.float32
    assert batch.constants is None


@pytest.mark.parametrize("kind", PLACES[2])
def test_strides_that_do_not_divide_the_grid_take_every_such_point(save, trajectories, kind):
    fields = trajectories(2)
    layout = save(kind, fields, grid="nodes")
    data = FieldDataset(layout, window=Window(every=2), resample=Resample((5, 3), "stride"))
    expected = np.stack(list(fields.values()), axis=2)[..., ::5, ::3]
    assert data.space == (3, 7)
    assert torch.equal(data[1].x, torch.from_numpy(expected[0, 1:2]))
    assert torch.equal(data[1].y, torch.from_numpy(expected[0, 3:4]))


class TestElementTypes:
    """What is stored in another type arrives as the nearest float32."""

    @pytest.mark.parametrize("dtype", ["|b1", "|u1", "<i2", ">i4", "<i8", "<f2", ">f4", "<f8", ">f8"])
    def test_every_real_type_in_both_byte_orders(self, write_flat, plane, centres, read_all, dtype):
        values = (30 * plane["pressure"] % 7).astype(dtype)
        grid = {"x": centres(12), "y": centres(20), "t": 0.1 * np.arange(7)}
        layout = describe(write_flat({"tensor": values}, grid))
        assert layout.inputs[0].dtype == dtype
        np.testing.assert_array_equal(np.stack(read_all(layout))[:, :, 0], values.astype(np.float32))

    def test_double_precision_is_handed_out_where_it_is_asked_for(self, write_arena, smoke_arrays):
        smoke_arrays["u"] = smoke_arrays["u"] + 1e-12
        data = FieldDataset(describe(write_arena(smoke_arrays)), dtype=torch.float64)
        assert torch.equal(data[0].x[0, 0], torch.from_numpy(smoke_arrays["u"][0, 0]))

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_refused_unless_they_are_allowed(self, write_flat, plane, centres, bad):
        values = plane["pressure"].copy()
        values[2, 3, 4, 5] = bad
        grid = {"x": centres(12), "y": centres(20), "t": 0.1 * np.arange(7)}
        path = write_flat({"density": plane["density"], "pressure": values}, grid, M=0.1)
        data = FieldDataset(describe(path))
        window = 2 * 5 + 3
        with pytest.raises(UserError, match=r"(?s)flat\.hdf5.*pressure"):
            data[window]
        allowed = FieldDataset(describe(path), allow_nonfinite=True)[window]
        assert np.array_equal(allowed.x[0, 1].numpy(), values[2, 3], equal_nan=True)

    def test_complex_values_are_refused(self, write_flat, plane, centres):
        grid = {"x": centres(12), "y": centres(20), "t": 0.1 * np.arange(7)}
        with pytest.raises(UserError, match="tensor"):
            describe(write_flat({"tensor": plane["pressure"].astype(np.complex64)}, grid))


def test_layouts_with_scalars_per_sample_and_per_file_agree(write_well, well_field, plane, centres):
    fields = ({"smoke": well_field(plane["density"])},)
    grids = {"x": centres(12), "y": centres(20)}
    for values, sample in (([0.5] * 4, True), ([0.5], False), (0.5, False)):
        path = write_well(fields, grids, STEP * np.arange(6), 4, scalars={"k": (values, sample, False)})
        assert FieldDataset(describe(path))[7].parameters.tolist() == [0.5]


def test_a_description_survives_the_trip_through_a_file(save, trajectories):
    layout = save("well", trajectories(2))
    stored = io.BytesIO()
    torch.save(layout.meta.to_dict(), stored)
    stored.seek(0)
    assert type(layout.meta).from_dict(torch.load(stored, weights_only=True)) == layout.meta
