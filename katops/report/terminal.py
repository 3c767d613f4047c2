"""The numbers of an evaluation on the terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from katops.evaluation import Evaluation
from katops.report.frame_tables import drift_line, group_rows
from katops.report.tables import TextTable, about_constant, count_of, metric_rows, useful_frames, warnings_about

FRAMES = 3


def metrics_table(evaluation: Evaluation, *, title: str) -> Table:
    """:func:`katops.report.tables.metric_rows` for the terminal."""
    return _rendered(metric_rows(evaluation), f"{title}: {count_of(evaluation.samples)}")


def print_metrics(console: Console, evaluation: Evaluation, *, title: str) -> None:
    """Print the errors, by frames and groups of channels where there are several, and what makes them doubtful."""
    console.print(metrics_table(evaluation, title=title))
    if evaluation.constant:
        console.print(escape(about_constant(evaluation)), highlight=False)
    if evaluation.meta.steps_out > 1 or len(evaluation.groups.groups) > 1:
        content = group_rows(evaluation, FRAMES, medians=False)
        console.print(_rendered(content, content.caption))
    if evaluation.meta.steps_out > 1:
        console.print(escape(useful_frames(evaluation)), highlight=False)
        console.print(escape(drift_line(evaluation)), highlight=False)
    for warning in warnings_about(evaluation, title):
        console.print(f"[bold red]warning:[/bold red] {escape(warning)}", highlight=False)


def _rendered(content: TextTable, title: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for position, name in enumerate(content.head):
        table.add_column(escape(name), justify="right" if position else "left")
    for row in content.rows:
        cells = [escape(cell) for cell in row.cells]
        if row.best >= 0:
            cells[row.best] = f"[bold]{cells[row.best]}[/bold]"
        table.add_row(*cells)
    return table
