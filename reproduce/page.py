"""The page that opens a run: plain HTML in one file, which needs neither a server nor the network."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

from nbconvert import HTMLExporter
from PIL import Image

from l2d_utils.results import write_atomically

STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8886; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.failed { color: #b3261e; font-weight: 600; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); gap: 1rem; }
figure { margin: 0; border: 1px solid #8886; border-radius: .4rem; padding: .5rem; }
figure img { width: 100%; height: auto; background: #fff; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { .failed { color: #ff8a80; } }
"""


def export(notebook: Path) -> None:
    """Write an executed notebook as HTML beside it, for readers without Jupyter."""
    html, _ = HTMLExporter(embed_images=True).from_filename(str(notebook))
    write_atomically(notebook.with_suffix(".html"), lambda p: p.write_text(html, "utf-8"))


def write_index(folder: Path, record: dict) -> None:
    """Write index.html from a run's record and the files that lie in its folder."""
    html = index(folder, record)
    write_atomically(folder / "index.html", lambda p: p.write_text(html, "utf-8"))


def index(folder: Path, record: dict) -> str:
    """The index page as text. Every name and message is escaped: errors may quote prompts."""
    rows = record["notebooks_run"]
    failed = [row for row in rows if row["error"]]
    git = record.get("git")
    code = f"commit {git['commit'][:10]}" if git else f"package {record['package_sha256'][:10]}"
    if git and git["changed_files"]:
        code += ", with changes not committed"
    finished = f"{len(rows) - len(failed)} of {len(record['parameters'])} notebooks finished"
    facts = [
        ("Status", f"{record['status']}: {finished}"),
        ("Profile", record["profile"]),
        ("Started", record["started"]),
        ("Notebook time", f"{sum(row['seconds'] for row in rows):.0f} s"),
        ("Code", code),
        ("Python", f"{record['python']} on {record['platform']}"),
    ]
    facts += [("Data", f"{d['data']}: {d['source']} {d['sha256'][:12]}") for d in record["data"]]
    body = [
        f"<h1>Run {escape(record['id'])}</h1>",
        "<table>" + "".join(f"<tr><th scope=row>{escape(k)}<td>{escape(v)}" for k, v in facts) + "</table>",
        f'<p><a href="measurements.csv">measurements.csv</a> ({record["measurements"]} numbers) · '
        '<a href="provenance.json">provenance.json</a> (versions, parameters, durations)</p>',
    ]
    if failed:
        items = "".join(f"<li>{escape(r['name'])}, {escape(r['error'])}" for r in failed)
        body.append(f"<h2>Failures</h2><ul class=failed>{items}</ul>")
    head = "<tr><th scope=col>Notebook<th scope=col>Result<th scope=col>Seconds<th scope=col>Files"
    body.append(f"<h2>Notebooks</h2><table>{head}{''.join(map(_row(folder), rows))}</table>")
    pictures = [p for p in sorted((folder / "figures").iterdir()) if p.suffix in (".png", ".svg")]
    if pictures:
        body.append(f"<h2>Figures</h2><div class=figures>{''.join(map(_figure, pictures))}</div>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Run {escape(record['id'])}</title><style>{STYLE}</style></head><body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _row(folder: Path):
    def row(outcome: dict) -> str:
        name = outcome["name"]
        links = [
            f'<a href="notebooks/{quote(name)}.{kind}">{label}</a>'
            for kind, label in (("html", escape(name)), ("ipynb", "ipynb"))
            if (folder / "notebooks" / f"{name}.{kind}").exists()
        ]
        result = '<td class="failed">failed' if outcome["error"] else "<td>finished"
        files = ", ".join(f'<a href="figures/{quote(f)}">{escape(f)}</a>' for f in outcome["files"])
        first = " · ".join(links) or escape(name)
        return f'<tr><td>{first}{result}<td class="number">{outcome["seconds"]:.0f}<td>{files}\n'

    return row


def _figure(path: Path) -> str:
    link = f"figures/{quote(path.name)}"
    alt = escape(alt_text(path), quote=True)
    image = f'<a href="{link}"><img loading="lazy" src="{link}" alt="{alt}"></a>'
    table = path.with_suffix(".csv")
    numbers = f' · <a href="figures/{quote(table.name)}">numbers</a>' if table.exists() else ""
    return f"<figure>{image}<figcaption>{escape(path.stem)}{numbers}</figcaption></figure>\n"


def alt_text(path: Path) -> str:
    """What `results.save_figure` stored in the PNG, or else the words of the file name."""
    text = ""
    if path.suffix == ".png":
        with Image.open(path) as image:
            text = image.info.get("Description", "")
    return text or path.stem.replace("_", " ")
