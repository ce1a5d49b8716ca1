"""`input_data` reads idx files as TensorFlow 1's tutorials expect, and refuses damaged ones."""

from __future__ import annotations

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowc.examples.tutorials.mnist import input_data

TRAIN, TEST = 30, 7


def idx_images(count: int, rows: int = 28, columns: int = 28, first: int = 0) -> bytes:
    """Image number i holds the value (first + i) in every pixel."""
    values = (np.arange(count) + first).astype(np.uint8)
    pixels = np.repeat(values, rows * columns)
    return struct.pack(">4I", 2051, count, rows, columns) + pixels.tobytes()


def idx_labels(count: int, first: int = 0) -> bytes:
    values = ((np.arange(count) + first) % 10).astype(np.uint8)
    return struct.pack(">2I", 2049, count) + values.tobytes()


CONTENTS = {
    "train-images-idx3-ubyte": idx_images(TRAIN),
    "train-labels-idx1-ubyte": idx_labels(TRAIN),
    "t10k-images-idx3-ubyte": idx_images(TEST, first=100),
    "t10k-labels-idx1-ubyte": idx_labels(TEST, first=3),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FLOWC_DATA", raising=False)
    for number, (name, data) in enumerate(CONTENTS.items()):
        if number % 2:
            (tmp_path / name).write_bytes(data)
        else:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(data))
    return tmp_path


def ids(images: np.ndarray) -> list[int]:
    """The numbers of the images of a float batch."""
    return [int(v) for v in np.rint(np.asarray(images)[:, 0] * 255)]


def test_sizes_and_types(folder: Path) -> None:
    sets = input_data.read_data_sets(folder, validation_size=5)
    assert [s.num_examples for s in sets] == [25, 5, 7]
    assert sets._fields == ("train", "validation", "test")
    assert sets.train.images.shape == (25, 784)
    assert sets.train.images.dtype == np.float32
    assert sets.train.labels.dtype == np.uint8
    assert ids(sets.validation.images) == [0, 1, 2, 3, 4]
    assert ids(sets.test.images) == list(range(100, 107))
    assert sets.test.labels.tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert float(sets.test.images.max()) <= 1.0


def test_options(folder: Path) -> None:
    sets = input_data.read_data_sets(
        str(folder), one_hot=True, dtype=np.uint8, reshape=False, validation_size=0
    )
    assert sets.train.images.shape == (TRAIN, 28, 28, 1)
    assert sets.train.images.dtype == np.uint8
    assert sets.train.labels.shape == (TRAIN, 10)
    assert (sets.train.labels.argmax(1) == np.arange(TRAIN) % 10).all()
    assert sets.validation.num_examples == 0
    with pytest.raises(TypeError, match="float64: images are uint8 or float32"):
        input_data.read_data_sets(folder, dtype=np.float64, validation_size=0)
    with pytest.raises(ValueError, match="validation_size 31: must lie between 0 and 30"):
        input_data.read_data_sets(folder, validation_size=31)


def test_a_dtype_of_flowc_is_taken(folder: Path) -> None:
    class Uint8:
        as_numpy_dtype = np.uint8

    sets = input_data.read_data_sets(folder, dtype=Uint8(), validation_size=0)
    assert sets.train.images.dtype == np.uint8


def test_batches_without_shuffling_go_round(folder: Path) -> None:
    train = input_data.read_data_sets(folder, validation_size=20).train
    seen = [ids(train.next_batch(4, shuffle=False)[0]) for _ in range(5)]
    assert seen == [
        [20, 21, 22, 23],
        [24, 25, 26, 27],
        [28, 29, 20, 21],
        [22, 23, 24, 25],
        [26, 27, 28, 29],
    ]
    assert train.epochs_completed == 1
    assert ids(train.next_batch(4, shuffle=False)[0]) == [20, 21, 22, 23]
    assert train.epochs_completed == 2


def test_an_epoch_ends_with_the_call_that_needs_the_next_one(folder: Path) -> None:
    train = input_data.read_data_sets(folder, validation_size=20).train
    train.next_batch(10)
    assert train.epochs_completed == 0
    train.next_batch(1)
    assert train.epochs_completed == 1


def test_shuffled_epochs_hold_every_image_once_with_its_label(folder: Path) -> None:
    train = input_data.read_data_sets(folder, validation_size=0, seed=1).train
    order: list[int] = []
    for _ in range(2 * TRAIN // 4):
        images, labels = train.next_batch(4)
        assert [i % 10 for i in ids(images)] == labels.tolist()
        order += ids(images)
    assert sorted(order[:TRAIN]) == sorted(order[TRAIN:]) == list(range(TRAIN))
    assert order[:TRAIN] != order[TRAIN:] != list(range(TRAIN))


def test_a_batch_is_not_changed_by_later_shuffles(folder: Path) -> None:
    train = input_data.read_data_sets(folder, validation_size=0, seed=1).train
    images, _ = train.next_batch(10)
    before = images.copy()
    for _ in range(7):
        train.next_batch(10)
    assert (images == before).all()


def test_a_seed_gives_the_same_batches(folder: Path) -> None:
    def batches(seed: int) -> list[list[int]]:
        train = input_data.read_data_sets(folder, validation_size=0, seed=seed).train
        return [ids(train.next_batch(7)[0]) for _ in range(9)]

    assert batches(3) == batches(3) != batches(4)


def test_a_batch_larger_than_the_set_is_refused(folder: Path) -> None:
    test = input_data.read_data_sets(folder, validation_size=0).test
    assert len(test.next_batch(7)[0]) == 7
    with pytest.raises(ValueError, match="a batch of 8 from 7 examples"):
        test.next_batch(8)


def test_fake_data() -> None:
    sets = input_data.read_data_sets("nowhere", fake_data=True, one_hot=True)
    images, labels = sets.train.next_batch(3)
    assert np.shape(images) == (3, 784)
    assert np.shape(labels) == (3, 10)
    assert sets.test.num_examples == 10000


def test_the_folder_of_data_sets(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path_factory.mktemp("data")
    folder.rename(shared / "mnist")
    monkeypatch.setenv("FLOWC_DATA", str(shared))
    empty = tmp_path_factory.mktemp("empty")
    sets = input_data.read_data_sets(empty, validation_size=0)
    assert sets.train.num_examples == TRAIN
    assert not list(empty.iterdir())


def damaged(name: str, data: bytes, folder: Path) -> None:
    (folder / f"{name}.gz").unlink(missing_ok=True)
    (folder / name).write_bytes(data)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("train-images-idx3-ubyte", b"", "an idx header takes 16 bytes, the file has 0"),
        ("train-images-idx3-ubyte", idx_labels(30), r"magic number 2049, expected 2051"),
        ("train-labels-idx1-ubyte", idx_images(30), r"magic number 2051, expected 2049"),
        ("train-images-idx3-ubyte", idx_images(30)[:-1], "is truncated.*23520 bytes, 23519 follow"),
        ("train-labels-idx1-ubyte", idx_labels(30) + b"x", "trailing bytes.*30 bytes, 31 follow"),
        ("train-labels-idx1-ubyte", idx_labels(29), "holds 30, train-labels-idx1-ubyte 29"),
        ("train-images-idx3-ubyte", idx_images(30, 0), "images of 0x28 pixels"),
        ("t10k-labels-idx1-ubyte", struct.pack(">2I", 2049, 7) + b"\x0a" * 7, "label 10"),
        ("t10k-images-idx3-ubyte", struct.pack(">4I", 2051, *[2**32 - 1] * 3), "is truncated"),
    ],
)
def test_damaged_files(name: str, data: bytes, message: str, folder: Path) -> None:
    damaged(name, data, folder)
    with pytest.raises(ValueError, match=message):
        input_data.read_data_sets(folder, validation_size=0)


def test_damaged_gzip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "train-images-idx3-ubyte.gz"
    packed = path.read_bytes()
    path.write_bytes(packed[:-10])
    with pytest.raises(ValueError, match="the gzip file is truncated"):
        input_data.read_data_sets(folder)
    path.write_bytes(b"no gzip at all")
    with pytest.raises(ValueError, match="not a gzip file"):
        input_data.read_data_sets(folder)
    path.write_bytes(packed)
    monkeypatch.setattr(input_data, "MAX_UNPACKED", 1000)
    with pytest.raises(ValueError, match="unpacks to more than 1000 bytes"):
        input_data.read_data_sets(folder)


@given(st.binary(max_size=64))
def test_no_bytes_crash_the_parsers(data: bytes) -> None:
    for parse in (input_data.extract_images, input_data.extract_labels):
        for magic in (b"", struct.pack(">I", 2051), struct.pack(">I", 2049)):
            try:
                parsed = parse(magic + data)
            except ValueError:
                continue
            assert parsed.size <= len(data)


def serve(folder: Path, files: dict[str, bytes]) -> str:
    """A place to download from that needs no network."""
    for name, data in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data))
    return folder.as_uri()


def test_download_verifies_and_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.delenv("FLOWC_DATA", raising=False)
    url = serve(tmp_path_factory.mktemp("mirror"), CONTENTS)
    target = tmp_path / "new" / "folder"
    with pytest.raises(ValueError, match=r"sha256 of the unpacked file is .*, expected ba891046"):
        input_data.read_data_sets(target, source_url=url)
    assert not target.exists()
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in CONTENTS.items()}
    monkeypatch.setattr(input_data, "FILES", sums)
    sets = input_data.read_data_sets(target, source_url=url, validation_size=0)
    assert sets.train.num_examples == TRAIN
    assert sorted(p.name for p in target.iterdir()) == sorted(f"{n}.gz" for n in CONTENTS)


def test_offline_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLOWC_DATA", raising=False)
    nowhere = (tmp_path / "nowhere").as_uri()
    with pytest.raises(OSError, match=r"no train-images-idx3-ubyte.gz in") as caught:
        input_data.read_data_sets(tmp_path, source_url=nowhere)
    text = str(caught.value)
    assert "FLOWC_DATA" in text
    assert all(f"{name}.gz" in text for name in CONTENTS)


def test_the_real_files_if_they_are_at_hand(tmp_path: Path) -> None:
    shared = input_data.data_dir()
    if shared is None or not (shared / "mnist").is_dir():
        pytest.skip("FLOWC_DATA names no folder with mnist/")
    for name, digest in input_data.FILES.items():
        assert hashlib.sha256(input_data.load(name, tmp_path)).hexdigest() == digest
    sets = input_data.read_data_sets(tmp_path, one_hot=True)
    assert [s.num_examples for s in sets] == [55000, 5000, 10000]
