"""The runner keeps what finished, says what failed, and refuses what cannot work before it starts."""

import csv
import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

import toy
from l2d_utils import results
from reproduce import badges, command, execute, notebooks, page, readme, runner
from reproduce.command import main
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
        ({"overrides": {"OUT": "/x"}}, "-p OUT"),
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


def _started(folder, tmp_path, *more, environment=None):
    """`python -m reproduce run` as a process that heeds Ctrl-C."""
    command = [
        sys.executable,
        "-m",
        "reproduce",
        "run",
        "--folder",
        str(folder),
        "--out",
        str(tmp_path / "runs"),
        *more,
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    # A job that a shell started in the background ignores SIGINT, and so would its children.
    heed = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, cwd=notebooks.ROOT, preexec_fn=heed, env=environment, **pipes)


# Two kernels at once: both of the others run. One: the kernel of the second notebook starts, or runs.
@pytest.mark.parametrize(("kernels", "delay"), [("1", 0.3), ("1", 1.0), ("2", 2.0)])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_run_keeps_what_finished(book, tmp_path, name, kernels, delay):
    slow = toy.notebook("import time\ntime.sleep(60)")
    folder = book(n00_good=toy.notebook("print(1)"), n01_slow=slow, n02_slow=slow)
    process = _started(folder, tmp_path, "--kernels", kernels)
    seen = ""
    while "[1/3]" not in seen:
        letter = process.stdout.read(1)
        assert letter, seen
        seen += letter
    time.sleep(delay)
    process.send_signal(getattr(signal, name))
    rest, _ = process.communicate(timeout=30)
    assert process.returncode == runner.EXIT_INTERRUPTED
    assert "1 of 3 notebooks finished" in rest and "Traceback" not in rest
    (run,) = (tmp_path / "runs").iterdir()
    assert json.loads((run / "provenance.json").read_text("utf-8"))["status"] == "interrupted"
    assert (run / "index.html").exists()
    assert [p.name for p in sorted((run / "notebooks").iterdir())] == ["00_good.html", "00_good.ipynb"]


@pytest.mark.parametrize("delay", [0.2, 0.6, 1.2])
def test_ctrl_c_while_the_libraries_load_is_one_line(book, tmp_path, delay):
    process = _started(book(n00_slow=toy.notebook("import time\ntime.sleep(60)")), tmp_path)
    time.sleep(delay)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == runner.EXIT_INTERRUPTED
    assert "interrupted" in said and "Traceback" not in said


def test_two_at_once_are_bitwise_as_one_after_another(book, tmp_path):
    numbers = "import numpy as np\nx = np.random.default_rng(0).normal(size=(300, 300))\nnp.linalg.svd(x)[1].sum()"
    folder = book(**{f"n0{i}_toy": toy.notebook(FIGURE.replace("00_toy", f"0{i}_toy"), numbers) for i in range(3)})
    made = []
    for count in (1, 2):
        run, code = runner.run(runner.plan(folder), tmp_path / f"runs{count}", count=count, say=lambda text: None)
        assert code == 0
        cells = [notebooks.read(p).cells[-1].outputs for p in sorted((run / "notebooks").glob("*.ipynb"))]
        made.append({p.name: p.read_bytes() for p in (run / "figures").iterdir()} | {"cells": cells})
    assert made[0] == made[1] and len(made[0]) == 7


def test_the_longest_start_first_and_a_reader_of_others_starts_last(book, tmp_path):
    order = "import time\nopen('../order', 'a').write(NAME)\ntime.sleep(0.2)"
    names = {f"n0{i}_toy": toy.notebook(order, parameters=f"NAME = '{i}'\nOUT = '.'") for i in range(4)}
    names["n00_toy"].cells[1].metadata["tags"].append(notebooks.READS_OTHERS)
    folder = book(**names)
    badges.record_times(folder.parent / "figures", {"00_toy": 100.0, "01_toy": 1.0, "02_toy": 3.0, "03_toy": 2.0})
    run, code = runner.run(runner.plan(folder), tmp_path / "runs", count=1, say=lambda text: None)
    assert code == 0 and (tmp_path / "order").read_text() == "2310"
    record = json.loads((run / "provenance.json").read_text("utf-8"))
    assert [row["name"] for row in record["notebooks_run"]] == sorted(name[1:] for name in names), "in reading order"


def test_the_ledger_chapter_reads_what_the_others_make():
    last = {p.stem[:2]: notebooks.reads_others(notebooks.read(p)) for p in notebooks.find(notebooks.BOOK)}
    assert [number for number, reads in last.items() if reads] == ["10"]


def test_a_kernel_imports_the_package_of_its_folder(tmp_path):
    """A copy whose package is broken breaks, though the environment was installed for this one; a sound one runs."""
    for name in ("l2d_utils", "reproduce"):
        shutil.copytree(notebooks.ROOT / name, tmp_path / "a clone" / name)
    root = tmp_path / "a clone"
    (root / "notebooks").mkdir()
    nbformat.write(
        toy.notebook("from l2d_utils import losses\nprint(losses.__file__)"), root / "notebooks/00_toy.ipynb"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "reproduce", "run"]
    options = {"cwd": root, "env": environment, "capture_output": True, "text": True, "timeout": 120}
    done = subprocess.run(command, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    (executed,) = root.glob("runs/*/notebooks/00_toy.ipynb")
    assert notebooks.read(executed).cells[-1].outputs[0].text == f"{root / 'l2d_utils' / 'losses.py'}\n"
    with (root / "l2d_utils" / "losses.py").open("a") as file:
        file.write("raise RuntimeError('the copy is broken')\n")
    done = subprocess.run(command, **options)
    assert done.returncode == runner.EXIT_FAILED and "RuntimeError: the copy is broken" in done.stdout


def test_a_console_that_lacks_letters_stops_nothing(book, tmp_path):
    nb = toy.notebook("raise ValueError('λ → ∞')")
    environment = {**os.environ, "PYTHONIOENCODING": "iso-8859-1", "PYTHONUTF8": "0"}
    said, _ = _started(book(n00_bad=nb), tmp_path, environment=environment).communicate(timeout=60)
    assert "ValueError: ? ? ?" in said and "Traceback" not in said


def test_a_table_that_cannot_be_read_is_its_notebooks_failure(book, tmp_path):
    bad = "open(f'{OUT}/00_bad.csv', 'wb').write(b'caf\\xe9,1\\n')"
    short = "open(f'{OUT}/01_short.csv', 'w').write('" + ",".join(results.TIDY) + "\\n01,x\\n')"
    jobs = runner.plan(
        book(n00_bad=toy.notebook(bad), n01_short=toy.notebook(short), n02_good=toy.notebook("print(1)"))
    )
    said = []
    run, code = runner.run(jobs, tmp_path / "runs", say=said.append)
    assert code == runner.EXIT_FAILED
    errors = [row["error"] for row in json.loads((run / "provenance.json").read_text("utf-8"))["notebooks_run"]]
    assert "00_bad.csv is no readable table: 'utf-8' codec" in errors[0]
    assert "01_short.csv is no readable table: a row has more or fewer" in errors[1]
    assert errors[2] == "" and "1 of 3 notebooks finished" in said[-1]
    assert (run / "figures" / "00_bad.csv").exists() and (run / "index.html").exists()


def test_a_full_disk_leaves_no_cut_notebook_and_the_next_one_runs(book, tmp_path, monkeypatch):
    """The first notebook's file is cut as on a full disk, then the page of the second; there is room for the third."""
    write, export = nbformat.write, page.export

    def cut(nb, path):
        write(nb, path)
        if "00_big" in path.name:
            path.write_bytes(path.read_bytes()[:200])
            _no_room()

    folder = book(**{f"n{name}": toy.notebook("print(1)") for name in ("00_big", "01_small", "02_good")})
    monkeypatch.setattr(notebooks.nbformat, "write", cut)
    monkeypatch.setattr(page, "export", lambda target: _no_room() if target.stem == "01_small" else export(target))
    said = []
    run, code = runner.run(runner.plan(folder), tmp_path / "runs", say=said.append)
    assert code == runner.EXIT_FAILED
    names = sorted(p.name for p in (run / "notebooks").iterdir())
    assert names == ["01_small.ipynb", "02_good.html", "02_good.ipynb"]
    assert all(notebooks.read(p) for p in (run / "notebooks").glob("*.ipynb"))
    assert any("00_big.ipynb could not be written: [Errno 28]" in line for line in said)
    assert any("01_small.html could not be written" in line for line in said)
    assert (run / "provenance.json").exists()


def _no_room(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_whose_record_cannot_be_written_goes_on(book, tmp_path, monkeypatch):
    monkeypatch.setattr(runner.page, "write_index", _no_room)
    said = []
    _, code = runner.run(runner.plan(book(n00_toy=toy.notebook("print(1)"))), tmp_path / "runs", say=said.append)
    assert code == runner.EXIT_FAILED
    assert any("could not be written: [Errno 28]" in line for line in said) and "1 of 1 notebooks" in said[-1]


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
    values = [command._override(f"X={text}")[1] for text in ("[0, 1]", "0.5", "mnist5k", "True", "'x y'")]
    assert values == [[0, 1], 0.5, "mnist5k", True, "x y"]


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
    badges.record_times(root / "figures", {"00_toy": 42.0})
    text = "typed\n<!-- generated:chapters --><!-- /generated -->\n<!-- generated:clone --><!-- /generated -->"
    new = readme.render(text, root)
    assert new.startswith("typed\n<!-- generated:chapters -->\n")
    assert "| 00 | [Toy](notebooks/00_toy.ipynb) | Does it run? | about 40 s | [Colab](https" in new
    assert "git clone https://" in new
    assert readme.render(new, root) == new


def test_a_chapter_that_the_map_lacks_is_an_error(tmp_path):
    root = _readme_root(tmp_path)
    nbformat.write(toy.notebook(title="# 01 · New"), root / "notebooks" / "01_new.ipynb")
    with pytest.raises(UsageError, match="lacks 01_new"):
        readme.render("<!-- generated:chapters --><!-- /generated -->", root)


@pytest.mark.parametrize("part", ["nonsense", "chapters now", "ledger"])
def test_readme_parts_that_cannot_be_made_are_errors(tmp_path, part):
    root = _readme_root(tmp_path)
    with pytest.raises(UsageError):
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
