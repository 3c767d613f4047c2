"""``katops generate --merge``: the shards of a job array as one file, without a copy."""

from collections.abc import Sequence
from pathlib import Path

from katops.errors import UserError
from katops.files import atomic_path
from katops.generators.joining import write_joined
from katops.generators.shard_set import find_shards, read_shards
from katops.generators.writer import is_there


def merge(output: str | Path, shards: Sequence[str | Path] = (), *, overwrite: bool = False) -> Path:
    """Join the files that ``generate(..., output, shard="1/3")`` and its like have made.

    The joined file has the arrays and attributes that one call without ``shard`` gives, and is read like that. Its
    fields are HDF5 virtual arrays: they lie in the shards, which must stay where they are, seen from the joined file; a
    folder with all of them can be moved. Where ``output`` holds these samples already, nothing is done.

    Args:
        output: the file to write.
        shards: the files to join, in any order; by default those that lie beside ``output`` and are named after it.
        overwrite: replace an ``output`` that holds something else.

    Returns:
        The path of the file.

    Raises:
        UserError: a shard is missing, unfinished, damaged, joined itself or of another set; a sample is missing or
            there twice; a shard is no HDF5 file (small ones of the layout "fno"); or ``output`` is in the way.
    """
    output = Path(output)
    if output.is_dir():
        raise UserError(
            f"{str(output)!r} is a folder; give the name of a file in it, such as {str(output / 'data.h5')!r}"
        )
    paths = [Path(shard) for shard in shards] or find_shards(output)
    if any(path.exists() and output.exists() and path.samefile(output) for path in paths):
        raise UserError(f"{str(output)!r} is one of the shards; choose another output")
    found = read_shards(paths)
    wanted = {key: value for key, value in found[0].shared.items() if key != "set_samples"}
    if not is_there(output, {**wanted, "samples": found[-1].end, "first_sample": 0}, overwrite):
        with atomic_path(output) as temporary:
            write_joined(temporary, output.parent, found)
    return output
