"""Guesses about files that do not describe themselves, to be checked by whoever knows the data."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import h5py

from katops.data.format_plain import SPACE, candidates
from katops.data.layout import FileLayout, members, plain_value

# Names under which published files store what is given and what is sought.
_INPUT_NAMES = {"x", "a", "f", "c", "k", "in", "nu", "mu", "coeff", "coef", "coefficient", "input", "inputs", "source"}
_INPUT_NAMES |= {"forcing", "permeability", "conductivity", "initial", "u0", "features"}
_OUTPUT_NAMES = {"y", "u", "out", "sol", "solution", "output", "outputs", "target", "targets", "pressure", "tensor"}
_PLAIN_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null"}


@dataclass(frozen=True)
class Proposal:
    """Arguments for :func:`.formats.describe`, guessed."""

    statement: dict[str, Any]


def propose(file: h5py.File) -> Proposal | None:
    """Inputs, outputs and axes of a plain file, or ``None`` where nothing looks like a field.

    Arrays with the same number of samples and the same trailing (space) axes belong together; the largest such group is
    taken. The name decides the role; where it does not, the first array is the input and the last one the output. One
    array alone, of rank 3 or more, is taken for a trajectory. An extra axis in second place is taken for time.
    """
    group = _largest_group(candidates(file))
    if not group:
        return None
    names = list(group)
    ranks = [item.ndim for item in group.values()]
    lowest, highest = min(ranks), max(ranks)
    if len(names) == 1:
        if highest < 3:
            return None
        return Proposal({"inputs": names, "outputs": names, "axes": ("sample", "time", *SPACE[: highest - 2])})
    outputs = [name for name in names if _last_word(name) in _OUTPUT_NAMES]
    inputs = [name for name in names if _last_word(name) in _INPUT_NAMES]
    # Rank 4 is (sample, time, x, y) more often than a steady problem in 3-D.
    timed = highest > lowest or highest >= 4
    if not outputs or not inputs:
        states = timed and lowest == highest
        inputs, outputs = (names, names) if states else (names[:1], names[-1:])
    axes = ("sample", "time", *SPACE[: highest - 2]) if timed else ("sample", *SPACE[: highest - 1])
    return Proposal({"inputs": inputs, "outputs": outputs, "axes": axes})


def propose_self_described(file: h5py.File) -> Proposal:
    """Nothing, unless a katops file holds answers only (predictions): its channels are then looked at as inputs."""
    fields = members(file["fields"]) if "fields" in file else {}
    roles = {name: plain_value(item.attrs.get("role")) for name, item in fields.items()}
    if roles and set(roles.values()) == {"output"}:
        return Proposal({"inputs": tuple(roles), "outputs": ()})
    return Proposal({"outputs": ()} if roles and set(roles.values()) == {"input"} else {})


def yaml_block(layout: FileLayout, proposal: Proposal) -> str:
    """The ``data:`` section that describes the file, ready for a configuration."""
    lines = ["data:", f"  file: {_yaml(str(layout.path))}"]
    lines += [f"  inputs: {_yaml([array.name for array in layout.inputs])}"]
    lines += [f"  outputs: {_yaml([array.name for array in layout.outputs])}"]
    if layout.format == "plain":
        lines[-2:] = [f"{line}  # check" for line in lines[-2:]]
        lines.append(f"  axes: {_yaml(list(proposal.statement['axes']))}  # check")
        lines.append("  boundary: dirichlet  # check: dirichlet, neumann or periodic")
        lines.append("  grid: cell_centres  # check: cell_centres, nodes or periodic_nodes")
        if layout.time_dependent:
            lines.append("  time_step: 1.0  # check: time between neighbouring frames")
    if layout.time_dependent:
        lines.append("  window: {n_in: 1, n_out: 1}")
    return "\n".join(lines)


def _largest_group(fields: dict[str, h5py.Dataset]) -> dict[str, h5py.Dataset]:
    """The arrays that share the sample axis and the space axes of the array with most values."""
    if not fields:
        return {}
    main = max(fields.values(), key=lambda item: item.size)
    best: dict[str, h5py.Dataset] = {}
    # The second axis of the main array is time in one reading and space in the other.
    for space in (main.shape[1:], main.shape[2:]):
        group = {
            name: item
            for name, item in fields.items()
            if item.shape[0] == main.shape[0]
            and 1 <= len(space) <= 3
            and item.shape[-len(space) :] == space
            and item.ndim in (len(space) + 1, len(space) + 2)
        }
        if len(group) > len(best):
            best = group
    return best


def _last_word(name: str) -> str:
    return name.rsplit("/", 1)[-1].lower()


def _yaml(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    plain = _PLAIN_WORD.fullmatch(value) and value.lower() not in _YAML_WORDS
    return value if plain else json.dumps(value)
