"""The MNIST digits, as TensorFlow 1's tutorials read them.

    from flowc.examples.tutorials.mnist import input_data
    mnist = input_data.read_data_sets("MNIST_data", one_hot=True)
    images, labels = mnist.train.next_batch(100)

The four idx files (Y. LeCun, C. Cortes, C. Burges: "The MNIST database of handwritten digits") are
taken from the folder that is given, else from `mnist/` in the folder of data sets that
`FLOWC_DATA` names, else downloaded into the folder given and verified.
"""

from __future__ import annotations

import hashlib
import math
import os
import struct
import tempfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

SOURCE = "https://storage.googleapis.com/cvdf-datasets/mnist/"

# file → sha256 of its unpacked bytes (gzip's own bytes differ from one mirror to the next)
FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

MAX_PACKED = 16 << 20  # the largest of the files is 9.9 MB packed
MAX_UNPACKED = 64 << 20  # and 47 MB unpacked
IMAGE_MAGIC = 2051
LABEL_MAGIC = 2049
TIMEOUT_S = 30


def data_dir() -> Path | None:
    """The folder of data sets that the environment names, if it names one."""
    folder = os.environ.get("FLOWC_DATA")
    return Path(folder) if folder else None


# --- idx files ------------------------------------------------------------------------------------


def extract_images(data: bytes, name: str = "images") -> NDArray[np.uint8]:
    """Parse an idx3 file: uint8 `[count, rows, columns, 1]`. ValueError says what is wrong."""
    magic, count, rows, columns = _header(data, 4, name)
    _check_magic(magic, IMAGE_MAGIC, name)
    if rows * columns == 0:
        raise ValueError(f"{name}: images of {rows}x{columns} pixels")
    _check_size(data, 16, count * rows * columns, name)
    pixels = np.frombuffer(data, np.uint8, offset=16)
    return pixels.reshape(count, rows, columns, 1)


def extract_labels(
    data: bytes, one_hot: bool = False, num_classes: int = 10, name: str = "labels"
) -> NDArray[Any]:
    """Parse an idx1 file: uint8 `[count]`, or with `one_hot` float64 `[count, num_classes]`."""
    magic, count = _header(data, 2, name)
    _check_magic(magic, LABEL_MAGIC, name)
    _check_size(data, 8, count, name)
    labels = np.frombuffer(data, np.uint8, offset=8)
    if count and int(labels.max()) >= num_classes:
        raise ValueError(f"{name}: label {int(labels.max())}, where there are {num_classes}")
    return dense_to_one_hot(labels, num_classes) if one_hot else labels


def dense_to_one_hot(labels: NDArray[Any], num_classes: int) -> NDArray[np.float64]:
    """Rows of the identity: `[count]` labels → `[count, num_classes]`."""
    rows: NDArray[np.float64] = np.eye(num_classes)[labels]
    return rows


def _header(data: bytes, words: int, name: str) -> tuple[int, ...]:
    if len(data) < 4 * words:
        raise ValueError(f"{name}: an idx header takes {4 * words} bytes, the file has {len(data)}")
    return struct.unpack(f">{words}I", data[: 4 * words])


def _check_magic(magic: int, wanted: int, name: str) -> None:
    if magic != wanted:
        raise ValueError(f"{name}: magic number {magic}, expected {wanted}")


def _check_size(data: bytes, header: int, wanted: int, name: str) -> None:
    size = len(data) - header
    if size != wanted:
        what = "is truncated" if size < wanted else "has trailing bytes"
        raise ValueError(f"{name} {what}: its header announces {wanted} bytes, {size} follow")


# --- finding, unpacking, downloading --------------------------------------------------------------


def unpack(packed: bytes, name: str) -> bytes:
    """The bytes of a gzip file, at most `MAX_UNPACKED` of them."""
    stream = zlib.decompressobj(wbits=31)
    try:
        data = stream.decompress(packed, MAX_UNPACKED)
    except zlib.error as error:
        raise ValueError(f"{name}: not a gzip file ({error})") from None
    if stream.unconsumed_tail:
        raise ValueError(f"{name}: unpacks to more than {MAX_UNPACKED} bytes")
    if not stream.eof:
        raise ValueError(f"{name}: the gzip file is truncated")
    return data


def _read(path: Path) -> bytes:
    limit = MAX_PACKED if path.suffix == ".gz" else MAX_UNPACKED
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"{path}: larger than {limit} bytes")
    return unpack(data, str(path)) if path.suffix == ".gz" else data


def find(name: str, folders: list[Path]) -> Path | None:
    """The first of the folders' `name.gz` or `name`."""
    for folder in folders:
        for path in (folder / f"{name}.gz", folder / name):
            if path.is_file():
                return path
    return None


def load(name: str, train_dir: Path, source_url: str = SOURCE) -> bytes:
    """The unpacked bytes of one of the four files, from a folder or from `source_url`."""
    shared = data_dir()
    folders = [train_dir] + ([shared / "mnist"] if shared else [])
    path = find(name, folders)
    return _read(path) if path else download(name, train_dir, source_url)


def download(name: str, train_dir: Path, source_url: str = SOURCE) -> bytes:
    """Fetch `name.gz` into `train_dir`, once its unpacked bytes have the known sha256."""
    url = f"{source_url.rstrip('/')}/{name}.gz"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S) as response:
            packed = response.read(MAX_PACKED + 1)
    except (urllib.error.URLError, OSError) as error:
        raise OSError(_offline_help(url, name, train_dir, error)) from error
    if len(packed) > MAX_PACKED:
        raise ValueError(f"{url}: larger than {MAX_PACKED} bytes")
    data = unpack(packed, url)
    digest = hashlib.sha256(data).hexdigest()
    if digest != FILES[name]:
        raise ValueError(f"{url}: sha256 of the unpacked file is {digest}, expected {FILES[name]}")
    _store(packed, train_dir / f"{name}.gz")
    return data


def _store(data: bytes, path: Path) -> None:
    """Write a file that other processes see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _offline_help(url: str, name: str, train_dir: Path, error: Exception) -> str:
    names = ", ".join(f"{file}.gz" for file in FILES)
    return (
        f"MNIST: no {name}.gz in {train_dir}, and {url} cannot be read ({error}).\n"
        f"On a machine with internet fetch these files: {names}; put them into {train_dir},\n"
        f"or into a folder `mnist` of a folder that the environment variable FLOWC_DATA names."
    )


# --- data sets ------------------------------------------------------------------------------------


class DataSet:
    """Images and labels that are handed out in batches, shuffled anew for every epoch.

    `images` is `[count, rows, columns, 1]` uint8, with `reshape` it becomes `[count, pixels]`;
    with dtype float32 its values become 0…1. With `fake_data` every batch is a made-up image.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: NDArray[Any],
        fake_data: bool = False,
        one_hot: bool = False,
        dtype: DTypeLike | Any = np.float32,
        reshape: bool = True,
        seed: int | None = None,
    ) -> None:
        kind = _element_type(dtype)
        self._random = np.random.RandomState(seed)
        self._fake = fake_data
        self._one_hot = one_hot
        if fake_data:
            self._num_examples = 10000
        elif images.shape[0] != labels.shape[0]:
            raise ValueError(f"{images.shape[0]} images, but {labels.shape[0]} labels")
        else:
            self._num_examples = images.shape[0]
            if reshape:
                images = images.reshape(images.shape[0], math.prod(images.shape[1:]))
            if kind == np.float32:
                images = images.astype(np.float32) * np.float32(1 / 255)
        self._images = images
        self._labels = labels
        self._epochs_completed = 0
        self._index_in_epoch = 0

    @property
    def images(self) -> NDArray[Any]:
        """All images, in the present order."""
        return self._images

    @property
    def labels(self) -> NDArray[Any]:
        """All labels, in the order of the images."""
        return self._labels

    @property
    def num_examples(self) -> int:
        """How many images there are."""
        return self._num_examples

    @property
    def epochs_completed(self) -> int:
        """How often every image has been handed out."""
        return self._epochs_completed

    def next_batch(
        self, batch_size: int, fake_data: bool = False, shuffle: bool = True
    ) -> tuple[Any, Any]:
        """The next `batch_size` images and labels.

        A batch that crosses the end of an epoch holds the epoch's rest and then the first images of
        the next one, shuffled anew. ValueError for a batch larger than the data set.
        """
        if fake_data or self._fake:
            return self._fake_batch(batch_size)
        if not 0 <= batch_size <= self._num_examples:
            raise ValueError(f"a batch of {batch_size} from {self._num_examples} examples")
        start = self._index_in_epoch
        if start == 0 and self._epochs_completed == 0 and shuffle:
            self._shuffle()
        if start + batch_size <= self._num_examples:
            self._index_in_epoch = start + batch_size
            chosen = slice(start, self._index_in_epoch)
            return self._images[chosen], self._labels[chosen]
        self._epochs_completed += 1
        rest_images, rest_labels = self._images[start:], self._labels[start:]
        if shuffle:
            self._shuffle()
        end = batch_size - (self._num_examples - start)
        self._index_in_epoch = end
        images = np.concatenate([rest_images, self._images[:end]])
        return images, np.concatenate([rest_labels, self._labels[:end]])

    def _shuffle(self) -> None:
        """Reorder images and labels, in new arrays: batches are views of the old ones."""
        order = self._random.permutation(self._num_examples)
        self._images = self._images[order]
        self._labels = self._labels[order]

    def _fake_batch(self, batch_size: int) -> tuple[list[list[float]], list[Any]]:
        label: Any = [1] + [0] * 9 if self._one_hot else 0
        return [[1.0] * 784 for _ in range(batch_size)], [label for _ in range(batch_size)]


class Datasets(NamedTuple):
    """What `read_data_sets` returns."""

    train: DataSet
    validation: DataSet
    test: DataSet


def _element_type(dtype: Any) -> np.dtype[Any]:
    """uint8 or float32, from a NumPy dtype or one of flowc's."""
    kind: np.dtype[Any] = np.dtype(getattr(dtype, "as_numpy_dtype", dtype))
    if kind not in (np.uint8, np.float32):
        raise TypeError(f"dtype {kind}: images are uint8 or float32")
    return kind


def _pair(stem: str, folder: Path, one_hot: bool, source_url: str) -> tuple[Any, Any]:
    images_name, labels_name = f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"
    images = extract_images(load(images_name, folder, source_url), images_name)
    labels = extract_labels(load(labels_name, folder, source_url), one_hot, name=labels_name)
    if len(images) != len(labels):
        raise ValueError(f"{images_name} holds {len(images)}, {labels_name} {len(labels)}")
    return images, labels


def read_data_sets(
    train_dir: str | os.PathLike[str],
    fake_data: bool = False,
    one_hot: bool = False,
    dtype: DTypeLike | Any = np.float32,
    reshape: bool = True,
    validation_size: int = 5000,
    seed: int | None = None,
    source_url: str = SOURCE,
) -> Datasets:
    """MNIST as training, validation and test sets: 55,000, 5,000 and 10,000 digits.

    The first `validation_size` training images are the validation set. Images are float32 in 0…1
    (or uint8) `[n, 784]`, without `reshape` `[n, 28, 28, 1]`; labels are uint8 `[n]`, with
    `one_hot` float64 `[n, 10]`. ValueError for a file that is damaged, OSError where files are
    missing and cannot be downloaded.
    """
    if fake_data:
        nothing = np.zeros((0,), np.uint8)
        sets = [DataSet(nothing, nothing, True, one_hot, dtype, seed=seed) for _ in range(3)]
        return Datasets(*sets)
    folder = Path(train_dir)
    images, labels = _pair("train", folder, one_hot, source_url)
    test_images, test_labels = _pair("t10k", folder, one_hot, source_url)
    if not 0 <= validation_size <= len(images):
        raise ValueError(f"validation_size {validation_size}: must lie between 0 and {len(images)}")
    cut = validation_size

    def part(images: NDArray[Any], labels: NDArray[Any]) -> DataSet:
        return DataSet(images, labels, dtype=dtype, reshape=reshape, seed=seed)

    train = part(images[cut:], labels[cut:])
    validation = part(images[:cut], labels[:cut])
    return Datasets(train, validation, part(test_images, test_labels))
