"""Run notebooks headless, each in a kernel of its own, and keep what they made.

`plan` turns names and overrides into jobs and refuses whatever could not work; `run_one` executes one job and
never raises for a failing notebook; `run` does all of them, two at a time. A job knows nothing of the others.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from nbformat.v4 import new_code_cell
from papermill.translators import PythonTranslator

from . import badges, kernels, notebooks, page, provenance
from .notebooks import UsageError

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
Say = Callable[[str], None]  # takes whole lines, each with its end


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
    the most memory that its kernel held at once (None where the system does not say); `attempt` is above 1 when the
    worker of a sweep was lost with it."""

    name: str
    seconds: float
    error: str = ""
    peak_bytes: int | None = None
    attempt: int = 1


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
    return {name: values or {} for name, values in (profiles[profile] or {}).items()}


def plan(
    folder: Path, *, profile: str = "quick", wanted: Sequence[str] = (), overrides: Mapping[str, Any] | None = None
) -> list[Job]:
    """Jobs in reading order. `overrides` go to every wanted notebook that has a parameter of that name.

    Raises UsageError for an unknown notebook, profile or parameter, and for a value of another kind than the
    literal that it replaces: papermill itself would only warn.
    """
    overrides, profiled = overrides or {}, read_profile(folder, profile)
    if "OUT" in overrides:
        raise UsageError("-p OUT: the run puts the results of every notebook into its own folder; use --out for that")
    own = {p.stem: notebooks.parameters(notebooks.read(p), p.stem) for p in notebooks.find(folder)}
    for name, values in profiled.items():
        if name not in own:
            raise UsageError(f"profile {profile!r}: unknown notebook {name!r}")
        check_values(name, own[name], values)
    jobs, known = [], set()
    for path in notebooks.find(folder, wanted):
        mine = {k: v for k, v in overrides.items() if k in own[path.stem]}
        check_values(path.stem, own[path.stem], mine)
        jobs.append(Job(path, {**profiled.get(path.stem, {}), **mine}))
        known |= own[path.stem].keys()
    if unknown := [name for name in overrides if name not in known]:
        raise UsageError(f"unknown parameter {unknown[0]!r}; there are {', '.join(sorted(known))}")
    return jobs


def check_values(name: str, own: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise UsageError for a parameter that the notebook `name` does not have, or a value of another kind."""
    if "OUT" not in own:
        raise UsageError(f"{name}: no parameter OUT, so its results would land outside the run")
    for key, value in values.items():
        if key not in own:
            raise UsageError(f"{name}: unknown parameter {key!r}; there are {', '.join(own)}")
        kind, given = ("list" if isinstance(v, (list, tuple)) else type(v).__name__ for v in (own[key], value))
        if kind != given and (kind, given) != ("float", "int") and "NoneType" not in (kind, given):
            raise UsageError(f"{name}: {key} = {own[key]!r} takes a {kind}, not {value!r}")


def run_one(job: Job, *, target: Path, out: Path, log: Path, kill: kernels.Kill | None = None) -> Outcome:
    """Execute one notebook to `target`, its figures and tables to `out`, its kernel's complaints to `log`.

    The notebook appears under its name when it has finished or failed, whole, and never before. An exception in the
    notebook, or the death of its kernel, is an Outcome with an error. `kill` ends it from another thread; then nothing
    appears. KeyboardInterrupt passes through.
    """
    for noisy in ("papermill", "traitlets", "nbclient", "nbconvert"):  # what they have to say is in the outcome
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    nb, kill = notebooks.read(job.notebook), kill or kernels.Kill()
    parameters = notebooks.parameters_index(nb, job.name)  # the run's own cell comes right behind, as with papermill
    source = PythonTranslator.codify({**job.parameters, "OUT": str(out)})
    nb.cells.insert(parameters + 1, new_code_cell(source, metadata={"tags": ["injected-parameters"]}))
    ended, error = kernels.execute(nb, job.notebook.parent, log, kill), ""
    if ended.error:
        count = sum(cell.cell_type == "code" for cell in nb.cells[: ended.cell + 1])
        error = f"cell {ended.cell - (ended.cell > parameters)} (In [{count}]): "
        error += ended.error.strip().splitlines()[0][:300]
        if ended.dead and log.exists():  # after an ordinary exception it holds nothing but shutdown noise
            error += f" (see logs/{log.name})"
    if not kill.asked:
        try:
            notebooks.write(nb, target)
        except OSError as failure:  # a full disk
            error = error or f"{target.name} could not be written: {failure}"
    return Outcome(job.name, ended.seconds, error, ended.peak_bytes)


def say_at_once(text: str) -> None:
    print(text, end="", flush=True)


def run(
    jobs: Sequence[Job], results: Path, *, profile: str = "quick", count: int = 2, say: Say = say_at_once
) -> tuple[Path, int]:
    """Run all jobs into results/<id>/, some of them at the same time; return that folder and the exit code.

    The longest start first, by the stored run times; a notebook that reads what others make starts when they have
    ended. A failing notebook does not stop the others. After each one the tables and the index page are brought up to
    date, so whatever stops the run, finished notebooks are kept. Raises UsageError if `results` cannot be written.
    """
    os.environ.pop("L2D_OUT", None)  # it would send the figures elsewhere
    record = provenance.begin(jobs, profile)
    folder = (results / record["id"]).resolve()
    try:
        for name in ("notebooks", "figures", "logs"):
            (folder / name).mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"cannot write results to {results}: {error.strerror}") from None

    say(f"{len(jobs)} notebooks, {profile} profile, {count} at a time, results in {folder}\n")
    crew, outcomes = _Crew(folder, count), {}
    start, interrupted = time.monotonic(), False

    def publish(status: str) -> bool:
        """Bring provenance, measurements and the index page up to date; each is replaced in one step."""
        done = [outcomes[job.name] for job in jobs if job.name in outcomes]
        rows = [asdict(o) | {"files": provenance.files_of(folder / "figures", o.name)} for o in done]
        try:
            record.update(status=status, notebooks_run=rows)
            provenance.collect(folder, record)
            page.write_index(folder, record)
            return True
        except OSError as error:  # the disk is full: what is there stays, and the next notebook may find room
            say(f"      the tables of the run could not be written: {error}\n")
            return False

    try:
        for outcome in crew.completed(jobs):
            outcomes[outcome.name] = outcome
            verdict = "FAILED after " if outcome.error else ""
            took = f"{verdict}{outcome.seconds:.0f} s (elapsed {timedelta(seconds=int(time.monotonic() - start))})"
            say(f"[{len(outcomes)}/{len(jobs)}] {outcome.name}: {took}\n")
            if outcome.error:
                say(f"      {outcome.error}\n")
            publish("running")
    except KeyboardInterrupt:
        interrupted = True
        say("interrupted\n")
    finally:
        crew.close()
    for half_written in (folder / "figures").glob(".*.tmp.*"):
        half_written.unlink(missing_ok=True)
    failed = [outcomes[job.name] for job in jobs if job.name in outcomes and outcomes[job.name].error]
    written = publish("interrupted" if interrupted else "failed" if failed else "complete")
    for outcome in failed:
        say(f"FAILED {outcome.name}, {outcome.error}\n")
    say(f"{len(outcomes) - len(failed)} of {len(jobs)} notebooks finished; see {folder / 'index.html'}\n")
    return folder, EXIT_INTERRUPTED if interrupted else EXIT_FAILED if failed or not written else 0


class _Crew:
    """The threads that run the notebooks of one run, each with a kernel of its own at a time."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.pool, self.kills = folder, ThreadPoolExecutor(count), []

    def completed(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Run the jobs; what became of each, as they end."""
        readers = [job for job in jobs if notebooks.reads_others(notebooks.read(job.notebook))]
        others = [job for job in jobs if job not in readers]
        for together in (others, *([job] for job in readers)):
            times = badges.run_times(together[0].notebook.parents[1] / "figures") if together else {}
            longest = sorted(together, key=lambda job: -times.get(job.name, math.inf))
            for future in as_completed([self.pool.submit(self._one, job) for job in longest]):
                yield future.result()

    def _one(self, job: Job) -> Outcome:
        kill = kernels.Kill()
        self.kills.append(kill)
        target = self.folder / "notebooks" / f"{job.name}.ipynb"
        out, log = self.folder / "figures", self.folder / "logs" / f"{job.name}.log"
        outcome = run_one(job, target=target, out=out, log=log, kill=kill)
        self.kills.remove(kill)  # the number of a process that has ended may be another's by now
        problem = outcome.error or provenance.unreadable(out, job.name)
        try:
            if target.exists():
                page.export(target)
        except OSError as error:
            problem = problem or f"{target.stem}.html could not be written: {error}"
        return replace(outcome, error=problem)

    def close(self) -> None:
        """End what still runs; nothing of it appears."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for kill in list(self.kills):
            kill()
        self.pool.shutdown()
