"""The page that opens a run: plain HTML in one file (page.html), which needs neither a server nor the network."""

from pathlib import Path

import jinja2
from nbconvert import HTMLExporter
from PIL import Image

from l2d_utils.results import write_atomically

TEMPLATE = Path(__file__).with_name("page.html")


def export(notebook: Path) -> None:
    """Write an executed notebook as HTML beside it, for readers without Jupyter."""
    html, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
    write_atomically(notebook.with_suffix(".html"), lambda p: p.write_text(html, "utf-8"))


def write_index(folder: Path, record: dict) -> None:
    """Write index.html from a run's record and the files in its folder. All is escaped: errors may quote prompts."""
    failed = [row for row in record["notebooks_run"] if row["error"]]
    git = record.get("git")
    code = f"commit {git['commit'][:10]}" if git else f"package {record['package_sha256'][:10]}"
    if git and git["changed_files"]:
        code += ", with changes not committed"
    made = {kind: {p.stem for p in (folder / "notebooks").glob(f"[!.]*.{kind}")} for kind in ("html", "ipynb")}
    pictures = [
        {"file": p.name, "name": p.stem, "alt": alt_text(p), "numbers": p.with_suffix(".csv").exists()}
        for p in sorted((folder / "figures").glob("[!.]*"))
        if p.suffix in (".png", ".svg")
    ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    html = environment.from_string(TEMPLATE.read_text("utf-8")).render(
        run=record, failed=failed, code=code, pages=made["html"], executed=made["ipynb"], pictures=pictures
    )
    write_atomically(folder / "index.html", lambda p: p.write_text(html, "utf-8"))


def alt_text(path: Path) -> str:
    """What `results.show_figure` stored in the PNG, or else the words of the file name."""
    text = ""
    if path.suffix == ".png":
        with Image.open(path) as image:
            text = image.info.get("Description", "")
    return text or path.stem.replace("_", " ")
