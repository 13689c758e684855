"""A sweep runs what is not finished, keeps what is, and says what became of each run, whatever goes wrong.

The fault table, with the outcome that each test asserts:

    a notebook raises           that run fails and says where; the others finish
    a kernel dies               the same, with the kernel's log
    a worker is lost            its run is started again, a few times at most; the others go on
    the disk is full            runs fail, what is finished stays, the old table stays; later only the rest is run
    results are read-only       refused before anything starts; in the middle: as a full disk
    a stored result is damaged  put aside, kept, and that run alone is made again
    data are damaged            no old result is taken for them; the run fails; with the data mended the old ones hold
    two sweeps in one folder    the second is refused; a killed one leaves no lock
    the clock jumps             nothing is run again
    the sweep is killed         its workers and kernels end; the next one runs only what was not finished
    a source changes meanwhile  no result is filed under the old source's address
"""

import errno
import hashlib
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pyarrow.parquet as pq
import pytest
import yaml
from dask.distributed import LocalCluster

import toy
from l2d_utils import data
from l2d_utils.results import TIDY
from reproduce import badges, grid, notebooks, runner, store, sweep, table, workers
from reproduce.command import main
from reproduce.notebooks import UsageError

PARAMETERS = 'SEED = 0\nWHAT = ""\nOUT = "../figures"'
# No import but of the standard library: a kernel that loads nothing is ready in half a second.
CODE = """\
import os, signal, time
here = {here!r}
with open(f"{{here}}/runs.txt", "a") as file:
    file.write(f"{{SEED}}\\n")
first = open(f"{{here}}/runs.txt").read().split().count(str(SEED)) == 1
if WHAT == "raise":
    raise ValueError("no such agent")
if WHAT == "die":
    os._exit(3)
if WHAT == "full":
    open("/dev/full", "w").write("x" * 100_000)
if WHAT == "lose" or (WHAT == "lose once" and first):
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
while WHAT == "wait" and not os.path.exists(f"{{here}}/go"):
    time.sleep(0.05)
with open(f"{{OUT}}/00_toy.csv", "w") as file:
    file.write("{columns}\\n00,,,,,," + f"{{SEED}},loss,{{SEED / 3:.6g}}\\n")"""


class Book:
    """A folder with one notebook, which counts its runs, and sweeps over it."""

    def __init__(self, folder):
        self.root, self.folder, self.results = folder, folder / "notebooks", folder / "sweep"
        self.folder.mkdir()
        self.path = self.folder / "00_toy.ipynb"
        self.write(CODE.format(here=str(folder), columns=",".join(TIDY)))

    def write(self, *sources, parameters=PARAMETERS):
        nbformat.write(toy.notebook(*sources, parameters=parameters), self.path)

    def grid(self, *entries, **parameters):
        """Write a grid file; with parameters only: one entry of the notebook."""
        path = self.root / "grid.yaml"
        path.write_text(yaml.safe_dump(list(entries) or [{"notebooks": ["00"], "parameters": parameters}]))
        return path

    def tasks(self, *entries, **parameters):
        return grid.tasks(self.grid(*entries, **parameters), self.folder)

    def command(self, *more):
        return ["sweep", str(self.root / "grid.yaml"), "--folder", str(self.folder), "--out", str(self.results), *more]

    def runs(self):
        """Seeds of the runs that were begun so far, in no order."""
        path = self.root / "runs.txt"
        return sorted(map(int, path.read_text().split())) if path.exists() else []

    def finished(self):
        return sorted(p.name for p in (self.results / "finished").iterdir())

    def numbers(self):
        return pq.read_table(self.results / "grid.parquet").to_pydict()


@pytest.fixture
def book(tmp_path, monkeypatch):
    monkeypatch.delenv("L2D_DATA_DIR", raising=False)
    return Book(tmp_path)


class Inline:
    """In place of worker processes: each task at once, in this process."""

    def __init__(self, scheduler, count, root, about):
        self.root, self.about, self.tasks, self.running = root, about, [], 0

    def submit(self, task):
        self.tasks.append(task)

    def completed(self, timeout):
        task = self.tasks.pop(0)
        return [(task, workers.perform(task, self.root, self.about))]

    def close(self):
        pass


@pytest.fixture
def quick(book, monkeypatch):
    """The same without processes and kernels: `work(task's seed, figures)` takes the notebook's place."""

    def work(seed, figures):
        text = f"{','.join(TIDY)}\n00,,,,,,{seed},loss,{seed / 3:.6g}\n"
        (figures / "00_toy.csv").write_text(text)

    def run_one(job, *, target, out, log, kill=None):
        with (book.root / "runs.txt").open("a") as file:
            file.write(f"{job.parameters['SEED']}\n")
        target.write_text("{}")
        try:
            book.work(job.parameters["SEED"], out)
        except (OSError, ValueError) as failure:
            return runner.Outcome(job.name, 0.1, f"cell 2: {type(failure).__name__}: {failure}")
        return runner.Outcome(job.name, 0.1)

    book.work = work
    monkeypatch.setattr(workers, "Cluster", Inline)
    monkeypatch.setattr(runner, "run_one", run_one)
    return book


# ---------------------------------------------------------------- the plan


def test_a_grid_is_every_combination_in_order_and_once(book):
    entry = {"notebooks": ["00"], "parameters": {"SEED": [1, 0], "WHAT": ["", "x"]}}
    tasks = book.tasks(entry, {"notebooks": ["00_toy"], "parameters": {"WHAT": ["y", "x"]}})
    asked = [tuple(t.facts["parameters"].values()) for t in tasks]
    assert asked == [(1, ""), (1, "x"), (0, ""), (0, "x"), (0, "y")]
    assert len({t.key for t in tasks}) == 5


def test_seeds_are_dealt_out_in_blocks(book):
    book.write("1", parameters='FIRST_SEED = 0\nSEEDS = 5\nOUT = "."')
    tasks = book.tasks({"notebooks": ["00"], "seeds": 20, "parameters": {"SEEDS": [10, 5]}})
    blocks = [(t.job.parameters["FIRST_SEED"], t.job.parameters["SEEDS"]) for t in tasks]
    assert blocks == [(0, 10), (10, 10), (0, 5), (5, 5), (10, 5), (15, 5)]
    with pytest.raises(UsageError, match="no multiple of SEEDS = 5"):
        book.tasks({"notebooks": ["00"], "seeds": 12})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{notebooks: ['00']}", "a list of entries is needed"),
        ("- [", "cannot be read"),
        ("- parameters: {SEED: [1]}", "the key 'notebooks' is missing"),
        ("- {notebooks: [00]}", "a list of names in quotes"),
        ("- {notebooks: ['07']}", "unknown notebook '07'"),
        ("- {notebooks: ['00'], seedz: 3}", "unknown key 'seedz'"),
        ("- {notebooks: ['00'], profile: huge}", "profile 'huge'"),
        ("- {notebooks: ['00'], parameters: {SEDE: [1]}}", "unknown parameter 'SEDE'"),
        ("- {notebooks: ['00'], parameters: {SEED: 1}}", "a list of the values"),
        ("- {notebooks: ['00'], parameters: {SEED: [0, one]}}", "SEED = 0 takes a int"),
        ("- {notebooks: ['00'], parameters: {OUT: ['.']}}", "cannot be set"),
        ("- {notebooks: ['00'], seeds: 5}", "FIRST_SEED and SEEDS"),
    ],
)
def test_what_could_not_work_is_refused_before_anything_starts(book, capsys, text, message):
    (book.root / "grid.yaml").write_text(text)
    assert main(book.command()) == runner.EXIT_USAGE
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not book.results.exists()


def test_the_address_holds_all_that_a_result_depends_on_and_nothing_else(book, monkeypatch):
    def key(**parameters):
        (task,) = book.tasks(**{k: [v] for k, v in parameters.items()})
        return task.key

    old = key()
    assert key(SEED=0) == old, "the notebook's own literal, spelled out"
    assert key(SEED=1) != old
    nb = notebooks.read(book.path)
    nb.cells[2].execution_count, nb.cells[2].outputs = 3, [nbformat.v4.new_output("stream", text="1")]
    notebooks.write(nb, book.path)
    os.utime(book.path, (0, 0))
    assert key() == old, "stored outputs and times do not count"
    nb.cells[2].source += "\n"
    notebooks.write(nb, book.path)
    assert key() != old
    new = key()
    own = book.folder / "table.csv"
    own.write_text("a")
    named = key(WHAT="table.csv")
    own.write_text("b")
    assert key(WHAT="table.csv") != named, "a file that a parameter names"
    for stored in (book.root / "figures" / "06_full.csv", book.folder / "claims.yaml"):
        before = key()
        stored.parent.mkdir(exist_ok=True)
        stored.write_text("a")
        assert key() != before, "a stored table that notebooks read"
        before = key()
        stored.write_text("b")
        assert key() != before
    new = key()
    (book.root / "data").mkdir()
    monkeypatch.setenv("L2D_DATA_DIR", str(book.root / "data"))
    empty = key()
    (book.root / "big").mkdir()
    (book.root / "big" / "x.bin").write_bytes(b"1")
    (book.root / "data" / "linked").symlink_to(book.root / "big")
    filled = key()
    (book.root / "big" / "x.bin").write_bytes(b"2")
    assert len({new, empty, filled, key()}) == 4
    monkeypatch.setattr(grid, "package_sha256", lambda: "another")
    assert key() not in (new, empty)


def test_the_example_grid_fits_the_book():
    assert grid.tasks(notebooks.BOOK / "grid.yaml", notebooks.BOOK)


def test_a_dry_run_prints_the_plan_and_the_time_and_writes_nothing(quick, capsys):
    badges.record_times(quick.root / "figures", {"00_toy": 60.0})
    quick.grid(SEED=list(range(10)))
    assert main(quick.command("--dry-run", "--workers", "2")) == 0
    said = capsys.readouterr().out
    assert said.count("to do ") == 11 and "10 runs: 0 finished before" in said and "time: about 5 min" in said
    assert not quick.results.exists() and quick.runs() == []
    assert main(quick.command()) == 0
    capsys.readouterr()
    assert main(quick.command("--dry-run")) == 0
    said = capsys.readouterr().out
    assert said.count("finished  00_toy") == 10 and "0 to do" in said
    assert len(quick.runs()) == 10


def test_time_left_goes_by_what_was_measured_here(book):
    tasks = book.tasks(SEED=[0, 1, 2, 3])
    expected = sweep.Expected({}, {})
    assert expected.left(tasks, 2) == "an unknown time" and expected.left([], 2) == "nothing"
    expected = sweep.Expected({"00_toy": 600.0}, {})
    assert expected.left(tasks, 2) == "about 20 min"
    expected.add(tasks[0], 60.0)
    assert expected.left(tasks, 2) == "about 2 min"
    assert expected.left(tasks, 100) == "about 1 min", "no shorter than one run"


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--workers", "two"]])
def test_a_number_of_workers_is_positive(book, capsys, arguments):
    with pytest.raises(SystemExit):
        main(book.command(*arguments))
    assert "not a positive whole number" in capsys.readouterr().err


def test_a_cluster_must_answer_and_has_its_own_workers(book, capsys, monkeypatch):
    monkeypatch.setattr(workers, "CONNECT", 0.5)
    book.grid(SEED=[0])
    assert main(book.command("--scheduler", "tcp://127.0.0.1:9")) == runner.EXIT_USAGE
    assert "no Dask scheduler answers" in capsys.readouterr().err
    assert main(book.command("--scheduler", "tcp://127.0.0.1:9", "--workers", "2")) == runner.EXIT_USAGE
    assert book.runs() == []


# ---------------------------------------------------------------- real kernels and processes


def test_nothing_that_fails_hides_anything_else(book, capsys):
    """Six runs in two processes: two finish, one raises, one kernel dies, one finds the disk full, one loses its
    worker and is started again."""
    what = {1: "", 2: "raise", 3: "die", 4: "full", 5: "lose once", 6: ""}
    book.grid(*({"notebooks": ["00"], "parameters": {"SEED": [s], "WHAT": [w]}} for s, w in what.items()))
    assert main(book.command("--workers", "2")) == runner.EXIT_FAILED
    said = capsys.readouterr().out
    assert book.runs() == [1, 2, 3, 4, 5, 5, 6]
    assert len(book.finished()) == 3 and "3 of 6 runs finished" in said
    assert "00_toy SEED=5 WHAT='lose once': " in said and "attempt 2: its worker was lost" in said
    assert "cell 2 (In [3]): ValueError: no such agent" in said
    assert "DeadKernelError" in said and "No space left on device" in said
    failed = {p.read_text().split("\n")[0] for p in (book.results / "failed").glob("*/error.txt")}
    assert failed == {f"00_toy SEED={s} WHAT={what[s]!r}" for s in (2, 3, 4)}
    assert all((p / "notebook.ipynb").exists() for p in (book.results / "failed").iterdir())

    numbers = book.numbers()
    assert numbers["value"] == [0.333333, 1.66667, 2.0] and numbers["seed"] == ["1", "5", "6"]
    assert numbers["attempt"] == [1, 2, 1]
    assert set(book.numbers()) == set(table.SCHEMA.names) and all(s > 0 for s in numbers["seconds"])
    assert json.loads(numbers["packages"][0])["torch"] and numbers["processor"][0]
    if sys.platform == "linux":
        assert all(peak > 10e6 for peak in numbers["peak_bytes"])


def test_a_repeat_elsewhere_gives_the_same_bits_and_a_hopeless_run_is_given_up(book, capsys, monkeypatch):
    monkeypatch.setattr(workers, "ATTEMPTS", 2)
    book.grid(SEED=[1, 2])
    assert main(book.command()) == 0
    first = book.numbers()
    book.results = book.root / "elsewhere"
    lost = {"notebooks": ["00"], "parameters": {"SEED": [3], "WHAT": ["lose"]}}
    book.grid({"notebooks": ["00"], "parameters": {"SEED": [1, 2]}}, lost)
    assert main(book.command()) == runner.EXIT_FAILED
    assert "its worker was lost 2 times" in capsys.readouterr().out
    assert book.runs() == [1, 1, 2, 2, 3, 3]
    second = book.numbers()
    for column in (*TIDY, "table", "run", "parameters"):
        assert first[column] == second[column]


def _alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_killed_sweep_leaves_nothing_running_and_the_next_runs_the_rest(book):
    entry = {"notebooks": ["00"], "parameters": {"SEED": [1]}}
    book.grid(entry, {"notebooks": ["00"], "parameters": {"SEED": [2], "WHAT": ["wait"]}})
    command = [sys.executable, "-m", "reproduce", *book.command("--workers", "1")]
    process = subprocess.Popen(command, cwd=notebooks.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while book.runs() != [1, 2]:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.05)
        if sys.platform == "linux":
            tree = _descendants(process.pid)
            assert len(tree) >= 2, "worker, kernel"
    finally:
        process.kill()
        process.wait()
    assert len(book.finished()) == 1
    if sys.platform == "linux":
        end = time.monotonic() + 30
        while any(map(_alive, tree)):
            assert time.monotonic() < end, "something outlived the sweep"
            time.sleep(0.1)
    (book.root / "go").touch()
    assert main(book.command("--workers", "1")) == 0  # and the lock is free
    assert book.runs() == [1, 2, 2]
    assert book.numbers()["seed"] == ["1", "2"]
    assert not list((book.results / "work").iterdir())


def _descendants(pid):
    children = [int(p) for f in Path(f"/proc/{pid}/task").glob("*/children") for p in f.read_text().split()]
    return children + [p for child in children for p in _descendants(child)]


def test_a_cluster_that_runs_already_loses_a_worker_and_no_result(book, capsys):
    entry = {"notebooks": ["00"], "parameters": {"SEED": [1, 2]}}
    bad = {"notebooks": ["00"], "parameters": {"SEED": [4], "WHAT": ["raise"]}}
    book.grid(entry, {"notebooks": ["00"], "parameters": {"SEED": [3], "WHAT": ["lose once"]}}, bad)
    with LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster:
        assert main(book.command("--scheduler", cluster.scheduler_address)) == runner.EXIT_FAILED
    assert book.runs() == [1, 2, 3, 3, 4]
    numbers = book.numbers()
    assert numbers["seed"] == ["1", "2", "3"] and numbers["attempt"] == [1, 1, 2]
    assert "ValueError: no such agent" in capsys.readouterr().out


# ---------------------------------------------------------------- faults of disk, data, clock and people


def _no_space(*args, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing(quick, monkeypatch, capsys):
    quick.grid(SEED=[1])
    assert main(quick.command()) == 0
    before, table_before = quick.finished(), (quick.results / "grid.parquet").read_bytes()
    quick.grid(SEED=[1, 2, 3])
    with monkeypatch.context() as full:
        # The record of a result, and the table, are what is written last.
        full.setattr(Path, "write_text", _no_space)
        full.setattr(pq, "write_table", _no_space)
        full.setattr(quick, "work", lambda seed, figures: None)
        assert main(quick.command()) == runner.EXIT_FAILED
    said = capsys.readouterr().out
    assert said.count("FAILED: OSError: [Errno 28]") == 2 and "the table could not be written" in said
    assert quick.finished() == before and (quick.results / "grid.parquet").read_bytes() == table_before
    assert main(quick.command()) == 0
    assert quick.runs() == [1, 2, 2, 3, 3] and quick.numbers()["seed"] == ["1", "2", "3"]
    assert not list((quick.results / "failed").iterdir()), "what failed once and finished now"


def test_read_only_results_are_refused_and_in_the_middle_lose_nothing(quick, monkeypatch, capsys):
    def read_only(self, *args, **options):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    quick.grid(SEED=[1, 2])
    with monkeypatch.context() as mounted:
        mounted.setattr(Path, "mkdir", read_only)
        assert main(quick.command()) == runner.EXIT_USAGE
        assert "cannot write results to" in capsys.readouterr().err
        assert quick.runs() == []
        work = quick.work
        mounted.undo()

        def then_read_only(seed, figures):
            work(seed, figures)
            mounted.setattr(store, "workspace", read_only)

        quick.work = then_read_only
        assert main(quick.command()) == runner.EXIT_FAILED
    assert "Read-only file system" in capsys.readouterr().out
    assert len(quick.finished()) == 1
    quick.work = work
    assert main(quick.command()) == 0 and quick.runs() == [1, 2]
    (quick.root / "file").write_text("")
    quick.results = quick.root / "file"
    assert main(quick.command()) == runner.EXIT_USAGE


@pytest.mark.parametrize("harm", ["a digit", "the record", "half a record", "a file gone"])
def test_a_damaged_result_is_put_aside_and_made_again(quick, capsys, harm):
    quick.grid(SEED=[1, 2, 3])
    assert main(quick.command()) == 0
    good = quick.numbers()
    folder = quick.results / "finished" / good["run"][1]
    file = folder / ("record.json" if "record" in harm else "figures/00_toy.csv")
    text = file.read_text()
    if harm == "a file gone":
        file.unlink()
    elif harm == "half a record":
        file.write_text(text[: len(text) // 2])
    else:
        file.write_text(text.replace("0.666667", "0.666661").replace('"seconds": 0.1', '"seconds": 0.2'))
        assert file.read_text() != text
    assert main(quick.command()) == 0
    assert "damaged, put aside" in capsys.readouterr().out
    assert quick.runs() == [1, 2, 2, 3] and quick.numbers()["value"] == good["value"]
    (aside,) = (quick.results / "damaged").iterdir()
    assert (aside / "notebook.ipynb").exists()


def test_damaged_data_give_no_result_and_mended_data_the_old_one(quick, monkeypatch, capsys):
    file = quick.root / "data" / "toy.bin"
    file.parent.mkdir()
    file.write_bytes(b"0123456789")
    monkeypatch.setenv("L2D_DATA_DIR", str(file.parent))
    digest, work = hashlib.sha256(b"0123456789").hexdigest(), quick.work

    def reading(seed, figures):
        data.read_checked(file, digest)
        work(seed, figures)

    quick.work = reading
    quick.grid(SEED=[1])
    assert main(quick.command()) == 0
    file.write_bytes(b"01234")
    assert main(quick.command()) == runner.EXIT_FAILED, "the old result is not taken for these data"
    assert "wrong checksum" in capsys.readouterr().out
    assert quick.runs() == [1, 1] and len(quick.finished()) == 1
    file.write_bytes(b"0123456789")
    assert main(quick.command()) == 0 and quick.runs() == [1, 1]


def test_two_sweeps_do_not_share_a_folder(quick, capsys):
    quick.grid(SEED=[1])
    with store.opened(quick.results):
        assert main(quick.command()) == runner.EXIT_USAGE
        assert "another sweep is writing" in capsys.readouterr().err
        assert main(quick.command("--dry-run")) == 0, "looking is allowed"
    assert quick.runs() == []
    assert main(quick.command()) == 0


def test_a_result_that_is_there_is_never_overwritten(quick):
    """As when a cluster's worker, believed lost, finishes after all."""
    (task,) = quick.tasks(SEED=[1])
    with store.opened(quick.results):
        for content in ("first", "second"):
            work, _ = store.workspace(quick.results, task)
            (work / "figures" / "x.csv").write_text(content)
            store.file_result(quick.results, task, work, {})
        assert (quick.results / "finished" / task.key / "figures" / "x.csv").read_text() == "first"
        assert store.finished(quick.results, task) and not list((quick.results / "work").iterdir())


def test_a_number_that_is_none_fails_its_run_and_no_other(quick, capsys):
    work = quick.work

    def spoilt(seed, figures):
        work(seed, figures)
        if seed == 2:
            (figures / "00_toy.csv").write_text(f"{','.join(TIDY)}\n00,,,,,,2,loss,much\n")

    quick.work = spoilt

    quick.grid(SEED=[1, 2, 3])
    assert main(quick.command()) == runner.EXIT_FAILED
    assert "could not convert string to float: 'much'" in capsys.readouterr().out
    assert quick.numbers()["seed"] == ["1", "3"]


def test_a_clock_that_jumps_changes_nothing(quick, monkeypatch):
    class Clock(datetime):
        year_now = 2100

        @classmethod
        def now(cls, zone=None):
            return datetime(cls.year_now, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(workers, "datetime", Clock)
    quick.grid(SEED=[1])
    assert main(quick.command()) == 0
    Clock.year_now = 1971
    quick.grid(SEED=[1, 2])
    for path in [*quick.results.rglob("*"), *quick.folder.iterdir()]:
        os.utime(path, (4e9, 4e9))  # files from the future
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert main(quick.command()) == 0
    assert quick.runs() == [1, 2]
    numbers = quick.numbers()
    assert [text[:4] for text in numbers["started"]] == ["2100", "1971"] and min(numbers["seconds"]) >= 0


def test_an_interrupted_sweep_keeps_what_finished(quick, monkeypatch, capsys):
    work = quick.work

    def interrupted(seed, figures):
        if seed == 2:
            raise KeyboardInterrupt
        work(seed, figures)

    quick.work = interrupted
    quick.grid(SEED=[1, 2, 3])
    assert main(quick.command()) == runner.EXIT_INTERRUPTED
    assert "interrupted" in capsys.readouterr().out and quick.numbers()["seed"] == ["1"]
    quick.work = work
    assert main(quick.command()) == 0 and quick.runs() == [1, 2, 2, 3]


def test_a_source_that_changes_meanwhile_is_noticed(quick, capsys):
    work = quick.work

    def editing(seed, figures):
        work(seed, figures)
        quick.write("x = 1")

    quick.work = editing
    quick.grid(SEED=[1, 2])
    assert main(quick.command()) == runner.EXIT_FAILED
    assert capsys.readouterr().out.count("00_toy changed since the sweep was planned") >= 2
    assert quick.finished() == [] and quick.runs() == [1]


def test_the_log_has_every_line_with_its_time(quick, capsys):
    quick.grid(SEED=[1])
    main(quick.command())
    said, log = capsys.readouterr().out, (quick.results / "sweep.log").read_text("utf-8")
    lines = [line.split(" ", 1) for line in log.splitlines()]
    assert "".join(f"{text}\n" for _, text in lines) == said
    assert all(stamp.endswith("Z") and datetime.fromisoformat(stamp) for stamp, _ in lines)
