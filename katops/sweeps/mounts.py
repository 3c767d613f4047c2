"""Whether a folder can be seen by other machines, told by the kind of its file system."""

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mountinfo")
OF_ONE_MACHINE = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"}
"""Kinds that one machine at a time mounts; of all others (nfs, lustre, fuse.sshfs, ...) that is not known."""


def is_of_this_machine_alone(path: Path) -> bool:
    """Whether no other machine sees the file, for certain."""
    if not MOUNTS.is_file():
        return False
    # proc(5): the fifth field is the mount point, and the kind follows a lone hyphen; a later line covers earlier ones.
    kinds = {}
    for line in MOUNTS.read_text(encoding="utf-8").splitlines():
        place, _, kind = line.partition(" - ")
        kinds[Path(_unescaped(place.split()[4]))] = kind.split()[0]
    resolved = path.resolve()
    return next((kinds[folder] for folder in (resolved, *resolved.parents) if folder in kinds), "") in OF_ONE_MACHINE


def _unescaped(text: str) -> str:
    """Blanks and backslashes of a mount point are written as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
