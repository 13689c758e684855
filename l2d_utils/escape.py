"""Foreign text on a page, shown as text: prompts and names come from strangers."""

import html

import pandas as pd


def prompt_html(frame: pd.DataFrame, *, longest: int = 160) -> str:
    """The frame as an HTML table in which every cell is shown as text: no markup, no script, no mathematics.

    Cells longer than `longest` characters are cut. Dollar signs are escaped too, or a notebook would typeset them.

    Example:
        >>> "&lt;b&gt; costs &#36;5" in prompt_html(pd.DataFrame({"prompt": ["<b> costs $5"]}))
        True
    """

    def cell(value: object) -> str:
        text = " ".join(str(value).split())
        text = text if len(text) <= longest else text[: longest - 1] + "…"
        return html.escape(text).replace("$", "&#36;").replace("\\", "&#92;")

    shown = frame.rename(columns=cell).map(cell)
    page = shown.to_html(escape=False, index=False, border=0, justify="left")
    return page.replace("<td>", '<td style="text-align: left">')  # no cell can hold a literal <td> any more


def safe(value: object) -> str:
    """Text that neither Markdown nor HTML takes for markup.

    Example:
        >>> safe("a_b <i>")
        'a&#95;b &lt;i&gt;'
    """
    escaped = html.escape(" ".join(str(value).split()))
    return "".join(f"&#{ord(c)};" if c in "\\`*_[]$|~#" else c for c in escaped.replace("&#x27;", "&apos;"))
