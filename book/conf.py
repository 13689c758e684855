"""Sphinx settings of the site. Build it with `make book`."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

project = "Learning to defer, checked"
author = PROJECT["authors"][0]["name"]
copyright = author
language = "en"
extensions = ["myst_nb", "sphinx.ext.mathjax", "chapters"]
exclude_patterns = ["figures"]  # pictures and tables, and what runs of chapter 09 leave there: no pages

# Stored outputs only.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath"]
myst_dmath_double_inline = True
myst_dmath_allow_labels = False  # "(2.3)" after a formula is text, not a label
myst_heading_anchors = 3

# Mathematics from the site itself, drawn as SVG: no fonts to load, so that it also works from file://.
mathjax_path = "mathjax/startup.js"
mathjax3_config = {
    "loader": {"load": [
        "core", "input/tex-full", "output/svg", "a11y/assistive-mml",
    ]},
    "svg": {"fontCache": "local"},
}  # fmt: skip

html_theme = "pydata_sphinx_theme"
html_title = project
html_static_path = ["static"]
html_favicon = "static/favicon.svg"
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_copy_source = False
html_show_sphinx = False
html_sidebars = {"**": ["chapters.html"]}
templates_path = ["templates"]
html_context = {"default_mode": "auto"}
html_theme_options = {
    "icon_links": [{"name": "Repository", "url": PROJECT["urls"]["Repository"], "icon": "fa-brands fa-github"}],
    "navbar_center": [],
    "secondary_sidebar_items": [],
    "article_header_start": [],
    "footer_start": ["copyright"],
    "footer_end": [],
    "search_bar_text": "Search the book",
    "back_to_top_button": False,
}
