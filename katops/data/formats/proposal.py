"""What can be stated about a file, and the lines of YAML that say it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from katops.data.formats.description import PLAIN
from katops.data.layout import FileLayout

_PLAIN_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_YAML_WORDS = {"yes", "no", "on", "off", "true", "false", "null"}
ASSUMED = {
    "boundary": ("dirichlet", "dirichlet, neumann, periodic, wall, open or none"),
    "grid": ("cell_centres", "cell_centres, nodes or periodic_nodes"),
    "time_step": (1.0, "time between neighbouring frames"),
}
"""What holds for a file that says nothing, and what it could be."""


@dataclass(frozen=True)
class Proposal:
    """Arguments for :func:`katops.data.formats.description.describe`, stated or guessed.

    Attributes:
        statement: the arguments.
        formats: those that the file could have too, where it can be read in several ways.
        reasons: why, for each argument that is a guess.
    """

    statement: dict[str, Any] = field(default_factory=dict)
    formats: tuple[str, ...] = ()
    reasons: dict[str, str] = field(default_factory=dict)


def yaml_block(layout: FileLayout, proposal: Proposal, files: Mapping[str, str] | None = None) -> str:
    """The ``data:`` section that describes the file, ready for a configuration.

    Args:
        layout: the file.
        proposal: what was stated to describe it.
        files: ``file``, ``validation_files`` and ``test_files``; the file itself where ``None``.
    """
    said, reasons = dict(proposal.statement), dict(proposal.reasons)
    if proposal.formats:
        reasons["format"] = f"or {', '.join(proposal.formats)}"
    said.setdefault("inputs", [array.name for array in layout.inputs])
    said.setdefault("outputs", [array.name for array in layout.outputs])
    if layout.format == PLAIN:
        for key, (value, choices) in ASSUMED.items():
            if key not in said and (key != "time_step" or layout.time_dependent):
                said[key], reasons[key] = value, choices
    order = ("format", "inputs", "outputs", "constants", "channels", "parameters", "axes")
    order += ("boundary", "grid", "domain", "time_step")
    lines = ["data:", *(f"  {key}: {_yaml(path)}" for key, path in (files or {"file": str(layout.path)}).items())]
    for key in order:
        if key in said:
            check = f"  # check: {reasons[key]}" if key in reasons else ""
            lines.append(f"  {key}: {_yaml(said[key])}{check}")
    if layout.time_dependent:
        lines.append("  window: {n_in: 1, n_out: 1}")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_yaml(key)}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if not isinstance(value, str):
        return json.dumps(value)
    plain = _PLAIN_WORD.fullmatch(value) and value.lower() not in _YAML_WORDS
    # Letters of any alphabet are left as they are; what cannot be seen is escaped.
    return value if plain else json.dumps(value, ensure_ascii=not value.isprintable())
