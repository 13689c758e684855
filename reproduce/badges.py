"""Launch badges and Colab set-up cells, all from the one address in pyproject.toml."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import nbformat

from l2d_utils.results import write_atomically

from . import notebooks, provenance
from .notebooks import ROOT

COLAB_TAG = "colab-setup"
# Packages that Colab lacks: distribution -> module. Installed without their dependencies, which Colab has.
COLAB_LACKS = {"mlxtend": "mlxtend", "paretobandit": "pareto_bandit", "wordllama": "wordllama"}
TIMES = "run_times.csv"
COLAB_CELL = Path(__file__).with_name("colab_cell.txt")


@dataclass(frozen=True)
class Address:
    """Where the book is published: https address without trailing slash, and the branch or tag to open."""

    repository: str
    ref: str

    @property
    def slug(self) -> str:
        return self.repository.split("://", 1)[1].split("/", 1)[1]


def address(root: Path = ROOT) -> Address:
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    return Address(project["project"]["urls"]["Repository"].rstrip("/"), project["tool"]["l2d"]["launch-ref"])


def pins() -> dict[str, str]:
    """`name==version` of the pinned dependencies of pyproject.toml, by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return {d.split("==")[0]: d for d in project["project"]["dependencies"] if "==" in d}


def links(name: str, where: Address) -> tuple[str, str]:
    """Addresses that open notebooks/name.ipynb in Colab and in Binder."""
    path = f"notebooks/{name}.ipynb"
    colab = f"https://colab.research.google.com/github/{where.slug}/blob/{where.ref}/{path}"
    return colab, f"https://mybinder.org/v2/gh/{where.slug}/{where.ref}?labpath={quote(path, safe='')}"


def badge_line(name: str, where: Address, seconds: float | None = None) -> str:
    colab, binder = links(name, where)
    line = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab})"
    line += f" [![Launch Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    return f"{line} · run time {about(seconds)}" if seconds else line


def about(seconds: float) -> str:
    """A run time as a reader wants it: about 5 s, about 40 s, about 2.5 min."""
    if seconds < 57.5:
        return f"about {max(5, 5 * round(seconds / 5))} s"
    return f"about {0.5 * round(seconds / 30):g} min"


def run_times(figures: Path) -> dict[str, float]:
    """Seconds by notebook, as `make notebooks` measured them."""
    path = figures / TIMES
    rows = provenance.read_rows(path, ["notebook", "seconds"]) if path.exists() else []
    return {row["notebook"]: float(row["seconds"]) for row in rows}


def record_times(figures: Path, measured: dict[str, float]) -> None:
    """Store run times. One within a factor of 1.5 of the stored one changes nothing: it is noise, and the notebooks
    (whose badge line shows it) shall stay as they are on a repeat."""
    times = run_times(figures)
    for name, seconds in measured.items():
        if not (name in times and 1 / 1.5 < seconds / times[name] < 1.5):
            times[name] = round(seconds, 1)
    text = "notebook,seconds\n" + "".join(f"{name},{times[name]:g}\n" for name in sorted(times))
    figures.mkdir(parents=True, exist_ok=True)
    write_atomically(figures / TIMES, lambda p: p.write_text(text, "utf-8"))


def colab_cell(where: Address) -> str:
    pinned = pins()
    wanted = "\n".join(f'        "{pinned[package]}": "{module}",' for package, module in COLAB_LACKS.items())
    folder = where.slug.split("/")[-1]
    template = COLAB_CELL.read_text("utf-8").rstrip("\n")
    return template.format(folder=folder, ref=where.ref, repository=where.repository, wanted=wanted)


def refresh(nb, name: str, where: Address, seconds: float | None = None):
    """Return the notebook with its badge line (right below the title) and its Colab cell (cell 1) as they should be.
    A stored output or execution count stays; a Colab cell that is new has none until the notebook is executed."""
    nb = nbformat.from_dict(nb)
    title, *rest = nb.cells[0].source.split("\n")
    rest = "\n".join(line for line in rest if not line.startswith("[![")).strip("\n")
    nb.cells[0].source = "\n\n".join(part for part in (title, badge_line(name, where, seconds), rest) if part)
    present = [cell for cell in nb.cells if COLAB_TAG in notebooks.tags(cell)]
    if not present:
        metadata = {"tags": [COLAB_TAG], "jupyter": {"source_hidden": True}}
        present = [nbformat.v4.new_code_cell(id=COLAB_TAG, metadata=metadata)]
        nb.cells.insert(1, present[0])
    present[0].source = colab_cell(where)
    return nb


def refresh_all(folder: Path, figures: Path) -> list[str]:
    """Rewrite the notebooks that need it; return their names."""
    where, times, changed = address(), run_times(figures), []
    for path in notebooks.find(folder):
        old = notebooks.read(path)
        new = refresh(old, path.stem, where, times.get(path.stem))
        if new != old:
            notebooks.write(new, path)
            changed.append(path.stem)
    return changed
