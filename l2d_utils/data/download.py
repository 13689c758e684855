"""Fetch a file from the Hugging Face hub, pinned and verified; nothing else in the package downloads."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

from l2d_utils.data.files import DataError, data_folder, file_sha256
from l2d_utils.results import write_atomically


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
    if path.is_file() and file_sha256(path) == sha256:
        return path
    content = Path(fetch(repo, filename, revision)).read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DataError(f"{repo}/{filename} at {revision}: expected sha256 {sha256}, found {found}; nothing was kept")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))
    return path
