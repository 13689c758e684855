"""The runner keeps what finished, says what failed, and refuses what cannot work before it starts."""

import csv
import functools
import json
import os
import signal
import subprocess
import sys
import time

import nbformat
import pytest

import toy
from l2d_utils import results
from reproduce import badges, execute, notebooks, page, readme, runner
from reproduce.__main__ import main
from reproduce.notebooks import UsageError

FIGURE = """\
import matplotlib.pyplot as plt
from l2d_utils import results
fig, ax = plt.subplots(figsize=(3, 2))
_ = ax.set(title="<b>bold</b> & plain")
table = results.tidy([{"seed": s, "metric": "loss", "value": RATE * s} for s in SEEDS], split="test")
results.show_figure(fig, "00_toy", table, OUT)
plt.close(fig)
print(RATE)"""


@pytest.fixture
def book(tmp_path):
    """Write notebooks by name and return their folder."""

    def write(**contents):
        folder = tmp_path / "notebooks"
        folder.mkdir(exist_ok=True)
        for name, nb in contents.items():
            nbformat.write(nb, folder / f"{name.lstrip('n')}.ipynb")
        return folder

    return write


def test_plan_takes_names_numbers_and_values(book):
    folder = book(n00_one=toy.notebook(), n01_two=toy.notebook(parameters='K = (1, 2)\nOUT = "."'))
    jobs = runner.plan(folder, wanted=["01", "00_one"], overrides={"RATE": 1, "K": [3]})
    assert [(j.name, j.parameters) for j in jobs] == [("00_one", {"RATE": 1}), ("01_two", {"K": [3]})]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wanted": ["07"]}, "unknown notebook '07'"),
        ({"overrides": {"EPOCHS": 2}}, "unknown parameter 'EPOCHS'"),
        ({"overrides": {"RATE": "much"}}, "RATE = 0.5 takes a float"),
        ({"overrides": {"SEEDS": 3}}, "SEEDS"),
        ({"profile": "huge"}, "unknown profile 'huge'"),
        ({"profile": "typo"}, "unknown parameter 'RAET'"),
        ({"profile": "lost"}, "unknown notebook '09_gone'"),
    ],
)
def test_plan_refuses(book, arguments, message):
    folder = book(n00_one=toy.notebook())
    (folder / "profiles.yaml").write_text("typo: {00_one: {RAET: 1}}\nlost: {09_gone: {RATE: 1}}\n")
    with pytest.raises(UsageError, match=message):
        runner.plan(folder, **arguments)


@pytest.mark.parametrize("parameters", ["RATE = 0.5", 'OUT = "a" + "b"', 'OUT: str = "x"', "import os"])
def test_plan_refuses_parameters_that_papermill_would_miss(book, parameters):
    with pytest.raises(UsageError, match="00_one"):
        runner.plan(book(n00_one=toy.notebook(parameters=parameters)))


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match="no notebooks"):
        runner.plan(tmp_path)


def test_a_full_profile_goes_to_its_notebook_only(book):
    folder = book(n00_one=toy.notebook(), n01_two=toy.notebook())
    (folder / "profiles.yaml").write_text("full: {01_two: {SEEDS: [1, 2, 3]}}\n")
    assert [j.parameters for j in runner.plan(folder, profile="full")] == [{}, {"SEEDS": [1, 2, 3]}]


def test_a_run_goes_on_after_failures_and_reports_them(book, tmp_path, monkeypatch):
    """One notebook finishes, one raises, one kills its kernel: all are in the record, each in its place."""
    monkeypatch.setenv("L2D_OUT", str(tmp_path / "not_here"))
    folder = book(
        n00_good=toy.notebook(FIGURE),
        n01_bad=toy.notebook("x = 1", "raise ValueError('costs: row 3 is <nan>')", "print(x)"),
        n02_dead=toy.notebook("import os\nos._exit(3)"),
    )
    said, started = [], time.monotonic()
    jobs = runner.plan(folder, overrides={"RATE": 0.25})
    run, code = runner.run(jobs, tmp_path / "runs", say=said.append)
    assert time.monotonic() - started < 60  # a dead kernel is noticed at once
    assert code == runner.EXIT_FAILED

    record = json.loads((run / "provenance.json").read_text("utf-8"))
    assert record["status"] == "failed"
    good, bad, dead = record["notebooks_run"]
    assert good["error"] == "" and good["files"] == ["00_toy.csv", "00_toy.png"]
    assert bad["error"] == "cell 3 (In [4]): ValueError: costs: row 3 is <nan>"
    assert dead["error"].startswith("cell 2 (In [3]): DeadKernelError")
    assert any("FAILED 01_bad, cell 3" in line for line in said)
    assert record["parameters"]["00_good"] == {"RATE": 0.25}
    assert record["packages"]["torch"] and record["package_sha256"]

    rows = list(csv.DictReader((run / "measurements.csv").open(encoding="utf-8")))
    assert [(r["notebook"], r["seed"], r["value"]) for r in rows] == [
        ("00_good", "0", "0"),
        ("00_good", "1", "0.25"),
    ]
    assert not (tmp_path / "not_here").exists()

    html = (run / "index.html").read_text("utf-8")
    assert 'href="notebooks/00_good.html"' in html and (run / "notebooks" / "00_good.html").exists()
    assert 'alt="&lt;b&gt;bold&lt;/b&gt; &amp; plain"' in html
    assert "row 3 is &lt;nan&gt;" in html and "<nan>" not in html
    assert not list(run.rglob(".*")), "nothing half-written"
    executed = notebooks.read(run / "notebooks" / "00_good.ipynb")
    assert executed.cells[-1].outputs[0].text == "0.25\n"


@pytest.mark.parametrize("delay", [0.4, 1.0, 3.0])  # seconds: the kernel of the second notebook starts, or runs
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_keeps_what_finished(book, tmp_path, name, delay):
    folder = book(n00_good=toy.notebook("print(1)"), n01_slow=toy.notebook("import time\ntime.sleep(60)"))
    command = [sys.executable, "-m", "reproduce", "run"]
    command += ["--folder", str(folder), "--out", str(tmp_path / "runs")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A job that a shell started in the background ignores SIGINT, and so would its children.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=notebooks.ROOT, preexec_fn=heed, **pipes)
    seen = ""
    while "[2/2]" not in seen:
        letter = process.stdout.read(1)
        assert letter, seen
        seen += letter
    time.sleep(delay)
    process.send_signal(getattr(signal, name))
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == runner.EXIT_INTERRUPTED
    assert "1 of 2 notebooks finished" in rest and "Traceback" not in rest
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "provenance.json").read_text("utf-8"))["status"] == "interrupted"
    assert (run / "index.html").exists()
    assert [p.name for p in sorted((run / "notebooks").iterdir())] == ["00_good.html", "00_good.ipynb"]


def test_wrong_use_is_one_line_and_an_exit_code(book, tmp_path, capsys):
    folder = book(n00_toy=toy.notebook())
    (tmp_path / "file").write_text("")
    wrong = (["--notebooks", "77"], ["-p", "NOSUCH=1"], ["-p", "SEEDS"], ["--out", str(tmp_path / "file")])
    for arguments in wrong:
        assert main(["run", "--folder", str(folder), *arguments]) == runner.EXIT_USAGE
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1


def test_printed_text_is_stored_in_one_piece(book):
    slowly = "import time\nprint('a', flush=True)\ntime.sleep(0.5)\nprint('b')"
    nb, _ = execute.execute(book(n00_toy=toy.notebook(slowly)) / "00_toy.ipynb")
    assert [o["text"] for o in nb.cells[-1].outputs] == ["a\nb\n"]


def test_executing_in_place_repeats_byte_for_byte(book, monkeypatch):
    real = execute.execute
    monkeypatch.setattr(execute, "execute", lambda path: (real(path)[0], 3.0))  # the run time is on the page
    picture = "import matplotlib.pyplot as plt\nplt.plot()\nplt.show()"
    folder = book(n00_toy=toy.notebook("print(f'{1 / 3:.3f}')", picture))
    path = folder / "00_toy.ipynb"
    figures = folder.parent / "figures"
    assert execute.execute_all(folder, figures) == 0
    first, times = path.read_bytes(), (figures / "run_times.csv").read_bytes()
    assert b"0.333" in first and b"colab-setup" in first and b"run time about" in first
    assert execute.execute_all(folder, figures) == 0
    assert path.read_bytes() == first
    assert (figures / "run_times.csv").read_bytes() == times


def test_a_notebook_that_fails_in_place_stays_as_it_was(book, capsys):
    folder = book(n00_bad=toy.notebook("raise ValueError('no')"))
    badges.refresh_all(folder, folder.parent / "figures")
    before = (folder / "00_bad.ipynb").read_bytes()
    assert execute.execute_all(folder, folder.parent / "figures") == 1
    assert (folder / "00_bad.ipynb").read_bytes() == before
    assert "FAILED at cell 3: ValueError: no" in capsys.readouterr().out


def test_run_times_change_only_when_they_differ_clearly(tmp_path):
    badges.record_times(tmp_path, {"00_a": 10.0, "01_b": 10.0})
    badges.record_times(tmp_path, {"00_a": 13.0, "01_b": 20.0})
    assert badges.run_times(tmp_path) == {"00_a": 10.0, "01_b": 20.0}


@pytest.mark.parametrize(
    ("seconds", "text"), [(1, "about 5 s"), (42, "about 40 s"), (59, "about 1 min"), (150, "about 2.5 min")]
)
def test_run_times_in_words(seconds, text):
    assert badges.about(seconds) == text


def test_badges_and_colab_cell_follow_the_address():
    where = badges.Address("https://github.com/someone/book", "v1")
    old = badges.Address("https://github.com/OWNER/l2d-companion", "main")
    nb = badges.refresh(toy.notebook("print(1)"), "00_toy", old)
    new = badges.refresh(nb, "00_toy", where, 40)
    title, line, text = new.cells[0].source.split("\n\n")
    assert (title, text) == ("# 00 · Toy", "A toy for the tests.")
    assert "github/someone/book/blob/v1/notebooks/00_toy.ipynb" in line
    assert line.endswith("run time about 40 s")
    assert "OWNER" not in nbformat.writes(new)
    assert len(new.cells) == len(nb.cells) and notebooks.tags(new.cells[1]) == [badges.COLAB_TAG]
    assert badges.refresh(new, "00_toy", where, 40) == new


def test_the_colab_cell_does_nothing_elsewhere_and_uses_no_shell():
    cell = badges.colab_cell(badges.address())
    exec(compile(cell, "cell", "exec"), {})
    assert "!" not in cell.replace("!=", "") and "shell" not in cell and "--no-deps" in cell


def test_literals_of_the_command_line():
    values = map(runner.literal, ["[0, 1]", "0.5", "mnist5k", "True", "'x y'"])
    assert list(values) == [[0, 1], 0.5, "mnist5k", True, "x y"]


def test_figures_without_a_description_get_words(tmp_path):
    assert page.alt_text(tmp_path / "06_deferral_loss.svg") == "06 deferral loss"


def _readme_root(tmp_path):
    (tmp_path / "notebooks").mkdir()
    first = toy.notebook(
        title="# 00 · Toy\n\nA toy.\n\n| chapter | question |\n|---|---|\n| **00** Toy | Does it run? |"
    )
    nbformat.write(first, tmp_path / "notebooks" / "00_toy.ipynb")
    (tmp_path / "pyproject.toml").write_text((notebooks.ROOT / "pyproject.toml").read_text("utf-8"))
    return tmp_path


def test_readme_parts_are_generated_from_tables(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_OUT", raising=False)
    root = _readme_root(tmp_path)
    records = [{"seed": s, "method": "mild", "metric": "loss", "value": v} for s, v in ((0, 0.1), (1, 0.2))]
    results.save_table(results.tidy(records), "06_loss", root / "figures")
    badges.record_times(root / "figures", {"00_toy": 42.0})
    text = (
        "typed <!-- generated:number 06_loss.csv method=mild metric=loss .2f -->0<!-- /generated --> typed\n"
        "<!-- generated:chapters --><!-- /generated -->\n<!-- generated:clone --><!-- /generated -->"
    )
    new = readme.render(text, root)
    assert ".2f -->0.15<!-- /generated --> typed" in new
    assert "| 00 | [Toy](notebooks/00_toy.ipynb) | Does it run? | about 40 s | [Colab](https" in new
    assert "git clone https://" in new
    assert readme.render(new, root) == new


def test_a_chapter_that_the_map_lacks_is_an_error(tmp_path):
    root = _readme_root(tmp_path)
    nbformat.write(toy.notebook(title="# 01 · New"), root / "notebooks" / "01_new.ipynb")
    with pytest.raises(UsageError, match="lacks 01_new"):
        readme.render("<!-- generated:chapters --><!-- /generated -->", root)


@pytest.mark.parametrize(
    "part", ["nonsense", "number 06_loss.csv method=none", "number 06_loss.csv colour=red", "number none.csv"]
)
def test_readme_parts_that_cannot_be_made_are_errors(tmp_path, monkeypatch, part):
    monkeypatch.delenv("L2D_OUT", raising=False)
    root = _readme_root(tmp_path)
    results.save_table(results.tidy([{"value": 1}]), "06_loss", root / "figures")
    with pytest.raises((UsageError, OSError)):
        readme.render(f"<!-- generated:{part} --><!-- /generated -->", root)


def test_readme_is_up_to_date():
    text = (notebooks.ROOT / "README.md").read_text("utf-8")
    assert "generated:chapters" in text
    assert readme.render(text) == text, "run `make readme`"


def test_continuous_integration_runs_lint_and_tests():
    script = notebooks.ROOT / ".ci" / "run"
    text = script.read_text("utf-8")
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in text and "make lint" in text and "make test" in text
