"""Sixty quick runs through `sweep`: two workers against one, and one against bare papermill.

A run is a small notebook with about half a second of work in a kernel of its own, far shorter than the book's, so that
whatever the sweep adds weighs more here. Bare papermill is a loop in one process; two such loops side by side, each
with half of the runs, say how much faster than one this machine can be at all (processors that share a core cannot
be twice as fast). Every figure is the wall time of a whole command, its start included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
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


def wait_for(commands: list[list[str]]) -> float:
    """Seconds until all of these commands, started together, have ended well."""
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        for process in [subprocess.Popen(command, stdout=said, stderr=said) for command in commands]:
            if process.wait():
                said.seek(0)
                raise SystemExit(said.read().decode(errors="replace"))
        return time.perf_counter() - start


def bare(folder: Path, runs: int, count: int) -> float:
    notebook, out = folder / "notebooks" / "00_work.ipynb", folder / f"bare{count}"
    loops = [[str(first), str(runs), str(count)] for first in range(count)]
    return wait_for([[sys.executable, "-c", BARE, str(notebook), str(out), *loop] for loop in loops])


def swept(folder: Path, runs: int, count: int) -> float:
    grid = folder / "grid.yaml"
    grid.write_text(json.dumps([{"notebooks": ["00"], "parameters": {"SEED": list(range(runs))}}]))
    command = [sys.executable, "-m", "l2d_utils.reproduce", "sweep", str(grid), "--folder", str(folder / "notebooks")]
    return wait_for([[*command, "--out", str(folder / f"sweep{count}"), "--workers", str(count)]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="JSON file of times: what stands in it is not measured again")
    arguments = parser.parse_args()
    keep = arguments.keep
    times = json.loads(keep.read_text()) if keep and keep.exists() else {}
    for name, measure, count in (("bare1", bare, 1), ("sweep1", swept, 1), ("sweep2", swept, 2), ("bare2", bare, 2)):
        if name in times:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            (Path(temporary) / "notebooks").mkdir()
            parameters = new_code_cell('SEED = 0\nOUT = "."', metadata={"tags": ["parameters"]})
            kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
            notebook = new_notebook(cells=[parameters, new_code_cell(WORK)], metadata={"kernelspec": kernel})
            nbformat.write(notebook, Path(temporary) / "notebooks" / "00_work.ipynb")
            times[name] = measure(Path(temporary), arguments.runs, count)
        if keep:
            keep.write_text(json.dumps(times))
    print(f"  ({', '.join(f'{name} {seconds:.1f} s' for name, seconds in times.items())}; {arguments.runs} runs)")
    report("time of a sweep with one worker against bare papermill", times["sweep1"] / times["bare1"], 1.1)
    report("throughput of two workers against one", times["sweep1"] / times["sweep2"], 1.7)
    report("  two bare papermill loops against one: the machine's limit", times["bare1"] / times["bare2"], 1.7)


if __name__ == "__main__":
    main()
