"""Carry out a grid: what is finished stays, what is not is run, and nothing that fails hides anything else."""

import contextlib
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dask.system import CPU_COUNT  # processors that this process may use

from l2d_utils.data import data_folder

from . import badges, grid, provenance, store, table, workers
from .grid import Task
from .runner import EXIT_FAILED, EXIT_INTERRUPTED, Outcome, Say, say_at_once

TABLE_EVERY = 60.0  # seconds: a long sweep brings its table up to date while it runs


def sweep(path: Path, folder: Path, root: Path, *, count: int | None, scheduler: str) -> int:
    """Carry out the grid file `path` with the notebooks of `folder`; return the exit code.

    Results lie in `root` by address (see `store`), and the table in root/<name of the grid file>.parquet.
    count: worker processes here (default: one per processor). scheduler: "" for these, or a Dask cluster's address.
    Raises UsageError, before anything is started, for a grid, a folder or a scheduler that could not work.
    """
    tasks, root = grid.tasks(path, folder), root.resolve()
    target = root / f"{path.stem}.parquet"
    with store.opened(root):
        say = _spoken_and_logged(root)
        records, damaged = look(root, tasks)
        for task, reason in damaged:
            say(f"damaged, put aside in {store.set_aside(root, task)} and run again: {reason}\n")
        todo = [task for task in tasks if task.key not in records]
        say(f"{len(tasks)} runs: {len(records)} finished before, {len(todo)} to do; results in {root}\n")
        failed, interrupted = {}, False
        if todo:
            about = {"git": provenance.git_state(), "data_folder": str(data_folder() or "")}
            crew = workers.Cluster(scheduler, min(count or CPU_COUNT, len(todo)), root, about)
            expected = Expected(badges.run_times(folder.parent / "figures"), records)
            failed, interrupted = _carry_out(todo, crew, expected, say, lambda: _write(target, root, tasks, say))
        finished, written = _write(target, root, tasks, say)
    for key, (task, outcome) in failed.items():
        left = root / "failed" / key
        say(f"FAILED {task.label}: {outcome.error}" + (f" (see {left})\n" if left.exists() else "\n"))
    say(f"{finished} of {len(tasks)} runs finished; all their numbers in {target}\n")
    return EXIT_INTERRUPTED if interrupted else 0 if written and finished == len(tasks) else EXIT_FAILED


def dry_run(path: Path, folder: Path, root: Path, *, count: int | None) -> None:
    """Say what a sweep would do and about how long it would take; write and start nothing."""
    tasks = grid.tasks(path, folder)
    records, damaged = look(root, tasks)
    expected = Expected(badges.run_times(folder.parent / "figures"), records)
    states = dict.fromkeys(records, "finished") | {task.key: "damaged" for task, _ in damaged}
    for task in tasks:
        state, seconds = states.get(task.key, "to do"), expected(task)
        print(f"{state:<8}  {task.label}" + ("" if seconds is None else f"  {badges.about(seconds)}"))
    todo = [task for task in tasks if task.key not in records]
    count = count or CPU_COUNT
    print(f"{len(tasks)} runs: {len(records)} finished before, {len(todo)} to do with {count} workers")
    print(f"time: {expected.left(todo, count)} (by the run times of {badges.TIMES} and of the runs that are finished)")


def look(root: Path, tasks: Iterable[Task]) -> tuple[dict[str, dict], list[tuple[Task, str]]]:
    """Records of the finished tasks by key, and the tasks whose results are damaged, with the reason."""
    records, damaged = {}, []
    for task in tasks:
        try:
            if record := store.finished(root, task):
                records[task.key] = record
        except store.Damaged as reason:
            damaged.append((task, str(reason)))
    return records, damaged


class Expected:
    """Seconds that a task will take: the mean of finished runs of its notebook, else the notebook's stored time."""

    def __init__(self, times: Mapping[str, float], records: Mapping[str, dict]) -> None:
        self.times, self.measured = times, defaultdict(list)
        for record in records.values():
            self.measured[record["facts"]["notebook"]].append(record["seconds"])

    def add(self, task: Task, seconds: float) -> None:
        self.measured[task.job.name].append(seconds)

    def __call__(self, task: Task) -> float | None:
        measured = self.measured.get(task.job.name)
        return statistics.fmean(measured) if measured else self.times.get(task.job.name)

    def left(self, tasks: Iterable[Task], count: int) -> str:
        """Time for these tasks with that many workers, in words."""
        seconds = [self(task) for task in tasks]
        known = [s for s in seconds if s is not None]
        if not known:
            return "an unknown time" if seconds else "nothing"
        guess = len(seconds) * statistics.fmean(known)  # a notebook without a time counts as the others do
        return badges.about(max(guess / max(count, 1), max(known)))


def _carry_out(todo: list[Task], crew, expected: Expected, say: Say, publish: Callable) -> tuple[dict, bool]:
    """Hand all tasks to the crew and wait; return the failed ones and whether the sweep was interrupted."""
    left = {task.key: task for task in todo}
    failed: dict[str, tuple[Task, Outcome]] = {}
    start = published = time.monotonic()

    def counts() -> str:
        done = f"{len(todo) - len(left) - len(failed)} of {len(todo)} done, {crew.running} running"
        return f"{done}, {len(failed)} failed, {expected.left(left.values(), crew.running)} left"

    def tell(text: str) -> None:
        _status("")
        say(text)

    try:
        for task in todo:
            crew.submit(task)
        while left:
            for task, outcome in crew.completed(1.0):
                del left[task.key]
                if outcome.error:
                    failed[task.key] = (task, outcome)
                else:
                    expected.add(task, outcome.seconds)
                what = f"{outcome.seconds:.0f} s" + (f", FAILED: {outcome.error}" if outcome.error else "")
                what += f", attempt {outcome.attempt}: its worker was lost" if outcome.attempt > 1 else ""
                tell(f"{task.label}: {what} ({counts()})\n")
            _status(f"{counts()}, {timedelta(seconds=int(time.monotonic() - start))} so far")
            if time.monotonic() - published > TABLE_EVERY:
                publish()
                published = time.monotonic()
    except KeyboardInterrupt:
        tell("interrupted\n")
        return failed, True
    finally:
        _status("")
        crew.close()
    return failed, False


def _status(text: str) -> None:
    """Show the last line of a terminal anew; nothing where the output goes to a file."""
    if sys.stdout.isatty():
        print(f"\r\x1b[K{text}", end="", flush=True)


def _spoken_and_logged(root: Path) -> Say:
    """Print, and add to root/sweep.log with the time; a log that cannot be written stops nothing."""

    def say(text: str) -> None:
        say_at_once(text)
        with contextlib.suppress(OSError), (root / "sweep.log").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {text}")

    return say


def _write(target: Path, root: Path, tasks: list[Task], say: Say) -> tuple[int, bool]:
    """Bring the table up to date; return how many tasks are finished and whether the table could be written."""
    records, _ = look(root, tasks)
    finished = [(task, records[task.key]) for task in tasks if task.key in records]
    try:
        table.write(target, root, finished)
    except OSError as error:
        say(f"the table could not be written ({error}); the results are there: run the same sweep again\n")
        return len(finished), False
    return len(finished), True
