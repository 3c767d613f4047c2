"""What is found in an HDF5 file, and that looking at it can neither crash, hang nor mislead this process."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest

from katops.data.containers import hdf5 as container_hdf5
from katops.data.containers.opening import open_file, reading
from katops.data.containers.probe import chunk_map, probe
from katops.data.containers.probe_client import HELPER, Helper
from katops.data.containers.values import Budget
from katops.data.storage import StoredArray
from katops.errors import UserError

SHAPE = (5, 12, 20)
VERSIONS = ["earliest", "latest"]


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(1).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write a file with a function of the open file."""

    def write(fill: Callable[[h5py.File], object], **options: object) -> Path:
        path = tmp_path / "a.h5"
        with h5py.File(path, "w", **options) as file:
            fill(file)
        return path

    return write


@pytest.fixture
def small(write: Callable[..., Path], values: np.ndarray) -> Path:
    """One field and one list."""

    def fill(file: h5py.File) -> None:
        file["u"] = values
        file["t"] = np.arange(5) / 2

    return write(fill)


@pytest.fixture
def helper() -> Iterator[Helper]:
    """A helper process of its own, to be killed."""
    own = Helper()
    yield own
    own.close()


def test_attributes_are_plain_values(write):
    def fill(file):
        file.attrs.update(
            text="é", count=3, share=0.5, flag=True, names=["a", "b"], grid=np.eye(2), none=h5py.Empty("f4")
        )
        file.attrs["fixed"] = np.bytes_(b"abc")
        file.create_group("g").attrs["unit"] = "m"
        file["g/u"] = np.ones(3)
        file["g/u"].attrs["valid"] = [True, False]

    tree = probe(write(fill))
    assert tree.attributes == {
        "text": "é",
        "count": 3,
        "share": 0.5,
        "flag": True,
        "names": ["a", "b"],
        "grid": [[1.0, 0.0], [0.0, 1.0]],
        "none": None,
        "fixed": "abc",
    }
    assert tree.groups == {"/g": {"unit": "m"}}
    assert tree.array("g/u").attributes == {"valid": [True, False]}
    assert type(tree.attributes["flag"]) is bool


@pytest.mark.parametrize("track_order", [False, True])
def test_members_come_in_the_order_of_creation_where_it_is_kept(write, track_order):
    def fill(file):
        group = file.create_group("g", track_order=track_order)
        for name in ("velocity", "density", "alpha"):
            group[name] = np.ones((2, 3))

    names = list(probe(write(fill)).members("g"))
    assert names == (["velocity", "density", "alpha"] if track_order else ["alpha", "density", "velocity"])


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<i2", "|u1", "|b1", "<f2", "<c16"])
@pytest.mark.parametrize("version", VERSIONS)
def test_contiguous_arrays_are_found_in_place(write, values, dtype, version):
    expected = values > 0 if dtype == "|b1" else (10 * values).astype(dtype)
    path = write(lambda file: file.create_dataset("u", data=expected), libver=version)
    array = probe(path).array("u")
    assert (array.dtype, array.shape, array.chunks, array.filters) == (dtype, SHAPE, None, ())
    np.testing.assert_array_equal(np.fromfile(path, dtype, expected.size, offset=array.offset), expected.ravel())
    np.testing.assert_array_equal(probe(path).values("u"), expected)


def test_what_is_not_a_number_is_told(write):
    def fill(file):
        file["text"] = ["a", "é"]
        file["fixed"] = np.array([b"a", b"bc"])
        file["pair"] = np.zeros(3, "f4,i4")
        file["null"] = h5py.Empty("f4")
        file.create_dataset("ragged", (2,), h5py.vlen_dtype(np.float32))
        file.create_dataset("link", (2,), h5py.ref_dtype)

    tree = probe(write(fill))
    assert {array.name: array.attributes["type"] for array in tree.arrays.values()} == {
        "text": "text",
        "fixed": "text",
        "pair": "compound",
        "null": "empty",
        "ragged": "variable-length",
        "link": "reference",
    }
    assert {array.dtype for array in tree.arrays.values()} == {"|O"}
    assert tree.values("text").tolist() == ["a", "é"]
    assert tree.values("fixed").tolist() == ["a", "bc"]


def test_numbers_of_an_unusual_layout_are_not_taken_for_others(write):
    """Four bytes like a float, with another exponent bias; and integers with names, which are plain integers."""
    odd = h5py.h5t.IEEE_F32LE.copy()
    odd.set_ebias(100)

    def fill(file):
        h5py.h5d.create(file.id, b"odd", odd, h5py.h5s.create_simple((3, 4))).write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.ones((3, 4), np.float32)
        )
        named = h5py.enum_dtype({"fluid": 0, "solid": 1}, basetype="<i2")
        file.create_dataset("named", data=np.ones((3, 4), "<i2"), dtype=named)

    tree = probe(write(fill))
    assert tree.array("odd").attributes["type"] == "4-byte number of an unusual layout"
    assert (tree.array("named").dtype, tree.array("named").offset is None) == ("<i2", False)


def test_small_arrays_are_read_and_large_ones_on_demand(write):
    large, long = np.random.default_rng(0).normal(size=(30, 31, 32)), np.arange(100_000.0)
    tree = probe(write(lambda file: (file.create_dataset("large", data=large), file.create_dataset("long", data=long))))
    np.testing.assert_array_equal(tree.array("long").values, long)
    assert tree.array("large").values is None
    np.testing.assert_array_equal(tree.values("large"), large)


def test_the_budget_for_small_arrays_is_bounded():
    budget = Budget()
    lists = [StoredArray(f"/{k}", (2**21,), "<f8") for k in range(9)]
    assert [budget.allows(array) for array in lists] == [True] * 4 + [False] * 5
    many = Budget()
    assert sum(many.allows(StoredArray(f"/{k}", (3,), "<f4")) for k in range(5000)) == 4000
    assert not Budget().allows(StoredArray("/field", (1, 2**15), "<f4"))


FILTERS = [
    ({"compression": "gzip", "shuffle": True, "fletcher32": True}, ("shuffle", "gzip", "fletcher32")),
    ({"compression": "lzf"}, ("lzf",)),
    ({"scaleoffset": 2}, ("scaleoffset",)),
    ({}, ()),
]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("options", "names"), FILTERS)
def test_chunks_and_filters_are_told_in_their_order(write, values, options, names, version):
    path = write(lambda file: file.create_dataset("u", data=values, chunks=(2, 5, 20), **options), libver=version)
    array = probe(path).array("u")
    assert (array.chunks, array.filters, array.offset) == ((2, 5, 20), names, None)
    assert not array.incomplete
    assert 0 < array.stored_bytes <= 3 * 3 * 2 * 5 * 20 * 4 + 9 * 4


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("maxshape", [SHAPE, (None, 12, 20), (None, None, 20)])
@pytest.mark.parametrize("user_block", [0, 512])
def test_the_chunk_map_leads_to_the_bytes(write, values, version, maxshape, user_block):
    path = write(
        lambda file: file.create_dataset("g/u", data=values, chunks=(2, 6, 20), maxshape=maxshape),
        libver=version,
        userblock_size=user_block,
    )
    places = chunk_map(path, "/g/u")
    assert places.offsets.shape == (3, 2, 1)
    assert (places.sizes == 2 * 6 * 20 * 4).all()
    padded = np.zeros((6, 12, 20), np.float32)
    padded[:5] = values
    for index, offset in np.ndenumerate(places.offsets):
        chunk = np.fromfile(path, "<f4", 240, offset=offset).reshape(2, 6, 20)
        first, second, _ = index
        kept = slice(0, 1 if first == 2 else 2)
        expected = padded[2 * first : 2 * first + 2, 6 * second : 6 * second + 6]
        np.testing.assert_array_equal(chunk[kept], expected[kept])


@pytest.mark.parametrize("version", VERSIONS)
def test_what_was_never_written_is_told(write, values, version):
    def fill(file):
        file.create_dataset("never", SHAPE, "f4")
        file.create_dataset("never_chunked", SHAPE, "f4", chunks=(1, 12, 20))
        partly = file.create_dataset("partly", SHAPE, "f4", chunks=(1, 12, 20))
        partly[:3] = values[:3]
        file["all"] = values

    path = write(fill, libver=version)
    tree = probe(path)
    assert {array.name for array in tree.arrays.values() if array.nothing_written} == {"never", "never_chunked"}
    assert tree.array("partly").incomplete == "2 of its 5 chunks were never written"
    assert (chunk_map(path, "partly").offsets < 0).ravel().tolist() == [False] * 3 + [True] * 2
    assert tree.array("never").offset is None
    assert not tree.array("all").incomplete


def test_a_shape_of_which_hardly_anything_was_written_is_not_taken_at_its_word(write, values):
    def fill(file):
        dataset = file.create_dataset("u", (2**50, 12, 20), "f4", chunks=(1, 12, 20), maxshape=(None, 12, 20))
        dataset[:5] = values
        file["a"] = values

    tree = probe(write(fill))
    assert list(tree.arrays) == ["/a"]
    with pytest.raises(UserError, match="only 5 of the 1125899906842624 chunks"):
        tree.array("u")


def test_the_chunks_of_a_contiguous_array_are_refused(small):
    with pytest.raises(UserError, match="'u' is not stored in chunks"):
        chunk_map(small, "/u")


def test_links_are_followed_and_those_that_lead_nowhere_are_told(write, values, tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["v"] = values
        file.create_dataset("c", data=values, chunks=(1, 12, 20))

    def fill(file):
        file["u"] = values
        file["again"] = file["u"]
        file["soft"] = h5py.SoftLink("/u")
        file["gone"] = h5py.SoftLink("/nothing/here")
        file["far"] = h5py.ExternalLink("other.h5", "/v")
        file["far_chunks"] = h5py.ExternalLink("other.h5", "/c")
        file["lost"] = h5py.ExternalLink("absent.h5", "/v")
        file["g/up"] = file["/"]
        file["g/h"] = file["g"]

    path = write(fill)
    tree = probe(path)
    assert set(tree.arrays) == {"/u", "/again", "/soft", "/far", "/far_chunks"}
    assert tree.array("again").offset == tree.array("soft").offset == tree.array("u").offset
    # Offsets would lead into the other file.
    assert (tree.array("far").offset, tree.array("far_chunks").chunks) == (None, None)
    np.testing.assert_array_equal(tree.values("far"), values)
    assert list(tree.groups) == ["/g"]
    with pytest.raises(UserError, match="'gone' cannot be read: it is a link to '/nothing/here', which is not there"):
        tree.array("gone")
    with pytest.raises(UserError, match=r"link to '/v' in the file 'absent\.h5', which cannot be opened"):
        tree.array("lost")


def test_parts_in_other_files_must_be_there(tmp_path, values, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layout = h5py.VirtualLayout(shape=(2, *SHAPE), dtype="f4")
    for part in range(2):
        with h5py.File(f"part{part}.h5", "w") as file:
            file["u"] = values
        layout[part] = h5py.VirtualSource(f"part{part}.h5", "u", shape=SHAPE)
    with h5py.File("a.h5", "w") as file:
        file.create_virtual_dataset("u", layout)
        file.create_dataset("raw", data=values, external=[("raw.bin", 0, values.nbytes)])
    tree = probe(tmp_path / "a.h5")
    assert [tree.array(name).incomplete for name in ("u", "raw")] == ["", ""]
    assert [tree.array(name).offset for name in ("u", "raw")] == [None, None]
    (tmp_path / "part1.h5").unlink()
    (tmp_path / "raw.bin").write_bytes(b"short")
    tree = probe(tmp_path / "a.h5")
    assert tree.array("u").incomplete == "it is put together from 2 files, 1 of which are missing, e.g. 'part1.h5'"
    assert tree.array("raw").incomplete == "its bytes lie in the file 'raw.bin', which is missing or too short"


def test_parts_in_other_files_must_hold_what_is_taken_from_them(tmp_path, values):
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["u"] = values
    endless = h5py.VirtualLayout(shape=SHAPE, dtype="f4", maxshape=(None, *SHAPE[1:]))
    source = h5py.VirtualSource("part.h5", "u", shape=SHAPE, maxshape=(None, *SHAPE[1:]))
    endless[: h5py.h5s.UNLIMITED] = source[: h5py.h5s.UNLIMITED]
    layout = h5py.VirtualLayout(shape=SHAPE, dtype="f4")
    layout[:2] = h5py.VirtualSource("part.h5", "u", shape=SHAPE)[:2]
    with h5py.File(tmp_path / "a.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("u", layout)
    with h5py.File(tmp_path / "endless.h5", "w", libver="latest") as file:
        file.create_virtual_dataset("u", endless)
    part = probe(tmp_path / "a.h5").array("u").parts
    assert [(path, size) for path, size, _ in part] == [
        (str(tmp_path / "part.h5"), (tmp_path / "part.h5").stat().st_size)
    ]
    assert probe(tmp_path / "endless.h5").array("u").incomplete == ""
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["u"] = values[:1]
    found = probe(tmp_path / "a.h5").array("u").incomplete
    assert found == (
        "it is put together from 1 files, 1 of which are damaged or others, e.g. 'part.h5' has another shape, "
        f"{(1, *SHAPE[1:])}, in 'u'"
    )
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["v"] = values
    assert "'part.h5' has no array 'u'" in probe(tmp_path / "a.h5").array("u").incomplete
    (tmp_path / "part.h5").write_bytes(b"nothing")
    assert "'part.h5' cannot be opened" in probe(tmp_path / "a.h5").array("u").incomplete


def test_matlab_7_3_counts_axes_in_reverse(write, values):
    def fill(file):
        for name, kind, content in (
            ("u", "single", values.T),
            ("mask", "logical", (values > 0).T.astype(np.uint8)),
            ("note", "char", np.frombuffer("abc".encode("utf-16-le"), "<u2")[:, None]),
            ("nothing", "double", np.array([0, 0], np.uint64)),
            ("z", "double", np.zeros((2, 2), [("real", "f8"), ("imag", "f8")])),
            ("#refs#/a", "double", np.zeros((1, 1))),
        ):
            file[name] = content
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
        file["nothing"].attrs["MATLAB_empty"] = np.uint8(1)
        file.create_group("sparse").attrs["MATLAB_class"] = np.bytes_("double")

    path = write(fill, userblock_size=512)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))
    tree = probe(path)
    assert tree.container == "matlab73"
    assert set(tree.arrays) == {"/u", "/mask", "/note", "/nothing", "/z"}
    array = tree.array("u")
    assert (array.column_major, array.shape, array.logical_shape) == (True, SHAPE[::-1], SHAPE)
    np.testing.assert_array_equal(np.fromfile(path, "<f4", values.size, offset=array.offset), values.T.ravel())
    assert tree.array("mask").dtype == "|b1"
    np.testing.assert_array_equal(tree.values("mask"), (values > 0).T)
    kinds = [tree.array(name).attributes["type"] for name in ("note", "nothing", "z")]
    assert kinds == ["char", "empty double", "complex"]
    assert list(tree.groups) == ["/sparse"]


def test_thousands_of_groups(write):
    def fill(file):
        for seed in range(1200):
            group = file.create_group(f"{seed:04d}")
            group["data"] = np.full((3, 4), seed, np.float32)
            group["grid/x"] = np.linspace(0, 1, 4)
            group.attrs["config"] = f"seed: {seed}"

    tree = probe(write(fill))
    assert tree.subgroups() == [f"{seed:04d}" for seed in range(1200)]
    assert tree.groups["/0777"] == {"config": "seed: 777"}
    assert len({array.offset for array in tree.arrays.values()}) == 2400


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", ["just created", "flushed", "SWMR"])
def test_a_file_that_another_program_writes_is_refused(tmp_path, values, version, mode):
    if (version, mode) == ("earliest", "SWMR"):
        pytest.skip("SWMR exists in the newer format only")
    with h5py.File(tmp_path / "a.h5", "w", libver=version) as file:
        dataset = file.create_dataset("u", SHAPE, "f4", chunks=(1, 12, 20))
        dataset[:2] = values[:2]
        if mode == "flushed":
            file.flush()
        if mode == "SWMR":
            file.swmr_mode = True
        with pytest.raises(UserError, match="still being written"):
            probe(tmp_path / "a.h5")
        dataset[:] = values
    np.testing.assert_array_equal(probe(tmp_path / "a.h5").values("u"), values)


def test_a_file_whose_writer_died_is_refused_by_its_header(small):
    with h5py.File(small, "w", libver="latest") as file:
        file["u"] = np.ones(3)
        file.flush()
        content = small.read_bytes()
    small.write_bytes(content)
    with pytest.raises(UserError, match=r"the program that wrote it ended without closing it.*h5clear"):
        probe(small)


def test_a_file_that_grows_while_it_is_looked_at_is_refused(small):
    def grow() -> None:
        with small.open("ab") as file:
            file.write(b"more")

    with pytest.raises(UserError, match="it changed while it was looked at"):
        container_hdf5.look(small, grow)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_that_is_cut_is_refused(small, share):
    content = small.read_bytes()
    small.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"truncated|damaged"):
        probe(small)


def test_arrays_that_claim_the_same_bytes_are_refused(write, values):
    """The address of the second array, in a format without checksums, is made that of the first."""
    path = write(lambda file: (file.create_dataset("a", data=values), file.create_dataset("b", data=values + 1)))
    tree = probe(path)
    first, second = (tree.array(name).offset.to_bytes(8, "little") for name in "ab")
    content = path.read_bytes()
    assert content.count(second) == 1
    path.write_bytes(content.replace(second, first))
    with pytest.raises(UserError, match="two of its arrays, or two chunks of one, claim the same bytes"):
        probe(path)


def test_relative_paths_follow_the_folder_one_works_in(small, tmp_path, monkeypatch):
    probe(small)
    monkeypatch.chdir(tmp_path)
    assert probe("a.h5").path == Path("a.h5")
    with pytest.raises(UserError, match=r"^there is no file 'b\.h5'"):
        probe("b.h5")


def test_the_helper_serves_all_calls_and_is_replaced_when_it_ends(small):
    probe(small)
    first = HELPER.pid
    probe(small)
    assert HELPER.pid == first
    os.kill(first, signal.SIGKILL)
    while HELPER.pid is not None:
        time.sleep(0.01)
    assert probe(small).array("u").shape == SHAPE
    assert HELPER.pid not in (None, first)


def stop(process: int) -> None:
    """A process stops a while after the signal was sent, and could answer until then."""
    os.kill(process, signal.SIGSTOP)
    os.waitid(os.P_PID, process, os.WSTOPPED)


def test_a_crash_is_one_sentence_and_the_next_file_is_read(small, helper):
    tree = helper.ask("look", 60.0, small)
    victim = helper.pid
    stop(victim)

    def crash() -> None:
        os.kill(victim, signal.SIGSEGV)
        os.kill(victim, signal.SIGCONT)

    threading.Timer(0.3, crash).start()
    with pytest.raises(UserError, match=r"a\.h5 is damaged: the library that reads it crashed \(SIGSEGV\)"):
        helper.ask("look", 60.0, small)
    assert helper.ask("look", 60.0, small) == tree


def test_a_hang_is_one_sentence_and_the_next_file_is_read(small, helper):
    tree = helper.ask("look", 60.0, small)
    victim = helper.pid
    stop(victim)
    with pytest.raises(UserError, match=r"a\.h5 is damaged, or the disk .* did not come back within 0\.2 s"):
        helper.ask("look", 0.2, small)
    assert helper.ask("look", 60.0, small) == tree
    assert helper.pid != victim


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python listens to Ctrl-C, also where a shell has started it in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_unanswered_question_does_not_answer_the_next(small, helper, interruptible):
    """After an interruption the pipe may hold half an answer."""
    helper.ask("look", 60.0, small)
    stop(helper.pid)
    threading.Timer(0.3, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        helper.ask("look", 60.0, small)
    assert helper.ask("fetch", 60.0, small, "hdf5", "/t").tolist() == [0, 0.5, 1, 1.5, 2]


def test_threads_take_turns(tmp_path):
    def check(number: int) -> None:
        path = tmp_path / f"{number}.h5"
        for _ in range(10):
            assert probe(path).values("u").tolist() == [number]

    for number in range(8):
        with h5py.File(tmp_path / f"{number}.h5", "w") as file:
            file["u"] = [number]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(check, range(8)))


def _probe_elsewhere(path: Path) -> tuple[int | None, int | None, tuple[int, ...]]:
    before = HELPER.pid
    shape = probe(path).array("u").shape
    return before, HELPER.pid, shape


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_have_helpers_of_their_own(small, method):
    probe(small)
    mine = HELPER.pid
    if method == "fork":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            for before, after, shape in pool.map(_probe_elsewhere, [small] * 4):
                assert before != mine
                assert after not in (None, mine)
                assert shape == SHAPE
    else:
        program = f"""
import sys
sys.argv[0] = "katops"
from katops.data.containers.probe import probe
print(probe({str(small)!r}).array("u").shape)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(SHAPE)
    assert HELPER.pid == mine
    assert probe(small).array("u").shape == SHAPE


def test_the_helper_ends_with_its_parent(small):
    program = f"""
import os, sys
sys.argv[0] = "katops"
from katops.data.containers.probe import probe
from katops.data.containers.probe_client import HELPER
probe({str(small)!r})
print(HELPER.pid, flush=True)
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    state = ["ps", "-o", "stat=", "-p", done.stdout.strip()]
    for _ in range(500):
        left = subprocess.run(state, capture_output=True, text=True, check=False).stdout.strip()
        if not left or left.startswith("Z"):
            return
        time.sleep(0.02)
    pytest.fail(f"the helper is still there: {left}")


def test_the_helper_imports_neither_torch_nor_what_a_file_does_not_need():
    program = """
import sys
sys.argv[0] = "katops"
import katops.data.containers.probe_server
print([name for name in ("torch", "h5py", "scipy", "zarr", "timm", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_helper_finds_packages_where_this_process_does(tmp_path, monkeypatch, helper):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "zarr.py").write_text("def open(store, mode): raise ValueError('a package of my own')\n")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "zarr.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    with pytest.raises(UserError, match="a package of my own"):
        helper.ask("look", 60.0, tmp_path / "store")


def test_nothing_is_imported_from_the_folder_one_works_in(small, tmp_path, monkeypatch, helper):
    (tmp_path / "numpy.py").write_text("raise RuntimeError('from the folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    assert helper.ask("look", 60.0, small).array("u").shape == SHAPE


def test_damaged_files_print_nothing_on_the_terminal(small, capfd):
    content = bytearray(small.read_bytes())
    for position in range(100, 900, 8):
        content[position] ^= 0xFF
    small.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        probe(small)
    assert capfd.readouterr() == ("", "")


def test_opening_in_this_process_tells_what_is_wrong(tmp_path, small):
    np.save(tmp_path / "a.npy", np.ones(3))
    with pytest.raises(UserError, match="not an HDF5 file but a NumPy array"):
        open_file(tmp_path / "a.npy")
    small.write_bytes(small.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"truncated: .* bytes are there, its header promises more"):
        open_file(small)
    with pytest.raises(UserError, match=r"pip install hdf5plugin"), reading(small):
        raise OSError("Can't synchronously read data (required filter 'blosc' is not registered)")
