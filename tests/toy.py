"""Small notebooks for the tests of the runner and of the notebook checks."""

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PARAMETERS = 'SEEDS = [0, 1]\nRATE = 0.5\nOUT = "../figures"'


def notebook(*sources, parameters=PARAMETERS, title="# 00 · Toy\n\nA toy for the tests."):
    """A notebook with a title, a parameters cell and one code cell per source; not executed."""
    cells = [new_markdown_cell(title, id="title")]
    cells.append(new_code_cell(parameters, id="parameters", metadata={"tags": ["parameters"]}))
    cells += [new_code_cell(source, id=f"cell{i}") for i, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed(*pairs, **kwargs):
    """The same from (source, printed text or None) pairs, looking as if it had been executed."""
    nb = notebook(*(source for source, _ in pairs), **kwargs)
    for count, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), 1):
        cell.execution_count = count
    for cell, (_, text) in zip(nb.cells[2:], pairs, strict=True):
        if text is not None:
            cell.outputs = [new_output("stream", name="stdout", text=text)]
    return nb
