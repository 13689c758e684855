"""Build the site: python book/build.py [folder], by default build/book.

Only what is stored is rendered; nothing is executed. Sphinx wants its sources in one folder, so the README (which
becomes the first page) and the notebooks are copied side by side with whatever the README links to.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from sphinx.cmd.build import main as sphinx

ROOT = Path(__file__).resolve().parents[1]
# The chapters in order; the table of contents itself is the theme's sidebar.
CONTENTS = "\n```{toctree}\n:hidden:\n:glob:\n\nnotebooks/*\nCONTRIBUTING\n```\n"


def gather(folder: Path) -> None:
    """Copy the sources of the site into a folder."""
    for path in ROOT.iterdir():
        if path.is_file() and path.name != "README.md":
            shutil.copy(path, folder)
    for name in ("notebooks", "figures"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*"))
    readme = (ROOT / "README.md").read_text("utf-8")
    for name in re.findall(r"\]\(([\w./-]+)\)", readme):  # a module that the README links to
        if (ROOT / name).is_file() and not (folder / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "index.md").write_text(readme + CONTENTS, "utf-8")


def build(out: Path) -> int:
    """Write the site to `out`, which is emptied first. Returns Sphinx's exit code: a warning is an error."""
    shutil.rmtree(out, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="l2d-book-") as temporary:
        sources, cache = Path(temporary, "sources"), Path(temporary, "cache")
        sources.mkdir()
        gather(sources)
        options = ["-b", "html", "-q", "-W", "--keep-going", "-c", str(ROOT / "book"), "-d", str(cache)]
        return sphinx([*options, str(sources), str(out)])


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "book"
    code = build(target)
    if code == 0:
        print(f"open {target / 'index.html'}")
    sys.exit(code)
