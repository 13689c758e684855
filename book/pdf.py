"""Print every chapter of the built site: python book/pdf.py [site [folder]].

By default from build/book to build/book-pdf.
"""

from __future__ import annotations

import sys
from pathlib import Path

from browser import browser, opened
from playwright.sync_api import Browser

ROOT = Path(__file__).resolve().parents[1]
FOOTER = (
    '<div style="width:100%;font-size:8px;text-align:center;color:#555">'
    '<span class="title"></span> · <span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)


# A4 less the margins that book.css sets, in CSS pixels; a formula that is wider is set smaller, as paper cannot scroll.
WIDTH = 672
FIT = """() => document.querySelectorAll('.bd-article div.math').forEach(formula => {
    const boxes = [formula, ...formula.querySelectorAll('mjx-container')];
    const share = Math.min(...boxes.map(box => box.clientWidth / box.scrollWidth));
    if (share < 1) formula.style.fontSize = `${Math.floor(96 * share)}%`;
})"""


def print_page(chromium: Browser, path: Path, target: Path) -> None:
    """Print one page of the site, answers opened."""
    with chromium.new_context(color_scheme="light", viewport={"width": WIDTH, "height": 900}) as context:
        page = opened(context, path.as_uri())
        page.emulate_media(media="print")
        page.evaluate(FIT)
        page.pdf(
            path=target, prefer_css_page_size=True, print_background=True, tagged=True, outline=True,
            display_header_footer=True, header_template="<span></span>", footer_template=FOOTER,
        )  # fmt: skip


def print_all(site: Path, folder: Path) -> None:
    """Write folder/NN_topic.pdf for every chapter."""
    folder.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for path in sorted(site.glob("notebooks/*.html")):
            target = folder / f"{path.stem}.pdf"
            print_page(chromium, path, target)
            print(target)


if __name__ == "__main__":
    arguments = [Path(a) for a in sys.argv[1:]]
    site, folder, *_ = [*arguments, *[ROOT / "build" / "book", ROOT / "build" / "book-pdf"][len(arguments) :]]
    if not (site / "index.html").exists():
        sys.exit(f"{site} holds no site: run `make book` first")
    print_all(site, folder)
