"""The house keeps its size and its order: these numbers are in the README too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "l2d_utils"


def lines(folder: Path) -> int:
    return sum(len(path.read_text("utf-8").splitlines()) for path in folder.rglob("*.py"))


def room(path: Path) -> str:
    """A module of the package, or a package inside it as a whole."""
    inside = path.relative_to(PACKAGE)
    return inside.parts[0] if len(inside.parts) > 1 else inside.stem


def imported(path: Path) -> set[str]:
    """Dotted names that a module may mean by its imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}, line {node.lineno}: a relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.fixture(scope="module")
def arrows() -> set[tuple[str, str]]:
    files = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    rooms = {room(path) for path in files}
    found = set()
    for path in files:
        for dotted in imported(path):
            parts = dotted.split(".")
            if parts[0] == "l2d_utils" and len(parts) > 1 and parts[1] in rooms - {room(path)}:
                found.add((room(path), parts[1]))
    assert found
    return found


def test_the_package_stays_small():
    assert lines(PACKAGE) <= 8800
    assert lines(PACKAGE) + lines(ROOT / "reproduce") <= 10500


def test_few_arrows(arrows):
    assert len(arrows) <= 65, sorted(arrows)


def test_no_circle_and_none_back_up(arrows):
    above = {a: {b for x, b in arrows if x == a} for a, _ in arrows}
    done: set[str] = set()
    while due := [r for r in above if r not in done]:
        free = [r for r in due if above[r] <= done | {b for _, b in arrows if b not in above}]
        assert free, f"these import each other in a circle: {sorted(due)}"
        done |= set(free)


def test_layers_know_nothing_above_them(arrows):
    core = {a for a, _ in arrows} - {"studies", "own"}
    assert not {(a, b) for a, b in arrows if a in core and b in ("studies", "own")}
    assert ("studies", "own") not in arrows


def test_the_package_knows_neither_runner_nor_notebooks():
    for path in PACKAGE.rglob("*.py"):
        roots = {dotted.split(".")[0] for dotted in imported(path)}
        assert not roots & {"reproduce", "tests", "book", "benchmarks"}, path


def test_core_modules_do_not_draw():
    """A study or a delivered router must not load Matplotlib to fit or to route."""
    for path in [*PACKAGE.glob("*.py"), *(PACKAGE / "studies").glob("*.py"), PACKAGE / "own" / "delivery.py"]:
        assert not {d for d in imported(path) if d.startswith(("matplotlib", "l2d_utils.plots"))}, path
