"""The site in a browser: wide and narrow, light and dark, from a server and from the disk."""

from pathlib import Path

import pdf
import pytest
from axe_playwright_python.sync_playwright import Axe
from browser import opened

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = [f"notebooks/{path.stem}.html" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
PAGES = ["index.html", "CONTRIBUTING.html", "search.html", *CHAPTERS]

# A formula is set when MathJax has drawn it for the eye and written it as MathML for a screen reader.
FORMULAS = """() => [...document.querySelectorAll('.bd-article .math')].map(
    f => [f.querySelectorAll('mjx-container > svg').length, f.querySelectorAll('mjx-assistive-mml math').length])"""
SOURCE = "() => [...document.querySelectorAll('.bd-article .math')].map(f => f.innerText).join()"
# Before a scan for accessibility: the drawings of formulas lose their shapes (a screen reader gets MathML),
# and of the thousands of coloured words of code one of each colour stays. Otherwise a long page takes minutes.
THIN = """() => {
    document.querySelectorAll('mjx-container > svg').forEach(drawing => drawing.replaceChildren());
    const seen = new Set();
    document.querySelectorAll('.highlight pre span').forEach(word =>
        seen.has(word.className) ? word.replaceWith(...word.childNodes) : seen.add(word.className));
}"""
TOO_WIDE = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def serious(page):
    """What axe-core finds serious or critical, with the places."""
    # No preload: it would fetch the theme's style sheets anew, from the wrong folder.
    options = {"resultTypes": ["violations"], "preload": False}
    page.evaluate(THIN)
    found = Axe().run(page, options=options).response["violations"]
    return [
        (v["id"], v["impact"], [node["html"][:160] for node in v["nodes"][:3]], v["nodes"][0]["failureSummary"][:300])
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("name", PAGES)
def test_page(tab, address, name):
    page = opened(None, f"{address}/{name}", tab)
    formulas = page.evaluate(FORMULAS)
    assert all(drawn == spoken == 1 for drawn, spoken in formulas) and "\\(" not in page.evaluate(SOURCE)
    assert bool(formulas) == (name in CHAPTERS)
    assert page.locator("[data-mjx-error], mjx-merror").count() == 0
    assert page.locator("h1").count() == 1
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            page.wait_for_function(f"document.documentElement.dataset.theme === '{scheme}'")
            assert page.evaluate(TOO_WIDE) <= 0, f"scrolls sideways at {width} px"
            if (width, scheme) in ((1280, "light"), (390, "dark")):  # each width and each scheme once
                assert serious(page) == [], (width, scheme)
    assert page.complaints == [] and page.foreign == []


def test_axe_finds_what_is_wrong(tab, address):
    page = opened(None, f"{address}/{CHAPTERS[0]}", tab)
    page.evaluate("document.querySelector('.cell_output img').removeAttribute('alt')")
    page.evaluate("document.querySelectorAll('.bd-article p')[1].style.color = '#ddd'")
    assert {v[0] for v in serious(page)} >= {"color-contrast", "image-alt"}


@pytest.mark.parametrize("name", ["index.html", CHAPTERS[2]])
def test_from_the_disk_and_offline(tab, site, name):
    tab.context.set_offline(True)
    page = opened(None, (site / name).as_uri(), tab)
    assert all(drawn == 1 for drawn, _ in page.evaluate(FORMULAS))
    assert page.locator(".cell_output img").count() == page.locator(".cell_output a > img").count()
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.complaints == [] and page.foreign == []


@pytest.mark.parametrize("where", ["server", "disk"])
def test_search(tab, address, site, where):
    base = address if where == "server" else site.as_uri()
    page = opened(None, f"{base}/search.html?q=Chow", tab)
    page.wait_for_selector("#search-results li a")
    assert any("04_chow" in link.get_attribute("href") for link in page.locator("#search-results li a").all())
    page.wait_for_timeout(300)
    assert page.complaints == [] and page.foreign == []


def test_a_reader_can_choose_dark_and_the_choice_stays(tab, address):
    page = opened(None, f"{address}/index.html", tab)
    page.locator(".theme-switch-container button").first.click()
    page.locator("[data-mode=dark].theme-change-button").first.click()
    opened(None, f"{address}/{CHAPTERS[0]}", page)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_chapters_are_one_tap_away_on_a_phone(tab, address):
    tab.set_viewport_size({"width": 390, "height": 800})
    page = opened(None, f"{address}/index.html", tab)
    link = page.locator("nav[aria-label=Chapters] a", has_text="Start here").first
    assert not link.is_visible()
    page.locator("button.primary-toggle").click()
    link.click()
    page.wait_for_url("**/00_start_here.html")


def test_a_link_to_an_equation_leads_to_it(tab, address):
    page = opened(None, f"{address}/{CHAPTERS[4]}", tab)
    page.locator("a[href*='03_density_ratios.html#equation-3-6']").first.click()
    page.wait_for_url("**#equation-3-6")
    page.evaluate("MathJax.startup.promise")
    page.wait_for_timeout(300)
    top = page.locator("[id=equation-3-6]").bounding_box()["y"]
    assert 0 < top < 900


def test_a_chapter_is_printed_with_its_answers(chromium, tab, address, site, tmp_path):
    page = opened(None, f"{address}/{CHAPTERS[0]}", tab)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
    page.emulate_media(media="print")
    assert not page.locator(".bd-header").is_visible() and not page.locator(".bd-sidebar-primary").is_visible()
    target = tmp_path / "chapter.pdf"
    pdf.print_page(chromium, site / CHAPTERS[0], target)
    content = target.read_bytes()
    assert content.startswith(b"%PDF") and content.count(b"/Type /Page\n") >= 4
