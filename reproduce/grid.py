"""What a sweep runs: a grid file becomes tasks, and each task has an address made of all that its result depends on.

A grid file is a YAML list. Each entry runs its notebooks once for every combination of the values listed:

    - notebooks: ["06", "07"]        # names or numbers, in quotes
      seeds: 20                      # FIRST_SEED = 0, 5, 10, 15: blocks of SEEDS seeds
      parameters:
        SEEDS: [5]                   # every value stands in a list
        DATA: [mnist5k, digits]
      profile: quick                 # or one of profiles.yaml; `parameters` win over it

The address is a hash of the notebook's source (not of its stored outputs), of the package's source, of all
parameters (those left at the notebook's own literals included) and of the data outside the package. Neither time
nor place enters it. Data inside installed packages need not enter either: they are checked, whenever they are
read, against checksums that stand in the package's source.
"""

import hashlib
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from l2d_utils.cache import package_sha256
from l2d_utils.data import data_folder
from l2d_utils.data.files import file_sha256

from . import notebooks
from .notebooks import UsageError
from .runner import Job, check_values, read_profile

KEYS = ("notebooks", "seeds", "parameters", "profile")


@dataclass(frozen=True)
class Task:
    """One notebook with one set of parameters. `facts` is all that its result depends on."""

    job: Job
    facts: dict[str, Any]

    @property
    def key(self) -> str:
        """Name and address, as in 06_images-0123456789abcdef: the name of its folder."""
        return f"{self.job.name}-{hashlib.sha256(canonical(self.facts)).hexdigest()[:16]}"

    @property
    def label(self) -> str:
        """For people: the notebook and what was asked of it."""
        asked = " ".join(f"{name}={value!r}" for name, value in self.job.parameters.items())
        return f"{self.job.name} {asked}".strip()


def canonical(value: Any) -> bytes:
    """The same bytes for the same value, whatever the order of its keys."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=repr).encode()


def source_hash(path: Path) -> str:
    """sha256 of a notebook's cells without outputs and counts, so that executing it in place changes nothing."""
    cells = [(c.cell_type, c.source, sorted(notebooks.tags(c))) for c in notebooks.read(path).cells]
    return hashlib.sha256(canonical(cells)).hexdigest()


def data_hash(folder: Path | None) -> str:
    """sha256 over the names and contents of all files in the folder, linked folders included; "" without one.

    All are read, about a second per gigabyte, since a time or a size does not tell damaged data from good ones.
    """
    if folder is None:
        return ""
    files = [Path(place, name) for place, _, names in os.walk(folder, followlinks=True) for name in names]
    return _files_hash(folder, files)


def _files_hash(folder: Path, files: Iterable[Path]) -> str:
    contents = [(p.relative_to(folder).as_posix(), file_sha256(p)) for p in sorted(files) if p.is_file()]
    return hashlib.sha256(canonical(contents)).hexdigest()


def tasks(grid: Path, folder: Path) -> list[Task]:
    """The tasks of a grid file, in its order and each one once.

    Raises UsageError for whatever could not work: an unreadable file, an unknown key, notebook, profile or
    parameter, a value of another kind than the notebook's own literal.
    """
    # Notebooks also read the tables of other runs, and claims.yaml.
    stored = [*folder.parent.glob("figures/[0-9][0-9]_*.csv"), folder / "claims.yaml"]
    shared = {
        "package_sha256": package_sha256(),
        "data_sha256": data_hash(data_folder()),
        "stored_sha256": _files_hash(folder.parent, stored),
    }
    found: dict[str, Task] = {}
    for job, own, source in _jobs(grid, folder):
        every = {name: value for name, value in {**own, **job.parameters}.items() if name != "OUT"}
        facts = {"notebook": job.name, "notebook_sha256": source, "parameters": every, "files": _files(every, folder)}
        task = Task(job, facts | shared)
        found.setdefault(task.key, task)
    return list(found.values())


def check_unchanged(task: Task) -> None:
    """Raise UsageError if notebook or package are not those that the task was planned with: a result must never be
    filed under the address of another source. On a cluster this also notices a worker with another version."""
    facts = task.facts
    if package_sha256() != facts["package_sha256"]:
        raise UsageError("l2d_utils changed since the sweep was planned, or a worker has another version of it")
    if source_hash(task.job.notebook) != facts["notebook_sha256"]:
        raise UsageError(f"{task.job.name} changed since the sweep was planned, or a worker has another version")


def _files(parameters: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Checksums of the files that parameters name (as a table of one's own), by parameter."""
    named = {name: folder / value for name, value in parameters.items() if isinstance(value, str)}
    return {name: file_sha256(path) for name, path in named.items() if os.path.isfile(path)}


def _jobs(grid: Path, folder: Path) -> Iterator[tuple[Job, dict[str, Any], str]]:
    """Jobs of a grid file, each with the notebook's own parameters and the hash of its source."""
    try:
        entries = yaml.safe_load(grid.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"grid {grid}: cannot be read ({error})".replace("\n", " ")) from None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"grid {grid}: a list of entries is needed, each with the key 'notebooks'")
    for number, entry in enumerate(entries, 1):
        where = f"grid {grid}, entry {number}"
        _check_entry(where, entry)
        profiled = read_profile(folder, entry.get("profile", "quick"))
        for path in notebooks.find(folder, entry["notebooks"]):
            own, source = notebooks.parameters(notebooks.read(path), path.stem), source_hash(path)
            base = profiled.get(path.stem, {})
            for values in _combinations(entry, where, path.stem, {**own, **base}):
                check_values(path.stem, own, {**base, **values})
                yield Job(path, {**base, **values}), own, source


def _check_entry(where: str, entry: Any) -> None:
    if not isinstance(entry, dict) or "notebooks" not in entry:
        raise UsageError(f"{where}: the key 'notebooks' is missing")
    wanted, parameters = entry["notebooks"], entry.get("parameters", {})
    if unknown := [key for key in entry if key not in KEYS]:
        fault = f"unknown key {unknown[0]!r}; there are {', '.join(KEYS)}"
    elif not isinstance(wanted, list) or not wanted or not all(isinstance(name, str) for name in wanted):
        fault = f'notebooks is {wanted!r}; a list of names in quotes is needed, as ["00", "06"]'
    elif not isinstance(parameters, dict):
        fault = f"parameters is {parameters!r}; NAME: [value, ...] is needed"
    elif "OUT" in parameters:
        fault = "OUT is where the sweep puts each run's results; it cannot be set"
    elif wrong := [name for name, values in parameters.items() if not isinstance(values, list) or not values]:
        fault = f"{wrong[0]} is {parameters[wrong[0]]!r}; a list of the values to run is needed"
    else:
        return
    raise UsageError(f"{where}: {fault}")


def _combinations(entry: dict, where: str, name: str, own: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every combination of the entry's values; own: what the notebook has where the entry says nothing."""
    listed = entry.get("parameters", {})
    for values in itertools.product(*listed.values()):
        chosen = dict(zip(listed, values, strict=True))
        if "seeds" not in entry:
            yield chosen
            continue
        if "FIRST_SEED" in chosen or not {"FIRST_SEED", "SEEDS"} <= set(own):
            raise UsageError(f"{where}: seeds needs {name} to have FIRST_SEED and SEEDS, and the entry no FIRST_SEED")
        total, block = entry["seeds"], {**own, **chosen}["SEEDS"]
        if not all(isinstance(n, int) and n > 0 for n in (total, block)) or total % block:
            raise UsageError(f"{where}: seeds = {total!r} is no multiple of SEEDS = {block!r}, the seeds of one run")
        for first in range(0, total, block):
            yield {**chosen, "FIRST_SEED": first, "SEEDS": block}
