"""The stored notebooks are whole, and the comparison of their outputs notices a wrong digit."""

import re
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_output

import notebook_checks
import toy
from reproduce import badges, execute, notebooks, runner

PATHS = sorted(notebooks.BOOK.glob("*.ipynb"))


def test_there_are_notebooks_and_all_are_named_in_order():
    assert PATHS
    assert notebooks.find(notebooks.BOOK) == PATHS


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_stored_notebook_is_whole(path):
    assert notebook_checks.problems(notebooks.read(path), path.stem, path.stat().st_size) == []


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_badges_and_colab_cell_come_from_the_one_address(path):
    nb = notebooks.read(path)
    seconds = badges.run_times(notebooks.ROOT / "figures").get(path.stem)
    assert badges.refresh(nb, path.stem, badges.address(), seconds) == nb, "run `make badges`"


def test_every_notebook_has_a_measured_run_time():
    timed = badges.run_times(notebooks.ROOT / "figures")
    assert {p.stem for p in PATHS} == set(timed), "run `make notebooks`"


@pytest.mark.parametrize("profile", ["quick", "full"])
def test_profiles_fit_the_parameters_of_the_notebooks(profile):
    assert [job.notebook for job in runner.plan(notebooks.BOOK, profile=profile)] == PATHS


def test_a_good_notebook_has_no_problems():
    nb = toy.executed(("x = 1", None), ("print(x)", "1\n"), ("def f():\n    print(1)", None))
    assert notebook_checks.problems(nb) == []


def _unexecuted(nb):
    nb.cells[2].execution_count = None


def _out_of_order(nb):
    nb.cells[2].execution_count, nb.cells[3].execution_count = 3, 2


def _emptied(nb):
    nb.cells[3].outputs = []


def _trailing_expression(nb):
    nb.cells[2].source = "x = 1\nx"


def _error(nb):
    nb.cells[3].outputs.append(new_output("error", ename="ValueError", evalue="", traceback=[]))


def _stderr(nb):
    nb.cells[3].outputs.append(new_output("stream", name="stderr", text="Warning"))


def _mostly_ignored(nb):
    for cell in nb.cells[1:]:
        cell.metadata["tags"] = [*cell.metadata.get("tags", []), "nbval-ignore-output"]
        cell.source += "  # takes other values on each machine"


def _ignored_without_reason(nb):
    nb.cells[3].metadata["tags"] = ["nbval-ignore-output"]


def _marked_without_reason(nb):
    nb.cells[3].source = "# NBVAL_IGNORE_OUTPUT\nprint(x)"


def _no_parameters(nb):
    nb.cells[1].metadata["tags"] = []


def _two_parameters(nb):
    nb.cells[2].metadata["tags"] = ["parameters"]


def _computed_parameter(nb):
    nb.cells[1].source = "N = 2\nM = N * 2"


def _annotated_parameter(nb):
    nb.cells[1].source = "N: int = 2"


def _full_parameter(nb):
    nb.cells[1].source += "\nFULL_SEEDS = 20"


def _labels_by_hand(nb):
    nb.cells[2].source = 'table["method"].map(plots.method_label)[0];'


def _figure_by_hand(nb):
    nb.cells[2].source = "fig.savefig(f'{OUT}/a.png');"


def _no_title(nb):
    nb.cells[0].source = "Toy"


def _papermill(nb):
    nb.cells[2].metadata["papermill"] = {"duration": 1}


def _timed(nb):
    nb.cells[2].metadata["execution"] = {}


def _path_in_source(nb):
    nb.cells[2].source = 'x = "/home/someone/data"'


def _path_in_output(nb):
    nb.cells[3].outputs[0].text = "<Figure in /tmp/x>\n"


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (_unexecuted, "cell 2 was never executed"),
        (_out_of_order, "out of order"),
        (_emptied, "cell 3 shows something"),
        (_trailing_expression, "cell 2 shows something"),
        (_error, "stored an error"),
        (_stderr, "standard error"),
        (_mostly_ignored, "more than half"),
        (_ignored_without_reason, "no comment says why"),
        (_marked_without_reason, "no comment says why"),
        (_no_parameters, "0 cells are tagged"),
        (_two_parameters, "2 cells are tagged"),
        (_computed_parameter, "no NAME = literal"),
        (_annotated_parameter, "no NAME = literal"),
        (_full_parameter, "FULL_SEEDS is no parameter of the quick profile"),
        (_labels_by_hand, "cell 2 names methods by hand"),
        (_figure_by_hand, "cell 2 saves a figure by hand"),
        (_no_title, "does not open"),
        (_papermill, "metadata"),
        (_timed, "metadata"),
        (_path_in_source, "path of one machine"),
        (_path_in_output, "path of one machine"),
    ],
)
def test_a_planted_problem_is_found(plant, message):
    nb = toy.executed(("x = 1", None), ("print(x)", "1\n"))
    plant(nb)
    found = notebook_checks.problems(nb)
    assert len(found) == 1 and message in found[0]


def test_a_long_cell_is_found_where_the_book_teaches():
    """Blank lines are free, and the studies of 06 to 10 may show more."""
    fits, long = ("\n\n".join(f"x{i} = {i}" for i in range(n)) for n in (15, 16))
    assert notebook_checks.problems(toy.executed((fits, None)), "05_toy") == []
    assert notebook_checks.problems(toy.executed((long, None)), "06_toy") == []
    found = notebook_checks.problems(toy.executed((long, None)), "05_toy")
    assert found == ["cell 2 has 16 lines of code, more than 15"]


def test_a_large_file_is_found():
    assert "bytes" in notebook_checks.problems(toy.executed(), size=3_000_001)[0]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("for i in range(3):\n    print(i)", True),
        ("with open('x') as f:\n    print(f)", True),
        ("fig.plot()\nplt.show()", True),
        ("table", True),
        ("table.head()", True),
        ("table;", False),
        ("_ = table.head()", False),
        ("if missing:\n    print('no data')", False),
        ("results.show_figure(fig, 'a', t, OUT)", True),
        ("results.claims(rows, 'a', OUT)", True),
        ("results.save_table(t, 'a', OUT)", False),
        ("torch.testing.assert_close(a, b)", False),
        ("import torch\ntorch.set_num_threads(1)", False),
        ("f = lambda: print(1)", False),
        ("", False),
    ],
)
def test_what_must_leave_an_output(source, expected):
    assert notebook_checks.shows(source) is expected


def _nbval(path):
    options = ["--nbval", "--nbval-current-env", f"--nbval-sanitize-with={notebooks.ROOT}/tests/sanitize.cfg"]
    command = [sys.executable, "-m", "pytest", str(path), "-q", "-p", "no:cacheprovider", *options]
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, timeout=120)


def test_one_wrong_digit_fails_the_comparison(tmp_path):
    path = tmp_path / "00_toy.ipynb"
    nbformat.write(toy.notebook("x = 1 / 8", "print(f'deferral loss {x:.3f}')"), path)
    nb, _ = execute.execute(path)
    notebooks.write(nb, path)
    good = _nbval(path)
    assert good.returncode == 0, good.stdout
    text = path.read_text("utf-8")
    wrong = re.sub(r"deferral loss 0\.125\\n", r"deferral loss 0.135\\n", text)
    assert wrong != text
    path.write_text(wrong, "utf-8")
    bad = _nbval(path)
    assert bad.returncode == 1 and "1 failed" in bad.stdout, bad.stdout
