"""What the site adds to the stored notebooks while Sphinx reads them; the notebooks themselves stay as they are.

- The badge line becomes plain links: Colab, Binder, download. The cell that prepares Colab is left out.
- A formula with \\tag{2.3} gets an anchor, and "(2.3)" in any text links to it, as "chapter 02" does to that chapter.
- A figure gets its name as anchor, and the alternative text that `l2d_utils.results.show_figure` stored in the PNG.
- MathJax comes from a Python package, checked byte for byte.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
import shutil
from pathlib import Path

from docutils import nodes
from PIL import Image
from sphinx import addnodes
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform

TAG = re.compile(r"\\tag\{(\d+\.\d+)\}")
# "(2.3)", "chapter 02", and each number of "notebooks 02 and 03" or "chapters 00 to 05"
MENTION = re.compile(
    r"\((?P<equation>\d+\.\d+)\)|\b(?:[Nn]otebook|[Cc]hapter) (?P<chapter>\d\d)\b"
    r"|(?:(?<=[Nn]otebooks )|(?<=[Cc]hapters )|(?<=\d\d, )|(?<=\d\d and )|(?<=\d\d to ))"
    r"(?P<listed>\d\d)\b(?![.,]?\d| %)"
)
# the name, "02_bounds", in a call whose first argument may be a call of its own
FIGURE = re.compile(r"show_figure\(.*?[\"'](\d\d_\w+)[\"']", re.DOTALL)
UNLINKED = (nodes.reference, nodes.FixedTextElement, nodes.literal, nodes.math, nodes.title, addnodes.pending_xref)

MATHJAX = "sphinx-mathjax-offline"
# What the npm package mathjax 3.2.2 holds under the same names in es5/.
MATHJAX_SHA256 = {
    "startup.js": "84f4ec49041b12a6dadc5d1689babc80f417435cfcbd890ec712e374152bbb88",
    "core.js": "44d9c29f77d89537e024d165e2c0d7e981a98d75ed53b6c236fac899ed631abb",
    "input/tex-full.js": "de76b151355304bde8217d8056264d9c2bec2f47acb7ffd4d142cbe14f5b0035",
    "output/svg.js": "6fdee599b240851fd27b31017e1a18802d99743ac4fae8204998997176647609",
    "output/svg/fonts/tex.js": "6afb8e7f4f7f19255c4b111f4a00c06716b70ea9b977516127c054e7799d2da4",
    "a11y/assistive-mml.js": "5b8414e36cd63d154b90beab67e5e3399c7439aff97f4b556761224f8176f657",
}


def survey(app) -> None:
    """Find out, before any page is read, which chapter holds which equation."""
    folder = Path(app.srcdir, "notebooks")
    app.env.l2d_chapters = {path.stem[:2]: f"notebooks/{path.stem}" for path in sorted(folder.glob("*.ipynb"))}
    app.env.l2d_equations = {}
    for docname in app.env.l2d_chapters.values():
        for cell in json.loads(Path(app.srcdir, f"{docname}.ipynb").read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "markdown":
                for number in TAG.findall("".join(cell["source"])):
                    if app.env.l2d_equations.setdefault(number, docname) != docname:
                        raise ExtensionError(f"equation {number} stands in two chapters")


class Chapter(SphinxTransform):
    """Runs once over every page, after the notebook has become a document tree."""

    default_priority = 700

    def apply(self, **kwargs) -> None:
        for cell in list(self.document.findall(_is_cell)):
            if "tag_colab-setup" in cell["classes"]:
                cell.parent.remove(cell)
            else:
                self.describe(cell)
        for paragraph in list(self.document.findall(nodes.paragraph)):
            if "colab-badge.svg" in str(next(paragraph.findall(nodes.image), "")):
                self.launch(paragraph)
        for block in list(self.document.findall(nodes.math_block)):
            self.number(block)
        for text in list(self.document.findall(nodes.Text)):
            self.link(text)

    def describe(self, cell: nodes.Element) -> None:
        """Give the figures of a code cell name and alternative text."""
        source = next(cell.findall(nodes.literal_block), nodes.Text("")).astext()
        images, names = list(cell.findall(nodes.image)), FIGURE.findall(source)
        if len(images) != len(names):
            raise ExtensionError(
                f"{self.env.docname}: a cell shows {len(images)} figures and saves {names or 'none'}: "
                "without show_figure in the same cell a figure has no alternative text"
            )
        for image, name in zip(images, names, strict=True):
            with Image.open(Path(self.env.srcdir, "figures", f"{name}.png")) as stored:
                image["alt"] = stored.info["Description"]
            image["ids"].append(nodes.make_id(f"figure-{name}"))

    def launch(self, paragraph: nodes.paragraph) -> None:
        """Put links in place of the badges, which would be fetched from elsewhere."""
        labels = {"colab": "Open in Colab", "binder": "Launch in Binder"}
        line = nodes.paragraph(classes=["launch"])
        for reference in paragraph.findall(nodes.reference):
            (label,) = (label for host, label in labels.items() if host in reference["refuri"].split("/")[2])
            line += nodes.reference("", label, refuri=reference["refuri"], classes=["launch-button"])
        here = f"/{self.env.docname}.ipynb"
        line += addnodes.download_reference(
            "", "", nodes.inline("", "Download notebook"), reftarget=here, refdoc=self.env.docname,
            classes=["launch-button"],
        )  # fmt: skip
        rest = "".join(t.astext() for t in paragraph.children if isinstance(t, nodes.Text)).strip(" ·\n")
        line += nodes.inline("", rest.capitalize(), classes=["run-time"])
        paragraph.replace_self(line)

    def number(self, block: nodes.math_block) -> None:
        """Take the number out of the formula and hand it to Sphinx, which sets and links it."""
        formula = block.astext()
        numbers = TAG.findall(formula)
        if len(numbers) > 1:
            raise ExtensionError(f"{self.env.docname}: {numbers} in one formula: give each its own")
        formula = TAG.sub("", formula).strip()
        block.children = [nodes.Text(formula)]
        if numbers:
            (block["number"],) = numbers
            block["label"] = numbers[0]
            block["ids"].append(nodes.make_id(f"equation-{numbers[0]}"))
            self.env.domains.math_domain.equations[numbers[0]] = (self.env.docname, numbers[0])

    def link(self, text: nodes.Text) -> None:
        """Turn "(2.3)" and "chapter 02" within a text into links."""
        above = text.parent
        while above is not None:
            if isinstance(above, UNLINKED):
                return
            above = above.parent
        pieces, end = [], 0
        for match in MENTION.finditer(text):
            if match["equation"] in self.env.l2d_equations:
                target = {"refdomain": "math", "reftype": "eq", "reftarget": match["equation"]}
            elif (number := match["chapter"] or match["listed"]) in self.env.l2d_chapters:
                docname = self.env.l2d_chapters[number]
                if docname == self.env.docname:
                    continue
                target = {"refdomain": "std", "reftype": "doc", "reftarget": f"/{docname}", "refexplicit": True}
            else:
                continue
            pieces += [nodes.Text(text[end : match.start()])] if end < match.start() else []
            label = nodes.inline("", match[0])
            pieces.append(addnodes.pending_xref("", label, refdoc=self.env.docname, refwarn=True, **target))
            end = match.end()
        if pieces:
            pieces += [nodes.Text(text[end:])] if text[end:] else []
            text.parent.replace(text, pieces)


def _is_cell(node: nodes.Node) -> bool:
    return isinstance(node, nodes.container) and "cell" in node["classes"]


def copy_mathjax(app, error) -> None:
    """Put MathJax into the site. Raises ExtensionError if a file is not the one it should be."""
    if error is None:
        (root,) = {f.locate().parent for f in importlib.metadata.files(MATHJAX) if f.name == "startup.js"}
        for name, sha256 in MATHJAX_SHA256.items():
            source, target = root / name, Path(app.outdir, "_static/mathjax", name)
            if hashlib.sha256(source.read_bytes()).hexdigest() != sha256:
                raise ExtensionError(f"{name} of {MATHJAX} is not the expected one")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def setup(app):
    app.connect("builder-inited", survey)
    app.connect("build-finished", copy_mathjax)
    app.add_transform(Chapter)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
