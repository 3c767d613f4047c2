"""The command line: ``katops train | sweep | evaluate | predict | export | generate | inspect | convert | ...``.

Commands import what they need when they run, so that ``katops --help`` does not wait for torch.
"""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from katops.errors import DataWarning, Preempted, ToldElsewhere, UserError, did_you_mean

app = typer.Typer(
    name="katops",
    help="Kolmogorov-Arnold networks and operator learning: train, evaluate and use models of fields, images, tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
DEBUG = "--debug"

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to train, on which data.")]
ModelFile = Annotated[str, typer.Argument(metavar="RUN_OR_MODEL", help="A run folder, a model file or a hub id.")]
Plugins = Annotated[
    list[str] | None, typer.Option("--plugin", metavar="FILE.py", help="Run a Python file that registers layers, ...")
]
RolloutFrames = Annotated[
    int | None,
    typer.Option("--rollout", min=1, metavar="FRAMES", help="One rollout of so many frames in each trajectory."),
]
LeadTimes = Annotated[
    str | None,
    typer.Option("--at", metavar="T1,T2,...", help="Lead times to predict at, for models that take the time."),
]
LongestStep = Annotated[
    str | None,
    typer.Option("--step", metavar="T|auto", help="Longest step on the way to the times of --at; in one step without."),
]
RolloutStart = Annotated[
    int, typer.Option("--start", min=0, help="First frame of the input of rollouts and predictions at chosen times.")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples per forward pass.")]
Like = Annotated[
    str | None, typer.Option("--like", metavar="NAME", help="Of several training data sets, the one that FILE is like.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C, or a scheduler that takes the machine back, ends a command with a word instead of a traceback."""
    try:
        yield
    except Preempted as stop:
        Console(stderr=True).print(str(stop), markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(os.EX_TEMPFAIL) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; what was finished is kept")
        raise typer.Exit(130) from None


def _version(show: bool) -> None:
    if show:
        from katops import __version__

        console.print(__version__)
        raise typer.Exit


@app.callback()
def katops(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option(DEBUG, help="Show the traceback of an error; allowed anywhere.")] = False,
) -> None:
    """Options before the command."""


@app.command()
def train(
    config: ConfigFile,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override a key: train.epochs=5 model.name=mgno.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the run (default: runs/NAME).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint, if any.")] = False,
    overwrite: Overwrite = False,
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Run the Python files that the configuration lists.")
    ] = False,
) -> None:
    """Train, evaluate and report: everything that the YAML file describes."""
    from katops.config import load_config
    from katops.distributed import joined

    with _interruptible(), joined() as processes:
        run = processes.together(
            lambda: load_config(config, [*(overrides or []), *([f"output={output}"] if output else [])])
        )
        from katops import api

        result = api.train(run, resume=resume, overwrite=overwrite, allow_plugins=allow_plugins, console=console)
    if result is None:
        return
    console.print(f"model   {result.directory / 'model.safetensors'}")
    console.print(f"report  {result.directory / 'report.html'}")


@app.command()
def sweep(
    config: ConfigFile,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Override a key in all trials: train.epochs=5.")
    ] = None,
    space: Annotated[Path, typer.Option(metavar="SPACE.yaml", help="The varied keys, with values or ranges.")] = ...,
    trials: Annotated[int, typer.Option(min=1, help="How many there are in the end, whoever runs them.")] = ...,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the sweep (default: sweeps/NAME).")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Trials at a time: processes, or tasks of the cluster.")] = 1,
    engine: Annotated[str, typer.Option(help="optuna (processes of this machine) | ray (a Ray cluster).")] = "optuna",
    storage: Annotated[
        str | None, typer.Option(metavar="URL", help="Database of the study (default: a journal file in the folder).")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the values that are tried.")] = 0,
    pruner: Annotated[str, typer.Option(help="What ends bad trials early: median | hyperband | none.")] = "median",
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Run the Python files that the configuration lists.")
    ] = False,
) -> None:
    """Train with other values of some keys, and report which are best; the same command continues, or joins in.

    A trial is a training in its own folder; the best configurations are written as YAML files for katops train.
    """
    from katops.config import load_config

    run = load_config(config, overrides)
    from katops.sweeps import command

    options = {"output": output, "workers": workers, "engine": engine, "storage": storage, "seed": seed}
    with _interruptible():
        result = command.sweep(
            run, space, trials=trials, pruner=pruner, allow_plugins=allow_plugins, console=console, **options
        )
    for path in result.best[:1]:
        console.print(f"best    {path}", soft_wrap=True)
    if result.best:
        console.print(f"report  {result.directory / 'sweep.html'}", soft_wrap=True)


@app.command()
def evaluate(
    model: ModelFile,
    file: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="HDF5 or CSV file, image folder, or the training's data set."),
    ],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for summary.json, metrics.csv and report.html.")
    ] = None,
    split: Annotated[
        str, typer.Option(help="auto | all | train | validation | test. auto: test for the training data, else all.")
    ] = "auto",
    batch_size: BatchSize = 16,
    rollout: RolloutFrames = None,
    at: LeadTimes = None,
    step: LongestStep = None,
    start: RolloutStart = 0,
    like: Like = None,
    plugin: Plugins = None,
) -> None:
    """Measure a trained model: fields next to mean and persistence, images by their classes, tables by their rows."""
    from katops import api
    from katops.plugins import load_plugins

    load_plugins(plugin or [], allowed=True)
    with _interruptible():
        api.evaluate(
            model,
            file,
            output=output,
            split=split,
            batch_size=batch_size,
            rollout=rollout,
            times=_times(at),
            step=_step(step),
            start=start,
            like=like,
            console=console,
        )


@app.command()
def predict(
    model: ModelFile,
    file: Annotated[Path, typer.Argument(metavar="INPUT", help="HDF5 file with the input channels, images, or CSV.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to write the predictions: HDF5, or CSV for images and tables.")
    ],
    batch_size: BatchSize = 16,
    overwrite: Overwrite = False,
    rollout: RolloutFrames = None,
    at: LeadTimes = None,
    step: LongestStep = None,
    start: RolloutStart = 0,
    like: Like = None,
    plugin: Plugins = None,
) -> None:
    """Apply a trained model to every sample of a file, in physical units, every image of a folder, or every row."""
    from katops import api
    from katops.plugins import load_plugins

    load_plugins(plugin or [], allowed=True)
    with _interruptible():
        path = api.predict(
            model,
            file,
            output,
            batch_size=batch_size,
            overwrite=overwrite,
            rollout=rollout,
            times=_times(at),
            step=_step(step),
            start=start,
            like=like,
            console=console,
        )
    console.print(f"wrote {path}")


def _times(text: str | None) -> tuple[float, ...] | None:
    """``0.1,0.5,1`` as numbers."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--at takes lead times separated by commas, such as 0.1,0.5,1; given: {text!r}") from None


def _step(text: str | None) -> float | str | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def generate(
    context: typer.Context,
    problem: Annotated[str, typer.Argument(metavar="PROBLEM", help="darcy, ...; --list shows all.")] = "",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.h5", help="Where to write (required).")
    ] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Number of samples (required).")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Sample i depends on the seed and on i only.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads (default: number of cores).")] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="K/N", help="Only part K of N, as FILE-K-of-N.h5; a folder of these is one data set."),
    ] = None,
    layout: Annotated[str, typer.Option(help="katops | pdebench | well | pdegym | fno.")] = "katops",
    merge: Annotated[
        bool, typer.Option("--merge", help="Join the shards of FILE.h5, or those named instead of PROBLEM, into it.")
    ] = False,
    card: Annotated[bool, typer.Option("--card", help="Also write a data card, FILE.md.")] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw a few samples, FILE.png.")] = False,
    overwrite: Overwrite = False,
    list_problems: Annotated[bool, typer.Option("--list", help="List the problems and their options.")] = False,
) -> None:
    """Generate a data set by solving a PDE; an interrupted run continues with the same command.

    Every option of the problem is an option here: katops generate darcy --resolution 64 --variant rough ...
    The files of --shard become one with katops generate --merge -o FILE.h5 [SHARD...].
    """
    from katops.generators import command

    if list_problems:
        console.print(command.listing(problem))
        return
    if merge:
        shards = [name for name in (problem, *context.args) if name]
        if output is None or samples is not None or any(name.startswith("-") for name in shards):
            raise UserError("what is joined is made already: katops generate --merge -o FILE.h5 [SHARD...] [--card]")
        command.merge_shards(output, shards, console, card=card, plot=plot, overwrite=overwrite)
        return
    required = {"PROBLEM": problem, "--output": output, "--samples": samples}
    missing = [name for name, value in required.items() if not value]
    if missing:
        raise UserError(f"generate needs {' and '.join(missing)}; katops generate --list shows the problems")
    request = command.Request(problem, output, samples, seed, workers, shard, layout, card, plot, overwrite)
    with _interruptible():
        command.run(request, _problem_options(context.args), console)


def _problem_options(arguments: list[str]) -> dict[str, Any]:
    """``--resolution 64 --variant=rough`` as a dictionary; values are read as YAML scalars."""
    import yaml

    options: dict[str, Any] = {}
    rest = list(arguments)
    while rest:
        key = rest.pop(0)
        if not key.startswith("--"):
            raise UserError(f"unexpected argument {key!r}; options of the problem are written --name value")
        name, equals, value = key[2:].partition("=")
        if not equals:
            if not rest or rest[0].startswith("--"):
                raise UserError(f"the option {key} needs a value")
            value = rest.pop(0)
        try:
            options[name.replace("-", "_")] = _number_or(yaml.safe_load(value))
        except yaml.YAMLError:
            raise UserError(f"the value of {key} cannot be read: {value!r}") from None
    return options


def _number_or(value: Any) -> Any:
    """``1e-2``, which is text to YAML 1.1, as the number that it is; anything else as it is."""
    try:
        return float(value) if isinstance(value, str) and value[-1:].isdigit() else value
    except ValueError:
        return value


Names = Annotated[str | None, typer.Option(metavar="A,B", help="Names, separated by commas.")]
Axes = Annotated[str | None, typer.Option(metavar="A,B", help="What the axes of the arrays are, e.g. sample,time,x,y.")]
DataSection = Annotated[
    Path | None, typer.Option(metavar="FILE.yaml", help="A configuration, or a file with its data section alone.")
]
FormatName = Annotated[str | None, typer.Option(help="Of a file that can be read in several ways, or plain.")]


@app.command()
def inspect(
    file: Annotated[
        str | None, typer.Argument(metavar="FILE", help="Data of any kind that is read: a file, a folder or a pattern.")
    ] = None,
    inputs: Names = None,
    outputs: Names = None,
    constants: Names = None,
    axes: Axes = None,
    config: DataSection = None,
    format: FormatName = None,
    check: Annotated[
        bool, typer.Option("--check", help="Read everything and list all samples that training would refuse.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(metavar="OUT.png", help="Draw a few samples.")] = None,
    plugin: Plugins = None,
) -> None:
    """Print what data files hold, and the YAML block that reads them; exit code 1 where --check finds something."""
    from katops.data.inspection.inspect import inspect as inspect_file
    from katops.data.inspection.inspect import render
    from katops.data.stated import check_no_configuration, stated
    from katops.plugins import load_plugins

    load_plugins(plugin or [], allowed=True)
    if file and file.lower().endswith((".csv", ".tsv")):
        _inspect_table(file)
        return
    check_no_configuration([file] if file else [], "katops inspect --config {}")
    listed, statement = stated(config, inputs=inputs, outputs=outputs, constants=constants, axes=axes, format=format)
    files = file or listed
    if files is None:
        raise UserError("name what to look at: katops inspect FILE, or --config FILE.yaml")
    inspection = inspect_file(files, statement)
    render(inspection, console)
    if (check or plot) and not inspection.layouts:
        raise UserError(f"{inspection.path} cannot be read as fields, so there is nothing to check or to draw")
    if plot:
        from katops.data.inspection.plot import plot as draw

        console.print(f"picture {draw(inspection.layouts[0], plot)}", soft_wrap=True)
    if check:
        _check(inspection.files, inspection.statement)


def _inspect_table(file: str) -> None:
    from katops.api import tables_part

    tables_part("katops.studies.inspection").inspect_table(file, console)


def _check(files: Sequence[Path], statement: dict[str, Any]) -> None:
    from katops.data.inspection.render import render_findings
    from katops.data.sources import describe_all
    from katops.data.statistics.scan import exclude_line, scan
    from katops.progress import bar

    with _interruptible(), bar(console, "reading everything") as progress:
        findings = scan(describe_all(files, **statement), progress)
    render_findings(findings, exclude_line(findings), console)
    if findings:
        raise typer.Exit(1)


@app.command()
def convert(
    paths: Annotated[
        list[str], typer.Argument(metavar="SOURCE... OUT.h5", help="Files, folders or patterns, then the new file.")
    ],
    inputs: Names = None,
    outputs: Names = None,
    constants: Names = None,
    parameters: Names = None,
    axes: Axes = None,
    boundary: Annotated[
        str | None, typer.Option(metavar="A,B", help="For each axis of space: periodic,dirichlet/neumann.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(metavar="A,B", help="For each axis: cell_centres | nodes | periodic_nodes.")
    ] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="A:B,C:D", help="Ends of each axis of space, e.g. 0:1,0:2.")
    ] = None,
    time_step: Annotated[float | None, typer.Option(help="Time between neighbouring frames.")] = None,
    format: FormatName = None,
    config: DataSection = None,
    dtype: Annotated[str, typer.Option(help="float32 | float64.")] = "float32",
    overwrite: Overwrite = False,
    plugin: Plugins = None,
) -> None:
    """Write data of any kind that is read into one file of the layout that is read fastest.

    Everything is verified. An interrupted conversion goes on with the same command.
    """
    from time import perf_counter

    from katops.data.assumptions import assumptions
    from katops.data.convert_file import convert_file
    from katops.data.formats import describe
    from katops.data.formats.proposal import Proposal, yaml_block
    from katops.data.stated import check_no_configuration, stated
    from katops.plugins import load_plugins
    from katops.progress import bar

    load_plugins(plugin or [], allowed=True)
    *sources, output = paths
    check_no_configuration(sources, f"katops convert --config {{}} {output}")
    listed, statement = stated(
        config,
        inputs=inputs,
        outputs=outputs,
        constants=constants,
        parameters=parameters,
        axes=axes,
        boundary=boundary,
        grid=grid,
        domain=domain,
        time_step=time_step,
        format=format,
    )
    if not sources and listed is None:
        raise UserError("name what to convert and the file to write: katops convert SOURCE... OUT.h5")
    began = perf_counter()
    with _interruptible(), bar(console, "converting and verifying") as progress:
        path = convert_file(sources or listed, output, dtype=dtype, overwrite=overwrite, progress=progress, **statement)
    seconds, size = perf_counter() - began, path.stat().st_size
    console.print(f"{path}: {size / 1e6:.1f} MB in {seconds:.1f} s, {size / 1e6 / seconds:.0f} MB/s", soft_wrap=True)
    for sentence in assumptions(sources or listed, statement):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
    layout = describe(path, outputs=None if statement.get("outputs") != [] else [])
    if layout.outputs:
        console.print(yaml_block(layout, Proposal()), markup=False, highlight=False, soft_wrap=True)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(metavar="[rational|layers]", help="The rational function, or layers.")] = "",
    layers: Annotated[
        str, typer.Option(metavar="A,B", help="Registered layers, e.g. mlp,linear (default: all channel mixers).")
    ] = "",
    device: Annotated[str | None, typer.Option(help="cpu | cuda | cuda:1 (default: the GPU if there is one).")] = None,
    dtype: Annotated[str, typer.Option(help="float32 | bfloat16 | float16 | float64.")] = "float32",
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="B,L,C",
            help="Of the input, channels last, or B,C,H,W (default: 32,197,768; for layers 8,197,384).",
        ),
    ] = None,
    groups: Annotated[int, typer.Option(min=1, help="Groups of channels.")] = 8,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of torch on the CPU (default: as torch has them).")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(help="Only this one of katops, and no torch.compile; may be repeated.")
    ] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Also write the results to a file.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="At most; fewer where they take long.")] = 15,
) -> None:
    """Time the rational function by backend beside GELU and plain torch, or layers beside one another.

    All take turns in the same rounds; a line is the median over the rounds. Ctrl-C keeps what was measured.
    """
    from katops.benchmark import command

    options = command.Options(device, dtype, shape, groups, threads, tuple(backend or ()), csv, rounds)
    with _interruptible():
        command.run(what or ("layers" if layers else "rational"), layers, options, console)


@app.command()
def models(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, e.g. 'mgno*'.")] = "*",
) -> None:
    """List the registered models."""
    from rich.table import Table

    import katops.models  # noqa: F401 - importing registers the models
    from katops.registry import MODELS

    names = MODELS.names(pattern)
    if not names:
        raise UserError(f"no model matches {pattern!r}{did_you_mean(pattern, MODELS.names())}")
    table = Table("model", "for", "what it is", "paper", box=None, header_style="bold")
    for name in names:
        record = MODELS[name]
        table.add_row(name, record.kind, record.summary, record.paper)
    console.print(table)


@app.command()
def export(
    model: ModelFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="Ends in .onnx or .h (C99, C++).")],
    name: Annotated[
        str | None, typer.Option(help="What the functions of a header begin with; the name of the file if not given.")
    ] = None,
    precision: Annotated[str, typer.Option(help="double | single.")] = "double",
) -> None:
    """Write a fitted model of a table for other programs; scaling and missing values are inside."""
    from katops.exporters import export as write

    path = write(model, output, name=name, precision=precision)
    console.print(f"{path}: {path.stat().st_size / 1e3:.1f} kB", soft_wrap=True)


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for bug reports.")] = False,
) -> None:
    """Which backend runs on this machine and why, and whether it computes right; exit code 1 where it does not."""
    from katops.doctor import diagnose, render

    diagnosis = diagnose()
    if as_json:
        typer.echo(diagnosis.to_json())
    else:
        render(diagnosis, console)
    if not diagnosis.right:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors of the user are one sentence and exit code 2; ``--debug`` shows where they come from."""
    arguments = sys.argv[1:]
    debug = DEBUG in arguments
    # Read when torch is loaded. Threads that wait by spinning starve each other as soon as another process wants one of
    # the cores (a step took 7 times as long beside one busy process), and threads that sleep at once lose a quarter of
    # an idle machine; a short spin costs neither. A policy that the user has set stays.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if {"RANK", "SLURM_STEP_ID"} & os.environ.keys():
        # What torch's C++ code says of processes that are gone is said again, in a sentence.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    warnings.showwarning = _show_warning
    try:
        app(args=[argument for argument in arguments if argument != DEBUG])
    except ToldElsewhere:
        sys.exit(2)
    except UserError as error:
        if debug:
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {_escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        Console(stderr=True).print(
            f"[bold red]unexpected error:[/] {_escape(message)} (run again with {DEBUG} for the traceback)",
            soft_wrap=True,
            highlight=False,
        )
        sys.exit(1)


def _show_warning(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """The sentence of a warning of ours; others as Python shows them."""
    if issubclass(category, DataWarning):
        Console(stderr=True).print(f"[bold red]warning:[/] {_escape(str(message))}", soft_wrap=True, highlight=False)
        return
    sys.stderr.write(warnings.formatwarning(message, category, *place[:2]))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
