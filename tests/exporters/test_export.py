"""Fitted KANs for other programs: compiled C and onnxruntime give what katops predicts."""

import ctypes
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

pd = pytest.importorskip("pandas", reason="the extra 'tables' is not installed")
pytest.importorskip("sklearn", reason="the extra 'tables' is not installed")

from typer.testing import CliRunner  # noqa: E402

from katops.cli import app  # noqa: E402
from katops.errors import UserError  # noqa: E402
from katops.estimators import KANClassifier, KANRegressor  # noqa: E402
from katops.exporters import export  # noqa: E402
from katops.models import build_model  # noqa: E402
from katops.predictors.tables import TablePredictor, TableTargets  # noqa: E402

NAN = float("nan")


def table(rows=120):
    """Numbers with gaps, a category, and a target of each kind."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "T (K)": 300 + 900 * random.random(rows),
            "time */ (h)": random.exponential(size=rows),
            "process": random.choice(["cast", "wrought", "annealed"], rows),
        }
    )
    frame.loc[::7, "time */ (h)"] = NAN
    target = np.sin(frame["T (K)"] / 300) + (frame["process"] == "cast") + frame["time */ (h)"].fillna(0)
    return frame, target.to_numpy()


@pytest.fixture(scope="module")
def regressor():
    frame, target = table()
    targets = np.stack([1e3 * target, target**2], 1)
    return KANRegressor(hidden=(3,), ensemble=1, epochs=20, random_state=0).fit(frame, targets)


@pytest.fixture(scope="module")
def classifiers():
    frame, target = table()
    labels = {2: np.where(target > 1, "high", "low"), 3: np.digitize(target, [0.5, 1.5])}
    return {
        count: KANClassifier(hidden=(), ensemble=4 - count, epochs=10, random_state=0).fit(frame, values)
        for count, values in labels.items()
    }


def numbers(estimator, frame):
    """The rows as C and ONNX take them, levels by their places."""
    return estimator.predictor.preprocessor.read(frame)


def compiled(path, columns, outputs, precision="double", compiler="cc", standard="c99"):
    """A Python function that calls what a C compiler makes of the header."""
    if shutil.which(compiler) is None:
        pytest.skip(f"there is no {compiler} on this machine")
    real = "double" if precision == "double" else "float"
    language = "c" if compiler == "cc" else "cpp"
    source = path.with_suffix("." + language)
    linkage = "" if compiler == "cc" else 'extern "C" '
    source.write_text(
        f'#include "{path.name}"\n'
        f"{linkage}void run(const {real} *x, {real} *y) {{ {path.stem}_predict(x, y); }}\n"
        f"{linkage}int outside(const {real} *x) {{ return {path.stem}_outside(x); }}\n"
    )
    library = path.with_suffix(".so")
    flags = [f"-std={standard}", "-O1", "-Wall", "-Wextra", "-Werror", "-pedantic", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, source, "-o", library, "-lm"], check=True, capture_output=True)
    loaded = ctypes.CDLL(str(library))
    number = ctypes.c_double if precision == "double" else ctypes.c_float

    def predict(rows):
        results = []
        for row in rows:
            y = (number * outputs)()
            loaded.run((number * columns)(*row), y)
            results.append(list(y))
        return np.array(results)

    return predict, lambda row: loaded.outside((number * columns)(*row))


@pytest.mark.parametrize(("precision", "tolerance"), [("double", 1e-9), ("single", 1e-4)])
def test_compiled_header_predicts_what_the_regressor_predicts(regressor, precision, tolerance, tmp_path):
    frame, _ = table(300)
    frame["T (K)"] = 2 * frame["T (K)"] - 600  # half of them outside of the training range
    path = export(regressor, tmp_path / "strength.h", precision=precision)
    predict, outside = compiled(path, 3, 2, precision)
    rows = numbers(regressor, frame)
    expected = regressor.predict(frame)
    np.testing.assert_allclose(predict(rows), expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())
    counted = regressor.predictor.preprocessor.out_of_range(frame)[:, :2].sum(1)
    assert [outside(row) for row in rows] == counted.tolist()
    assert 0 < sum(counted) < 600


@pytest.mark.parametrize("count", [2, 3])
def test_compiled_header_gives_the_probabilities_of_the_classifier(classifiers, count, tmp_path):
    frame, _ = table()
    model = classifiers[count]
    path = model.save(tmp_path / "phase.safetensors")
    predict, _ = compiled(export(path, tmp_path / "phase.h"), 3, count)
    np.testing.assert_allclose(predict(numbers(model, frame)), model.predict_proba(frame), rtol=1e-8, atol=1e-10)


def plain_predictor(regressor, **options):
    """A member of any kind behind the preprocessing of the regressor."""
    preprocessor = regressor.predictor.preprocessor
    members = []
    for _ in range(2):
        member = build_model("kan", in_features=len(preprocessor.columns), out_features=2, **options).double()
        with torch.no_grad():
            for parameter in member.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
            member.layers[0].mask[0, 0] = 0
        members.append(member)
    return TablePredictor(members, preprocessor, TableTargets((1.0, 2.0), (3.0, 0.5), single=False))


@pytest.mark.parametrize("extrapolation", ["linear", "clamp", "zero"])
@pytest.mark.parametrize("degree", [1, 3])
def test_every_extrapolation_degree_and_node_is_the_same_in_c(regressor, extrapolation, degree, tmp_path):
    predictor = plain_predictor(
        regressor,
        hidden=[4],
        products=[2, 1],
        arity=3,
        linear=degree == 1,
        base_act="tanh" if degree == 1 else None,
        basis_layer={"name": "bspline", "degree": degree, "extrapolation": extrapolation},
        used_inputs=[3, 0, 1],
    )
    frame, _ = table()
    frame["T (K)"] = 4 * frame["T (K)"] - 2000
    predict, _ = compiled(export(predictor, tmp_path / "net.h"), 3, 2)
    expected = predictor.predict(frame)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(predict(numbers(regressor, frame)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("base", ["silu", "relu", "gelu", "identity"])
def test_every_base_function_is_the_same_in_c_and_the_header_is_cpp_too(regressor, base, tmp_path):
    predictor = plain_predictor(regressor, hidden=[], base_act=base)
    frame, _ = table(20)
    predict, _ = compiled(export(predictor, tmp_path / "net.h"), 3, 2, compiler="c++", standard="c++11")
    np.testing.assert_allclose(predict(numbers(regressor, frame)), predictor.predict(frame), rtol=1e-9, atol=1e-9)


def test_onnxruntime_predicts_what_the_regressor_predicts(regressor, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    frame, _ = table(33)
    frame["T (K)"] = 4 * frame["T (K)"] - 2000  # also far beyond the training range
    path = export(regressor, tmp_path / "strength.onnx", precision="single")
    session = onnxruntime.InferenceSession(path)
    (y,) = session.run(["y"], {"x": numbers(regressor, frame).astype(np.float32)})
    expected = regressor.predict(frame)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["columns"]) == list(frame.columns)
    assert json.loads(properties["levels"]) == {"process": ["annealed", "cast", "wrought"]}


def test_onnxruntime_gives_the_probabilities_of_the_classifier(classifiers, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")
    pytest.importorskip("onnxscript", reason="the extra 'export' is not installed")
    frame, _ = table(9)
    path = export(classifiers[3], tmp_path / "phase.onnx", precision="double")
    (y,) = onnxruntime.InferenceSession(path).run(None, {"x": numbers(classifiers[3], frame)})
    np.testing.assert_allclose(y, classifiers[3].predict_proba(frame), rtol=1e-9, atol=1e-12)


def test_the_command_writes_the_header_of_a_saved_model(regressor, tmp_path):
    regressor.save(tmp_path / "run")
    result = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "-o", str(tmp_path / "a.h"), "--name", "steel"])
    assert result.exit_code == 0, result.output
    assert "steel_predict" in (tmp_path / "a.h").read_text()


def test_what_cannot_be_exported_is_told_in_a_sentence(regressor, tmp_path):
    with pytest.raises(UserError, match=r"\.h and \.onnx files; given: .*kan\.c"):
        export(regressor, tmp_path / "kan.c")
    with pytest.raises(UserError, match="double, single; given: 'half'"):
        export(regressor, tmp_path / "kan.h", precision="half")
    with pytest.raises(UserError, match="begins with no digit; given: '3kan'"):
        export(regressor, tmp_path / "3kan.h")
    with pytest.raises(UserError, match=r"not for RadialBasis; export to \.onnx"):
        export(plain_predictor(regressor, basis_layer="radial"), tmp_path / "kan.h")
    with pytest.raises(UserError, match="given: Linear"):
        export(torch.nn.Linear(2, 1), tmp_path / "kan.h")
    assert not list(tmp_path.iterdir())
