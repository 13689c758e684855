"""The claims ledger: what the papers claim, a test decided beforehand, and the verdict that the stored numbers give.

`notebooks/claims.yaml` is a list of claims. Each says

    id, title       short and unique; figures show the title
    paper, mark     MILD or DR-CPE; where the claim stands, for instance "[paper]"
    claim           one sentence in our own words
    notebook        number of the chapter that bears on it
    account         (optional) what the chapter found out about it, without numbers

and then either how it is tested,

    test            one of  above: 0,  below: 0,  within: {target: 0.7, tolerance: 0.02},  holds: true
    why             why this test is the right one
    quantity        what the number is, with its unit (not for `holds`)
    evidence        where the numbers stand: a list of parts, each with
        file        a CSV in figures/
        where       column: entry, the rows to take, or a list of such; a list of entries stands for one reading each
        column      the column that holds the number ("True" or "False" for `holds`)
        interval    [low, high], the columns of its 95 % interval                  (one of these two,
        over        the column of the repeats: their mean and 95 % interval         or neither)
        minus       entries that differ in the rows to subtract, repeat by repeat where there is `over`

or why it is not,

    not_testable    the reason

Every combination of the listed entries is one reading. A reading holds when its whole interval lies strictly on the
claimed side, is against when the whole interval lies on the other side, and is open in between. The verdict is
REPRODUCED when every reading holds. Nothing in the file is code.
"""

import contextlib
import functools
import io
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml

from l2d_utils.metrics import interval
from l2d_utils.results import FACTS, UsageError

REPRODUCED, DIFFERS, NOT_TESTABLE = VERDICTS = ("REPRODUCED", "DIFFERS", "NOT TESTABLE HERE")
HOLDS, OPEN, AGAINST = "holds", "open", "against"
PAPERS = ("MILD", "DR-CPE")
NEEDED = ("id", "title", "paper", "mark", "claim", "notebook")
TESTS = ("above", "below", "within", "holds")
PART = {"file": str, "where": (dict, list), "column": str, "interval": list, "over": str, "minus": dict}


@dataclass(frozen=True)
class Claim:
    """One entry of claims.yaml, checked."""

    id: str
    title: str
    paper: str
    mark: str
    claim: str
    notebook: str
    account: str = ""
    test: Mapping[str, Any] | None = None
    why: str = ""
    quantity: str = ""
    evidence: Sequence[Mapping[str, Any]] = ()
    not_testable: str = ""


class Reading(NamedTuple):
    """One number beside the claimed bound. low = high = mean where there is no interval; NaN for a check, whose mean
    is 1 (holds) or 0."""

    label: str
    mean: float
    low: float
    high: float
    outcome: str
    slack: float  # how far inside the claimed side the interval ends; below 0: how far it misses


def read(path: Path) -> list[Claim]:
    """The claims of a file, checked. Raises UsageError naming the claim and the field."""
    try:
        entries = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path.name} cannot be read ({error})") from None
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path.name}: a list of claims is needed")
    claims = [_claim(entry, number) for number, entry in enumerate(entries, 1)]
    for (number, claim), field in itertools.product(enumerate(claims), ("id", "title")):
        if getattr(claim, field) in [getattr(before, field) for before in claims[:number]]:
            raise UsageError(f"claim {claim.id!r}: {field} {getattr(claim, field)!r} is given twice")
    return claims


def _claim(entry: Any, number: int) -> Claim:
    if not isinstance(entry, dict):
        raise UsageError(f"claim {number}: it is no list of fields")
    name = f"claim {entry.get('id', number)!r}"
    tested = [key for key in ("test", "why", "evidence") if key in entry]
    if unknown := [key for key in entry if key not in Claim.__dataclass_fields__]:
        fault = f"unknown field {unknown[0]!r}; there are {', '.join(Claim.__dataclass_fields__)}"
    elif lacking := [key for key in NEEDED if not isinstance(entry.get(key), str) or not entry[key].strip()]:
        fault = f"{lacking[0]} is missing or no text"
    elif entry["paper"] not in PAPERS:
        fault = f"paper {entry['paper']!r} is none of {', '.join(PAPERS)}"
    elif "not_testable" in entry and (tested or "quantity" in entry):
        fault = "not_testable excludes test, why, quantity and evidence"
    elif "not_testable" in entry:
        fault = "" if str(entry["not_testable"] or "").strip() else "not_testable gives no reason"
    elif len(tested) < 3 or not str(entry["why"] or "").strip():
        fault = "test, why and evidence are needed, or else not_testable"
    elif not (fault := _test_fault(entry["test"]) or _evidence_fault(entry["evidence"])) and (
        ("holds" in entry["test"]) == ("quantity" in entry)
    ):
        fault = "quantity is needed for a number, and for nothing else"
    if fault:
        raise UsageError(f"{name}: {fault}")
    return Claim(**{k: " ".join(v.split()) if isinstance(v, str) else v for k, v in entry.items()})


def _test_fault(test: Any) -> str:
    if not isinstance(test, dict) or len(test) != 1 or next(iter(test)) not in TESTS:
        return f"test must be one of {', '.join(TESTS)}; found {test!r}"
    ((kind, bound),) = test.items()
    good = bound is True if kind == "holds" else _is_number(bound)
    if kind == "within":
        good = isinstance(bound, dict) and set(bound) == {"target", "tolerance"}
        good = good and all(map(_is_number, bound.values())) and bound["tolerance"] > 0
    return "" if good else f"test {kind}: {bound!r} is not what it takes"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _evidence_fault(evidence: Any) -> str:
    if not isinstance(evidence, list) or not evidence:
        return "evidence is no list of parts"
    for part in evidence:
        if not isinstance(part, dict):
            return f"evidence: {part!r} is no part"
        if unknown := [key for key in part if key not in PART]:
            return f"evidence: unknown field {unknown[0]!r}; there are {', '.join(PART)}"
        if wrong := [key for key, value in part.items() if not isinstance(value, PART[key])]:
            return f"evidence: {wrong[0]} is {part[wrong[0]]!r}"
        if lacking := [key for key in ("file", "where", "column") if not part.get(key)]:
            return f"evidence: {lacking[0]} is missing"
        if Path(part["file"]).name != part["file"]:
            return f"evidence: file {part['file']!r} is no plain file name"
        if "interval" in part and ("over" in part or len(part["interval"]) != 2):
            return "evidence: interval takes two columns, and excludes over"
        if "interval" in part and "minus" in part:
            return "evidence: the interval of a difference needs the repeats: over"
    return ""


def readings(claim: Claim, folders: Sequence[Path]) -> list[Reading]:
    """What the stored tables say about a claim; each table is taken from the first of `folders` that has it.

    Raises UsageError naming the claim, the file and the entries: no such file or column, a selection without a row or
    with more than one (per repeat), an entry that is no number.
    """
    found = []
    for part in claim.evidence:
        name = f"claim {claim.id!r}: {part['file']}"
        table = _table(name, part["file"], folders)
        listed = part["where"] if isinstance(part["where"], list) else [part["where"]]
        rows = [row for where in listed for row in _each(where)]
        for (where, of), (less, _) in itertools.product(rows, _each(part.get("minus", {}))):
            label = " · ".join(of + [f"minus {entry}" for entry in less.values()])
            other = {**where, **less} if "minus" in part else None
            found.append(_judged(label, *_number(name, table, part, where, other, "holds" in claim.test), claim.test))
    return found


def _table(name: str, file: str, folders: Sequence[Path]) -> pd.DataFrame:
    for path in (Path(folder) / file for folder in folders):
        if path.is_file():
            try:
                return _parsed(path, path.stat().st_mtime_ns)
            except (OSError, ValueError) as error:  # empty, not UTF-8, cut in the middle of a quoted entry
                raise UsageError(f"{name} is damaged ({' '.join(str(error).split())})") from None
    raise UsageError(f"{name}: there is no such file in {' or '.join(Path(f).name for f in folders)}")


@functools.lru_cache(maxsize=32)
def _parsed(path: Path, changed: int) -> pd.DataFrame:
    """A table as text; read once per state of the file, since many claims share one."""
    text = path.read_bytes().decode("utf-8")
    if not text.endswith("\n"):  # a number that lost digits would still be one
        raise ValueError("its last line is cut off")
    table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    return table.astype("category")  # entries repeat: fast to compare


def _each(entries: Mapping[str, Any]) -> list[tuple[dict[str, str], list[str]]]:
    """Every combination of the listed entries, each with those of its entries that stood in a list."""
    lists = {column: [str(e) for e in (v if isinstance(v, list) else [v])] for column, v in entries.items()}
    varying = [column for column, v in entries.items() if isinstance(v, list)]
    combined = [dict(zip(lists, chosen, strict=True)) for chosen in itertools.product(*lists.values())]
    return [(c, [f"{name}={c[name]}" if name in FACTS else c[name] for name in varying]) for c in combined]


def _check_columns(name: str, table: pd.DataFrame, columns: Iterable[str]) -> None:
    if lacking := [column for column in columns if column not in table]:
        raise UsageError(f"{name} has no column {lacking[0]!r}; it has {', '.join(table.columns)}")


def select(name: str, table: pd.DataFrame, where: Mapping[str, str]) -> pd.DataFrame:
    """The rows of a table of text whose columns hold these entries. Raises UsageError if there is none."""
    _check_columns(name, table, where)
    for column, entry in where.items():
        found = table[table[column] == entry]
        if found.empty:
            there = ", ".join(sorted(set(table[column]))[:12])
            raise UsageError(f"{name}: no row has {column}={entry!r} beside the other entries; there are {there}")
        table = found
    return table


def _number(name: str, table: pd.DataFrame, part: Mapping, where: Mapping, other: Mapping | None, holds: bool):
    """Low end, mean and high end of one reading; NaN, 1 or 0, NaN for a check."""
    column, over = part["column"], part.get("over")
    _check_columns(name, table, [column, *part.get("interval", []), *([over] if over else [])])
    rows = _by_repeat(name, table, where, over)
    first = rows.iloc[0]
    if holds and not over:
        if first[column] not in ("True", "False"):
            raise UsageError(f"{name}: {column} is {first[column]!r}, neither True nor False")
        return math.nan, float(first[column] == "True"), math.nan
    values = rows[column].astype(object).map(lambda text: _float(name, text))
    if other is not None:
        baseline = _by_repeat(name, table, other, over)[column].astype(object).map(lambda text: _float(name, text))
        if set(values.index) != set(baseline.index):
            raise UsageError(f"{name}: {dict(where)} and {dict(other)} have different entries of {over}")
        values = values - baseline.reindex(values.index)
    if over and len(values) < 2:
        raise UsageError(f"{name}: {dict(where)} has a single {over}: no interval")
    mean, low, high = interval(values.to_numpy()) if over else values.iloc[[0, 0, 0]]
    if "interval" in part:
        low, high = (_float(name, first[c]) for c in part["interval"])
    return low, mean, high


def _by_repeat(name: str, table: pd.DataFrame, where: Mapping[str, str], over: str | None) -> pd.DataFrame:
    """The selected rows, one per entry of the column `over`, which is their index; without `over` there is one row."""
    rows = select(name, table, where)
    if over and rows[over].duplicated().any():
        raise UsageError(f"{name}: {dict(where)} fits more than one row per {over}")
    if not over and len(rows) > 1:
        raise UsageError(f"{name}: {dict(where)} fits {len(rows)} rows, one is needed")
    return rows.set_axis(list(rows[over]) if over else [0])


def _float(name: str, text: str) -> float:
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    raise UsageError(f"{name}: {text!r} is no number")


def _judged(label: str, low: float, mean: float, high: float, test: Mapping[str, Any]) -> Reading:
    """Compare with the bound. Touching it is not enough: a bound is the first value that the claim excludes."""
    ((kind, bound),) = test.items()
    if kind == "holds":
        return Reading(label, mean, low, high, HOLDS if mean else AGAINST, 0.0 if mean else -1.0)
    if kind == "within":
        bottom, top = bound["target"] - bound["tolerance"], bound["target"] + bound["tolerance"]
    else:
        bottom, top = (bound, math.inf) if kind == "above" else (-math.inf, bound)
    inside, outside = min(low - bottom, top - high), max(bottom - high, low - top)
    outcome = HOLDS if inside > 0 else AGAINST if outside > 0 else OPEN
    return Reading(label, mean, low, high, outcome, inside)


def judge(claims: Iterable[Claim], folders: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The ledger (one row per claim) and all its readings (one row each), as tables of text and numbers.

    ledger: paper, id, title, claim, mark, notebook, quantity, test, measured, readings, holding, against, verdict.
    readings: paper, id, title, reading, mean, low, high, test, outcome.
    """
    entries, numbers, common = [], [], {}
    for claim in claims:
        found = readings(claim, folders)
        holding, against = (sum(r.outcome == kind for r in found) for kind in (HOLDS, AGAINST))
        verdict = NOT_TESTABLE if claim.not_testable else REPRODUCED if holding == len(found) else DIFFERS
        common = {"paper": claim.paper, "id": claim.id, "title": claim.title}
        about = {"claim": claim.claim, "mark": claim.mark, "notebook": claim.notebook, "quantity": claim.quantity}
        about |= {"test": wanted_text(claim), "measured": measured_text(found), "readings": len(found)}
        entries.append({**common, **about, "holding": holding, "against": against, "verdict": verdict})
        numbers += [{**common, "reading": r.label, **r._asdict(), "test": about["test"]} for r in found]
    columns = [*common, "reading", "mean", "low", "high", "test", "outcome"]
    return pd.DataFrame(entries), pd.DataFrame(numbers, columns=columns)


def counts_text(ledger: pd.DataFrame) -> str:
    """How many claims of each paper have each verdict, as one line of text."""
    found = {paper: list(verdicts) for paper, verdicts in ledger.groupby("paper", sort=False)["verdict"]}
    words = {paper: ", ".join(f"{v.count(x)} {x}" for x in VERDICTS if x in v) for paper, v in found.items()}
    return "; ".join(f"{paper}: {counts}" for paper, counts in words.items()) + "."


def wanted_text(claim: Claim) -> str:
    """The test in words: "above 0", "0.7 ± 0.02", "the check holds"; "" for a claim that is not tested."""
    if claim.test is None:
        return ""
    ((kind, bound),) = claim.test.items()
    if kind == "holds":
        return "the check holds"
    if kind == "within":
        return f"{bound['target']:g} ± {bound['tolerance']:g}"
    return f"{kind} {bound:g}".replace("-", "−")


def measured_text(found: Sequence[Reading]) -> str:
    """The readings in a few words: the number itself when there is one, else how many hold and the worst of them."""
    if not found:
        return ""
    holding, against = (sum(r.outcome == kind for r in found) for kind in (HOLDS, AGAINST))
    worst = min(found, key=lambda r: ((AGAINST, OPEN, HOLDS).index(r.outcome), r.slack))
    if math.isnan(worst.low):
        return "holds" if holding == len(found) == 1 else f"{holding} of {len(found)} hold"
    text = number_text(worst.mean, worst.low, worst.high)
    if len(found) == 1:
        return text
    counts = f"{holding} of {len(found)} hold" + (f", {against} against" if against else "")
    return f"{counts}; least favourable: {text}"


def number_text(mean: float, low: float, high: float) -> str:
    """A number with its interval (none when both ends are equal), with as many digits as its size calls for."""
    size = max(abs(low), abs(mean), abs(high))
    digits = 0 if all(v == int(v) for v in (mean, low, high)) else 4 if size < 0.1 else 3 if size < 1 else 2
    mean, low, high = (f"{round(v, digits) + 0.0:.{digits}f}".replace("-", "−") for v in (mean, low, high))
    return mean if low == high else f"{mean} [{low}, {high}]"
