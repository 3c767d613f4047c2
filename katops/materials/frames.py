"""pandas, which comes with the extra ``tables`` and is imported where a table is first made."""

from types import ModuleType

from katops.errors import UserError


def load_pandas() -> ModuleType:
    """The package pandas.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError(f'tables of materials need pandas: pip install "katops[tables]" ({error})') from error
    return pandas
