"""The formats that katops knows: its own, the published ones, and the one of last resort."""

from __future__ import annotations

from katops.data.formats import (
    fno,
    katops_layout,
    netcdf,
    neuralop,
    pdearena,
    pdebench,
    pdebench_ns,
    pdebench_seeds,
    pdegym,
    plain,
    well,
)
from katops.data.formats.table import Format

PUBLISHED = (
    Format(
        "katops",
        "root attribute format = 'katops' (docs/data_format.md)",
        katops_layout.recognise,
        katops_layout.describe,
    ),
    Format(
        "pdebench",
        "PDEBench, flat files: tensor or density in the root, beside x-coordinate",
        pdebench.recognise,
        pdebench.describe,
    ),
    Format(
        "pdebench_seeds",
        "PDEBench, a group per seed: data and grid in groups called 0000, 0001, ...",
        pdebench_seeds.recognise,
        pdebench_seeds.describe,
    ),
    Format(
        "pdebench_ns",
        "PDEBench, incompressible Navier-Stokes: velocity and particles in batches",
        pdebench_ns.recognise,
        pdebench_ns.describe,
    ),
    Format(
        "the_well",
        "The Well: a group dimensions with spatial_dims, beside t0_fields, t1_fields, t2_fields",
        well.recognise,
        well.describe,
        well.LICENCE,
    ),
    Format(
        "pdearena",
        "PDEArena: groups train, valid, test with the arrays of one of its problems",
        pdearena.recognise,
        pdearena.describe,
    ),
    Format(
        "pdegym",
        "PDEgym: exactly the arrays velocity, data, solution (with c or source), or groups Sample_<number>",
        pdegym.recognise,
        pdegym.describe,
        pdegym.LICENCE,
    ),
    Format(
        "fno_burgers",
        "Burgers of FNO: a MATLAB file with a and u of the same shape (N, n)",
        fno.recognise_burgers,
        fno.describe_burgers,
    ),
    Format(
        "fno_darcy",
        "Darcy of FNO and MgNO: a MATLAB file with coeff and sol of the same shape (N, n, n)",
        fno.recognise_darcy,
        fno.describe_darcy,
    ),
    Format(
        "fno_navier_stokes",
        "Navier-Stokes of FNO: a MATLAB file with u (N, n, n, T) beside a or t",
        fno.recognise_navier_stokes,
        fno.describe_navier_stokes,
    ),
    Format(
        "geo_fno_plasticity",
        "plasticity of Geo-FNO: a MATLAB file with input (N, n) and output (N, n, m, T, components)",
        fno.recognise_plasticity,
        fno.describe_plasticity,
    ),
    Format(
        "neuraloperator_darcy",
        "Darcy of neuraloperator: a torch file with x and y of the same shape (N, n, n)",
        neuralop.recognise_darcy,
        neuralop.describe_darcy,
    ),
    Format(
        "neuraloperator_navier_stokes",
        "Navier-Stokes of neuraloperator: a torch file with floats x and y of the same shape (N, n, n)",
        neuralop.recognise_navier_stokes,
        neuralop.describe_navier_stokes,
    ),
    Format(
        "neuraloperator_burgers",
        "Burgers of neuraloperator: a torch file with x (N, n), y (N, T, n) and one number visc",
        neuralop.recognise_burgers,
        neuralop.describe_burgers,
    ),
    Format(
        "netcdf",
        "netCDF or zarr variables with a time dimension and spatial dimensions that have coordinates",
        netcdf.recognise,
        netcdf.describe,
    ),
    Format("plain", "any file whose arrays are stated", plain.recognise, plain.describe),
)
