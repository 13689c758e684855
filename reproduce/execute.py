"""Re-execute notebooks in place, so that a second time changes no byte."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import badges, kernels, notebooks

WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> tuple[object, float]:
    """Return the notebook executed in a fresh kernel, and its seconds. Raises RuntimeError: where and why it failed."""
    nb = notebooks.read(path)
    with tempfile.TemporaryDirectory() as temporary:
        ended = kernels.execute(nb, path.parent, Path(temporary) / "log")
    if ended.error:
        raise RuntimeError(f"cell {ended.cell}: {ended.error}")
    for cell in nb.cells:
        if cell.cell_type == "code":
            # A stored widget is a random id without a state behind it.
            cell.outputs = [o for o in cell.outputs if WIDGET not in o.get("data", {})]
    return nb, ended.seconds


def execute_all(folder: Path, figures: Path, wanted: Sequence[str] = ()) -> int:
    """Execute in place; return the exit code. A notebook that fails stays as it was, and the others go on."""
    badges.refresh_all(folder, figures)  # first: a new Colab cell has to be executed too
    failed, measured = [], {}
    for number, path in enumerate(paths := notebooks.find(folder, wanted), 1):
        print(f"[{number}/{len(paths)}] {path.stem} … ", end="", flush=True)
        try:
            nb, measured[path.stem] = execute(path)
        except RuntimeError as error:
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
