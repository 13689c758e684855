"""The site as files: complete, self-contained, every link and every figure accounted for."""

import re
import runpy
import tomllib
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx.project import Project

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ELSEWHERE = re.compile(r"cdn\.|cdnjs|jsdelivr|unpkg|googleapis|gstatic|polyfill\.io|requirejs", re.I)
# Tags that fetch what they name as soon as a page is opened; <a href> does not.
FETCHING = {"script", "link", "img", "iframe", "source", "video", "audio", "embed", "object"}


class Page(HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.tags, self.ids = [], set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="session")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}


def test_it_is_built_without_a_warning_within_a_minute(built):
    _, said, seconds = built
    assert "WARNING" not in said and seconds <= 60


def test_every_notebook_is_a_page_and_the_first_page_lists_them(site, pages):
    named = {a.get("href", "").split("#")[0] for a in pages[site / "index.html"].all("a")}
    for path in NOTEBOOKS:
        assert (site / "notebooks" / f"{path.stem}.html").exists()
        assert f"notebooks/{path.stem}.html" in named


def test_nothing_is_fetched_from_elsewhere(site, pages):
    for path, page in pages.items():
        for tag, attributes in page.tags:
            if tag in FETCHING:
                for key in ("src", "href", "data", "srcset"):
                    assert not re.match(r"(https?:)?//", attributes.get(key) or ""), (path.name, attributes)
    for path in (p for p in site.rglob("*") if p.suffix in (".html", ".css", ".js", ".svg")):
        text = path.read_text("utf-8", errors="replace")
        assert not ELSEWHERE.search(text), (path.name, ELSEWHERE.search(text))
        if path.suffix == ".css":
            assert not re.search(r"(url\(\s*|@import\s+)[\"']?(https?:)?//", text), path.name


def test_every_internal_link_resolves(site, pages):
    checked = 0
    for path, page in pages.items():
        for tag, attributes in page.tags:
            for value in (attributes.get("href"), attributes.get("src")):
                parts = urlsplit(value or "")
                if value is None or parts.scheme or parts.netloc:
                    continue
                target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
                assert target.is_file(), f"{path.name}: <{tag}> {value}"
                assert target.is_relative_to(site)
                if parts.fragment and target.suffix == ".html":
                    assert unquote(parts.fragment) in pages[target].ids, f"{path.name}: {value}"
                checked += 1
    assert checked > 100


def test_every_figure_says_what_it_shows(pages):
    figures = [image for page in pages.values() for image in page.all("img")]
    assert len(figures) >= sum(
        "image/png" in output.get("data", {})
        for path in NOTEBOOKS
        for cell in nbformat.read(path, 4).cells
        for output in cell.get("outputs", [])
    )
    for image in figures:
        assert len((image.get("alt") or "").split()) >= 4 and not image["alt"].endswith(".png"), image


def test_every_equation_has_an_anchor_and_is_linked_across_pages(site, pages):
    across = 0
    for path in NOTEBOOKS:
        page = pages[site / "notebooks" / f"{path.stem}.html"]
        for cell in nbformat.read(path, 4).cells:
            for number in re.findall(r"\\tag\{([\d.]+)\}", cell.source if cell.cell_type == "markdown" else ""):
                assert f"equation-{number.replace('.', '-')}" in page.ids
        across += sum(".html#equation-" in a.get("href", "") for a in page.all("a"))
    assert across >= 3


def test_a_chapter_can_be_launched_and_downloaded(site, pages):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    slug = project["project"]["urls"]["Repository"].split("://", 1)[1].split("/", 1)[1]
    for path in NOTEBOOKS:
        here = site / "notebooks" / f"{path.stem}.html"
        hrefs = [a["href"] for a in pages[here].all("a") if "launch-button" in (a.get("class") or "")]
        colab, binder, download = hrefs  # in this order
        ref = project["tool"]["l2d"]["launch-ref"]
        assert colab.endswith(f"/github/{slug}/blob/{ref}/notebooks/{path.name}")
        assert f"/gh/{slug}/{ref}?labpath=notebooks%2F{path.name}" in binder
        assert (here.parent / download).resolve().read_bytes() == path.read_bytes()
        assert "google.colab" not in here.read_text("utf-8"), "the cell that prepares Colab is of no use to a reader"


def test_the_lock_is_what_is_installed_and_closed():
    lines = (ROOT / "requirements-book.lock").read_text("utf-8").splitlines()
    locked = {canonicalize_name(r.name): r for r in map(Requirement, (x for x in lines if x and x[0] != "#"))}
    for name, requirement in locked.items():
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(metadata.version(name)), name
            for needed in map(Requirement, metadata.requires(name) or []):
                if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                    assert canonicalize_name(needed.name) in locked, f"{name} needs {needed}"


def test_what_a_run_leaves_in_figures_is_no_page(tmp_path):
    for name in ("index.md", "figures/09_router/card.md"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# A page")
    patterns = runpy.run_path(str(ROOT / "book" / "conf.py"))["exclude_patterns"]
    assert Project(tmp_path, {".md": "markdown"}).discover(patterns) == {"index"}
    assert len(Project(tmp_path, {".md": "markdown"}).discover()) == 2
