"""Command line: run, sweep, execute, badges, readme."""

import argparse
import ast
import signal
import sys
from pathlib import Path

import l2d_utils
from l2d_utils.results import write_atomically

from . import badges, execute, readme, sweep
from .notebooks import BOOK, ROOT, UsageError
from .runner import EXIT_INTERRUPTED, EXIT_USAGE, plan, run


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m reproduce", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run notebooks headless and collect what they make")
    sweeping = commands.add_parser("sweep", help="run a grid of notebooks, parameters and seeds, in parallel")
    executing = commands.add_parser("execute", help="re-execute notebooks in place")
    for sub in (running, sweeping, executing):
        sub.add_argument("--folder", type=Path, default=BOOK, help="folder of the notebooks")
    for sub in (running, executing):
        sub.add_argument("--notebooks", default="", metavar="00,06", help="names or numbers (default: all)")
    running.add_argument("--profile", default="quick", help="quick (default), or one of profiles.yaml")
    running.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="override a parameter")
    running.add_argument("--kernels", type=_count, default=2, metavar="N", help="notebooks at once (default: 2)")
    running.add_argument("--out", type=Path, default=Path("runs"), help="folder that takes the results")
    sweeping.add_argument("grid", type=Path, help="the grid file, for instance notebooks/grid.yaml")
    sweeping.add_argument("--out", type=Path, default=Path("runs/sweep"), help="folder that takes the results")
    sweeping.add_argument("--workers", type=_count, metavar="N", help="runs at once (default: one per processor)")
    sweeping.add_argument("--scheduler", default="", metavar="tcp://...", help="a Dask cluster that runs already")
    sweeping.add_argument("--dry-run", action="store_true", help="print the plan and an estimate of the time only")
    commands.add_parser("badges", help="rewrite badges and Colab cells from the address in pyproject.toml")
    commands.add_parser("readme", help="rewrite the generated parts of README.md")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 a notebook failed, 2 wrong use, 130 interrupted."""
    args = parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a console that cannot show a letter is no reason to stop
            stream.reconfigure(errors="replace")
    try:
        return _obey(args)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _obey(args: argparse.Namespace) -> int:
    if Path(l2d_utils.__file__).resolve().parents[1] != ROOT:
        raise UsageError(f"l2d_utils comes from {l2d_utils.__file__}, not from {ROOT}: run this command in {ROOT}")
    if args.command == "badges":
        changed = badges.refresh_all(BOOK, ROOT / "figures")
        print(f"changed: {', '.join(changed) or 'nothing'}")
    elif args.command == "readme":
        path = ROOT / "README.md"
        text = readme.render(path.read_text("utf-8"))
        write_atomically(path, lambda p: p.write_text(text, "utf-8"))
    elif args.command == "sweep":
        folder, out = args.folder.resolve(), args.out
        if args.workers and args.scheduler:
            raise UsageError("--workers: a cluster that runs already has its own workers")
        if args.dry_run:
            sweep.dry_run(args.grid, folder, out, count=args.workers)
        else:
            return sweep.sweep(args.grid, folder, out, count=args.workers, scheduler=args.scheduler)
    else:
        wanted = [name.strip() for name in args.notebooks.split(",") if name.strip()]
        folder = args.folder.resolve()
        if args.command == "execute":
            return execute.execute_all(folder, folder.parent / "figures", wanted)
        jobs = plan(folder, profile=args.profile, wanted=wanted, overrides=dict(map(_override, args.p)))
        return run(jobs, args.out, profile=args.profile, count=args.kernels)[1]
    return 0


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _override(text: str) -> tuple[str, object]:
    """Name and value: a Python literal, or else the text itself."""
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"-p {text}: NAME=VALUE is needed")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def obey_signals(*, interrupt: bool) -> None:
    """Being told to stop, or losing the terminal, is handled like Ctrl-C. What was to be ignored from the start stays
    so: SIGHUP under nohup, and Ctrl-C for a background job of a shell (`interrupt` False)."""
    if interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
