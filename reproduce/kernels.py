"""How kernels are started and notebooks executed: with the package of this folder, over private sockets, with a log."""

import atexit
import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import zmq
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from traitlets.config import Config

from .notebooks import ROOT
from .provenance import linux_says

NAME = "python3"
LATE = 60  # seconds; the default, 4, fails a cell, or drops what it printed, when the machine stalls at its end


def environment() -> dict[str, str]:
    """Environment variables of a kernel. It imports the package of the folder that this file belongs to, whatever the
    Python environment was installed for: what runs is then what the record names. One thread, unless told otherwise:
    kernels that share cores are far slower with more."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def peak_bytes(pid: int) -> int | None:
    """The most memory that a living process has held at once; None where the system does not say (Linux does)."""
    kilobytes = linux_says(f"{pid}/status", "VmHWM:").split()
    return 1024 * int(kilobytes[0]) if kilobytes else None


class Kill:
    """Ends a kernel at once: the one that runs, or the one that is just being started."""

    def __init__(self) -> None:
        self.asked, self.pids = False, []

    def __call__(self) -> None:
        self.asked = True
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def started(self, pid: int) -> None:
        self.pids.append(pid)
        if self.asked:
            self()


def private_sockets(folder: Path) -> Config:
    """Traitlets configuration of one kernel: encrypted sockets in a folder of its own.

    Of kernels that start at the same moment, now and then two are given the same network port, and one dies. Without
    encryption (where zmq has it) other users of the machine can listen in on a port; each kernel warns of it.
    """
    config = Config()
    if zmq.has("curve") and hasattr(AsyncKernelManager, "transport_encryption"):
        config.KernelManager.transport_encryption = "auto"
    file = folder / "kernel.json"
    if len(f"{file.with_suffix('')}-ipc-5") < zmq.IPC_PATH_MAX_LEN:
        config.KernelManager.transport = "ipc"
        config.KernelManager.connection_file = str(file)
    return config


@contextlib.contextmanager
def settings(log: Path, kill: Kill, peak: Callable[[int], None] = lambda size: None) -> Iterator[dict]:
    """Keyword arguments for nbclient, for one kernel that ends before the context does.

    What the kernel process itself writes to standard error (its death throes, not the notebook's output) goes to
    `log`; its peak memory, before it ends, to `peak`. `kill` ends it.
    """

    class Manager(AsyncKernelManager):
        async def start_kernel(self, **options):
            with log.open("ab") as file:
                result = await super().start_kernel(**{"env": environment(), **options}, stderr=file)
            kill.started(self.provisioner.pid)
            return result

        async def shutdown_kernel(self, *args, **options):
            if size := peak_bytes(getattr(self.provisioner, "pid", None) or 0):
                peak(size)
            return await super().shutdown_kernel(*args, **options)

    with tempfile.TemporaryDirectory(prefix="l2d-") as folder:
        config = private_sockets(Path(folder))
        yield {"kernel_name": NAME, "kernel_manager_class": Manager, "config": config, "iopub_timeout": LATE}


@dataclass(frozen=True)
class Ended:
    """How the execution of a notebook ended: wall time; "" or what went wrong; the cell that was reached; whether the
    kernel was what failed; the most memory that it held at once (None where the system does not say)."""

    seconds: float
    error: str
    cell: int
    dead: bool
    peak_bytes: int | None


def execute(nb, folder: Path, log: Path, kill: Kill | None = None) -> Ended:
    """Execute a notebook in a fresh kernel in `folder`; its cells take the outputs. What fails in it is not raised.

    `log` is there afterwards only if the kernel complained. `kill`, called in another thread, ends it.
    """
    at, peaks, error, dead, kill = [0], [], "", False, kill or Kill()
    # Times, widget states and the pieces in which printed text arrives differ from run to run and are not stored.
    options = {"timeout": None, "record_timing": False, "store_widget_state": False, "coalesce_streams": True}
    options |= {"resources": {"metadata": {"path": str(folder)}}}
    options["on_cell_start"] = lambda cell, cell_index: at.append(cell_index)
    start = time.monotonic()
    try:
        # In the main thread nbclient takes over SIGINT and SIGTERM, and one that arrives just as a kernel starts comes
        # out as the death of that kernel. In another thread it leaves them alone.
        with settings(log, kill, peaks.append) as kernel, contextlib.ExitStack() as last, ThreadPoolExecutor(1) as pool:
            client = NotebookClient(nb, **options, **kernel)
            # nbclient forgets to when a kernel dies while it starts
            last.callback(atexit.unregister, client._cleanup_kernel)
            try:
                pool.submit(client.execute).result()
            except KeyboardInterrupt:
                kill()
                raise
    except CellExecutionError as failure:
        error = f"{failure.ename}: {failure.evalue}"
    except Exception as failure:  # a dead kernel, a kernel that does not start, a full disk
        error, dead = f"{type(failure).__name__}: {failure}", True
    finally:
        if log.exists() and not log.stat().st_size:
            log.unlink()
    return Ended(time.monotonic() - start, error, at[-1], dead, max(peaks, default=None))
