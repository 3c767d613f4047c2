"""Labelled images: where they come from, what they are called, and how they are shared out."""

import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from katops.data import image_check
from katops.data.image_check import check_readable
from katops.data.image_files import real_paths
from katops.data.image_loader import image_loader
from katops.data.image_modes import to_8_bit
from katops.data.images import digits, folder, join, public, split_folder, stratified
from katops.data.preprocessing import Preprocessing
from katops.errors import UserError

AUGMENTATION = {
    "scale": [0.5, 1.0],
    "ratio": [0.75, 1.33],
    "hflip": 0.5,
    "color_jitter": 0.4,
    "auto_augment": "rand-m9-mstd0.5",
    "random_erasing": 0.5,
}


def test_digits_are_the_1797_grey_images_of_scikit_learn_over_the_full_range() -> None:
    from sklearn.datasets import load_digits

    data = digits()
    assert len(data) == 1797
    assert data.native_size == (1, 8, 8)
    assert data.classes == tuple("0123456789")
    assert sum(data.count().values()) == 1797
    np.testing.assert_array_equal(data.labels, load_digits().target)
    images = np.stack([np.asarray(data.read(index, "L")) for index in range(100)])
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_allclose(images / 255 * 16, load_digits().images[:100], atol=0.04)


def test_digits_say_how_to_get_scikit_learn_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r"pip install katops\[tables\]"):
        digits()


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(5, 60), min_size=2, max_size=6),
    st.floats(0.15, 0.4),
    st.floats(0.15, 0.4),
    st.integers(0, 99),
)
def test_a_stratified_split_is_disjoint_whole_and_keeps_the_shares_of_every_class(
    sizes: list[int], validation: float, test: float, seed: int
) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = stratified(labels, validation, test, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    for share, part in zip((validation, test), parts[1:], strict=True):
        counts = np.bincount(labels[part], minlength=len(sizes))
        assert (np.abs(counts - share * np.array(sizes)) <= 0.5).all()
    for ours, again in zip(parts, stratified(labels, validation, test, seed), strict=True):
        np.testing.assert_array_equal(ours, again)


def test_another_split_seed_gives_another_split() -> None:
    labels = digits().labels
    one, other = (stratified(labels, 0.2, 0.2, seed)[0] for seed in (0, 1))
    assert not np.array_equal(one, other)


def test_a_split_that_leaves_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(UserError, match="leave none"):
        stratified(np.array([0, 0, 1, 1]), 0.49, 0.49, 0)
    with pytest.raises(UserError, match=r"validation_split is 0\.1, which is no whole image"):
        stratified(np.array([0, 0, 1, 1]), 0.1, 0.0, 0)


def test_a_folder_names_classes_in_natural_order_and_counts_them(image_folder: Path) -> None:
    data = folder(image_folder / "train")
    assert data.classes == ("cat", "dog", "owl")
    assert data.count() == {"cat": 8, "dog": 8, "owl": 8}
    assert data.names[0] == "cat/0.png"
    assert data.read(0, "RGB").mode == "RGB"


def test_a_class_without_validation_images_does_not_shift_the_labels(image_folder: Path) -> None:
    for file in (image_folder / "val" / "cat").iterdir():
        file.unlink()
    (image_folder / "val" / "cat").rmdir()
    train = folder(image_folder / "train")
    validation = folder(image_folder / "val", classes=train.classes)
    named = {train.classes[label] for label in validation.labels}
    assert named == {"dog", "owl"}
    for name, label in zip(validation.names, validation.labels, strict=True):
        assert name.split("/")[0] == train.classes[label]


def test_a_folder_that_is_no_class_of_the_training_is_named(image_folder: Path) -> None:
    (image_folder / "val" / "owl").rename(image_folder / "val" / "owls")
    with pytest.raises(UserError, match=r"owls' is no class of the training images; did you mean 'owl'"):
        folder(image_folder / "val", classes=folder(image_folder / "train").classes)


def test_a_class_map_orders_the_classes_and_misses_none(image_folder: Path) -> None:
    (image_folder / "classes.txt").write_text("owl\ncat\ndog\n")
    assert folder(image_folder / "train", class_map=image_folder / "classes.txt").classes == ("owl", "cat", "dog")
    (image_folder / "classes.txt").write_text("owl\ncat\n")
    with pytest.raises(UserError, match="lacks dog"):
        folder(image_folder / "train", class_map=image_folder / "classes.txt")


def test_a_missing_split_is_never_replaced_by_the_whole_folder(image_folder: Path) -> None:
    with pytest.raises(UserError, match=r"no folder for the split 'vall'; did you mean 'val'"):
        split_folder(image_folder, "vall")
    assert split_folder(image_folder / "train", ".") == image_folder / "train"


def test_folders_without_images_or_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        folder(tmp_path / "nothing")
    (tmp_path / "notes.txt").write_text("no image")
    with pytest.raises(UserError, match="holds no images"):
        folder(tmp_path)
    Image.new("L", (4, 4)).save(tmp_path / "loose.png")
    with pytest.raises(UserError, match="in no folder of a class"):
        folder(tmp_path)


def test_the_class_is_the_first_folder_whatever_is_nested_in_it(image_folder: Path) -> None:
    for name in ("cat", "dog", "owl"):
        for time, number in (("day", 0), ("night", 1)):
            (image_folder / "train" / name / time).mkdir()
            file = image_folder / "train" / name / f"{number}.png"
            file.rename(file.parent / time / file.name)
    data = folder(image_folder / "train")
    assert data.count() == {"cat": 8, "dog": 8, "owl": 8}
    assert "owl/night/1.png" in data.names


def test_hidden_files_and_folders_are_no_images_and_no_classes(image_folder: Path) -> None:
    train = image_folder / "train"
    before = folder(train).fingerprint
    for hidden in (train / ".ipynb_checkpoints", train / "cat" / ".thumbnails"):
        hidden.mkdir()
        (hidden / "0.png").write_bytes((train / "cat" / "0.png").read_bytes())
    (train / "dog" / "._3.png").write_bytes(b"resource fork")
    (train / "._loose.png").write_bytes(b"resource fork")
    data = folder(train)
    assert (data.classes, data.fingerprint) == (("cat", "dog", "owl"), before)
    (image_folder / "classes.txt").write_text("owl\ncat\ndog\n")
    assert folder(train, class_map=image_folder / "classes.txt").classes == ("owl", "cat", "dog")


@pytest.mark.parametrize("ending", ["webp", "bmp", "TIF", "gif", "ppm"])
def test_other_formats_are_read_with_the_first_frame(image_folder: Path, ending: str) -> None:
    cat = image_folder / "train" / "cat"
    image = Image.open(cat / "0.png")
    options = {"save_all": True, "append_images": [Image.new("RGB", image.size)]} if ending in ("gif", "TIF") else {}
    image.save(cat / f"8.{ending}", **options, **({"lossless": True} if ending == "webp" else {}))
    data = folder(image_folder / "train")
    assert data.count()["cat"] == 9
    assert data.warnings == ()
    read = np.asarray(data.read(list(data.names).index(f"cat/8.{ending}"), "L")).astype(int)
    assert np.abs(read - np.asarray(image.convert("L"))).max() <= 1


def test_files_that_look_like_images_but_are_not_read_are_counted_and_named(image_folder: Path) -> None:
    for name in ("cat/a.heic", "dog/b.AVIF", "dog/notes.txt"):
        (image_folder / "train" / name).write_bytes(b"")
    (warning,) = folder(image_folder / "train").warnings
    assert warning.startswith("2 files look like images and are not read in ")
    assert "cat/a.heic, dog/b.AVIF" in warning
    assert "notes.txt" not in warning


def test_a_class_folder_without_images_is_refused_by_name(image_folder: Path) -> None:
    for file in (image_folder / "train" / "dog").iterdir():
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"the folder 'dog' of .* holds no images; .* and not the 8 \.heic there"):
        folder(image_folder / "train")
    (image_folder / "train" / "bird").mkdir()
    with pytest.raises(UserError, match=r"the 2 folders bird, dog of .* hold no images"):
        folder(image_folder / "train")


def test_folders_of_splits_are_not_taken_for_classes(image_folder: Path) -> None:
    with pytest.raises(UserError, match=r"the folders train, val of .* look like splits .*data\.train_split"):
        folder(image_folder)
    (image_folder / "rail" / "train").mkdir(parents=True)
    (image_folder / "rail" / "tram").mkdir()
    for name in ("train", "tram"):
        (image_folder / "rail" / name / "0.png").write_bytes((image_folder / "val/cat/0.png").read_bytes())
    assert folder(image_folder / "rail").classes == ("train", "tram")


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bit_values_are_scaled_to_8_bits_rather_than_cut_off(dtype: str) -> None:
    values = np.array([[0, 128, 129, 255, 256], [257, 32768, 65000, 65406, 65407]])
    image = Image.frombytes("I;16" if dtype == "<u2" else "I;16B", (5, 2), values.astype(dtype).tobytes())
    for mode in ("L", "RGB"):
        read = np.asarray(to_8_bit(image, mode))
        expected = np.rint(values / 257).astype(np.uint8)
        np.testing.assert_array_equal(read if mode == "L" else read[..., 0], expected)
        assert read.max() == 255


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_16_bit_files_are_read_over_their_full_range(image_folder: Path, ending: str) -> None:
    values = np.linspace(0, 65535, 144).reshape(12, 12).astype(np.uint16)
    path = image_folder / "train" / "cat" / f"9.{ending}"
    if ending == "pgm":
        path.write_bytes(b"P5 12 12 65535\n" + values.astype(">u2").tobytes())
    else:
        Image.fromarray(values).save(path)
    data = folder(image_folder / "train")
    read = np.asarray(data.read(list(data.names).index(f"cat/9.{ending}"), "L"))
    np.testing.assert_array_equal(read, np.rint(values / 257).astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_values_of_unknown_range_are_found_before_training_and_when_read(image_folder: Path, dtype: type) -> None:
    Image.fromarray(np.ones((4, 4), dtype)).save(image_folder / "train" / "cat" / "9.tif")
    data = folder(image_folder / "train")
    with pytest.raises(UserError, match=r"'cat/9\.tif' of .*whose range is not known; save it with 8 or 16 bits"):
        check_readable([data])
    with pytest.raises(UserError, match=r"cannot read the image 'cat/9\.tif'.* range is not known"):
        data.read(list(data.names).index("cat/9.tif"), "RGB")


def test_all_bad_files_are_counted_and_the_first_ones_named_at_once(image_folder: Path) -> None:
    for name in ("train/cat/2.png", "train/dog/3.png", "val/owl/1.png"):
        (image_folder / name).write_bytes(b"no image")
    seen: list[tuple[int, int]] = []
    with pytest.raises(UserError, match=r"3 of 36 images are not readable: 'cat/2\.png' .*'dog/3\.png' .*'owl/1\.png'"):
        check_readable([folder(image_folder / "train"), folder(image_folder / "val")], lambda *done: seen.append(done))
    assert seen == [(24, 36), (36, 36)]


def test_a_cut_image_is_found_before_training_unless_there_are_too_many_to_decode(
    image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image_folder / "train" / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:-40])
    data = folder(image_folder / "train")
    with pytest.raises(UserError, match=r"one of 24 images is not readable: 'dog/3\.png'"):
        check_readable([data])
    monkeypatch.setattr(image_check, "MOST_DECODED", 23)
    check_readable([data])


def test_a_joined_set_has_the_images_of_its_parts(image_folder: Path) -> None:
    train = folder(image_folder / "train")
    val = folder(image_folder / "val", classes=train.classes)
    joined = join({"train": (train, np.array([3, 20])), "test": (val, np.array([1, 5, 11]))})
    assert joined.names == ["train/cat/3.png", "train/owl/4.png", "test/cat/1.png", "test/dog/1.png", "test/owl/3.png"]
    assert joined.labels.tolist() == [0, 2, 0, 1, 2]
    for index, (source, number) in enumerate([(train, 3), (train, 20), (val, 1), (val, 5), (val, 11)]):
        np.testing.assert_array_equal(joined.read(index, "RGB"), source.read(number, "RGB"))


def test_a_file_has_one_real_path_however_it_is_reached(image_folder: Path) -> None:
    (image_folder / "link").symlink_to(image_folder / "train" / "cat")
    (image_folder / "val" / "cat" / "link.png").symlink_to(image_folder / "train" / "cat" / "0.png")
    ways = ("train/cat/0.png", "link/0.png", "val/cat/link.png", "val/../train/cat/0.png")
    assert real_paths(image_folder / way for way in ways) == {str((image_folder / ways[0]).resolve())}


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_named_before_training(image_folder: Path, content: bytes) -> None:
    (image_folder / "train" / "dog" / "3.png").write_bytes(content)
    with pytest.raises(UserError, match=r"one of 24 images is not readable: 'dog/3\.png' of "):
        check_readable([folder(image_folder / "train")])


def test_a_cut_image_is_named_when_it_is_read(image_folder: Path) -> None:
    path = image_folder / "train" / "dog" / "3.png"
    path.write_bytes(path.read_bytes()[:-40])
    data = folder(image_folder / "train")
    index = list(data.names).index("dog/3.png")
    with pytest.raises(UserError, match=r"cannot read the image 'dog/3\.png'"):
        data.read(index, "RGB")
    loader = image_loader(data, np.array([0, index]), size_8("RGB").evaluation, mode="RGB", batch_size=2)
    with pytest.raises(UserError, match=r"dog/3\.png"):
        list(loader)


def test_the_fingerprint_sees_names_labels_and_contents(image_folder: Path) -> None:
    before = folder(image_folder / "train").fingerprint
    assert folder(image_folder / "train").fingerprint == before
    (image_folder / "train" / "dog" / "3.png").rename(image_folder / "train" / "cat" / "9.png")
    assert folder(image_folder / "train").fingerprint != before
    assert digits().fingerprint == digits().fingerprint != before


@pytest.mark.parametrize("name", ["torch/cifar10", "torch/nothing", "nothing/at/all"])
def test_a_public_data_set_that_is_not_there_gets_one_sentence(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"data\.dataset .* cannot be opened: .*; allowed: 'digits', 'folder'"):
        public(name, tmp_path, "train")


def test_a_data_set_of_torchvision_is_read_with_its_own_classes(tmp_path: Path) -> None:
    from torchvision.datasets import MNIST

    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 255, (6, 28, 28), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)
    for part in ("train", "t10k"):
        header = b"\x00\x00\x08\x03" + b"".join(n.to_bytes(4, "big") for n in images.shape)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01" + (6).to_bytes(4, "big") + labels.tobytes())
    data = public("torch/mnist", tmp_path, "train")
    assert data.classes == tuple(MNIST.classes)
    np.testing.assert_array_equal(data.labels, labels)
    np.testing.assert_array_equal(np.asarray(data.read(2, "L")), images[2])


def size_8(mode: str = "L") -> Preprocessing:
    channels = 1 if mode == "L" else 3
    return Preprocessing((channels, 8, 8), (0.5,) * channels, (0.25,) * channels, "bilinear", 1.0)


def batches(epoch: int, workers: int = 0, seed: int = 0) -> list[torch.Tensor]:
    data = digits()
    transform = size_8("RGB").training(AUGMENTATION)
    loader = image_loader(
        data, np.arange(40), transform, mode="RGB", batch_size=8, training=True, seed=seed, workers=workers
    )
    loader.sampler.set_epoch(epoch)
    return [value for batch in loader for value in (batch.images, batch.labels, batch.index)]


def test_batches_are_a_function_of_seed_and_epoch_whatever_the_workers_and_the_global_generators() -> None:
    first = batches(3)
    torch.manual_seed(99)
    random.seed(99)
    np.random.seed(99)  # noqa: NPY002 - the generator that transforms draw from
    for again in (batches(3), batches(3, workers=2)):
        for ours, theirs in zip(first, again, strict=True):
            assert torch.equal(ours, theirs)
    assert not torch.equal(first[0], batches(4)[0])
    assert not torch.equal(first[0], batches(3, seed=1)[0])


def test_drawing_augmentations_leaves_the_global_generators_alone() -> None:
    def state() -> tuple:
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    expected = state()
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(5)
    batches(0)
    assert state() == expected


def test_evaluation_normalises_and_denormalising_is_the_inverse() -> None:
    data, preprocessing = digits(), size_8()
    (batch,) = image_loader(data, np.arange(5), preprocessing.evaluation, mode="L", batch_size=5)
    raw = torch.stack([torch.from_numpy(np.asarray(data.read(i, "L")).copy()) for i in range(5)]).float() / 255
    torch.testing.assert_close(batch.images, (raw[:, None] - 0.5) / 0.25)
    torch.testing.assert_close(preprocessing.denormalise(batch.images), raw[:, None])
    assert Preprocessing.from_dict(preprocessing.to_dict()) == preprocessing


def test_an_unknown_augmentation_is_told_with_an_example() -> None:
    with pytest.raises(UserError, match="auto_augment 'rund-m9' is not understood by timm"):
        size_8().training({**AUGMENTATION, "auto_augment": "rund-m9"})


@pytest.mark.parametrize(("name", "meant"), [("digit", "digits"), ("cifar10", "torch/cifar10")])
def test_mistyped_data_set_is_suggested(name: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"unknown data.dataset '{name}'; did you mean '{meant}'"):
        public(name, None, "train")
