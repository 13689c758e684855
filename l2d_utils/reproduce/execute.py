"""Re-execute notebooks in place, so that a second time changes no byte."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from nbclient import NotebookClient

from . import badges, notebooks

WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> tuple[object, float]:
    """Return the notebook executed in a fresh kernel, and its seconds. Raises what nbclient raises."""
    nb = notebooks.read(path)
    start = time.monotonic()
    # Times and widget states differ from run to run and are not stored.
    NotebookClient(
        nb,
        kernel_name="python3",
        timeout=None,
        record_timing=False,
        store_widget_state=False,
        resources={"metadata": {"path": str(path.parent)}},
    ).execute()
    for cell in nb.cells:
        if cell.cell_type == "code":
            # A stored widget is a random id without a state behind it.
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    return nb, time.monotonic() - start


def execute_all(folder: Path, figures: Path, wanted: Sequence[str] = ()) -> int:
    """Execute in place; return the exit code. A notebook that fails stays as it was, and the others go on."""
    badges.refresh_all(folder, figures)  # first: a new Colab cell has to be executed too
    failed, measured = [], {}
    paths = notebooks.find(folder, wanted)
    for number, path in enumerate(paths, 1):
        print(f"[{number}/{len(paths)}] {path.stem} … ", end="", flush=True)
        try:
            nb, measured[path.stem] = execute(path)
        except Exception as error:  # the cell's own error, a dead kernel: report and go on
            text = str(error).strip().splitlines() or [""]
            failed.append(path.stem)
            print(f"FAILED: {type(error).__name__}: {text[-1][:300]}")
            continue
        notebooks.write(nb, path)
        print(f"{measured[path.stem]:.0f} s")
    badges.record_times(figures, measured)
    badges.refresh_all(folder, figures)  # again: the badge line shows the run time
    if failed:
        print(f"FAILED and left as they were: {', '.join(failed)}")
    return 1 if failed else 0
