"""What libraries say about a file, made fit for one sentence."""

from __future__ import annotations

_MOST_CHARACTERS = 160


def one_line(error: BaseException) -> str:
    """The message of an exception in one line: without control characters and bytes of the file, cut where too long."""
    text = " ".join(str(error.args[0] if len(error.args) == 1 else error).split())
    # Messages may quote bytes that make no sense.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "..."
