"""Progress bars for everything that takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


@contextmanager
def bar(console: Console, text: str, show: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A progress bar as a function of (done, total); nothing is drawn on a quiet console or without ``show``.

    It appears when it is first called, so that an error before that is not told beside an empty bar.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    progress = Progress(*columns, console=console, disable=not show or console.quiet)
    task = progress.add_task(text, total=None)

    def report(done: int, total: int) -> None:
        progress.start()  # once; later calls change nothing
        progress.update(task, completed=done, total=total)

    try:
        yield report
    finally:
        progress.stop()
