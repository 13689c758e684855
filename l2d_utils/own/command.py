"""The one command: a table in, a folder with router, card and tables out."""

import argparse
import sys
from collections.abc import Iterable

import numpy as np

from l2d_utils import results
from l2d_utils.own import intake
from l2d_utils.own.advice import advise, features
from l2d_utils.own.dollars import price_curve
from l2d_utils.own.report import write

#: More outer folds than this tell nothing more, and each chooses anew.
MOST_FOLDS = 20


def main(arguments: Iterable[str] | None = None) -> int:
    """The command line; 0, or after one line on stderr 2, or 130 where it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m l2d_utils.own", description=__doc__)
    parser.add_argument("table", help="routing table (.csv, .tsv, .jsonl, .parquet) or a name such as paretobandit")
    parser.add_argument("--price-weight", type=float, default=0.0, help="errors per dollar unit, >= 0")
    parser.add_argument("--out", default="own", help="folder for router, card and tables (L2D_OUT, if set, wins)")
    parser.add_argument("--folds", type=int, default=5, help="outer folds if the table brings no hold-out")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    if not 0 <= options.price_weight < np.inf:
        raise ValueError(f"--price-weight must be a finite number ≥ 0; found {options.price_weight:g}")
    if not 2 <= options.folds <= MOST_FOLDS:
        raise ValueError(f"--folds must lie between 2 and {MOST_FOLDS}; found {options.folds}")
    case = intake.read(options.table)
    print(f"{case.name}: {len(case.scores):,} rows, {len(case.agents)} agents")
    for oddity in case.oddities:
        print(f"  odd: {oddity.found} ({oddity.count}): {oddity.done}")
    if case.test is None and options.folds > (prompts := len(np.unique(case.group))):
        raise ValueError(f"--folds {options.folds} are more than the {prompts} different prompts of {case.name}")
    results.output_folder(options.out)  # found out before all the computing
    X = features(case)
    advice = advise(case, options.price_weight, folds=options.folds, X=X)
    curve = None if case.dollars is None else price_curve(advice.case, X=X, folds=options.folds)
    folder = write(advice, options.out, curve)
    print(advice.verdict())
    print(f"card, router and tables: {folder}")
    return 0
