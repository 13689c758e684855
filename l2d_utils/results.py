"""Where measured numbers and figures go: written to a temporary name, then renamed.

Every number is stored once, in a CSV with the columns `TIDY` and those of `FACTS` that it needs; every figure lies
beside the CSV that it was drawn from. The same input gives the same bytes: no dates, no versions, six digits.
"""

import os
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

import pandas as pd

TIDY = ["notebook", "study", "data", "split", "method", "setting", "seed", "metric", "value"]
#: Further columns, present where a table has such facts: training rows; agent (from 1); class; deferral rate; price of
#: a question or of a dollar unit, in errors; λ, γ of the margins, ridge strength; a chosen parameter (`value` has it).
FACTS = ["n", "agent", "label", "rate", "price", "temperature", "gamma", "ridge", "parameter"]
SOURCES = ["data", "source", "sha256"]
CLAIMS = ["id", "claim", "measured", "holds"]


class UsageError(Exception):
    """Something the caller can put right; commands show it as one line, without a traceback."""


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Call `write(temporary)` and rename the result to `path`; on any failure, which is raised, `path` is as it was.

    The temporary name lies in the same folder and keeps the suffix, from which writers tell the format.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def output_folder(out: str | Path) -> Path:
    """The folder for figures and tables, created if need be; OSError (naming it) if it cannot be created or written.

    The environment variable L2D_OUT, when set, wins over `out`: test runs never touch the committed figures.
    """
    folder = Path(os.environ.get("L2D_OUT") or out)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"out: cannot write to the folder {folder}")
    return folder


def save_table(frame: pd.DataFrame, name: str, out: str | Path) -> None:
    """Write `frame` to out/name.csv: no index, six significant digits. ValueError if `name` is no plain file name."""
    path = _target(name, out, ".csv")
    write_atomically(path, lambda p: frame.to_csv(p, index=False, float_format="%.6g", lineterminator="\n"))


def show_figure(fig, name: str, frame: pd.DataFrame, out: str | Path, alt: str | None = None):
    """Write a Matplotlib figure to out/name.png and the numbers that it shows to out/name.csv; return the figure, so
    that one call at the end of a notebook cell saves and shows it.

    `alt` says in words what is to be seen, for readers who cannot see it; it is stored inside the PNG, from where the
    index page takes it. By default it is put together from titles and axis labels.
    """
    save_table(frame, name, out)
    # Matplotlib's own version is left out: it would change the bytes with every release.
    metadata = {"Software": None, "Description": alt or _describe(fig)}
    write_atomically(_target(name, out, ".png"), lambda p: fig.savefig(p, format="png", metadata=metadata))
    return fig


def tidy(records: pd.DataFrame | Iterable[Mapping[str, Any]], **constants: Any) -> pd.DataFrame:
    """Return measured numbers in the columns `TIDY` and those of `FACTS` that are given, one row per number.

    records: data frame, or mappings from column to entry. constants: entries that are the same in all rows. Columns
    given by neither are "". Raises ValueError for an unknown column, one given twice, or a value that is no number
    (naming the row).
    """
    frame = pd.DataFrame(records if isinstance(records, pd.DataFrame) else list(records)).reset_index(drop=True)
    known = [*TIDY[:-1], *FACTS, "value"]
    if unknown := [c for c in [*frame.columns, *constants] if c not in known]:
        raise ValueError(f"records: unknown column {unknown[0]!r}; the columns are {', '.join(known)}")
    if twice := [c for c in constants if c in frame.columns]:
        raise ValueError(f"{twice[0]}: given both in records and as a constant")
    frame = frame.assign(**constants)
    if "value" not in frame.columns:
        raise ValueError("records: the column 'value' is missing")
    values = pd.to_numeric(frame["value"], errors="coerce").astype("float64")
    if len(wrong := values.index[values.isna()]):
        raise ValueError(f"value: row {wrong[0]} is {frame['value'][wrong[0]]!r}, not a number")
    return joined([frame.assign(value=values).reindex(columns=[c for c in known if c in TIDY or c in frame.columns])])


def joined(frames: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Tidy tables below each other: the columns of `TIDY` and `FACTS` that any of them has, empty entries as ""."""
    frame = pd.concat(list(frames), ignore_index=True)
    columns = [c for c in [*TIDY[:-1], *FACTS, "value"] if c in frame.columns]
    return _with_plain_facts(frame[columns].astype({c: object for c in columns if c != "value"}).fillna(""))


def _with_plain_facts(frame: pd.DataFrame) -> pd.DataFrame:
    # a column with empty entries makes floats (or, read from a file, text) of whole numbers: agent 2, not 2.0 or "2"
    def plain(value: Any) -> Any:
        try:
            number = float(value)
        except ValueError:
            return value
        return int(number) if number.is_integer() else number

    numbers = [c for c in FACTS if c in frame.columns and c != "parameter"]
    return frame.assign(**{c: frame[c].map(plain).astype(object) for c in numbers})


def read_table(path: Any) -> pd.DataFrame:
    """A table as `save_table` wrote it, from a path or a buffer: text stays text, and no entry becomes NaN."""
    text = {name: str for name in TIDY if name not in ("seed", "value")}  # notebook "08" is no number
    frame = pd.read_csv(path, keep_default_na=False, dtype=text)
    return _with_plain_facts(frame) if set(TIDY) <= set(frame.columns) else frame


def stored(name: str, out: str | Path, committed: str | Path) -> pd.DataFrame:
    """The table name.csv from this run's folder `out` if the run made it, else the one in the folder `committed`;
    FileNotFoundError if neither has it."""
    for folder in (output_folder(out), Path(committed)):
        if (folder / f"{name}.csv").is_file():
            return read_table(folder / f"{name}.csv")
    raise FileNotFoundError(f"{name}.csv is in neither {out} nor {committed}: run the full profile once")


def save_sources(*datasets: Any, name: str, out: str | Path) -> None:
    """Write out/name.csv with `name`, `source` and (if known) `sha256` of the data sets that a notebook used; the
    runner copies these rows to provenance.json."""
    rows = [(d.name, d.source, getattr(d, "sha256", "") or "") for d in datasets]
    save_table(pd.DataFrame(rows, columns=SOURCES), name, out)


def claims(rows: Iterable[tuple[str, str, Any, Any]], name: str, out: str | Path) -> pd.DataFrame:
    """Write what a chapter claims to out/name.csv (columns `CLAIMS`) and return it as a table to show, named by id.

    rows: (id, claim, measured, holds). The id finds the row from claims.yaml, so it stays when the sentence is changed;
    measured is text, or a number, of which three digits are kept; holds comes of a comparison.

    Raises:
        ValueError: an id that is no lower-case word-with-hyphens or is given twice; `holds` neither true nor false.

    Example:
        >>> import tempfile
        >>> claims([("gap", "the gap is small", 0.01234, 0.01234 < 0.02)], "00_claims", tempfile.mkdtemp()).shape
        (1, 3)
    """
    found = []
    for key, claim, measured, holds in rows:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", str(key)) or key in [row[0] for row in found]:
            raise ValueError(f"id: {key!r} is no word-with-hyphens, or is given twice")
        if str(holds) not in ("True", "False"):  # those of numpy and torch, too
            raise ValueError(f"holds: {key!r} has {holds!r}, neither True nor False")
        text = str(measured) if isinstance(measured, (str, Integral)) else f"{measured + 0.0:.3g}"
        found.append((key, claim, text, str(holds) == "True"))
    frame = pd.DataFrame(found, columns=CLAIMS)
    save_table(frame, name, out)
    return frame.set_index("id")


def _target(name: str, out: str | Path, suffix: str) -> Path:
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"name: {name!r} is not a plain file name")
    return output_folder(out) / f"{name}{suffix}"


def _describe(fig) -> str:
    """Titles and axis labels of a figure as one sentence."""
    parts = [fig.get_suptitle()]
    for axes in fig.axes:
        label = " against ".join(t for t in (axes.get_ylabel(), axes.get_xlabel()) if t)
        parts.append(": ".join(t for t in (axes.get_title(), label) if t))
    return "; ".join(dict.fromkeys(" ".join(p.split()) for p in parts if p.strip()))
