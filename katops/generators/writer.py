"""Generate the samples of a problem on all cores and write them as one HDF5 file, atomically and resumably."""

import hashlib
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from katops.data.containers.probe import probe
from katops.errors import UserError
from katops.files import atomic_path
from katops.generators.hdf5_layout import flatten, unflatten, write_layout
from katops.generators.layouts import KATOPS, Export, export_to, stored_provenance
from katops.generators.parts import JOINED, Part
from katops.generators.problem import Problem, Samples
from katops.generators.random_stream import SEED_LIMIT
from katops.generators.shards import ShardFolder

SHARD_SAMPLES = {"cpu": 32, "cuda": 1024}
SHARD_BYTES = {"cpu": 2**25, "cuda": 2**28}
_SHARDS_PER_WORKER = 4

Progress = Callable[[int, int], None]


def write(
    problem: Problem,
    samples: int,
    seed: int,
    path: str | Path,
    workers: int | None = None,
    shard_size: int | None = None,
    progress: Progress | None = None,
    overwrite: bool = False,
    part: Part | None = None,
    layout: str = KATOPS,
) -> Path:
    """Generate ``samples`` samples into the file ``path``, by default in the layout of docs/data_format.md.

    Whole shards are collected in the folder ``<path>.partial/``, then copied into one file, which gets its name when it
    is complete. Whatever ends the process before that, the same call goes on with the shards that are there; if
    ``path`` holds these samples already, nothing is done. The contents depend on the recipe, the seed and the number of
    samples only. Memory does not grow with the number of samples; the disk must hold them twice for a moment, three
    times where ``layout`` is another one.

    Args:
        problem: what to generate.
        samples: how many, at least 1.
        seed: 0 <= seed < 2^64.
        path: the file; its folder is made if it is missing.
        workers: number of threads, by default one for each core that this process may use.
        shard_size: samples per shard; by default that of the unfinished shards, else so many that every worker
            makes several shards, at most 32 samples and 32 MiB (1024 and 256 MiB on a GPU).
        progress: called in this thread with (samples done, samples wanted): first with what was there already, so that
            a first call with (samples, samples) means that nothing had to be generated, then after every shard.
        overwrite: replace a ``path``, and discard unfinished shards, that belong to something else.
        part: make this part of the samples only, in a file of its own name, see :meth:`.parts.Part.path`.
        layout: "katops", or one of :data:`.layouts.LAYOUTS`, as which the whole file is written in the end.

    Returns:
        ``path``, or that of the part.

    Raises:
        UserError: an argument is out of range; the problem does not fit the layout; ``path`` or the unfinished shards
            belong to another recipe, seed or number of samples; another process is writing the same file; the disk is
            full or may not be written to.
    """
    samples = _whole_number("samples", samples, 1)
    seed = _whole_number("seed", seed, 0, SEED_LIMIT - 1)
    workers = _whole_number("workers", available_cores() if workers is None else workers, 1)
    shard_size = None if shard_size is None else _whole_number("shard_size", shard_size, 1)
    part = part or Part()
    export = export_to(layout, problem)
    for output in (Path(path), part.path(path)):
        if output.is_dir():
            example = str(output / "data.h5")
            raise UserError(f"{str(output)!r} is a folder; give the name of a file in it, such as {example!r}")
    path = part.path(path)
    whole = {} if part.count == 1 else {"set_samples": samples}
    provenance = {**_provenance(problem, part.indices(samples), seed, layout), **whole}
    samples = provenance["samples"]
    folder = ShardFolder(path)
    leftover = folder.manifest()
    told = is_there(path, provenance, overwrite)
    if told:
        if progress:
            progress(samples, samples)
        if leftover is None or differences(leftover, provenance):
            return path
    with folder.locked():
        if not is_there(path, provenance, overwrite):  # again: another process may have finished since
            default = _default_shard_size(problem, samples, workers)
            manifest = _continue_or_begin(folder, provenance, shard_size, default, overwrite)
            try:
                _generate(problem, manifest, folder, workers, progress)
                _assemble(problem, provenance, manifest, folder, export)
            except UserError as error:
                raise UserError(f"{error}; the finished shards are kept, the same command goes on from them") from error
        elif progress and not told:
            progress(samples, samples)
        folder.remove()
    return path


def is_complete(problem: Problem, samples: int, seed: int, path: str | Path, layout: str = KATOPS) -> bool:
    """Whether ``path`` is a whole file with exactly these samples, told by its root attributes."""
    return is_there(Path(path), _provenance(problem, range(samples), seed, layout), overwrite=True)


def is_there(path: Path, provenance: dict[str, Any], overwrite: bool) -> bool:
    """Whether ``path`` is what is wanted.

    Raises:
        UserError: it is something else, which may not be overwritten.
    """
    exists = path.exists()  # before it is read: another process may put it there in between
    found = root_attributes(path)
    whole = _equal(found.get("format"), "katops") and _equal(found.get("complete"), True)
    whole = whole and not (JOINED in found and any(array.incomplete for array in probe(path).arrays.values()))
    unlike = differences(found, provenance)
    if whole and not unlike:
        return True
    if exists and not overwrite:
        what = f"holds other data: {listed(unlike)}" if whole else "is not a whole katops data file"
        raise UserError(f"{str(path)!r} exists and {what}; choose another output, or replace it with overwrite")
    return False


def _equal(found: Any, value: Any) -> bool:
    return np.ndim(found) == 0 and bool(found == value)


def _provenance(problem: Problem, indices: range, seed: int, layout: str) -> dict[str, Any]:
    """What decides the contents of a file; it is stored in the manifest and in the root attributes."""
    recipe = problem.recipe
    times = None if problem.times is None else list(map(float, problem.times))
    identity = json.dumps([recipe, problem.meta.to_dict(), dict(problem.fields), times], sort_keys=True)
    recipe_hash = hashlib.sha256(identity.encode()).hexdigest()
    which = {"seed": seed, "samples": len(indices), "first_sample": indices.start, "layout": layout}
    return {**recipe, "recipe_hash": recipe_hash, **which}


def differences(found: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """``["seed 0 instead of 1", ...]``; empty where ``found`` has all that is wanted."""
    return [
        f"{key} {found.get(key, 'missing')} instead of {value}"
        for key, value in wanted.items()
        if not _equal(found.get(key), value)
    ]


def listed(unlike: list[str]) -> str:
    """The differences that mean something to people; the hash only where it is the only one."""
    named = [difference for difference in unlike if not difference.startswith("recipe_hash")]
    return ", ".join(named or unlike)


def root_attributes(path: Path) -> dict[str, Any]:
    """Root attributes of a file in the katops layout, or what they were before its export; empty without a file."""
    try:
        with h5py.File(path, "r") as file:
            if "format" in file.attrs:
                return dict(file.attrs)
    except OSError:
        pass
    return stored_provenance(path)


def _continue_or_begin(
    folder: ShardFolder, provenance: dict[str, Any], shard_size: int | None, default: int, overwrite: bool
) -> dict[str, Any]:
    """The manifest of the unfinished shards if they are ours, else a new one.

    Raises:
        UserError: the shards belong to something else and may not be discarded.
    """
    found = folder.manifest()
    if found is not None:
        wanted = provenance if shard_size is None else {**provenance, "shard_size": shard_size}
        unlike = differences(found, wanted)
        if not unlike:
            return found
        if not overwrite:
            raise UserError(
                f"{str(folder.path)!r} holds the unfinished shards of other data: {listed(unlike)}; ask for the "
                "same again to continue, choose another output, or discard them with overwrite"
            )
    folder.clear()
    manifest = {**provenance, "shard_size": shard_size or default}
    folder.begin(manifest)
    return manifest


def _default_shard_size(problem: Problem, samples: int, workers: int) -> int:
    """Samples that are made in one go: on a processor few enough that all workers have something to do to the end."""
    kind = getattr(problem, "device", torch.device("cpu")).type
    sample_bytes = 4 * sum(int(np.prod(field.shape)) for field in problem.fields.values())
    share = -(-samples // (_SHARDS_PER_WORKER * workers)) if kind == "cpu" else samples
    return max(1, min(SHARD_SAMPLES[kind], SHARD_BYTES[kind] // sample_bytes, share))


def _shard_ranges(manifest: dict[str, Any]) -> list[range]:
    first, size = manifest["first_sample"], manifest["shard_size"]
    end = first + manifest["samples"]
    return [range(start, min(start + size, end)) for start in range(first, end, size)]


def _generate(
    problem: Problem, manifest: dict[str, Any], folder: ShardFolder, workers: int, progress: Progress | None
) -> None:
    """Make the shards that are missing.

    Threads, not processes: nearly all time goes into sine transforms and array arithmetic that release the interpreter
    lock, and a thread needs no second import and no copy of its results. They share the cores: torch in each of them
    with a thread for every core of the machine would wait for one another most of the time.
    """
    ranges = _shard_ranges(manifest)
    missing = [number for number in range(len(ranges)) if not folder.shard(number).exists()]
    done = manifest["samples"] - sum(len(ranges[number]) for number in missing)

    def make(number: int) -> int:
        block = problem.samples(manifest["seed"], ranges[number])
        _check(block, problem, len(ranges[number]))
        folder.save(number, flatten(block))
        return len(ranges[number])

    if progress:
        progress(done, manifest["samples"])
    before = torch.get_num_threads()
    share = max(1, min(before, available_cores() // max(1, min(workers, len(missing)))))
    executor = ThreadPoolExecutor(workers, "katops-generate", initializer=torch.set_num_threads, initargs=(share,))
    try:
        for finished in as_completed([executor.submit(make, number) for number in missing]):
            done += finished.result()
            if progress:
                progress(done, manifest["samples"])
    finally:  # also after Ctrl-C: what runs is finished and kept, what waits is dropped
        executor.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _check(block: Samples, problem: Problem, n: int) -> None:
    """Refuse to store what the problem did not announce, or what is not finite."""
    expected = {f"fields/{name}": (n, *field.shape) for name, field in problem.fields.items()}
    expected |= {f"parameters/{parameter.name}": (n,) for parameter in problem.meta.parameters}
    expected |= {f"quality/{name}": (n,) for name in {*block.quality, "rejected"}}
    arrays = flatten(block)
    found = {name: values.shape for name, values in arrays.items()}
    if found != expected:
        raise RuntimeError(f"{problem.meta.name}: arrays {found} were generated, {expected} were announced")
    broken = [name for name, values in arrays.items() if not np.isfinite(values).all()]
    if broken:
        raise RuntimeError(f"{problem.meta.name}: generated values are not finite: {', '.join(broken)}")


def _assemble(
    problem: Problem,
    provenance: dict[str, Any],
    manifest: dict[str, Any],
    folder: ShardFolder,
    export: Export | None,
) -> None:
    """Copy the shards into one file, in the layout that is wanted, and give it its name."""
    blocks = (unflatten(folder.load(number)) for number in range(len(_shard_ranges(manifest))))
    with atomic_path(folder.assembled) as temporary:
        write_layout(temporary, problem, manifest["samples"], provenance, blocks)
    if export is None:
        os.replace(folder.assembled, folder.output)
        return
    with atomic_path(folder.exported) as temporary:
        export(folder.assembled, temporary)
    os.replace(folder.exported, folder.output)


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _whole_number(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """``value`` as an int."""
    allowed = f"at least {lowest}" if highest is None else f"{lowest} to {highest}"
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise UserError(f"{name} must be a whole number, {allowed}; given: {value!r}")
    if value < lowest or (highest is not None and value > highest):
        raise UserError(f"{name} must be {allowed}; given: {value}")
    return int(value)
