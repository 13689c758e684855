"""Sixty quick runs through `sweep`: two workers against one, and one against bare papermill.

A run is a small notebook with about half a second of work in a kernel of its own, far shorter than the book's, so that
whatever the sweep adds weighs more here. Bare papermill is a loop in one process; two such loops side by side, each
with half of the runs, say how much faster than one this machine can be at all (processors that share a core cannot
be twice as fast). Every figure is the time of a whole command, its start included. The commands take turns of one
second, the others stopped meanwhile, so that a machine whose speed drifts is as fast for one as for another.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import nbformat
import psutil
from nbformat.v4 import new_code_cell, new_notebook
from timing import report

WORK = """\
import numpy as np
x = np.random.default_rng(SEED).standard_normal((200, 200))
for _ in range(30):
    x = np.linalg.qr(x + np.linalg.inv(x))[0]
total = sum(i % 7 for i in range(4_000_000))
with open(f"{OUT}/00_work.csv", "w") as file:
    file.write("notebook,study,data,split,method,setting,seed,metric,value\\n")
    file.write(f"00,,,,,,{SEED},trace,{np.trace(x):.3g}\\n")"""

BARE = """\
import logging, pathlib, sys
import papermill
logging.disable(logging.CRITICAL)
notebook, out, first, last, step = sys.argv[1], pathlib.Path(sys.argv[2]), *map(int, sys.argv[3:])
for seed in range(first, last, step):
    (out / str(seed)).mkdir(parents=True)
    parameters = {"SEED": seed, "OUT": str(out / str(seed))}
    papermill.execute_notebook(
        notebook, out / f"{seed}.ipynb", parameters, kernel_name="python3", cwd=str(out), progress_bar=False
    )"""


def send(processes: list[subprocess.Popen], number: signal.Signals) -> None:
    """Send a signal to these processes and all that they started, until nothing is left that did not get it."""
    reached: set[int] = set()
    while True:
        family = {process.pid for process in processes}
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                family |= {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        if family <= reached:
            return
        for pid in family - reached:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        reached |= family


def ended_within(seconds: float, processes: list[subprocess.Popen], said: IO[bytes]) -> bool:
    """Whether all of them ended well within this time. Raises SystemExit with what was said when one failed."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        codes = [process.poll() for process in processes]
        if any(codes):
            said.seek(0)
            raise SystemExit(said.read().decode(errors="replace"))
        if None not in codes:
            return True
        time.sleep(0.01)
    return False


def run_in_turns(commands: dict[str, list[list[str]]], *, turn: float = 1.0) -> dict[str, float]:
    """Seconds that each group of commands ran, all of it side by side, while the other groups were stopped."""
    seconds = dict.fromkeys(commands, 0.0)
    running: dict[str, list[subprocess.Popen]] = {}
    unfinished = list(commands)
    with tempfile.TemporaryFile() as said:
        try:
            while unfinished:
                for name in list(unfinished):
                    start = time.perf_counter()
                    if name in running:
                        send(running[name], signal.SIGCONT)
                    else:
                        running[name] = [subprocess.Popen(c, stdout=said, stderr=said) for c in commands[name]]
                    if ended_within(turn, running[name], said):
                        unfinished.remove(name)
                    else:
                        send(running[name], signal.SIGSTOP)
                    seconds[name] += time.perf_counter() - start
        finally:
            for name in unfinished:
                send(running.get(name, []), signal.SIGKILL)
    return seconds


def bare(notebooks: Path, out: Path, runs: int, count: int) -> list[list[str]]:
    loops = [[str(first), str(runs), str(count)] for first in range(count)]
    return [[sys.executable, "-c", BARE, str(notebooks / "00_work.ipynb"), str(out), *loop] for loop in loops]


def swept(notebooks: Path, out: Path, runs: int, count: int) -> list[list[str]]:
    out.mkdir()
    grid = out / "grid.yaml"
    grid.write_text(json.dumps([{"notebooks": ["00"], "parameters": {"SEED": list(range(runs))}}]))
    command = [sys.executable, "-m", "reproduce", "sweep", str(grid), "--folder", str(notebooks)]
    return [[*command, "--out", str(out), "--workers", str(count)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        notebooks = folder / "notebooks"
        notebooks.mkdir()
        parameters = new_code_cell('SEED = 0\nOUT = "."', metadata={"tags": ["parameters"]})
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = new_notebook(cells=[parameters, new_code_cell(WORK)], metadata={"kernelspec": kernel})
        nbformat.write(notebook, notebooks / "00_work.ipynb")
        kinds = {"bare": bare, "sweep": swept}
        commands = {
            f"{name}{count}": make(notebooks, folder / f"{name}{count}", runs, count)
            for name, make in kinds.items()
            for count in (1, 2)
        }
        times = run_in_turns(commands)
    print(f"  ({', '.join(f'{name} {seconds:.1f} s' for name, seconds in times.items())}; {runs} runs)")
    report("time of a sweep with one worker against bare papermill", times["sweep1"] / times["bare1"], 1.1)
    report("throughput of two workers against one", times["sweep1"] / times["sweep2"], 1.7)
    report("  two bare papermill loops against one: the machine's limit", times["bare1"] / times["bare2"], 1.7)


if __name__ == "__main__":
    main()
