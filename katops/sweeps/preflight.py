"""What would end every trial, found before the first one."""

from functools import partial

from rich.console import Console

from katops.api import tables_part
from katops.config import BaseRunConfig, ImageRunConfig, RunConfig
from katops.progress import bar
from katops.runs.images import open_images
from katops.sweeps.generation import once_generated
from katops.training.data import generate_missing, open_run_data
from katops.training.fit import check_run


def check_base(config: BaseRunConfig, console: Console) -> None:
    """Open the data of the configuration as it stands and build its model; fields that are to be generated are.

    Raises:
        UserError: the configuration cannot be trained.
    """
    if isinstance(config, RunConfig):
        say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
        once_generated(lambda: _generate(config, console), say)
        check_run(config, open_run_data(config.data, config.train.batch_size).meta)
    elif isinstance(config, ImageRunConfig):
        open_images(config, console, True)
    else:
        tables_part("katops.studies.study").open_study(config)


def _generate(config: RunConfig, console: Console) -> None:
    with bar(console, "generating", config.data.generate is not None) as report:
        generate_missing(config.data, report)
