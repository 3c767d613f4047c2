"""From a plan to its report."""

from rich.console import Console

from katops.sweeps.plan import Plan
from katops.sweeps.preflight import check_base
from katops.sweeps.processes import work_in_processes
from katops.sweeps.queue import Queue
from katops.sweeps.ray_cluster import work_on_ray
from katops.sweeps.results import SweepResult, write_results
from katops.sweeps.worker import stop_where_hopeless, work


def run(plan: Plan, workers: int, engine: str, console: Console) -> SweepResult:
    """Run what is left of a sweep and write the report; see :func:`katops.sweeps.command.sweep`."""

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    _ = plan.direction  # a configuration without validation samples is refused before anything is written
    check_base(plan.config, console)
    plan.settle()
    queue = Queue(plan)
    stop_where_hopeless(queue)
    queue.fill()
    try:
        if engine == "ray":
            work_on_ray(plan, workers, say)
        elif workers == 1:
            work(plan, say)
        else:
            work_in_processes(plan, workers, console)
    finally:
        result = write_results(queue)
    if result.unfinished:
        say(f"still running elsewhere: {result.unfinished}; who finishes the last trial writes the report again")
    return result
