"""The files people have: separators, gzip, JSON lines, one row per prompt and model. Every reading is a data frame."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import pandas as pd

from l2d_utils.data import DataError, read_table
from l2d_utils.own.cells import EMPTY

#: Ends of file names that can be read, each also with .gz behind it but for parquet.
ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
#: What the columns of a table with one row per prompt and model may be called.
_LONG = {
    "prompt": ("prompt", "query", "question", "input", "instruction"),
    "model": ("model", "model_name", "agent", "llm"),
    "score": ("score", "performance", "correct", "reward", "quality"),
    "cost": ("cost", "price", "dollars", "total_cost"),
    "task": ("task", "task_name", "dataset", "eval_name"),
}


def ending(path: Path) -> str:
    """The end of the name that says how to read the file, "" for none that can be read."""
    name = path.name.lower()
    name = name if name.endswith(".parquet") else name.removesuffix(".gz")
    return next((end for end in ENDINGS if name.endswith(end)), "")


def read_file(path: Path) -> pd.DataFrame:
    """The file as it is, prompts, tasks and splits as text; raises `DataError` of one line."""
    try:
        if ending(path) == ".jsonl":
            return pd.read_json(path, lines=True, dtype=False)
        if ending(path) == ".parquet":
            return read_table(path, EMPTY)
        separator = _separator(path)
        return read_table(path, EMPTY) if separator == "," and path.suffix == ".csv" else _csv(path, separator)
    except DataError as error:
        raise DataError(" ".join(str(error).split())) from None
    except (
        OSError,
        ValueError,
        TypeError,
        OverflowError,
        NotImplementedError,
        EOFError,
        pd.errors.ParserWarning,
    ) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def _separator(path: Path) -> str:
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        header = file.readline(1_000_000)
    counts = {mark: header.count(mark.encode()) for mark in (",", ";", "\t")}
    return max(counts, key=lambda mark: counts[mark])


def _csv(path: Path, separator: str) -> pd.DataFrame:
    text = {column: str for column in ("prompt", "task", "split")}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows longer than the header
        frame = pd.read_csv(
            path, sep=separator, decimal="," if separator == ";" else ".", dtype=text, keep_default_na=False,
            low_memory=False, index_col=False,
        )  # fmt: skip
    numeric = [c for c in frame.columns if str(c).startswith(("score/", "cost/"))]
    return frame.assign(**{c: frame[c].mask(frame[c].isin(EMPTY)) for c in numeric if frame[c].dtype == object})


def one_row_per_prompt(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, str]:
    """The table with columns score/<agent>, and in words what was turned; as it is where it is no table with one row
    per prompt and model.

    Raises:
        DataError: a prompt and a model that stand together in two rows.
    """
    known = {str(c).strip().casefold(): c for c in frame.columns}
    of = {kind: next((known[n] for n in names if n in known), None) for kind, names in _LONG.items()}
    if any(n.startswith(("score/", "label/")) for n in known) or None in (of["prompt"], of["model"], of["score"]):
        return frame, ""
    keys = frame[[of["prompt"], of["model"]]].astype(str)
    if (twice := keys.duplicated()).any():
        prompt, model = keys[twice].iloc[0]
        raise DataError(f"{name}: the prompt {prompt[:60]!r} and {model!r} stand together in two rows; give it one")
    wide = frame.groupby(keys[of["prompt"]], sort=False).first()
    table = {"prompt": wide.index.to_numpy()}
    if of["task"] is not None:
        table["task"] = wide[of["task"]].to_numpy()
    for kind in ("score", "cost"):
        if of[kind] is not None:
            cells = pd.Series(frame[of[kind]].to_numpy(), index=pd.MultiIndex.from_frame(keys)).unstack()
            agents = keys[of["model"]].unique()
            table |= {f"{kind}/{agent}": cells[agent].reindex(wide.index).to_numpy() for agent in agents}
    used = ", ".join(
        repr(str(of[kind])) for kind in ("prompt", "model", "score", "cost", "task") if of[kind] is not None
    )
    return pd.DataFrame(table), f"one row per prompt and model (columns {used})"
