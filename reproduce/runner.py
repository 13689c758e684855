"""Run notebooks headless, each in a kernel of its own, and keep what they made.

`plan` turns names and overrides into jobs and refuses whatever could not work; `run_one` executes one job and
never raises for a failing notebook; `run` does all of them in order. A job knows nothing of the others.
"""

from __future__ import annotations

import ast
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import papermill
import yaml
from papermill.exceptions import PapermillExecutionError

from . import kernels, notebooks, page, provenance
from .notebooks import UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130


@dataclass(frozen=True)
class Job:
    """One notebook and the parameters that differ from its own literals."""

    notebook: Path
    parameters: dict[str, Any]

    @property
    def name(self) -> str:
        return self.notebook.stem


@dataclass(frozen=True)
class Outcome:
    """What became of a job. `seconds` is wall time; `error` is "" for a notebook that finished; `peak_bytes` is
    the most memory that its kernel held at once (None where the system does not say)."""

    name: str
    seconds: float
    error: str = ""
    peak_bytes: int | None = None


def literal(text: str) -> Any:
    """The value of a command line override: a Python literal, or else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def read_profile(folder: Path, profile: str) -> dict[str, dict[str, Any]]:
    """Overrides of a profile, by notebook. The quick profile is the notebooks' own literals."""
    if profile == "quick":
        return {}
    path = folder / "profiles.yaml"
    try:
        profiles = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise UsageError(f"profile {profile!r}: {path} cannot be read ({error})") from None
    if profile not in profiles:
        raise UsageError(f"unknown profile {profile!r}; there are quick, {', '.join(profiles)}")
    return profiles[profile] or {}


def plan(
    folder: Path,
    *,
    profile: str = "quick",
    wanted: Sequence[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> list[Job]:
    """Jobs in reading order. `overrides` go to every wanted notebook that has a parameter of that name.

    Raises UsageError for an unknown notebook, profile or parameter, and for a value of another kind than the
    literal that it replaces: papermill itself would only warn.
    """
    overrides = dict(overrides or {})
    profiled = read_profile(folder, profile)
    own = {p: notebooks.parameters(notebooks.read(p), p.stem) for p in notebooks.find(folder)}
    names = {p.stem for p in own}
    for name, values in profiled.items():
        if name not in names:
            raise UsageError(f"profile {profile!r}: unknown notebook {name!r}")
        check_values(name, own[folder / f"{name}.ipynb"], values or {})
    jobs = []
    for path in notebooks.find(folder, wanted):
        if "OUT" not in own[path]:
            raise UsageError(f"{path.stem}: no parameter OUT, so its results would land outside the run")
        mine = {k: v for k, v in overrides.items() if k in own[path]}
        check_values(path.stem, own[path], mine)
        jobs.append(Job(path, {**(profiled.get(path.stem) or {}), **mine}))
    for name in overrides:
        if not any(name in own[job.notebook] for job in jobs):
            known = sorted({k for job in jobs for k in own[job.notebook]})
            raise UsageError(f"unknown parameter {name!r}; there are {', '.join(known)}")
    return jobs


def check_values(name: str, own: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise UsageError for a parameter that the notebook `name` does not have, or a value of another kind."""
    for key, value in values.items():
        if key not in own:
            raise UsageError(f"{name}: unknown parameter {key!r}; there are {', '.join(own)}")
        kind, given = _kind(own[key]), _kind(value)
        if kind != given and (kind, given) != ("float", "int") and "NoneType" not in (kind, given):
            raise UsageError(f"{name}: {key} = {own[key]!r} takes a {kind}, not {value!r}")


def _kind(value: Any) -> str:
    return "list" if isinstance(value, (list, tuple)) else type(value).__name__


def run_one(job: Job, *, target: Path, out: Path, log: Path) -> Outcome:
    """Execute one notebook to `target`, its figures and tables to `out`, its kernel's complaints to `log`.

    The notebook appears under its name when it has finished or failed, never before. An exception in the
    notebook, or the death of its kernel, is an Outcome with an error; KeyboardInterrupt passes through.
    """
    nb = notebooks.read(job.notebook)
    injected = notebooks.parameters_index(nb, job.name)  # papermill puts its own cell right behind this one
    position = {"index": 0, "count": None}

    def entered(cell, cell_index):
        position["index"] = cell_index - (cell_index > injected)
        if cell.cell_type == "code":
            position["count"] = (position["count"] or 0) + 1

    partial = target.with_name(f".{target.stem}.partial.ipynb")
    start, error, kernel_failed = time.monotonic(), "", False
    peaks: list[int] = []
    kill = kernels.Kill()
    try:
        with kernels.settings(log, kill, peaks.append) as kernel:
            work = functools.partial(
                papermill.execute_notebook,
                job.notebook,
                partial,
                parameters={**job.parameters, "OUT": str(out)},
                cwd=job.notebook.parent,
                progress_bar=False,
                on_cell_start=entered,
                **kernel,
            )
            kernels.interruptible(work, kill)
    except PapermillExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    except Exception as failure:  # a dead kernel, a kernel that does not start, a full disk: report, go on
        error, kernel_failed = f"{type(failure).__name__}: {failure}", True
    except BaseException:  # Ctrl-C: what is half done goes
        partial.unlink(missing_ok=True)
        raise
    finally:
        if log.exists() and not log.stat().st_size:
            log.unlink()
    if partial.exists():
        os.replace(partial, target)
    if error:
        where = f"cell {position['index']} (In [{position['count']}])"
        error = f"{where}: {error.strip().splitlines()[0][:300]}"
        if kernel_failed and log.exists():  # after an ordinary exception it holds nothing but shutdown noise
            error += f" (see logs/{log.name})"
    return Outcome(job.name, time.monotonic() - start, error, max(peaks, default=None))


def quiet() -> None:
    """What the libraries underneath have to say is in the outcome already."""
    for noisy in ("papermill", "traitlets", "nbclient", "nbconvert"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)


def run(
    jobs: Sequence[Job],
    results: Path,
    *,
    profile: str = "quick",
    say: Callable[[str], None] = lambda text: print(text, end="", flush=True),
) -> tuple[Path, int]:
    """Run all jobs into results/<id>/ and return that folder and the exit code.

    A failing notebook does not stop the others. After each one the tables and the index page are brought up
    to date, so whatever stops the run, finished notebooks are kept. Raises UsageError if `results` cannot be
    written.
    """
    os.environ.pop("L2D_OUT", None)  # it would send the figures elsewhere
    quiet()
    record = provenance.begin(jobs, profile)
    folder = (results / record["id"]).resolve()
    figures, logs = folder / "figures", folder / "logs"
    try:
        (folder / "notebooks").mkdir(parents=True)
        figures.mkdir()
        logs.mkdir()
    except OSError as error:
        raise UsageError(f"cannot write results to {results}: {error.strerror}") from None

    say(f"{len(jobs)} notebooks, {profile} profile, results in {folder}\n")
    outcomes: list[Outcome] = []
    made: dict[str, list[str]] = {}
    start, interrupted = time.monotonic(), False
    try:
        for number, job in enumerate(jobs, 1):
            say(f"[{number}/{len(jobs)}] {job.name} … ")
            before = provenance.snapshot(figures)
            target = folder / "notebooks" / f"{job.name}.ipynb"
            outcome = run_one(job, target=target, out=figures, log=logs / f"{job.name}.log")
            after = provenance.snapshot(figures)
            made[job.name] = sorted(f for f in after if after[f] != before.get(f))
            outcomes.append(outcome)
            elapsed = clock(time.monotonic() - start)
            verdict = "FAILED after " if outcome.error else ""
            say(f"{verdict}{outcome.seconds:.0f} s (elapsed {elapsed})\n")
            if outcome.error:
                say(f"      {outcome.error}\n")
            if target.exists():
                page.export(target)
            _publish(folder, record, outcomes, made, "running")
    except KeyboardInterrupt:
        interrupted = True
        say("interrupted\n")
    failed = [o for o in outcomes if o.error]
    status = "interrupted" if interrupted else "failed" if failed else "complete"
    _publish(folder, record, outcomes, made, status)
    for outcome in failed:
        say(f"FAILED {outcome.name}, {outcome.error}\n")
    say(f"{len(outcomes) - len(failed)} of {len(jobs)} notebooks finished; see {folder / 'index.html'}\n")
    return folder, EXIT_INTERRUPTED if interrupted else EXIT_FAILED if failed else 0


def _publish(folder: Path, record: dict, outcomes: list[Outcome], made: dict, status: str) -> None:
    """Bring provenance, measurements and the index page up to date; each is replaced in one step."""
    rows = [asdict(o) | {"files": made.get(o.name, [])} for o in outcomes]
    record |= {"status": status, "notebooks_run": rows}
    provenance.collect(folder, record)
    page.write_index(folder, record)


def clock(seconds: float) -> str:
    """Minutes and seconds, as in 2:10."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
