"""Where a run's numbers come from, and the one table of all of them."""

from __future__ import annotations

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

from l2d_utils.results import SOURCES, TIDY, write_atomically
from .notebooks import ROOT


def package_hash() -> str:
    """sha256 over the names and bytes of the package's own source files."""
    package = ROOT / "l2d_utils"
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


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
    source = package_hash()
    what = json.dumps([source, profile, parameters, os.getpid(), now.isoformat()], default=str)
    return {
        "id": f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(what.encode()).hexdigest()[:7]}",
        "started": now.isoformat(timespec="seconds"),
        "profile": profile,
        "parameters": parameters,
        "notebook_sha256": {j.name: hashlib.sha256(j.notebook.read_bytes()).hexdigest() for j in jobs},
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


def snapshot(folder: Path) -> dict[str, int]:
    """File names and modification times: two snapshots tell what a notebook wrote."""
    return {p.name: p.stat().st_mtime_ns for p in folder.iterdir() if not p.name.startswith(".")}


def collect(folder: Path, record: dict) -> None:
    """Write measurements.csv (all rows in the columns TIDY) and provenance.json into a run's folder."""
    author = {file: row["name"] for row in record["notebooks_run"] for file in row["files"]}
    tables = sorted((folder / "figures").glob("*.csv"))
    rows = []
    for path in tables:
        for row in read_rows(path, TIDY):
            rows.append(row | {"notebook": row["notebook"] or author.get(path.name, "")})
    record["measurements"] = len(rows)
    record["data"] = [row for path in tables for row in read_rows(path, SOURCES)]
    # ru_maxrss of finished children: the largest kernel so far (kilobytes, but bytes on macOS)
    unit = 1 if platform.system() == "Darwin" else 1024
    record["peak_kernel_bytes"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    write_atomically(folder / "measurements.csv", lambda p: _write_csv(p, rows))
    text = json.dumps(record, indent=1, ensure_ascii=False, default=str) + "\n"
    write_atomically(folder / "provenance.json", lambda p: p.write_text(text, "utf-8"))


def read_rows(path: Path, columns: list[str]) -> list[dict[str, str]]:
    """Rows of a CSV that has exactly these columns, as text (so that no digit changes); else nothing."""
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        return list(reader) if reader.fieldnames == columns else []


def _write_csv(path: Path, rows: Iterable[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, TIDY, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
