"""A fitted KAN as a C header: tables of numbers and the few loops that evaluate them, in C99 and C++."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from torch import Tensor, nn

from katops import __version__
from katops.errors import UserError
from katops.models.kan import KAN
from katops.predictors.tables import TablePredictor

_FUNCTIONS: dict[type[nn.Module], str] = {
    nn.SiLU: "silu",
    nn.Identity: "identity",
    nn.Tanh: "tanh",
    nn.ReLU: "relu",
    nn.GELU: "gelu",
}
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def c_header(predictor: TablePredictor, name: str, precision: str = "double") -> str:
    """The text of the header: ``<name>_predict(x, y)`` from a raw row to raw predictions.

    Args:
        predictor: members with B-spline edges.
        name: what everything in the header begins with.
        precision: "double" or "single".

    Raises:
        UserError: the name is no identifier of C, or a member is none that C code is written for.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise UserError(f"a C header needs a name of letters, digits and _ that begins with no digit; given: {name!r}")
    for member in predictor.model:
        _check(member)
    members = [_member(member, f"{name}_m{place}", precision) for place, member in enumerate(predictor.model)]
    first = predictor.model[0].layers[0]
    widths = [
        width
        for member in predictor.model
        for layer in member.layers
        for width in (layer.in_features, layer.sub_nodes, layer.out_features)
    ]
    template = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template("kan.h.j2")
    preprocessor = predictor.preprocessor
    return template.render(
        name=name,
        version=__version__,
        real="double" if precision == "double" else "float",
        suffix="" if precision == "double" else "f",
        columns=[_comment(column) for column in preprocessor.names],
        levels={place: [_comment(level) for level in levels] for place, levels in preprocessor.levels.items()},
        outputs=_outputs(predictor),
        classes=len(predictor.classes),
        constants=[
            (place, *(_number(end, precision) for end in ends)) for place, ends in preprocessor.constants.items()
        ],
        inputs=[_input(column, preprocessor.levels, precision) for column in preprocessor.columns],
        members=members,
        degree=first.basis.degree,
        extrapolation=first.basis.extrapolation,
        function=None if first.base_act is None else _FUNCTIONS[type(first.base_act)],
        widest=max(widths),
        target_scale=_numbers(np.array(predictor.targets.scale), precision),
        target_offset=_numbers(np.array(predictor.targets.offset), precision),
        number=lambda value: _number(value, precision),
    )


def _check(member: nn.Module) -> None:
    if not isinstance(member, KAN) or not member.spline:
        what = type(member.layers[0].basis).__name__ if isinstance(member, KAN) else type(member).__name__
        raise UserError(f"a C header is written for KANs with B-spline edges, not for {what}; export to .onnx instead")
    base = member.layers[0].base_act
    approximate = isinstance(base, nn.GELU) and base.approximate != "none"
    if base is not None and (type(base) not in _FUNCTIONS or approximate):
        names = ", ".join(sorted(_FUNCTIONS.values()))
        raise UserError(f"a C header knows the base functions {names}, not {base}; export to .onnx")


def _member(model: KAN, prefix: str, precision: str) -> dict[str, Any]:
    layers = []
    for place, layer in enumerate(model.layers):
        mask = layer.mask
        optional = {"base": layer.base_weight, "linear": layer.linear_weight}
        layers.append(
            {
                "prefix": f"{prefix}_l{place}",
                "inputs": layer.in_features,
                "sub_nodes": layer.sub_nodes,
                "sums": layer.sums,
                "products": layer.products,
                "arity": layer.arity,
                "functions": layer.basis.size,
                "knots": _numbers(layer.basis.knots, precision),
                "coefficients": _numbers(layer.coefficients * mask.unsqueeze(-1), precision),
                **{key: None if w is None else _numbers(w * mask, precision) for key, w in optional.items()},
                "bias": None if layer.bias is None else _numbers(layer.bias, precision),
            }
        )
    return {"prefix": prefix, "used": list(model.used_inputs), "layers": layers}


def _input(column: Any, levels: dict[int, tuple[str, ...]], precision: str) -> dict[str, Any]:
    """One input of the members: kind 0 a number, 1 an indicator of a missing value, 2 one of a level."""
    kind = {"number": 0, "missing": 1, "level": 2}[column.kind]
    fill = levels[column.source].index(column.level) if kind == 2 else column.fill
    return {
        "source": column.source,
        "kind": kind,
        "comment": _comment(column.name),
        **{key: _number(getattr(column, key), precision) for key in ("offset", "scale", "low", "high")},
        "fill": _number(fill, precision),
        "least": _end(column.bounds[0], precision),
        "most": _end(column.bounds[1], precision),
    }


def _end(value: float, precision: str) -> str:
    if math.isfinite(value):
        return _number(value, precision)
    return f"{'-' if value < 0 else ''}HUGE_VAL{'' if precision == 'double' else 'F'}"


def _outputs(predictor: TablePredictor) -> list[str]:
    if predictor.classes:
        return [_comment(f"probability of {label}") for label in predictor.classes]
    names = predictor.targets.names or [f"y{place}" for place in range(len(predictor.targets.scale))]
    return [_comment(str(name)) for name in names]


def _comment(text: str) -> str:
    """Text that cannot end a comment, on one line, in ASCII."""
    plain = (
        " ".join(str(text).split()).replace("*/", "* /").replace("/*", "/ *").replace("\\", "/").replace("??", "? ?")
    )
    return plain.encode("ascii", "backslashreplace").decode().replace("\\", "/")


def _numbers(values: Tensor | np.ndarray, precision: str) -> list[str]:
    flat = values.detach().double().cpu().flatten().numpy() if isinstance(values, Tensor) else values.ravel()
    return [_number(value, precision) for value in flat]


def _number(value: float, precision: str) -> str:
    """A literal of C that is read as exactly this number, rounded to the precision."""
    if precision == "single":
        text = f"{np.float32(value):.9g}"
        return f"{text if any(mark in text for mark in '.e') else text + '.0'}f"
    return repr(float(value))
