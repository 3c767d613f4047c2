"""The report of a run: one HTML file that needs no network and no script, its figures, and the numbers as files."""

import base64
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from katops.errors import UserError
from katops.evaluation import Evaluation, Semigroup
from katops.files import atomic_path, write_text
from katops.registry import METRICS
from katops.report.animation import animation
from katops.report.cards import Card, card, data_card
from katops.report.drawing import to_png
from katops.report.drift_figures import energy_figure, frame_spectrum_figure, mean_figure
from katops.report.field_figures import error_map_figure, example_figure, shown_input, trajectory_figure
from katops.report.figures import histogram_figure, loss_figure, read_log, spectrum_figure
from katops.report.frame_figures import steps_figure
from katops.report.frame_tables import drift_line, group_rows, write_frames_csv
from katops.report.semigroup import semigroup_figure, semigroup_rows, semigroup_sentence
from katops.report.tables import (
    channel_rows,
    metric_label,
    metric_rows,
    percent,
    predictor_label,
    useful_frames,
    warnings_about,
    worst_rows,
    write_metrics_csv,
    write_summary,
)

# More output channels than this are in the tables but not in the figures, which would not end.
MAX_CHANNELS = 4

MOVING = (
    "The median sample, moving",
    "Truth and prediction share their colours. Look for structures that run ahead or lag behind, fade, or appear from "
    "nothing.",
)


@dataclass(frozen=True)
class Picture:
    """A figure in the report: its file under ``figures/``, heading, what to look for, and the image in base64."""

    name: str
    title: str
    caption: str
    data: str
    kind: str = "png"

    @classmethod
    def of(cls, name: str, title: str, caption: str, figure: Figure) -> "Picture":
        """A figure as PNG."""
        return cls(name, title, caption, base64.b64encode(to_png(figure)).decode("ascii"))


def write_report(
    directory: Path | str,
    *,
    evaluations: dict[str, Evaluation],
    summary: dict[str, Any],
    semigroups: dict[str, Semigroup] | None = None,
    log_csv: Path | None = None,
    config_yaml: str = "",
) -> Path:
    """Write ``report.html``, ``figures/*.png``, ``metrics.csv``, ``frames.csv`` and ``summary.json``, each atomically.

    Args:
        directory: where to; made if missing.
        evaluations: test set's name -> evaluation; the first is the main one.
        summary: JSON-able; goes into ``summary.json`` as it is, and into the report. All keys may be missing:

            - ``title``: heading of the report;
            - ``data``, ``model``, ``training``, ``versions``: dictionaries, each shown as a card, key by key;
            - of ``training`` these are read: ``best_epoch`` (counted from 1), ``epochs_run`` or ``epochs`` (their
              number), ``monitor`` (the log's column by which the epoch was chosen; ``None``: it is the last one) and
              ``best_value`` (its value there);
            - ``warnings``: list of sentences to show on top.
        semigroups: test set's name -> comparison of one step with two, where the model takes the lead time.
        log_csv: one row per epoch, see :func:`katops.report.figures.read_log`; ``None`` or missing file: no curves.
        config_yaml: the resolved configuration, shown in full.

    Returns:
        the path of ``report.html``.

    Raises:
        UserError: ``evaluations`` is empty, or the folder cannot be written to.
    """
    if not evaluations:
        raise UserError("there is no evaluation to report on; the data have no test part")
    directory = Path(directory)
    sections = [_section(name, evaluation, number) for number, (name, evaluation) in enumerate(evaluations.items())]
    steps = [_steps(name, found, number) for number, (name, found) in enumerate((semigroups or {}).items())]
    training_picture = _training_picture(log_csv, summary)
    save_pictures(directory, [picture for section in sections for picture in section["figures"]])
    save_pictures(directory, [section["figure"] for section in steps])
    save_pictures(directory, [training_picture] if training_picture else [])
    name, main = next(iter(evaluations.items()))
    warnings = [*summary.get("warnings", [])]
    warnings += [text for test_set, evaluation in evaluations.items() for text in warnings_about(evaluation, test_set)]
    html = render(
        "report.html.j2",
        title=summary.get("title") or main.meta.name,
        verdict=verdict(main, name),
        tested=tested_epoch(summary.get("training", {})),
        warnings=warnings,
        tiles=list(_tiles(main)),
        cards=list(_cards(main, summary)),
        sections=sections,
        steps=steps,
        training_figure=training_picture,
        metrics=[(metric_label(record.name), record.summary, record.paper) for record in METRICS],
        config=config_yaml,
    )
    write_metrics_csv(directory / "metrics.csv", evaluations)
    write_frames_csv(directory / "frames.csv", evaluations)
    compared = {"semigroup": {name: found.to_dict() for name, found in semigroups.items()}} if semigroups else {}
    write_summary(directory / "summary.json", {**summary, **compared}, evaluations)
    write_text(directory / "report.html", html)
    return directory / "report.html"


def render(template: str, **values: Any) -> str:
    """A page from a template of this package; every value is escaped, a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("katops.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def save_pictures(directory: Path, pictures: Iterable[Picture]) -> None:
    """Write ``figures/<name>.png`` (or ``.webp``) for every picture; atomic."""
    for picture in pictures:
        with atomic_path(directory / "figures" / f"{picture.name}.{picture.kind}") as temporary:
            temporary.write_bytes(base64.b64decode(picture.data))


def verdict(evaluation: Evaluation, test_set: str) -> str:
    """The result in a sentence: ``Relative L2 error on test: 2.3 % (mean predictor 38 %).``"""
    means = {name: table["relative_l2"] for name, table in evaluation.metrics.items()}
    baselines = ", ".join(f"{predictor_label(name)} {percent(means[name])}" for name in evaluation.baselines)
    beside = f" ({baselines})" if baselines else ""
    sentence = f"Relative L2 error on {test_set}: {percent(means[evaluation.model])}{beside}."
    if len(evaluation.constant) in (0, len(evaluation.meta.outputs)):
        return sentence
    return (
        f"{sentence} It counts {', '.join(evaluation.constant)}, constant in space; the others by themselves are below."
    )


def tested_epoch(training: dict[str, Any]) -> str:
    """Which weights were tested: of which epoch, out of how many, chosen by what; "" where that is unknown."""
    epoch = training.get("best_epoch")
    if epoch is None:
        return ""
    total = training.get("epochs_run") or training.get("epochs")
    which = f"Tested with the weights of epoch {epoch}" + (f" of {total}" if total else "")
    if not training.get("monitor"):
        return f"{which}: the last one, for want of validation data to choose by."
    value = training.get("best_value")
    at = f" ({value:.4g})" if isinstance(value, int | float) else ""
    return f"{which}: the best by {metric_label(training['monitor'])}{at}."


def _section(name: str, evaluation: Evaluation, number: int) -> dict[str, Any]:
    groups = [group_rows(evaluation)] if evaluation.meta.steps_out > 1 or len(evaluation.groups.groups) > 1 else []
    channels = [channel_rows(evaluation)] if len(evaluation.meta.outputs) > 1 else []
    details = [*groups, *channels, worst_rows(evaluation)]
    prefix = "" if number == 0 else f"set{number + 1}_"
    pictures = [Picture.of(prefix + file, *described) for file, *described in _figures(evaluation)]
    moving = animation(evaluation, evaluation.groups.channels)
    if moving is not None:
        pictures.append(Picture(f"{prefix}animation", *MOVING, base64.b64encode(moving).decode("ascii"), "webp"))
    return {"name": name, "metrics": metric_rows(evaluation), "details": details, "figures": pictures}


def _steps(name: str, found: Semigroup, number: int) -> dict[str, Any]:
    prefix = "" if number == 0 else f"set{number + 1}_"
    picture = Picture.of(
        f"{prefix}semigroup",
        "One step of 2t and two steps of t",
        "Error of both against the truth, and the distance between them, mean over the samples. A distance as large as "
        "the errors means that the model has not learnt that time adds up.",
        semigroup_figure(found),
    )
    sentence = semigroup_sentence(found, name)
    return {"name": name, "sentence": sentence, "figure": picture, "table": semigroup_rows(found)}


def _figures(evaluation: Evaluation) -> Iterator[tuple[str, str, str, Figure]]:
    """(file, title, caption, figure) of all figures of a test set."""
    meta = evaluation.meta
    judged = evaluation.groups.channels or list(range(len(meta.outputs)))
    # There is nothing to see in a field that is the same everywhere, unless there is no other.
    judged = [channel for channel in judged if meta.outputs[channel].name not in evaluation.constant] or judged
    channels = judged[:MAX_CHANNELS]
    left_out = len(judged) - len(channels)
    note = f" The other {left_out} output channels are in the tables only." if left_out else ""
    for channel in channels if evaluation.examples else []:
        name, given = meta.outputs[channel].name, meta.inputs[shown_input(meta, channel)].name
        yield (
            f"examples_{channel + 1}",
            f"Examples of {name}",
            "Best, median and worst sample by relative L2 error. Truth and prediction share their colours, which span "
            "the truth (pointed colour bar: the prediction goes beyond); the error is prediction − truth, with colours "
            f"of its own. The input shown is {given}. Look for errors along edges, at the boundary, and for structure "
            "that the prediction lacks; a good model's error looks like noise.",
            example_figure(evaluation, channel),
        )
        if meta.steps_out > 1:
            yield (
                f"trajectory_{channel + 1}",
                f"The median sample of {name}, frame by frame",
                "Look for structures that lag behind, fade or sharpen as time goes on.",
                trajectory_figure(evaluation, channel),
            )
    yield (
        "error_histogram",
        "Errors of the samples",
        "Every sample counts once. A long tail to the right means that some kind of input is not learnt: see the worst "
        "samples. The model is worth its training where its bars lie far to the left of the baselines.",
        histogram_figure(evaluation),
    )
    if meta.steps_out > 1:
        yield (
            "error_per_frame",
            "Error of each predicted frame",
            "Mean over the samples. Shaded are the frames in which the model is worse than persistence; the line names "
            f"the first of them. {useful_frames(evaluation)}.",
            steps_figure(evaluation),
        )
    if meta.steps_out > 1 and evaluation.drift is not None:
        yield (
            "energy",
            "Energy and small scales",
            "Mean over samples and space of the square (of a velocity: twice the kinetic energy per mass), and the "
            "power of the upper half of the resolved wavenumbers beside the truth's. Energy that grows without bound "
            "is an unstable rollout; a ratio that falls is blurring, one that rises is noise. In numbers, "
            f"{drift_line(evaluation)}.",
            energy_figure(evaluation),
        )
        yield (
            "means",
            "Means over space",
            "Mean over the samples; shaded is how far a sample's mean is off on average. Where the truth is flat, the "
            f"quantity is conserved, and a prediction that is not invents or loses it.{note}",
            mean_figure(evaluation, channels),
        )
        yield (
            "spectrum_per_frame",
            "Spectra at the beginning, in the middle and at the end",
            "Truth and prediction (dashed), mean over the samples. Where they part, the rollout has lost these scales, "
            f"or has made them up.{note}",
            frame_spectrum_figure(evaluation, channels),
        )
    yield (
        "error_map",
        "Where the errors are",
        "Mean absolute error at each point, over samples and frames. A bright rim speaks of a boundary condition that "
        f"is not met.{note}",
        error_map_figure(evaluation, channels),
    )
    yield (
        "spectrum",
        "Radial power spectrum",
        "Power of the waves of each length, mean over the samples. The prediction below the truth: it is too smooth; "
        "above: it adds noise. Where the error reaches the truth, scales are no longer predicted. Fields that are not "
        f"periodic have a tail of about κ⁻² of their own.{note}",
        spectrum_figure(evaluation, channels),
    )


def _training_picture(log_csv: Path | None, summary: dict[str, Any]) -> Picture | None:
    log = read_log(log_csv)
    if not log:
        return None
    figure = loss_figure(log, best_epoch=summary.get("training", {}).get("best_epoch"))
    caption = (
        "The validation curve rising while the training loss falls is overfitting; both still falling at the end means "
        "that more epochs would help. The two measure different things, so their distance says little."
    )
    return Picture.of("loss", "Loss and learning rate", caption, figure)


def _tiles(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    quantiles = evaluation.quantiles()[evaluation.model]
    means = {name: table["relative_l2"] for name, table in evaluation.metrics.items()}
    yield "relative L2, mean", percent(means[evaluation.model])
    yield "median sample", percent(quantiles["median"])
    yield "worst sample", percent(quantiles["maximum"])
    for name in evaluation.baselines:
        yield predictor_label(name), percent(means[name])
    yield "samples", f"{evaluation.samples:,}"
    yield "per sample", f"{1000 * evaluation.seconds_per_sample:.3g} ms"


def _cards(evaluation: Evaluation, summary: dict[str, Any]) -> Iterator[Card]:
    yield data_card(evaluation, summary.get("data", {}))
    for key in ("model", "training", "versions"):
        if summary.get(key):
            yield card(key.capitalize(), summary[key])
