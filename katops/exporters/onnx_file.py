"""A fitted model for tables as an ONNX file, preprocessing included."""

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from katops.errors import UserError
from katops.files import atomic_path
from katops.predictors.tables import TablePredictor

ROWS_OF_EXAMPLE = 4


class RawRows(nn.Module):
    """Raw rows (rows, columns) to raw predictions (rows, outputs), as the exporter can follow it.

    Missing values are NaN; a category is the place of its level among the levels of the training.

    Args:
        predictor: whose arithmetic it is.
    """

    def __init__(self, predictor: TablePredictor) -> None:
        super().__init__()
        self.predictor = predictor
        preprocessor = predictor.preprocessor
        columns = preprocessor.columns
        self.sources = [column.source for column in columns]
        codes = [
            preprocessor.levels[column.source].index(column.level) if column.kind == "level" else 0.0
            for column in columns
        ]
        for name, values in (
            ("offset", [column.offset for column in columns]),
            ("scale", [column.scale for column in columns]),
            ("fill", [column.fill for column in columns]),
            ("least", [column.bounds[0] for column in columns]),
            ("most", [column.bounds[1] for column in columns]),
            ("level_code", codes),
        ):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64))
        for kind in ("missing", "level"):
            self.register_buffer(f"is_{kind}", torch.tensor([column.kind == kind for column in columns]))

    def forward(self, x: Tensor) -> Tensor:
        given = x[:, self.sources]
        absent = given.isnan()
        values = torch.where(absent, self.fill, given).clamp(self.least, self.most)
        values = torch.where(self.is_missing, absent.to(x.dtype), values)
        values = torch.where(self.is_level, (given == self.level_code).to(x.dtype), values)
        return self.predictor((values - self.offset) / self.scale).mean(0)


def write_onnx(predictor: TablePredictor, path: Path, precision: str) -> Path:
    """Write the file: input ``x`` (rows, columns), output ``y`` (rows, outputs), any number of rows.

    Names of columns, levels and outputs are in the metadata of the file.

    Raises:
        UserError: the packages of the extra ``export`` are missing.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter asks for it in words that name no extra
    except ImportError as error:
        raise UserError(f"ONNX needs packages that are missing ({error}); pip install 'katops[export]'") from None
    kind = torch.float64 if precision == "double" else torch.float32
    module = RawRows(copy.deepcopy(predictor).cpu()).to(kind).eval()
    example = torch.zeros(ROWS_OF_EXAMPLE, len(predictor.preprocessor.names), dtype=kind)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
            input_names=["x"],
            output_names=["y"],
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, _properties(predictor))
    with atomic_path(path) as temporary:
        onnx.save(model, temporary)
    return path


def _properties(predictor: TablePredictor) -> dict[str, str]:
    preprocessor, targets = predictor.preprocessor, predictor.targets
    classes = [label.item() if isinstance(label, np.generic) else label for label in targets.classes]
    return {
        "columns": json.dumps(preprocessor.names),
        "levels": json.dumps({preprocessor.names[place]: levels for place, levels in preprocessor.levels.items()}),
        "outputs": json.dumps(classes or list(targets.names)),
    }
