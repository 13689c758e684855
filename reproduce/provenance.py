"""Where a run's numbers come from, and the one table of all of them."""

from __future__ import annotations

import contextlib
import csv
import functools
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from l2d_utils.cache import package_sha256
from l2d_utils.data.files import file_sha256
from l2d_utils.results import FACTS, SOURCES, TIDY, write_atomically

from .notebooks import ROOT

MEASURED = [*TIDY[:-1], *FACTS, "value"]


def git_state() -> dict | None:
    """Commit and whether files differ from it; None outside a git clone."""

    def git(*args: str) -> str:
        command = ["git", *args]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "changed_files": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def begin(jobs: Sequence, profile: str) -> dict:
    """The part of the record that is known before the first notebook starts, with the run's id."""
    now = datetime.now(UTC)
    parameters = {job.name: job.parameters for job in jobs}
    source = package_sha256()
    what = json.dumps([source, profile, parameters, os.getpid(), now.isoformat()], default=str)
    return {
        "id": f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(what.encode()).hexdigest()[:7]}",
        "started": now.isoformat(timespec="seconds"),
        "profile": profile,
        "parameters": parameters,
        "notebook_sha256": {j.name: file_sha256(j.notebook) for j in jobs},
        "package_sha256": source,
        "git": git_state(),
        **environment(),
    }


@functools.cache
def environment() -> dict:
    """Versions of Python and of every package, and what computes: the processor's name, and that of each GPU."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "gpu": _gpu(),
        "packages": {d.metadata["Name"]: d.version for d in sorted(metadata.distributions(), key=_name)},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _gpu() -> str:
    """Names of NVIDIA's GPUs, or "" without any; asked of the driver, since importing torch takes seconds."""
    tool = shutil.which("nvidia-smi")
    if not tool:
        return ""
    command = [tool, "--query-gpu=name", "--format=csv,noheader"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return ", ".join(answer.stdout.split("\n")).strip(", ") if answer.returncode == 0 else ""


def _name(distribution) -> str:
    return distribution.metadata["Name"].lower()


def files_of(figures: Path, name: str) -> list[str]:
    """The files that a notebook made: those that carry its number, as all of its figures and tables do."""
    return sorted(p.name for p in figures.glob(f"{name[:2]}_*"))


def unreadable(figures: Path, name: str) -> str:
    """What is wrong with the first table of a notebook that cannot be read; "" when all can."""
    for path in sorted(figures.glob(f"{name[:2]}_*.csv")):
        try:
            read_rows(path, TIDY, FACTS)
        except (OSError, ValueError) as error:
            return str(error)
    return ""


def collect(folder: Path, record: dict) -> None:
    """Write measurements.csv (all rows in the columns MEASURED) and provenance.json into a run's folder."""
    author = {file: row["name"] for row in record["notebooks_run"] for file in row["files"]}
    rows, sources = [], []
    for path in sorted((folder / "figures").glob("[!.]*.csv")):  # what is being written has a dot in front
        with contextlib.suppress(ValueError):  # it stands in its notebook's record
            rows += [r | {"notebook": r["notebook"] or author.get(path.name, "")} for r in read_rows(path, TIDY, FACTS)]
            sources += read_rows(path, SOURCES)
    record |= {"measurements": len(rows), "data": sources}
    # ru_maxrss of finished children: the largest kernel so far (kilobytes, but bytes on macOS)
    unit = 1 if platform.system() == "Darwin" else 1024
    record["peak_kernel_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    write_atomically(folder / "measurements.csv", lambda p: _write_csv(p, rows))
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
    write_atomically(folder / "provenance.json", lambda p: p.write_text(text, "utf-8"))


def read_rows(path: Path, columns: list[str], more: Sequence[str] = ()) -> list[dict[str, str]]:
    """Rows of a CSV as text (so that no digit changes), if it has these columns and none but some `more`; else nothing.

    Every row has an entry for each of `more`. Raises ValueError naming the file: not UTF-8, or a row that is too short.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            if not set(columns) <= set(reader.fieldnames or []) <= {*columns, *more}:
                return []
            rows = [dict.fromkeys(more, "") | row for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name} is no readable table: {error}") from None
    if any(None in row or None in row.values() for row in rows):
        raise ValueError(f"{path.name} is no readable table: a row has more or fewer entries than there are columns")
    return rows


def _write_csv(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, MEASURED, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
