"""Where a run's numbers come from, and the one table of all of them."""

import contextlib
import csv
import functools
import hashlib
import json
import os
import platform
import resource
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pandas as pd

from l2d_utils.cache import package_sha256
from l2d_utils.data.files import file_sha256
from l2d_utils.results import FACTS, SOURCES, TIDY, write_atomically

from .notebooks import ROOT

MEASURED = [*TIDY[:-1], *FACTS, "value"]


def printed(*command: str) -> str | None:
    """What a program prints; None where it is missing or fails."""
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def git_state() -> dict | None:
    """Commit and whether files differ from it; None outside a git clone."""
    commit, changes = printed("git", "rev-parse", "HEAD"), printed("git", "status", "--porcelain")
    return None if commit is None or changes is None else {"commit": commit, "changed_files": bool(changes)}


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
    """Versions of Python and of every package, and what computes: the processor's name, and that of each GPU of NVIDIA
    (asked of the driver, since importing torch takes seconds)."""
    gpus = printed("nvidia-smi", "--query-gpu=name", "--format=csv,noheader") or ""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": linux_says("cpuinfo", "model name") or platform.processor() or platform.machine(),
        "gpu": ", ".join(gpus.splitlines()),
        "packages": dict(sorted(((d.name, d.version) for d in metadata.distributions()), key=lambda p: p[0].lower())),
    }


def linux_says(file: str, name: str) -> str:
    """The first entry `name` of a file in /proc; "" where there is none, as on other systems."""
    try:
        lines = Path("/proc", file).read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


def files_of(figures: Path, name: str) -> list[str]:
    """The files that a notebook made: those that carry its number, as all of its figures and tables do."""
    return sorted(p.name for p in figures.glob(f"{name[:2]}_*"))


def unreadable(figures: Path, name: str) -> str:
    """What is wrong with the first table of a notebook that cannot be read; "" when all can."""
    for path in sorted(figures.glob(f"{name[:2]}_*.csv")):
        try:
            numbers(path, name)
        except (OSError, ValueError) as error:
            return str(error)
    return ""


def collect(folder: Path, record: dict) -> None:
    """Write measurements.csv (all rows in the columns MEASURED) and provenance.json into a run's folder."""
    author = {file: row["name"] for row in record["notebooks_run"] for file in row["files"]}
    rows, sources = [], []
    for path in sorted((folder / "figures").glob("[!.]*.csv")):  # what is being written has a dot in front
        with contextlib.suppress(ValueError):  # it stands in its notebook's record
            rows += numbers(path, author.get(path.name, ""))
            sources += read_rows(path, SOURCES)
    record |= {"measurements": len(rows), "data": sources}
    # ru_maxrss of finished children: the largest kernel so far (kilobytes, but bytes on macOS)
    unit = 1 if platform.system() == "Darwin" else 1024
    record["peak_kernel_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    table = pd.DataFrame(rows, columns=MEASURED)  # of text
    write_atomically(folder / "measurements.csv", lambda p: table.to_csv(p, index=False, lineterminator="\n"))
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
    write_atomically(folder / "provenance.json", lambda p: p.write_text(text, "utf-8"))


def numbers(path: Path, name: str) -> list[dict[str, str]]:
    """Rows of a CSV of numbers in the columns MEASURED, `name` for the notebook where none stands; see read_rows."""
    return [row | {"notebook": row["notebook"] or name} for row in read_rows(path, TIDY, FACTS)]


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
