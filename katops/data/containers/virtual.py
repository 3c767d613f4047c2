"""The files behind a virtual HDF5 array: HDF5 hands out fill values in place of any of them that it cannot read."""

from __future__ import annotations

from math import prod
from pathlib import Path

import h5py

from katops.data.containers.stamps import stamp_of

MISSING = "missing"


class VirtualSources:
    """Looks into the files that virtual arrays refer to, one open at a time. Runs in the helper process.

    Args:
        folder: of the file with the virtual arrays, where relative names begin.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = ""
        self._file: h5py.File | None = None

    def trouble(self, plan: h5py.h5p.PropDCID, index: int) -> str:
        """Why HDF5 cannot read source ``index`` of an array, for people; "" where it can."""
        name, array = plan.get_virtual_filename(index), plan.get_virtual_dsetname(index)
        if not self._place(name).is_file():
            return MISSING
        if name != self._name:
            self._open(name)
        if self._file is None:
            return "cannot be opened"
        dataset = self._file.get(array)
        if not isinstance(dataset, h5py.Dataset):
            return f"has no array {array!r}"
        return "" if _fits(plan, index, dataset.shape) else f"has another shape, {dataset.shape}, in {array!r}"

    def stamp(self, name: str) -> tuple[str, int, int]:
        """(path, bytes, modification time in ns) of a source that is there."""
        place = self._place(name)
        return (str(place), *stamp_of(place))

    def _place(self, name: str) -> Path:
        """As HDF5 looks for it: beside the file, then in the folder one works in."""
        beside = self._folder / name
        return beside if beside.is_file() else Path(name)

    def _open(self, name: str) -> None:
        if self._file is not None:
            self._file.close()
        self._name, self._file = name, None
        try:
            self._file = h5py.File(self._place(name), "r", locking=False)
        except OSError:
            return


def _fits(plan: h5py.h5p.PropDCID, index: int, shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape has what source ``index`` is to give."""
    wanted = plan.get_virtual_srcspace(index)
    if wanted.get_select_type() == h5py.h5s.SEL_ALL:
        return prod(shape) == plan.get_virtual_vspace(index).get_select_npoints()
    try:
        _, last = wanted.get_select_bounds()
    except RuntimeError:  # without an end: as much as is there
        return True
    return len(last) == len(shape) and all(end < size for end, size in zip(last, shape, strict=True))
