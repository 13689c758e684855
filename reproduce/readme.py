"""The generated parts of README.md, between `<!-- generated:KIND ... -->` and `<!-- /generated -->`.

chapters    the table of notebooks, with the questions of the first one's map
clone       the commands to get and run the book
ledger      the claims ledger: counts, figure and table
house       the parts of the package and their sizes
"""

import ast
import re
from pathlib import Path

from l2d_utils import ledger, results

from . import badges, notebooks, page, provenance
from .notebooks import ROOT, UsageError

CLAIMS = "claims.yaml"
PICTURE = "10_ledger"  # the figure, and the CSV of the ledger beside it, that chapter 10 makes
MARKED = re.compile(r"(<!-- generated:([^>]*?) -->)(.*?)(<!-- /generated -->)", re.S)


def render(text: str, root: Path = ROOT) -> str:
    """Return the text with every generated part renewed. Raises UsageError for a part that cannot be made."""
    kinds = {"chapters": _chapters, "clone": _clone, "ledger": _ledger, "house": _house}

    def renew(match: re.Match) -> str:
        opening, kind, _, closing = match.groups()
        if kind not in kinds:
            raise UsageError(f"README: unknown generated part {kind!r}; there are {', '.join(kinds)}")
        return opening + kinds[kind](root) + closing

    return MARKED.sub(renew, text)


def _chapters(root: Path) -> str:
    where, times = badges.address(root), badges.run_times(root / "figures")
    books = {path: notebooks.read(path) for path in notebooks.find(root / "notebooks")}
    map_of_the_book = notebooks.questions(next(iter(books.values())))
    lines = ["| | Chapter | The question it answers | Run time | Open |", "|---|---|---|---|---|"]
    for path, nb in books.items():
        number = path.stem[:2]
        if number not in map_of_the_book:
            raise UsageError(f"README: the map of the book in its first notebook lacks {path.stem}")
        colab, binder = badges.links(path.stem, where)
        time = badges.about(times[path.stem]) if path.stem in times else ""
        opened = f"[Colab]({colab}) · [Binder]({binder})"
        chapter = f"[{notebooks.title(nb)}](notebooks/{path.name})"
        lines.append(f"| {number} | {chapter} | {map_of_the_book[number]} | {time} | {opened} |")
    return "\n" + "\n".join(lines) + "\n"


def _clone(root: Path) -> str:
    where = badges.address(root)
    return f"\n```\ngit clone {where.repository} && cd {where.slug.split('/')[-1]}\nmake reproduce\nmake test\n```\n"


def _ledger(root: Path) -> str:
    figures, chapters = root / "figures", {p.stem[:2]: p.name for p in notebooks.find(root / "notebooks")}
    claims = ledger.read(root / "notebooks" / CLAIMS)
    found, _ = ledger.judge(claims, [figures])
    why_not = {c.id: c.not_testable.partition(". ")[0].rstrip(".") + "." for c in claims if c.not_testable}
    picture = f"{PICTURE}.png"
    lines = [
        ledger.counts_text(found), "", _controls(figures), "",
        f"![{page.alt_text(figures / picture)}](figures/{picture})", "",
        "| Claim | Wanted | Measured here | Verdict | Chapter |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for paper, rows in found.groupby("paper", sort=False):
        lines.append(f"| **{paper}** | | | | |")
        for row in rows.to_dict("records"):
            name = chapters.get(row["notebook"])
            chapter = f"[{row['notebook']}](notebooks/{name})" if name else row["notebook"]
            wanted = ": ".join(part for part in (row["quantity"], row["test"]) if part)
            cells = [row["title"], wanted, why_not.get(row["id"], row["measured"]), row["verdict"], chapter]
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n" + "\n".join(lines) + "\n"


def _controls(figures: Path) -> str:
    """What came of the negative and positive controls of chapter 10."""
    rows = {row["id"]: row for row in provenance.read_rows(figures / "10_claims.csv", results.CLAIMS)}
    try:
        said = [rows[name] for name in ("null-signals", "positive-without-signal")]
    except KeyError as error:
        raise UsageError(f"README: figures/10_claims.csv has no claim {error}") from None
    return "; ".join(f"{row['claim']}: {row['measured']}" for row in said).capitalize() + "."


def _house(root: Path) -> str:
    """What each part of the code is for, by the first line of its text, and about how long it is."""
    parts = [root / "l2d_utils", root / "reproduce", *(p.parent for p in root.glob("l2d_utils/*/__init__.py"))]
    lines = ["| | what it is for | lines, about |", "|---|---|---|"]
    for folder in sorted(parts):
        about = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))).partition("\n")[0]
        count = sum(len(path.read_text("utf-8").splitlines()) for path in folder.glob("*.py"))
        lines.append(f"| `{folder.relative_to(root)}` | {about} | {round(count, -2):,} |")
    return "\n" + "\n".join(lines) + "\n"
