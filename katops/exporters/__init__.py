"""Fitted models for other programs: ONNX, and a C header that needs nothing but ``math.h``.

Both take raw rows and give raw predictions: scaling, missing values and categories are inside.
"""

from pathlib import Path
from typing import Any

from katops import bundle
from katops.errors import UserError
from katops.exporters.c_header import c_header
from katops.exporters.onnx_file import write_onnx
from katops.files import atomic_path
from katops.predictors.tables import TablePredictor

FORMATS = (".h", ".onnx")
PRECISIONS = ("double", "single")


def export(source: Any, path: str | Path, *, name: str | None = None, precision: str = "double") -> Path:
    """Write a fitted model for tables as a C header (``.h``) or as an ONNX file (``.onnx``), atomically.

    Args:
        source: a fitted ``KANRegressor`` or ``KANClassifier``, a loaded model, a model file or the folder of a run.
        path: its ending says which.
        name: what the functions of a header begin with, by default the name of the file.
        precision: of the arithmetic, "double" or "single".

    Raises:
        UserError: the model is none for tables; the ending, the name or the precision is not one of these; a header is
            asked of edges that are no splines; or the packages for ONNX are missing.
    """
    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f"export writes {' and '.join(FORMATS)} files; given: {str(path)!r}")
    if precision not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}; given: {precision!r}")
    predictor = _predictor(source)
    if path.suffix == ".onnx":
        return write_onnx(predictor, path, precision)
    text = c_header(predictor, path.stem if name is None else name, precision)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _predictor(source: Any) -> TablePredictor:
    if isinstance(source, (str, Path)):
        source = bundle.load(source)
    found = source if isinstance(source, TablePredictor) else getattr(source, "predictor", None)
    if not isinstance(found, TablePredictor):
        given = type(found if found is not None else source).__name__
        raise UserError(f"export takes a fitted KANRegressor or KANClassifier, or a model file of one; given: {given}")
    return found
