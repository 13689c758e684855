"""Results by address, in one folder. What is there is whole, and is never overwritten.

    <root>/finished/<name>-<address>/   notebook.ipynb, figures/, log.txt if the kernel complained, record.json
    <root>/failed/<name>-<address>/     the last failed attempt: the same as far as it came, and error.txt
    <root>/damaged/...                  results that no longer are what was filed; kept, but never used
    <root>/work/...                     what is running now, and what was when a sweep or a worker was killed
    <root>/lock                         held by the one sweep that may write here

A result is made in `work` and renamed to its place. `record.json` holds the checksum of every other file and of
itself, so a result that lost a byte (on the disk, or to a power failure) is noticed and made again.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from l2d_utils.data.files import file_sha256

from .grid import Task, canonical
from .notebooks import UsageError

FOLDERS = ("finished", "failed", "damaged", "work")


class Damaged(Exception):
    """A stored result is not what was filed; says which file and why."""


@contextlib.contextmanager
def opened(root: Path) -> Iterator[None]:
    """Create the folder if need be and hold its lock; clear what an earlier sweep left half done.

    The lock belongs to the process and goes with it, however it ends: there is no stale lock. Raises UsageError
    when another sweep holds it or the folder cannot be written.
    """
    try:
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        file = (root / "lock").open("a")
    except OSError as error:
        raise UsageError(f"cannot write results to {root}: {error.strerror}") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another sweep is writing to {root}; wait for it, or take another folder") from None
        for left in (root / "work").iterdir():
            shutil.rmtree(left, ignore_errors=True)
        yield


def workspace(root: Path, task: Task) -> tuple[Path, int]:
    """A new folder for one attempt, and the attempt's number: attempts that were lost left theirs behind."""
    attempt = 1 + len(list((root / "work").glob(f"{task.key}.*")))
    folder = root / "work" / f"{task.key}.{secrets.token_hex(4)}"
    (folder / "figures").mkdir(parents=True)
    return folder, attempt


def file_result(root: Path, task: Task, work: Path, record: dict) -> None:
    """Seal the folder `work` and rename it to its place. If the place is taken, the result there stays."""
    files = {p.relative_to(work).as_posix(): file_sha256(p) for p in sorted(work.rglob("*")) if p.is_file()}
    record = {**record, "facts": json.loads(canonical(task.facts)), "files": files}
    sealed = {"sha256": hashlib.sha256(canonical(record)).hexdigest(), "record": record}
    (work / "record.json").write_text(json.dumps(sealed, indent=1, ensure_ascii=False) + "\n", "utf-8")
    place = root / "finished" / task.key
    try:
        os.rename(work, place)
    except OSError:
        if not place.exists():  # renaming onto a folder that is not empty has no portable error number
            raise
    for old in (work, root / "failed" / task.key):
        shutil.rmtree(old, ignore_errors=True)


def file_failure(root: Path, task: Task, work: Path, error: str) -> None:
    """Keep what a failed attempt left, in place of the one before. On a full disk: as much as there is room for."""
    place = root / "failed" / task.key
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(OSError):
        (work / "error.txt").write_text(f"{task.label}\n{error}\n", "utf-8")
    with contextlib.suppress(OSError):
        os.rename(work, place)


def finished(root: Path, task: Task) -> dict | None:
    """The record of a finished task; None if there is no result. Raises Damaged if it is not what was filed."""
    folder = root / "finished" / task.key
    if not folder.exists():
        return None
    try:
        sealed = json.loads((folder / "record.json").read_text("utf-8"))
        record = sealed["record"]
        if sealed["sha256"] != hashlib.sha256(canonical(record)).hexdigest():
            raise Damaged(f"{task.key}: record.json was changed")
        if canonical(record["facts"]) != canonical(task.facts):
            raise Damaged(f"{task.key}: record.json belongs to another task")
        for name, sha256 in record["files"].items():
            if file_sha256(folder / name) != sha256:
                raise Damaged(f"{task.key}: {name} was changed")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{task.key}: {type(error).__name__}: {error}") from None
    return record


def set_aside(root: Path, task: Task) -> Path:
    """Move a damaged result out of the way; return where it lies now."""
    place = root / "damaged" / f"{task.key}.{secrets.token_hex(4)}"
    os.rename(root / "finished" / task.key, place)
    return place
