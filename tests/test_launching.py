"""What happens to a reader who presses Colab or Binder, as far as it can be tried out without them.

Colab comes with Python 3.12, torch 2.9 and numpy 2.0 and breaks when they are swapped: the set-up cell of every
notebook runs here with Colab's modules and the commands emulated.
"""

import os
import subprocess
import sys
import tomllib
import types
from importlib import util

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from reproduce import badges, notebooks

PATHS = notebooks.find(notebooks.BOOK)
PROJECT = tomllib.loads((notebooks.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINNED = (notebooks.ROOT / "requirements-colab.txt").read_text("utf-8").splitlines()
COLAB = dict(line.split("==") for line in PINNED if not line.startswith("#"))


@pytest.fixture
def colab(monkeypatch):
    """Returns run(source, installed): the commands and the folder that a set-up cell ends with, as lists."""

    def run(source, installed=()):
        commands, folders, path = [], [], list(sys.path)
        found = lambda module: object() if module in installed else None  # noqa: E731
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
            patch.setattr(subprocess, "run", lambda command, check: commands.append(command))
            patch.setattr(util, "find_spec", found)
            patch.setattr(os, "chdir", folders.append)
            patch.setattr(os.path, "isdir", lambda folder: False)
            patch.setattr(sys, "path", path)
            exec(compile(source, "colab-setup", "exec"), {})
        return commands, folders, path

    return run


def _setup_cell(path):
    (cell,) = [c for c in notebooks.read(path).cells if badges.COLAB_TAG in notebooks.tags(c)]
    return cell.source


@pytest.mark.parametrize("path", PATHS, ids=lambda p: p.stem)
def test_colab_gets_the_book_and_no_other_version_of_what_it_has(path, colab):
    (clone, install), folders, found = colab(_setup_cell(path))
    where = badges.address()
    assert clone[:2] == ["git", "clone"] and f"--branch={where.ref}" in clone
    assert clone[-2:] == [where.repository, found[0]]
    assert folders == [f"{found[0]}/notebooks"]
    assert install[:4] == [sys.executable, "-m", "pip", "install"] and "--no-deps" in install
    named = [Requirement(word) for word in install[4:] if not word.startswith("-")]
    assert {r.name for r in named} == set(badges.COLAB_LACKS)
    assert not {r.name for r in named} & set(COLAB)
    assert sorted(map(str, named)) == sorted(badges.pins().values())


def test_colab_installs_only_what_is_missing(colab):
    source = _setup_cell(PATHS[0])
    commands, _, _ = colab(source, installed=("mlxtend", "wordllama"))
    assert commands[1][-1] == badges.pins()["paretobandit"] and len(commands) == 2
    assert not set(commands[1]) & {badges.pins()["mlxtend"], badges.pins()["wordllama"]}
    commands, _, _ = colab(source, installed=tuple(badges.COLAB_LACKS.values()))
    assert len(commands) == 1, "a second run of the cell installs nothing"


def test_elsewhere_the_setup_cell_does_nothing(monkeypatch):
    monkeypatch.setattr(subprocess, "run", None)
    for path in PATHS:
        exec(compile(_setup_cell(path), "colab-setup", "exec"), {})


def test_the_ranges_admit_what_colab_has():
    ranges = {r.name: r.specifier for r in map(Requirement, PROJECT["dependencies"])}
    for name, version in COLAB.items():
        assert ranges[name].contains(version), f"{name} {version}"
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(Version("3.12"))


def test_the_packages_without_their_dependencies_suffice():
    """The three carry data and are never imported: what they depend on may be missing, as after --no-deps."""
    code = (
        "import sys; from l2d_utils import data, text; "
        "print(len(data.load_images('mnist5k').labels), len(data.load_routing('paretobandit').prompts), "
        "text.embed(['a']).shape[1], sorted({n.split('.')[0] for n in sys.modules} & set(sys.argv[1:])))"
    )
    lacking = sorted(badges.COLAB_LACKS.values())
    done = subprocess.run(
        [sys.executable, "-c", code, *lacking], cwd=notebooks.ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["5000", "3609", "256", "[]"]
