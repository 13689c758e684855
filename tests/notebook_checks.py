"""What is wrong with a stored notebook, as a list of sentences; an empty list for a good one.

nbval compares what is stored: a notebook without outputs, or with outputs of cells that were run in another
order, would pass it and say nothing. These checks make sure that there is something to compare.
"""

import ast
import io
import json
import re
import tokenize

from reproduce import notebooks

IGNORED = {"nbval-ignore-output", "nbval-skip"}
MAX_BYTES = 3_000_000
# The taught chapters show at most this much code at once; the Colab cell, which is hidden, is not counted.
TAUGHT, MAX_LINES = ("00", "01", "02", "03", "04", "05"), 15
# A path that only exists on one machine. /content is Colab's and stands in the Colab cell on purpose.
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|root|tmp|work|mnt|var|Users|private)/|[A-Z]:\\)")
# Calls that end a cell and show nothing, by the beginning of their name.
SILENT = re.compile(r"assert|check|save|set_|use|record|append|extend|update|manual_seed|seed|simplefilter")
SHOWING = {"print", "display", "show", "pprint"}


def ignored(cell):
    source_marks = re.search(r"^# ?NBVAL_(IGNORE_OUTPUT|SKIP)$", cell.source, re.M)
    return bool(IGNORED & set(notebooks.tags(cell)) or source_marks)


def shows(source):
    """Whether the source must leave an output: it prints unconditionally, or ends in a bare expression."""
    body = ast.parse(source).body
    if any(_calls(statement) for statement in body):
        return True
    last = body[-1] if body else None
    if not isinstance(last, ast.Expr) or source.rstrip().endswith(";"):
        return False
    if isinstance(last.value, ast.Constant) and isinstance(last.value.value, str):
        return False
    return not (isinstance(last.value, ast.Call) and SILENT.match(_name(last.value)))


def _name(call):
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _calls(node):
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.If, ast.While, ast.Try)):
        return False
    if isinstance(node, ast.Call) and _name(node) in SHOWING:
        return True
    return any(_calls(child) for child in ast.iter_child_nodes(node))


def problems(nb, name="notebook", size=0):
    found = []
    code = [cell for cell in nb.cells if cell.cell_type == "code" and cell.source.strip()]
    if not nb.cells or nb.cells[0].cell_type != "markdown" or not nb.cells[0].source.startswith("# "):
        found.append("cell 0 does not open with '# '")
    try:
        full = [key for key in notebooks.parameters(nb, name) if key.startswith("FULL_")]
        found += [f"{key} is no parameter of the quick profile: it belongs to profiles.yaml" for key in full]
    except notebooks.UsageError as error:
        found.append(str(error))
    counts = [cell.execution_count for cell in code]
    if None in counts:
        found.append(f"cell {nb.cells.index(code[counts.index(None)])} was never executed")
    elif counts != list(range(1, len(code) + 1)):
        found.append(f"executed out of order: {counts}")
    for cell in code:
        found += [f"cell {nb.cells.index(cell)} {text}" for text in _cell_problems(cell)]
        if name[:2] in TAUGHT and "colab-setup" not in notebooks.tags(cell):
            lines = sum(bool(line.strip()) for line in cell.source.splitlines())
            if lines > MAX_LINES:
                found.append(f"cell {nb.cells.index(cell)} has {lines} lines of code, more than {MAX_LINES}")
    if 2 * sum(map(ignored, code)) > len(code):
        found.append("the outputs of more than half of the cells are not compared")
    if "papermill" in nb.metadata or any({"papermill", "execution"} & set(c.metadata) for c in nb.cells):
        found.append("metadata of a papermill or timed run")
    found += _paths(nb)
    if size > MAX_BYTES:
        found.append(f"{size} bytes, more than {MAX_BYTES}")
    return found


def _comments(source):
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [token.string for token in tokens if token.type == tokenize.COMMENT]


def _is_reason(comment):
    return "NBVAL_" not in comment and len(comment.lstrip("# ").split()) >= 3


def _cell_problems(cell):
    if "plots.method_label" in cell.source:
        yield "names methods by hand: plots label keys themselves, and tables use methods.label"
    if re.search(r"\.savefig\((?!\w+ := io\.BytesIO)", cell.source):
        yield "saves a figure by hand: results.show_figure saves and shows it"
    if ignored(cell):
        if not any(map(_is_reason, _comments(cell.source))):
            yield "is not compared, and no comment says why"
    elif shows(cell.source) and not cell.outputs:
        yield "shows something, but no output is stored"
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"stored an error: {output.ename}"
        elif output.get("name") == "stderr":
            yield f"stored standard error: {output.text[:80]!r}"


def _paths(nb):
    for index, cell in enumerate(nb.cells):
        texts = [cell.source]
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            texts.append(json.dumps([output.get("text", ""), data]))
        match = next(filter(None, map(MACHINE_PATH.search, texts)), None)
        if match:
            yield f"cell {index} names a path of one machine ({match.group()}...)"
