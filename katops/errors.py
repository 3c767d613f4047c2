"""The one exception that means "the input is wrong", as opposed to "katops is wrong", and the warning beside it."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input, told in one sentence: what was given, where, what is allowed, the likely fix.

    The command line prints the sentence and exits with code 2; everything else that is raised counts as a defect.
    """


class ToldElsewhere(UserError):
    """A mistake whose sentence another process of the job tells; this one has nothing to add."""


class Preempted(Exception):
    """The scheduler takes the machine back (SIGTERM, SIGUSR1): everything is saved, and the same command continues.

    The command line prints the sentence and exits with code 75, "temporary failure" in sysexits.h.
    """


class DataWarning(UserWarning):
    """Something about data or files that costs time or changes what is read, told in one sentence.

    The command line prints the sentence alone, without the place in the code.
    """


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """The end of a sentence: ``; did you mean 'kan_linear'?`` for the nearest allowed name; a full stop where none is.

    Args:
        given: the name that was not found.
        allowed: the names that exist.
    """
    nearest = difflib.get_close_matches(given, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else "."
