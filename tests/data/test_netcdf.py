"""netCDF: named dimensions, coordinates, units, packed and missing values."""

import numpy as np
import pytest

from katops.data.formats import describe
from katops.errors import UserError

FRAMES, SPACE = 5, (12, 20)


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


@pytest.fixture
def sphere() -> dict:
    """Coordinates of a Gaussian grid, from north to south, as SpeedyWeather stores them."""
    sines, _ = np.polynomial.legendre.leggauss(SPACE[0])
    return {
        "time": (6.0 * np.arange(FRAMES), {"units": "hours since 2000-01-01 00:00:0.0"}),
        "lev": (np.array([0.5]), {}),
        "lat": (np.degrees(np.arcsin(sines))[::-1], {"units": "degrees_north"}),
        "lon": (18.0 * np.arange(SPACE[1]), {"units": "degrees_east"}),
    }


def test_a_weather_model_is_one_trajectory_on_the_sphere(write_netcdf, read_channel, sphere):
    vorticity, pressure = _numbers(FRAMES, 1, *SPACE), _numbers(FRAMES, *SPACE)
    layout = describe(
        write_netcdf(
            {
                "vor": (("time", "lev", "lat", "lon"), vorticity, {"units": "1/s"}),
                "pres": (("time", "lat", "lon"), pressure, {"units": "hPa"}),
            },
            sphere,
        )
    )
    assert (layout.format, layout.n_samples, set(layout.frames), layout.space) == ("netcdf", 1, {FRAMES}, SPACE)
    assert [(c.name, c.unit) for c in layout.meta.inputs] == [("pressure", "hPa"), ("vorticity", "1/s")]
    assert layout.meta.coordinates == "spherical"
    latitude, longitude = layout.meta.axes
    np.testing.assert_allclose(latitude.coordinates(12), sphere["lat"][0])
    np.testing.assert_allclose(longitude.coordinates(20), sphere["lon"][0])
    assert (longitude.boundary, longitude.grid) == (("periodic", "periodic"), "periodic_nodes")
    assert (layout.meta.time_step, layout.meta.time_unit) == (6.0, "hours")
    np.testing.assert_array_equal(read_channel(layout, "vorticity"), vorticity[None, :, 0][0])
    np.testing.assert_array_equal(read_channel(layout, "pressure"), pressure)
    assert [array.name for array in describe(layout.path, inputs=["vor"], outputs=["pres"]).outputs] == ["pressure"]


def test_packed_values_and_missing_ones_are_described(write_netcdf, sphere):
    attributes = {"scale_factor": 0.01, "add_offset": np.array([273.15]), "_FillValue": np.int16(-32767)}
    packed = np.zeros((FRAMES, *SPACE), "<i2")
    layout = describe(write_netcdf({"temperature": (("time", "lat", "lon"), packed, attributes)}, sphere))
    [array] = layout.inputs
    assert (array.scale, array.offset, array.missing, array.dtype) == (0.01, 273.15, -32767.0, "<i2")


def test_samples_parameters_scalars_and_constants_are_found_by_their_dimensions(write_netcdf, sphere):
    layout = describe(
        write_netcdf(
            {
                "u": (("lat", "lon", "time", "member"), _numbers(*SPACE, FRAMES, 3)),
                "orography": (("lat", "lon"), _numbers(*SPACE)),
                "forcing": (("time",), np.arange(FRAMES)),
                "viscosity": (("member",), np.array([1.0, 2.0, 3.0]), {"units": "m2/s"}),
                "weights": (("lat", "weight"), np.ones((12, 4))),
            },
            sphere,
        )
    )
    assert (layout.n_samples, set(layout.frames)) == (3, {FRAMES})
    assert layout.inputs[0].axes == ("lat", "lon", "time", "sample")
    assert [array.name for array in layout.constants] == ["orography"]
    assert [(c.name, c.unit) for c in layout.meta.parameters] == [("viscosity", "m2/s")]
    np.testing.assert_array_equal(layout.parameters, [[1], [2], [3]])
    np.testing.assert_array_equal(layout.scalars, np.arange(FRAMES).reshape(1, FRAMES, 1))
    assert any("weights" in note for note in layout.notes)


def test_dimensions_without_coordinates_name_the_axes_of_a_plain_file(write_netcdf):
    a, u = _numbers(4, *SPACE), _numbers(4, FRAMES, *SPACE)
    path = write_netcdf({"a": (("member", "south", "east"), a), "u": (("member", "time", "south", "east"), u)})
    layout = describe(path, inputs=["a"], outputs=["u"])
    assert (layout.format, layout.n_samples, set(layout.frames), layout.space) == ("plain", 4, {FRAMES}, SPACE)
    assert [axis.name for axis in layout.meta.axes] == ["south", "east"]


def test_packed_values_of_plain_files_are_described_too(write_netcdf):
    attributes = {"scale_factor": np.float32(0.5), "missing_value": np.array([9], "i2"), "units": "K"}
    values = np.zeros((4, *SPACE), "i2")
    path = write_netcdf({"t2m": (("member", "south", "east"), values, attributes)})
    [array] = describe(path, inputs=["t2m"], outputs=[]).inputs
    assert (array.scale, array.offset, array.missing, array.unit) == (0.5, 0.0, 9.0, "K")


def test_a_zarr_store_with_named_dimensions_is_read_like_netcdf(tmp_path, sphere):
    zarr = pytest.importorskip("zarr")
    values = _numbers(3, FRAMES, *SPACE)
    store = zarr.create_group(tmp_path / "weather.zarr")
    names = ("b", "time", "lat", "lon")
    store.create_array("pres", data=values, dimension_names=names)
    for name in names[1:]:
        item = store.create_array(name, data=np.ascontiguousarray(sphere[name][0]), dimension_names=(name,))
        item.attrs.update(sphere[name][1])
    layout = describe(tmp_path / "weather.zarr")
    assert (layout.format, layout.container, layout.n_samples, layout.space) == ("netcdf", "zarr", 3, SPACE)
    assert (layout.meta.time_step, layout.meta.time_unit) == (6.0, "hours")


def test_classic_netcdf_is_read_like_netcdf_4(tmp_path, sphere):
    from scipy.io import netcdf_file

    values = _numbers(FRAMES, *SPACE)
    with netcdf_file(tmp_path / "classic.nc", "w") as file:
        for name in ("time", "lat", "lon"):
            coordinates, attributes = sphere[name]
            file.createDimension(name, len(coordinates))
            file.createVariable(name, "d", (name,))[:] = coordinates
            for key, text in attributes.items():
                setattr(file.variables[name], key, text)
        file.createVariable("pres", "f", ("time", "lat", "lon"))[:] = values
    layout = describe(tmp_path / "classic.nc")
    assert (layout.format, layout.container, layout.space) == ("netcdf", "netcdf3", SPACE)
    assert [array.dtype for array in layout.inputs] == [">f4"]
    assert (layout.meta.time_step, layout.meta.axes[0].grid) == (6.0, "uneven")


def test_variables_on_two_grids_are_not_mixed(write_netcdf, sphere):
    sphere["height"] = (np.arange(7.0), {})
    path = write_netcdf(
        {
            "u": (("time", "lat", "lon"), _numbers(FRAMES, *SPACE)),
            "w": (("time", "height"), _numbers(FRAMES, 7)),
        },
        sphere,
    )
    with pytest.raises(UserError, match=r"different grids \(lat, lon and height\).*data\.format: plain"):
        describe(path)
    plain = describe(path, format="plain", inputs=["u"], outputs=["u"])
    assert plain.space == SPACE


def test_times_that_stand_still_are_refused_unless_a_time_step_is_stated(write_netcdf, sphere):
    sphere["time"] = (np.array([0.0, 1, 2, 2, 3]), {})
    path = write_netcdf({"u": (("time", "lat", "lon"), _numbers(FRAMES, *SPACE))}, sphere)
    with pytest.raises(UserError, match=r"the times in time do not increase.*data\.time_step"):
        describe(path)
    assert describe(path, time_step=0.5).meta.time_step == 0.5
