"""Kept parts: taken up for the same arguments, data and code, and nothing else; a damaged one is named, not used."""

import dataclasses
import functools
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from l2d_utils import cache, losses, methods
from l2d_utils.data import RoutingTable
from l2d_utils.studies import compare, imbalance


def frame_of(seed, scale=1.0, **more):
    return pd.DataFrame({"seed": [seed] * 3, "part": ["08", "", "None"], "value": [scale / 3, 0.1 + 0.2, -0.0]})


def arrays_of(seed, **more):
    return {"features": np.full((4, 2), seed / 3, dtype=np.float32), "accuracy": np.array(1 / 3)}


@pytest.fixture
def keep(tmp_path):
    """`cache.keep` in one folder; keep.made lists what was computed."""
    made = []
    keep = functools.partial(cache.keep, tmp_path / "parts", say=made.append)
    keep.made, keep.files = made, lambda: sorted((tmp_path / "parts").glob("*"))
    return keep


@pytest.mark.parametrize("compute", [frame_of, arrays_of])
def test_a_part_is_made_once_and_reads_back_as_it_was_made(keep, compute):
    first, again = keep(compute, seed=3), keep(compute, seed=3)
    assert len(keep.made) == len(keep.files()) == 1 and keep.made[0].startswith(compute.__name__)
    fresh = compute(3)
    if compute is frame_of:
        pd.testing.assert_frame_equal(first, fresh.astype({"part": first["part"].dtype}), check_exact=True)
        pd.testing.assert_frame_equal(again, first)
    else:
        for name in fresh:
            np.testing.assert_array_equal(again[name], fresh[name])
            assert again[name].dtype == first[name].dtype == fresh[name].dtype


def test_a_part_that_failed_leaves_nothing_and_is_made_the_next_time(keep, tmp_path):
    def fail(seed):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        keep(fail, seed=0)
    assert not keep.files()
    keep(frame_of, seed=0)
    (path,) = keep.files()
    path.rename(path.with_name(f".{path.stem}.12345678.tmp.csv"))  # what a kill while writing leaves behind
    keep(frame_of, seed=0)
    assert keep.made[1:] == keep.made[1:2] * 2


KILLED = """
import os, signal, sys
import pandas as pd
from l2d_utils import cache
def part(seed):
    if seed == 2 and os.environ["STRIKE"] == "True":
        os.kill(os.getpid(), signal.SIGKILL)
    print("made", seed)
    return pd.DataFrame({{"value": [seed / 3]}})
print(sum(cache.keep({folder!r}, part, seed=seed)["value"][0] for seed in range(4)))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_what_was_finished_before_a_kill_is_not_made_again(tmp_path):
    def run(kill):
        command = [sys.executable, "-c", KILLED.format(folder=str(tmp_path))]
        env = {**os.environ, "STRIKE": str(kill), "PYTHONPATH": str(cache.PACKAGE.parent)}
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    assert run(True).returncode == -signal.SIGKILL
    again = run(False)
    assert again.stdout.split("\n")[:-1] == ["made 2", "made 3", str(sum(seed / 3 for seed in range(4)))], again.stderr


# ---------------------------------------------------------------- damage

DAMAGE = {
    "cut at a line end": lambda whole: whole[: whole.rfind(b"\n", 0, -1) + 1],
    "cut in a number": lambda whole: whole[:-4],
    "empty": lambda whole: b"",
    "zeros": lambda whole: b"\0" * len(whole),
    "another table": lambda whole: b"a,b\n1,2\n",
    "a web page": lambda whole: b"<html>503</html>",
    "one digit": lambda whole: whole.replace(b"0.3", b"0.4", 1),
    "a list": lambda whole: b"[1, 2]\n" + whole,
    "seal only": lambda whole: whole[: whole.index(b"\n") + 1],
}


@pytest.mark.parametrize("compute", [frame_of, arrays_of])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_named_and_left_alone(keep, compute, damage):
    keep(compute, seed=1)
    (path,) = keep.files()
    whole = path.read_bytes()
    spoilt = DAMAGE[damage](whole)
    if spoilt == whole:
        pytest.skip("this digit is not in the file")
    path.write_bytes(spoilt)
    with pytest.raises(ValueError, match="damaged") as error:
        keep(compute, seed=1)
    assert path.name in str(error.value) and len(keep.made) == 1
    assert path.read_bytes() == spoilt and keep.files() == [path]


def test_a_whole_part_under_another_ones_name_is_refused(keep):
    keep(frame_of, seed=1)
    (first,) = keep.files()
    keep(frame_of, seed=2)
    (second,) = set(keep.files()) - {first}
    shutil.copy(first, second)
    with pytest.raises(ValueError, match="other arguments, data or code") as error:
        keep(frame_of, seed=2)
    assert second.name in str(error.value) and second.read_bytes() == first.read_bytes()


@pytest.mark.parametrize("value", [Path("a"), object(), [1, {"deep": Path("a")}]], ids=["path", "object", "deep"])
def test_what_has_no_content_to_tell_is_refused_by_name(keep, value):
    with pytest.raises(TypeError, match="home"):
        keep(frame_of, seed=0, home=value)
    with pytest.raises(TypeError, match="not a data frame"):
        keep(lambda seed: 3.0, seed=0)
    assert not keep.files()


# ---------------------------------------------------------------- what a key notices


def table(scores):
    return RoutingTable(["a", "b"], scores, ("x", "y"), None, None, None, "mytable", "made up", "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (table(np.eye(2)), table(1 - np.eye(2))),  # another table under the same name
        (np.arange(6.0), np.arange(6.0).reshape(2, 3)),
        (np.arange(3), np.arange(3.0)),
        (np.array(["a", "bc"], dtype=object), np.array(["ab", "c"], dtype=object)),
        (pd.DataFrame({"n": [1]}), pd.DataFrame({"n": ["1"]})),
        (0.1, 0.1 + 2**-55),
        ({"epochs": 12}, {"epochs": 1}),
        ((0, 1), (2, 3)),
        (None, 0),
        (methods.METHODS["mild"], dataclasses.replace(methods.METHODS["mild"], own=({"gamma": 0.0},))),
        (functools.partial(frame_of, scale=1), functools.partial(frame_of, scale=2)),
    ],
)
def test_other_arguments_are_another_part(keep, one, other):
    keep(frame_of, seed=0, of=one)
    keep(frame_of, seed=0, of=other)
    assert len(keep.made) == 2
    keep(frame_of, seed=0, of=one)
    assert len(keep.made) == 2


SHIFT = 0.0


def shifted(costs):
    return losses.pair_loss(np.asarray(costs) + SHIFT)


def through_another(costs):
    return shifted(costs)


def with_inner(costs):
    return [shifted(c) for c in costs] and (lambda c: shifted(c))(costs)


def calls_itself(n):
    return n and calls_itself(n - 1)


class Estimator:
    def fit(self, X):
        return shifted(X)


@pytest.mark.parametrize("of", [shifted, through_another, with_inner, Estimator, functools.lru_cache(shifted)])
def test_a_function_of_a_notebook_is_told_by_what_it_does_and_calls(monkeypatch, of):
    before = cache.describe(of)
    assert before == cache.describe(of)
    monkeypatch.setattr(sys.modules[__name__], "SHIFT", 0.01)
    assert cache.describe(of) != before


def test_a_function_is_told_by_its_code_its_defaults_and_what_it_closes_over():
    def maker(shift):
        return lambda costs, q=0.0: losses.pair_loss(np.asarray(costs) + shift)

    assert cache.describe(maker(0.1)) == cache.describe(maker(0.1)) != cache.describe(maker(0.2))
    assert cache.describe(lambda c, q=0.0: c) != cache.describe(lambda c, q=0.1: c)
    assert cache.describe(lambda c, *, q=0.0: c) != cache.describe(lambda c, *, q=0.1: c)
    assert cache.describe(lambda c: c + 1) != cache.describe(lambda c: c - 1)
    assert cache.describe(calls_itself) == cache.describe(calls_itself)


def test_another_loss_under_the_same_key_changes_what_its_methods_depend_on(monkeypatch):
    before = cache.describe(methods.fingerprint(["two_stage_offsets", "oracle"]))
    untouched = cache.describe(methods.fingerprint(["mild"]))
    broken = dataclasses.replace(losses.PRESETS["two_stage"], build=lambda c: losses.pair_loss(np.asarray(c) + 0.01))
    monkeypatch.setitem(losses.PRESETS, "two_stage", broken)
    assert cache.describe(methods.fingerprint(["two_stage_offsets", "oracle"])) != before
    assert cache.describe(methods.fingerprint(["mild"])) == untouched


def test_every_method_of_the_table_can_be_part_of_a_key():
    for key in methods.METHODS:
        cache.describe(methods.fingerprint([key]))


# ---------------------------------------------------------------- the source of this package


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the package whose sources may be changed; gives (module name) → checksum of its import closure."""
    tree = tmp_path / "l2d_utils"
    shutil.copytree(cache.PACKAGE, tree, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "PACKAGE", tree.resolve())

    def checksum(name):
        cache.source_sha256.cache_clear()
        return cache.source_sha256((tree / name).resolve())

    yield tree, checksum
    cache.source_sha256.cache_clear()


STUDIES = [f"studies/{Path(module.__file__).name}" for module in (compare, imbalance)]


@pytest.mark.parametrize("changed", ["plots/style.py", "plots/maps.py", "ledger.py", "own/intake.py"])
def test_a_change_to_a_plot_changes_no_key(copy, changed):
    tree, checksum = copy
    before = {name: checksum(name) for name in STUDIES}
    (tree / changed).write_text((tree / changed).read_text("utf-8") + "\n# another colour\n", "utf-8")
    assert {name: checksum(name) for name in STUDIES} == before


@pytest.mark.parametrize("changed", ["losses.py", "costs.py", "rules.py", "choose.py", "data/splits.py", "methods.py"])
def test_a_change_to_a_loss_changes_every_key_that_used_it(copy, changed):
    tree, checksum = copy
    before = {name: checksum(name) for name in (*STUDIES, "data/tables.py")}
    (tree / changed).write_text((tree / changed).read_text("utf-8") + "\n# another loss\n", "utf-8")
    after = {name: checksum(name) for name in before}
    assert all(after[name] != before[name] for name in STUDIES)
    assert after["data/tables.py"] == before["data/tables.py"]  # used none of them


KEY = """
import json, sys
from l2d_utils import cache, metrics
print(cache.__file__)
print(cache.describe(metrics.deferral_loss))
"""


def test_a_changed_check_changes_the_key_of_a_new_process(copy):
    """The same, as it happens: a file is edited, the study is started again."""
    tree, _ = copy

    def described():
        env = {**os.environ, "PYTHONPATH": str(tree.parent)}
        command = [sys.executable, "-c", KEY]
        done = subprocess.run(command, cwd=tree.parent, env=env, capture_output=True, text=True, check=True)
        where, key = done.stdout.splitlines()
        assert Path(where).is_relative_to(tree)
        return key

    before = described()
    check = tree / "validate.py"  # metrics imports it
    check.write_text(check.read_text("utf-8") + "\nEPSILON = 1e-7\n", "utf-8")
    assert described() != before


def test_provenance_names_code_data_and_versions():
    found = cache.provenance(imbalance.run, data=table(np.eye(2)), profile="full").set_index("what")["value"]
    assert found["data"] == "mytable" and found["profile"] == "full"
    assert found["code"] == "l2d_utils.studies.imbalance.run"
    assert found["code sha256"] == cache.source_sha256(Path(imbalance.__file__))
    assert {"data sha256", "package version", "torch"} <= set(found.index)
