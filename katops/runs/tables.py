"""Runs of the task ``tables``: a study with its report, and the evaluation of its KAN on other rows."""

from typing import Any

import numpy as np
from rich.console import Console

from katops.bundle import FILE_NAME, load, versions
from katops.config import TableRunConfig
from katops.files import write_text
from katops.progress import bar
from katops.report.study import write_study_report
from katops.report.study_tables import print_study
from katops.runs.replacement import replacing
from katops.runs.result import RunResult, model_card, warn
from katops.runs.table_rows import evaluate_tables as evaluate_tables
from katops.runs.table_rows import predict_tables as predict_tables
from katops.studies.compositions import element_members
from katops.studies.final import Final, finish
from katops.studies.result import StudyResult
from katops.studies.runner import FOLDS, run_folds, run_learning_curve
from katops.studies.study import Study, open_study
from katops.training.directory import CONFIG_FILE
from katops.training.resume import check_same_run
from katops.training.watching import Watch

EXAMPLES = 15
"""Rows that a report lists where the configuration does not say."""


def train_tables(
    run: TableRunConfig,
    *,
    resume: bool,
    overwrite: bool,
    console: Console,
    progress: bool,
    watch: Watch | None = None,
) -> RunResult:
    """Fit every model on every fold, then the KAN on all rows, and write the report; see :func:`katops.api.train`.

    A fit that is finished is kept below ``folds/`` and not repeated when the run is resumed.
    """
    study = open_study(run)
    directory = run.directory
    if resume:
        check_same_run(run, directory)
    for line in _data_lines(study):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    warn(console, study.design.notes)
    with replacing(directory, overwrite=overwrite, console=console):
        write_text(directory / CONFIG_FILE, run.to_yaml())
        for scheme, folds in study.dealt.items():
            folds.save(directory / FOLDS / f"{_file_name(scheme)}.folds.json")
        return _fit_and_report(study, console, progress, watch)


def _fit_and_report(study: Study, console: Console, progress: bool, watch: Watch | None) -> RunResult:
    directory = study.config.directory
    fits: dict[str, dict[str, list]] = {}
    with bar(console, "fitting folds", progress) as report:
        for (scheme, _, candidate), result in run_folds(study, directory, report):
            fits.setdefault(scheme, {}).setdefault(candidate.label, []).append(result)
            if watch is not None and (scheme, candidate.label) == (study.config.headline, study.candidates[0].label):
                watch(len(fits[scheme][candidate.label]), StudyResult(study, fits).score)
    result = StudyResult(study, fits)
    with bar(console, "learning curve", progress) as report:
        shares = run_learning_curve(study, _followed(result), directory, report)
    final = finish(result, shares)
    final.estimator.save(directory / FILE_NAME, **_header(result, final))
    bundle = load(directory)
    summary = _summary(result, bundle)
    write_study_report(directory, result, final, summary=summary, config_yaml=study.config.to_yaml())
    print_study(console, result)
    return RunResult(directory, bundle, {"folds": result})


def _followed(result: StudyResult) -> list[str]:
    """The models whose learning curves are drawn: the KAN, the best other, and the MLP."""
    if not result.study.config.report.learning_curve:
        return []
    best = result.best_other(result.headline, result.metrics[0])
    mlp = [candidate.label for candidate in result.study.candidates[1:] if candidate.name == "mlp"]
    return list(dict.fromkeys([result.model, *([best] if best else []), *mlp[:1]]))


def _header(result: StudyResult, final: Final) -> dict[str, Any]:
    """What the model file says beside the estimator: all that predicting from raw rows needs, and what was measured."""
    study = result.study
    data = study.config.data.model_dump()
    # The columns are those that were found suitable; other rows might suggest others.
    data["features"] |= {
        "columns": list(study.design.plain),
        "drop": [],
        "absent_at_zero": [name for name in study.design.absent_at_zero if name in study.design.plain],
        "log1p": [name for name in study.design.log1p if name in study.design.plain],
    }
    scheme = result.headline
    found = final.intervals[scheme]
    return {
        "data": {
            "configuration": data,
            "columns": list(study.design.frame.columns),
            "formula": study.table.formula,
            "composition": list(study.table.composition),
            "without": list(study.table.without),
            "elements": _elements(study),
            "fingerprint": study.table.fingerprint,
            "rows": len(study.target),
            "units": {name: study.table.units[name] for name in study.targets if name in study.table.units},
            "plugins": list(study.config.plugins),
        },
        "study": {
            "problem": study.problem,
            "positive": study.positive,
            "headline": scheme,
            "digests": study.digests,
            "level": found.level,
            "width": list(found.width),
            "coverage": list(found.coverage),
        },
        "metrics": {
            scheme: {
                f"{metric.key} of {output}": result.mean(scheme, result.model, metric.key, position)
                for position, output in enumerate(result.outputs)
                for metric in result.metrics
            }
            for scheme in result.fits
        },
    }


def _summary(result: StudyResult, bundle: Any) -> dict[str, Any]:
    study, units = result.study, result.study.table.units
    seconds = [one.seconds for models in result.fits.values() for fits in models.values() for one in fits]
    repeated = len(study.keys) - len(set(study.keys))
    if study.classes:
        spread = {str(name): int((study.target == code).sum()) for code, name in enumerate(study.classes)}
    else:
        spread = {
            name: f"{column.min():.4g} to {column.max():.4g}, mean {column.mean():.4g} {units.get(name, '')}".rstrip()
            for name, column in zip(study.targets, study.target.T, strict=True)
        }
    return {
        "title": f"{study.config.name}: {' and '.join(study.targets)} of {study.table.name}",
        "data": {
            "source": study.table.source,
            **study.table.card,
            "rows": len(study.target),
            "target": spread,
            "features": study.design.frame.shape[1],
            "missing_values": int(study.design.frame.isna().to_numpy().sum()),
            "rows_with_inputs_of_another": repeated,
            "fingerprint": study.table.fingerprint,
            "folds": study.digests,
        },
        "warnings": [],
        "model": model_card(bundle),
        "training": {
            "options": study.config.model.options,
            "seed": study.config.seed,
            "fits": len(seconds),
            "seconds": sum(seconds),
        },
        "versions": {**versions(), **_library_versions()},
    }


def _library_versions() -> dict[str, str]:
    import pandas
    import sklearn

    return {"scikit-learn": sklearn.__version__, "pandas": pandas.__version__, "numpy": np.__version__}


def _data_lines(study: Study) -> list[str]:
    """Rows, features, targets and folds, said before anything is fitted."""
    frame = study.design.frame
    kinds = f"{len(study.classes)} classes" if study.classes else "numbers"
    lines = [
        f"rows      {len(frame):,} of {study.table.name}",
        f"features  {frame.shape[1]}: {_listed(list(frame.columns))}",
        f"target    {', '.join(study.targets)} ({kinds})",
    ]
    lines += [
        f"folds     {scheme}: {len(folds)}, digest {study.digests[scheme][:12]}"
        for scheme, folds in study.folds.items()
    ]
    return [*lines, *(f"note      {note}" for note in study.table.notes)]


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names) - most} more)" if len(names) > most else "")


def _file_name(scheme: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in scheme)


def _elements(study: Study) -> list[str]:
    """The elements that some training row holds; none for tables without compositions."""
    if not (study.table.formula or study.table.composition):
        return []
    return [name for name, held in element_members(study.table).items() if held.any()]
