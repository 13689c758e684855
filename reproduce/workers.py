"""Who carries out the tasks of a sweep: the workers of a Dask cluster, one on this machine or one that runs already.

`perform` is what a worker does; it never raises, and its result lies in the store before it returns.
"""

import contextlib
import dataclasses
import logging
import os
import queue
import time
from datetime import UTC, datetime
from pathlib import Path

import dask
from dask.distributed import Client, KilledWorker, LocalCluster

from l2d_utils.results import SOURCES

from . import grid, provenance, runner, store, table
from .grid import Task
from .notebooks import UsageError
from .runner import Outcome

CONNECT = 20  # seconds for a scheduler to answer
LOST = (OSError, RuntimeError)  # what a Dask client raises when its scheduler is gone
ATTEMPTS = 3  # a task with which a worker of ours was lost three times is what it was lost by


def perform(task: Task, root: Path, about: dict) -> Outcome:
    """Execute one task in a kernel of its own and file its result, or what there is of a failure.

    about : facts for the record that the worker itself cannot know, `data_folder` and `git`.
    """
    os.environ.pop("L2D_OUT", None)  # it would send the figures elsewhere
    os.environ["L2D_DATA_DIR"] = about["data_folder"]  # what the address was made with; "" is none
    start, work = time.monotonic(), None
    try:
        work, attempt = store.workspace(root, task)
        grid.check_unchanged(task)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        target, figures, log = work / "notebook.ipynb", work / "figures", work / "log.txt"
        outcome = runner.run_one(task.job, target=target, out=figures, log=log)
        if not outcome.error:
            grid.check_unchanged(task)
            record = {"started": started, "seconds": round(outcome.seconds, 3), "peak_bytes": outcome.peak_bytes}
            record |= {"attempt": attempt, "numbers": len(table.measured(figures, task.job.name)), "git": about["git"]}
            record["sources"] = [r for p in sorted(figures.glob("*.csv")) for r in provenance.read_rows(p, SOURCES)]
            store.file_result(root, task, work, record | provenance.environment())
            return dataclasses.replace(outcome, attempt=attempt)
    except (OSError, ValueError, UsageError) as error:  # the disk is full, a number is none, the source changed
        outcome = Outcome(task.job.name, time.monotonic() - start, f"{type(error).__name__}: {error}")
    if work is not None:
        store.file_failure(root, task, work, outcome.error)
    return outcome


class Cluster:
    """The workers of a Dask cluster: one that runs already ("tcp://..."), or one here, of `count` processes.

    Every worker must see the notebooks, the package and `root` under the same paths as this process. Dask starts
    the tasks of a lost worker again on another one. `submit` takes tasks, `completed` hands back what became of them.
    """

    def __init__(self, scheduler: str, count: int, root: Path, about: dict) -> None:
        self.root, self.about, self.cluster = root, about, None
        if not scheduler:
            # A worker takes one task at a time, and none in advance that would be lost with it.
            rules = {"worker-saturation": 1.0, "allowed-failures": ATTEMPTS - 1}
            with dask.config.set({f"distributed.scheduler.{name}": value for name, value in rules.items()}):
                options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
                self.cluster = LocalCluster(n_workers=count, silence_logs=logging.CRITICAL, **options)
        try:
            self.client = Client(self.cluster or scheduler, timeout=CONNECT)
        except (OSError, ValueError) as error:
            raise UsageError(f"no Dask scheduler answers at {scheduler} ({error})") from None
        self.answers: queue.SimpleQueue = queue.SimpleQueue()
        self.futures: dict[str, tuple] = {}

    def submit(self, task: Task) -> None:
        future = self.client.submit(perform, task, self.root, self.about, key=f"{task.key}-{time.monotonic_ns()}")
        self.futures[future.key] = (future, task)
        future.add_done_callback(self.answers.put)

    @property
    def running(self) -> int:
        """At most: as many as the workers can hold, and none when the scheduler is gone."""
        with contextlib.suppress(*LOST):
            return min(sum(self.client.nthreads().values()), len(self.futures))
        return 0

    def completed(self, timeout: float) -> list[tuple[Task, Outcome]]:
        try:
            future = self.answers.get(timeout=timeout)
        except queue.Empty:
            return []
        _, task = self.futures.pop(future.key)
        try:
            return [(task, future.result())]
        except KilledWorker as error:
            fault = f"its worker was lost {error.allowed_failures + 1} times"
        except Exception as error:  # a lost scheduler, a worker that lacks the package
            fault = f"{type(error).__name__}: {error}".splitlines()[0]
        return [(task, Outcome(task.job.name, 0.0, fault))]

    def close(self) -> None:
        """Cancel what has not ended, and stop the cluster if it is our own."""
        with contextlib.suppress(*LOST):
            self.client.cancel([future for future, _ in self.futures.values()])
            self.client.close()
        if self.cluster is not None:
            self.cluster.close()
