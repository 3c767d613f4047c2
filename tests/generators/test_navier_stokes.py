"""The Navier-Stokes recipes: fingerprints, independence of the batch, resolution, options."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from katops.errors import UserError
from katops.generators import navier_stokes_initial as initial
from katops.generators.navier_stokes import NavierStokes
from katops.generators.navier_stokes_variants import VARIANTS
from katops.generators.random_stream import random_stream
from katops.registry import PROBLEMS


def states(draw, n=64, samples=24):
    """Velocities (samples, 2, n, n) and vorticities of initial states."""
    drawn = [draw(random_stream("test", 0, i), n) for i in range(samples)]
    k = 2j * np.pi * np.fft.fftfreq(n, 1 / n)
    kx, ky = k[:, None], k[None, :]
    square = np.where(kx**2 + ky**2 == 0, 1, kx**2 + ky**2)
    velocities = []
    for state in drawn:
        stream = -np.fft.fft2(state.vorticity) / square
        velocities.append(
            [np.fft.ifft2(f * stream).real + U for f, U in zip((ky, -kx), state.mean_velocity, strict=True)]
        )
    return np.array(velocities), np.stack([state.vorticity for state in drawn])


def test_navier_stokes_is_registered():
    assert PROBLEMS["navier_stokes"].factory is NavierStokes


@pytest.mark.parametrize(
    ("draw", "velocity", "vorticity"),
    [
        (initial.sines, (0.33, 0.37), (22.5, 25)),
        (initial.gaussians, (0.52, 0.70), (9.5, 10.5)),  # 24 samples; 9.99 is the expected vorticity
        (initial.piecewise_constant, (0.20, 0.24), (5.5, 6.1)),
        (initial.piecewise_constant_literal, (0.020, 0.024), (0.55, 0.61)),
        (initial.gaussian_random, (0.02, 0.06), (0.24, 0.28)),
    ],
)
def test_initial_velocity_and_vorticity_have_the_scale_of_the_recipe(draw, velocity, vorticity):
    u, w = states(draw)
    assert velocity[0] < np.sqrt(np.mean(u**2)) < velocity[1]
    assert vorticity[0] < np.sqrt(np.mean(w**2)) < vorticity[1]


def test_the_shear_layers_have_the_scale_of_the_recipe():
    u, w = states(initial.shear_layer, 128)
    assert np.sqrt(np.mean(u[:, 0] ** 2)) == pytest.approx(0.94, abs=0.02)
    assert np.sqrt(np.mean(u[:, 1] ** 2)) == pytest.approx(0.10, abs=0.04)
    assert np.sqrt(np.mean(w**2)) == pytest.approx(13, abs=1)


def test_the_vortex_sheet_has_the_scale_of_the_recipe():
    u, w = states(initial.vortex_sheet, 128, 8)
    assert np.sqrt(np.mean(u[:, 0] ** 2)) == pytest.approx(0.26, abs=0.01)
    assert np.sqrt(np.mean(u[:, 1] ** 2)) == pytest.approx(0.14, abs=0.01)
    assert np.sqrt(np.mean(w**2)) == pytest.approx(5.6, abs=0.2)


def test_the_spline_of_the_vortex_sheet_has_integral_one():
    assert initial._sheet_symbol(16)[0, 0] == pytest.approx(1, abs=1e-12)


def test_the_brownian_bridge_is_four_times_the_plain_one():
    """Its velocity before the projection has rms 4 * 0.071 without the smaller amplitudes on the axes."""
    u, _ = states(initial.brownian_bridge, 64)
    assert 0.1 < np.sqrt(np.mean(u**2)) < 0.25


def test_the_sum_of_trigonometric_products_is_that_of_its_docstring():
    n, size = 12, 5
    c = random_stream("test", 0, 0).uniform(-1, 1, (size, size, 4))
    angle = 2 * np.pi * np.arange(n) / n * np.arange(size)[:, None]
    cos, sin = np.cos(angle), np.sin(angle)
    pairs = [(cos, cos), (cos, sin), (sin, cos), (sin, sin)]
    expected = sum(np.einsum("kl,kx,ly->xy", c[..., i], a, b) for i, (a, b) in enumerate(pairs))
    np.testing.assert_allclose(initial._trigonometric_sum(c, n), expected, atol=1e-13)


@pytest.mark.parametrize(
    ("variant", "scheme"),
    [
        ("fno_1e-3", "accurate"),
        *((variant, scheme) for variant in ("tracer", "shear_layer") for scheme in ("accurate", "reference")),
        ("brownian_bridge", "accurate"),
    ],
)
def test_a_sample_is_the_same_bits_in_any_batch_order_and_thread(variant, scheme):
    final = 2.0 if variant == "fno_1e-3" else 0.1
    problem = NavierStokes(18, variant, native_resolution=18, final_time=final, scheme=scheme)
    reference = problem.samples(0, range(5))
    shuffled = problem.samples(0, [3, 0, 4])
    with ThreadPoolExecutor(2) as threads:
        single = list(threads.map(lambda i: problem.samples(0, [i]), range(5)))
    for group in ("fields", "quality"):
        for name, values in getattr(reference, group).items():
            np.testing.assert_array_equal(getattr(shuffled, group)[name], values[[3, 0, 4]])
            np.testing.assert_array_equal(np.concatenate([getattr(one, group)[name] for one in single]), values)


def test_the_doubled_solver_grid_gives_the_same_flow_at_viscosity_1e_3():
    """Frame 0 differs by the waves above N/3, which have vanished by frame 1."""
    coarse = NavierStokes(32, native_resolution=64, final_time=2.0).samples(0, [0]).fields["vorticity"]
    fine = NavierStokes(32, native_resolution=128, final_time=2.0).samples(0, [0]).fields["vorticity"]
    change = np.linalg.norm(coarse - fine, axis=(2, 3)) / np.linalg.norm(fine, axis=(2, 3))
    assert change[0, 0] < 0.03
    assert change[0, 1:].max() < 1e-6


def test_the_published_scheme_of_poseidon_gives_the_same_flow():
    fields = [
        NavierStokes(32, "sines", 32, final_time=0.2, scheme=scheme).samples(0, [0]).fields["velocity_x"]
        for scheme in ("accurate", "reference")
    ]
    change = np.linalg.norm(fields[0] - fields[1]) / np.linalg.norm(fields[1])
    assert 0 < change < 1e-3


def test_the_tracer_has_the_mean_of_a_disc_and_keeps_it():
    tracer = NavierStokes(64, "tracer", 64, final_time=0.1).samples(0, [0]).fields["tracer"]
    mean = tracer.mean(axis=(2, 3), dtype=np.float64)
    assert mean[0, 0] == pytest.approx(np.pi / 16, abs=3e-3)
    np.testing.assert_allclose(mean, mean[0, 0], atol=1e-7)


def test_energy_falls_without_a_force():
    fields = NavierStokes(32, "sines", 32, final_time=0.2).samples(0, range(2)).fields
    energy = sum((field.astype(np.float64) ** 2).mean(axis=(2, 3)) for field in fields.values())
    assert (np.diff(energy, axis=1) < 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_gives_finite_samples_as_announced_and_a_recipe_for_json(variant):
    interval = VARIANTS[variant].frame_interval
    problem = NavierStokes(16, variant, native_resolution=32, final_time=2 * interval)
    samples = problem.samples(1, [7])
    for name, field in problem.fields.items():
        assert samples.fields[name].shape == (1, *field.shape)
        assert samples.fields[name].dtype == np.float32
        assert np.isfinite(samples.fields[name]).all()
    assert json.loads(json.dumps(problem.recipe)) == problem.recipe
    assert problem.recipe["downsampling"] == "stride"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "sine"}, "unknown variant 'sine'; did you mean 'sines'"),
        ({"resolution": 4}, "resolution 4 is out of range"),
        ({"native_resolution": 100}, "native_resolution 100 is not a multiple of resolution 64"),
        ({"final_time": 1.5}, "final_time 1.5 is not a multiple of 1"),
        ({"final_time": 0.0}, "final_time 0 is out of range"),
        ({"scheme": "fast"}, "unknown scheme 'fast'"),
        ({"device": "tpu"}, "device 'tpu' cannot be used"),
    ],
)
def test_a_bad_option_is_told_in_one_sentence(options, message):
    with pytest.raises(UserError, match=message):
        NavierStokes(**options)
