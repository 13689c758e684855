"""The files that describe the environment agree with each other and with the code."""

import ast
import re
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import l2d_utils
from reproduce import badges, notebooks

ROOT = notebooks.ROOT
# Where conda-forge names a package otherwise.
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base", "seaborn": "seaborn-base"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def _requirements(*extras):
    lines = PROJECT["dependencies"] + [r for e in extras for r in PROJECT["optional-dependencies"][e]]
    return [Requirement(line) for line in lines]


def _locked(name="requirements.lock"):
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


LOCKED = {canonicalize_name(r.name): r for r in _locked()}
SITE = "book"  # the extra that has an environment and a lock of its own


def test_the_lock_holds_one_exact_version_of_each_package_and_nothing_else():
    assert len(_locked()) == len(LOCKED)
    for requirement in LOCKED.values():
        (only,) = requirement.specifier
        assert only.operator == "==" and not Version(only.version).local and not requirement.url
    assert str(LOCKED["torch"].specifier) == "==2.13.0"


def test_the_lock_fits_the_ranges():
    for requirement in _requirements(*(e for e in PROJECT["optional-dependencies"] if e != SITE)):
        (locked,) = LOCKED[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(locked.version, prereleases=True), requirement


def test_the_lock_of_the_site_is_exact_and_fits_its_ranges():
    site = {canonicalize_name(r.name): r.specifier for r in _locked("requirements-book.lock")}
    assert len(site) == len(_locked("requirements-book.lock"))
    versions = {}
    for name, specifier in site.items():
        (only,) = specifier
        assert only.operator == "==" and not Version(only.version).local
        versions[name] = only.version
    for line in PROJECT["optional-dependencies"][SITE]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(versions[canonicalize_name(requirement.name)]), requirement
    assert "torch" not in site and "numpy" not in site, "the site runs nothing"


def test_the_lock_is_closed():
    """Whatever a locked package needs here is locked as well."""
    for name, requirement in LOCKED.items():
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                if sys.platform != "linux" and canonicalize_name(needed.name) not in LOCKED:
                    continue  # the lock was made on Linux; elsewhere pip adds the platform's own helpers
                assert canonicalize_name(needed.name) in LOCKED, f"{name} needs {needed}"


def test_conda_environment_has_the_ranges_of_pyproject():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))
    assert environment["channels"] == ["conda-forge"]
    conda = {re.split(r"[<>=]", d)[0]: d for d in environment["dependencies"] if isinstance(d, str)}
    (pip,) = [d["pip"] for d in environment["dependencies"] if isinstance(d, dict)]
    assert conda["python"] in ("python=3.11", "python=3.12")
    for requirement in _requirements("lab", "test"):
        if str(requirement) in pip:
            continue
        name = CONDA_NAMES.get(requirement.name, requirement.name)
        entry = Requirement(conda[name].replace(name, requirement.name, 1))
        assert entry.specifier == requirement.specifier, name
    assert sorted(pip) == sorted(badges.pins().values())


def test_binder_installs_the_package_itself():
    assert not (ROOT / "binder").exists() and not (ROOT / ".binder").exists(), "would hide environment.yml"
    text = (ROOT / "postBuild").read_text("utf-8")
    assert text.startswith("#!") and "--no-deps" in text and "-e ." in text
    assert (ROOT / "postBuild").stat().st_mode & 0o111


def test_python_version_stands_alike_everywhere():
    assert PROJECT["requires-python"] == ">=3.11"
    assert "(3, 11)" in (ROOT / "Makefile").read_text("utf-8")


def test_every_import_is_declared():
    """Imports of the package come from its dependencies, those of `reproduce` from the extra `lab` as well."""
    owners = metadata.packages_distributions()
    for path in sorted([*(ROOT / "l2d_utils").rglob("*.py"), *(ROOT / "reproduce").glob("*.py")]):
        extras = ["lab"] if path.parent.name == "reproduce" else []
        declared = {canonicalize_name(r.name) for r in _requirements(*extras)}
        for node in _top_level(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module]
            for top in {name.split(".")[0] for name in names}:
                if top in sys.stdlib_module_names or top == "l2d_utils":
                    continue
                found = {canonicalize_name(d) for d in owners.get(top, [])}
                assert found & declared, f"{path.name} imports {top}, which pyproject.toml does not declare"


def _top_level(module):
    """Absolute imports that run when the module is imported; those inside functions may be optional."""
    for node in module.body:
        if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level):
            yield node


@pytest.mark.parametrize(
    "name",
    [
        "README.md",
        "LICENSE",
        "CITATION.cff",
        "CONTRIBUTING.md",
        "Makefile",
        "environment.yml",
        "postBuild",
        "requirements.lock",
        "requirements-book.lock",
        "requirements-colab.txt",
        ".ci/run",
        ".github/workflows/ci.yml",
    ],
)
def test_top_level(name):
    assert (ROOT / name).is_file()


def test_the_workflow_runs_what_make_runs():
    """On push and pull request .ci/run with Python 3.11; once a week the notebooks with Colab's versions."""
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    when = workflow[True]  # YAML 1.1 reads the key `on` as true
    assert {"push", "pull_request", "schedule"} <= set(when)
    (weekly,) = when["schedule"]
    assert weekly["cron"].split()[2:4] == ["*", "*"] and weekly["cron"].split()[4].isdigit()
    said, python = {}, {}
    for name, job in workflow["jobs"].items():
        said[name] = [step["run"] for step in job["steps"] if "run" in step]
        (setup,) = [step["with"] for step in job["steps"] if step.get("uses", "").startswith("actions/setup-python")]
        python[name] = setup["python-version"]
    assert said["test"] == [".ci/run"] and python == {"test": "3.11", "colab": "3.12"}
    assert "requirements-colab.txt" in said["colab"][0] and said["colab"][1] == "python -m reproduce run"
    assert "schedule" in workflow["jobs"]["colab"]["if"] and "schedule" in workflow["jobs"]["test"]["if"]


def test_citation_has_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert str(citation["version"]) == l2d_utils.__version__
    assert len(citation["references"]) == 2


def test_the_address_stands_once():
    """Elsewhere it is generated: badges and Colab cells in notebooks, marked parts of README.md."""
    repository = badges.address().repository
    for path in ROOT.iterdir():
        if path.is_file() and path.suffix in (".toml", ".md", ".yml", ".cff", ".lock", ""):
            text = path.read_text("utf-8", errors="ignore")
            text = re.sub(r"<!-- generated:.*?<!-- /generated -->", "", text, flags=re.S)
            assert text.count(repository) == (path.name == "pyproject.toml"), path.name
