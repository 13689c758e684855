"""Re-execute notebooks in place, so that a second time changes no byte."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import badges, kernels, notebooks

WIDGET = "application/vnd.jupyter.widget-view+json"


class ExecutionFailed(Exception):
    """A notebook did not run to its end; says where and why in one line."""


def execute(path: Path) -> tuple[object, float]:
    """Return the notebook executed in a fresh kernel, and its seconds. Raises ExecutionFailed."""
    nb = notebooks.read(path)
    with tempfile.TemporaryDirectory() as temporary:
        ended = kernels.execute(nb, path.parent, Path(temporary) / "log")
    if ended.error:
        raise ExecutionFailed(f"cell {ended.cell}: {ended.error}")
    for cell in nb.cells:
        if cell.cell_type == "code":
            # A stored widget is a random id without a state behind it.
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    return nb, ended.seconds


def execute_all(folder: Path, figures: Path, wanted: Sequence[str] = ()) -> int:
    """Execute in place; return the exit code. A notebook that fails stays as it was, and the others go on."""
    badges.refresh_all(folder, figures)  # first: a new Colab cell has to be executed too
    failed, measured = [], {}
    paths = notebooks.find(folder, wanted)
    for number, path in enumerate(paths, 1):
        print(f"[{number}/{len(paths)}] {path.stem} … ", end="", flush=True)
        try:
            nb, measured[path.stem] = execute(path)
        except ExecutionFailed as error:
            failed.append(path.stem)
            print(f"FAILED at {error}")
            continue
        notebooks.write(nb, path)
        print(f"{measured[path.stem]:.0f} s")
    badges.record_times(figures, measured)
    badges.refresh_all(folder, figures)  # again: the badge line shows the run time
    if failed:
        print(f"FAILED and left as they were: {', '.join(failed)}")
    return 1 if failed else 0
