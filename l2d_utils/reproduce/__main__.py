"""Command line: run, execute, badges, readme."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from ..results import write_atomically
from . import badges, execute, readme
from .notebooks import BOOK, ROOT, UsageError
from .runner import EXIT_INTERRUPTED, EXIT_USAGE, literal, plan, run


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python -m l2d_utils.reproduce", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run notebooks headless and collect what they make")
    executing = commands.add_parser("execute", help="re-execute notebooks in place")
    for sub in (running, executing):
        sub.add_argument("--notebooks", default="", metavar="00,06", help="names or numbers (default: all)")
        sub.add_argument("--folder", type=Path, default=BOOK, help="folder of the notebooks")
    running.add_argument("--profile", default="quick", help="quick (default), or one of profiles.yaml")
    running.add_argument("-p", action="append", default=[], metavar="NAME=VALUE", help="override a parameter")
    running.add_argument("--out", type=Path, default=Path("runs"), help="folder that takes the results")
    commands.add_parser("badges", help="rewrite badges and Colab cells from the address in pyproject.toml")
    commands.add_parser("readme", help="rewrite the generated parts of README.md")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Return the exit code: 0 done, 1 a notebook failed, 2 wrong use, 130 interrupted."""
    args = parser().parse_args(arguments)
    try:
        return _obey(args)
    except (UsageError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


def _obey(args: argparse.Namespace) -> int:
    if args.command == "badges":
        changed = badges.refresh_all(BOOK, ROOT / "figures")
        print(f"changed: {', '.join(changed) or 'nothing'}")
    elif args.command == "readme":
        path = ROOT / "README.md"
        text = readme.render(path.read_text("utf-8"))
        write_atomically(path, lambda p: p.write_text(text, "utf-8"))
    else:
        wanted = [name.strip() for name in args.notebooks.split(",") if name.strip()]
        folder = args.folder.resolve()
        if args.command == "execute":
            return execute.execute_all(folder, folder.parent / "figures", wanted)
        jobs = plan(folder, profile=args.profile, wanted=wanted, overrides=dict(map(_override, args.p)))
        return run(jobs, args.out, profile=args.profile)[1]
    return 0


def _override(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"-p {text}: NAME=VALUE is needed")
    return name, literal(value)


def _interrupt(signum, frame):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _interrupt)  # being told to stop is handled like Ctrl-C
    sys.exit(main())
