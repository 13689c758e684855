"""What the other modules need to know of a notebook file: its name, its parameters, its opening cell."""

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat

from l2d_utils.results import UsageError as UsageError
from l2d_utils.results import write_atomically

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "notebooks"
PARAMETERS = "parameters"
READS_OTHERS = "reads-others"  # tag of the parameters cell of a notebook that reads tables which others make in the run


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def read(path: Path):
    """Read one notebook. Raises UsageError if the file is no notebook."""
    try:
        return nbformat.read(path, as_version=4)
    except (OSError, ValueError) as error:  # nbformat's own errors are ValueErrors
        raise UsageError(f"{path}: not a readable notebook ({error})") from None


def write(nb, path: Path) -> None:
    write_atomically(path, lambda temporary: nbformat.write(nb, temporary))


def find(folder: Path, wanted: Sequence[str] = ()) -> list[Path]:
    """Notebooks NN_topic.ipynb of a folder in reading order: all, or those wanted by name ("06_images") or number.
    Raises UsageError for a folder without notebooks and for a wanted name that is not there.
    """
    paths = sorted(folder.glob("[0-9][0-9]_*.ipynb"))
    if not paths:
        raise UsageError(f"no notebooks NN_topic.ipynb in {folder}")
    called = {p: {p.name, p.stem, p.stem[:2]} for p in paths}
    if unknown := [name for name in wanted if not any(name in names for names in called.values())]:
        raise UsageError(f"unknown notebook {unknown[0]!r}; there are {', '.join(p.stem for p in paths)}")
    return [p for p in paths if not wanted or called[p] & set(wanted)]


def parameters_index(nb, name: str) -> int:
    """Position of the one cell tagged `parameters`. Raises UsageError if there is not exactly one."""
    at = [i for i, c in enumerate(nb.cells) if c.cell_type == "code" and PARAMETERS in tags(c)]
    if len(at) != 1:
        raise UsageError(f"{name}: {len(at)} cells are tagged {PARAMETERS!r}, exactly one is needed")
    return at[0]


def parameters(nb, name: str) -> dict[str, Any]:
    """Names and values of the parameters cell.

    Papermill sees neither annotated nor computed values, so anything but `NAME = literal` raises UsageError.
    """
    found = {}
    for statement in ast.parse(nb.cells[parameters_index(nb, name)].source).body:
        try:
            (target,) = statement.targets
            found[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            line = ast.unparse(statement).splitlines()[0]
            raise UsageError(f"{name}: {line!r} in the parameters cell is no NAME = literal") from None
    return found


def reads_others(nb) -> bool:
    """Whether the notebook says that it has to run after the others."""
    return any(READS_OTHERS in tags(cell) for cell in nb.cells)


def title(nb) -> str:
    """The title in cell 0, without the number."""
    return nb.cells[0].source.partition("\n")[0].lstrip("# ").split("·", 1)[-1].strip()


def questions(nb) -> dict[str, str]:
    """The question of each chapter, by its number: rows `| [01 Title](file) | question |` of the map of the book."""
    row = re.compile(r"^\| *(?:\*\*|\[)?(\d\d)\b[^|]*\|([^|]+)\| *$", re.M)
    text = "\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
    return {number: question.strip() for number, question in row.findall(text)}
