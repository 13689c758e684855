"""Who carries out the tasks of a sweep: processes on this machine, or the workers of a Dask cluster.

Both take tasks with `submit`, hand back what became of them with `completed`, and say how many are `running`.
`perform` is what a worker does; it never raises, and its result lies in the store before it returns.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections import deque
from datetime import UTC, datetime
from multiprocessing.connection import wait
from pathlib import Path

from l2d_utils.results import SOURCES
from . import grid, provenance, runner, store, table
from .grid import Task
from .notebooks import UsageError
from .runner import Outcome

CONNECT = 20  # seconds for a scheduler to answer
LOST = (OSError, RuntimeError)  # what a Dask client raises when its scheduler is gone
ATTEMPTS = 3  # a worker that is lost three times with the same task is lost because of it


def perform(task: Task, root: Path, about: dict) -> Outcome:
    """Execute one task in a kernel of its own and file its result, or what there is of a failure.

    about : facts for the record that the worker itself cannot know, `data_folder` and `git` among them.
    """
    runner.quiet()
    os.environ.pop("L2D_OUT", None)  # it would send the figures elsewhere
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # workers that share cores are far slower with more
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
            record = {
                "started": started,
                "seconds": round(outcome.seconds, 3),
                "peak_bytes": outcome.peak_bytes,
                "attempt": attempt,
                "numbers": len(table.measured(figures, task.job.name)),
                "git": about["git"],
                "sources": [row for p in sorted(figures.glob("*.csv")) for row in provenance.read_rows(p, SOURCES)],
                **(about["environment"] or provenance.environment()),
            }
            store.file_result(root, task, work, record)
            return outcome
    except (OSError, ValueError, UsageError) as error:  # the disk is full, a number is none, the source changed
        outcome = Outcome(task.job.name, time.monotonic() - start, f"{type(error).__name__}: {error}")
    if work is not None:
        store.file_failure(root, task, work, outcome.error)
    return outcome


class Processes:
    """Workers on this machine: one process per task, forked from a server that has imported everything.

    A process that ends without an answer (killed, out of memory) takes nothing with it; its task is started again.
    """

    def __init__(self, count: int, root: Path, about: dict) -> None:
        self.count, self.root = count, root
        self.about = {**about, "environment": provenance.environment()}
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload([__name__, f"{__package__}.__main__"])
        self.waiting: deque[tuple[Task, int]] = deque()
        self.active: dict[int, tuple] = {}  # by sentinel: process, its end of the pipe, task, attempt

    def submit(self, task: Task) -> None:
        self.waiting.append((task, 1))

    @property
    def running(self) -> int:
        return len(self.active)

    def completed(self, timeout: float) -> list[tuple[Task, Outcome | None]]:
        """Start what there is room for; return what ended, after at most `timeout` seconds. None stands for a
        worker that was lost: its task is started again."""
        while self.waiting and len(self.active) < self.count:
            self._start(*self.waiting.popleft())
        ended = []
        for sentinel in wait(list(self.active), timeout):
            process, answer, task, attempt = self.active.pop(sentinel)
            process.join()
            try:
                ended.append((task, answer.recv()))
                continue
            except (EOFError, OSError):  # it ended without a word, or in the middle of one
                pass
            finally:
                answer.close()
            if attempt < ATTEMPTS:
                self.waiting.appendleft((task, attempt + 1))
                ended.append((task, None))
            else:
                error = f"its worker was lost {attempt} times (exit code {process.exitcode})"
                ended.append((task, Outcome(task.job.name, 0.0, error)))
        return ended

    def _start(self, task: Task, attempt: int) -> None:
        answer, question = self.context.Pipe(duplex=False)
        process = self.context.Process(target=_child, args=(question, task, self.root, self.about), daemon=True)
        process.start()
        question.close()
        self.active[process.sentinel] = (process, answer, task, attempt)

    def close(self) -> None:
        """Stop what still runs. A kernel whose process is gone ends by itself within a second."""
        for process, *_ in self.active.values():
            process.kill()
        for process, *_ in self.active.values():
            process.join()
        self.active.clear()


def _child(question, task: Task, root: Path, about: dict) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the sweep decides
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()
    question.send(perform(task, root, about))


def _end_with(parent) -> None:
    """A sweep that was killed shall leave nothing running."""
    parent.join()
    os._exit(1)


class Cluster:
    """The workers of a Dask cluster: one that runs already ("tcp://..."), or a "local" one of `count` workers.

    Every worker must see the notebooks, the package and `root` under the same paths as this process. Dask starts
    the tasks of a lost worker again on another one.
    """

    def __init__(self, scheduler: str, count: int | None, root: Path, about: dict) -> None:
        try:
            import dask
            from dask.distributed import Client, LocalCluster
        except ImportError:
            raise UsageError("--scheduler needs Dask: pip install 'l2d-companion[cluster]'") from None
        self.root, self.about, self.cluster = root, {**about, "environment": None}, None
        if scheduler == "local":
            # A worker takes one task at a time, and none in advance that would be lost with it.
            with dask.config.set({"distributed.scheduler.worker-saturation": 1.0}):
                options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
                self.cluster = LocalCluster(n_workers=count, **options)
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
        try:
            slots = sum(self.client.nthreads().values())
        except LOST:
            slots = 0
        return min(slots, len(self.futures))

    def completed(self, timeout: float) -> list[tuple[Task, Outcome]]:
        try:
            future = self.answers.get(timeout=timeout)
        except queue.Empty:
            return []
        _, task = self.futures.pop(future.key)
        try:
            return [(task, future.result())]
        except Exception as error:  # KilledWorker, a lost scheduler, a worker that lacks the package
            first, *_ = str(error).splitlines() or [""]
            return [(task, Outcome(task.job.name, 0.0, f"{type(error).__name__}: {first}"))]

    def close(self) -> None:
        """Cancel what has not ended, and stop the cluster if it is our own."""
        with contextlib.suppress(*LOST):
            self.client.cancel([future for future, _ in self.futures.values()])
            self.client.close()
        if self.cluster is not None:
            self.cluster.close()
