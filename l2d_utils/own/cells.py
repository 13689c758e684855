"""A stranger's file and its cells: separators, gzip, JSON lines, one row per prompt and model; numbers in the ways
people write them, labels, texts."""

import gzip
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from numbers import Real
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from l2d_utils.data import DataError, read_table

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
#: Cells of a csv that are read as missing.
EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "None", "-")
#: Words that stand for a score.
MEANING = dict.fromkeys(("pass", "passed", "yes", "true", "correct"), 1.0)
MEANING |= dict.fromkeys(("fail", "failed", "no", "false", "incorrect"), 0.0)
#: Prices in which a comma is no decimal point, for a point follows, or another comma; and those that leave it open.
_CURRENCY = r"(USD|EUR|[$€£])?\s*"
_MONEY = re.compile(_CURRENCY + r"(\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,}|\d+(\.\d+)?(e-?\d+)?)", re.IGNORECASE)
_GROUPED = re.compile(_CURRENCY + r"\d{1,3},\d{3}", re.IGNORECASE)


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
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            header = file.readline(1_000_000)
        separator = max(",;\t", key=lambda mark: header.count(mark.encode()))
        return read_table(path, EMPTY, sep=separator, decimal="," if separator == ";" else ".")
    except DataError as error:
        raise DataError(" ".join(str(error).split())) from None
    except (OSError, ValueError, TypeError, OverflowError, NotImplementedError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def one_row_per_prompt(frame: pd.DataFrame, name: str) -> tuple[pd.DataFrame, str]:
    """The table with columns score/<agent>, and in words what was turned; as it is where it is no table with one row
    per prompt and model. DataError: a prompt and a model that stand together in two rows."""
    known = {str(c).strip().casefold(): c for c in frame.columns}
    of = {kind: known[n] for kind, names in _LONG.items() for n in reversed(names) if n in known}
    if any(n.startswith(("score/", "label/")) for n in known) or not {"prompt", "model", "score"} <= of.keys():
        return frame, ""
    keys = frame[[of["prompt"], of["model"]]].astype(str).set_axis(["prompt", "model"], axis=1)
    if (twice := keys.duplicated()).any():
        prompt, model = keys[twice].iloc[0]
        raise DataError(f"{name}: the prompt {prompt[:60]!r} and {model!r} stand together in two rows; give it one")
    wide = frame.groupby(keys["prompt"], sort=False).first()
    table = {"prompt": wide.index} | ({"task": wide[of["task"]].to_numpy()} if "task" in of else {})
    for kind in [kind for kind in ("score", "cost") if kind in of]:
        cells = keys.assign(cell=frame[of[kind]]).pivot(index="prompt", columns="model", values="cell")
        table |= {f"{kind}/{a}": cells[a].reindex(wide.index).to_numpy() for a in keys["model"].unique()}
    used = ", ".join(repr(str(column)) for column in of.values())
    return pd.DataFrame(table), f"one row per prompt and model (columns {used})"


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """The column as float64 (n,), NaN for every cell that is no finite number."""
    if not pd.api.types.is_numeric_dtype(column.dtype) or pd.api.types.is_complex_dtype(column.dtype):
        column = column.astype(object).map(lambda v: v if isinstance(v, (str, Real, Decimal)) else None)
        column = pd.to_numeric(column, errors="coerce")
    values = column.to_numpy(np.float64, na_value=np.nan, copy=True)
    values[np.isinf(values)] = np.nan
    return values


def words(column: pd.Series, values: NDArray) -> list[str]:
    """The cells that hold something, but no finite number."""
    if pd.api.types.is_numeric_dtype(column.dtype):
        return ["inf"] * int((np.isnan(values) & column.notna().to_numpy()).sum())
    texts = (as_text(cell).strip() for cell in column[np.isnan(values)].to_numpy(dtype=object))
    return [text for text in texts if text not in EMPTY]


def scores(column: pd.Series) -> tuple[NDArray[np.float64], str, int]:
    """Numbers (n,) of a column of scores, and a cell that was read as a number, with how many there are ("" and 0 where
    there was nothing to do): "PASS" and "FAIL", "yes" and "no", or percentages, if the column holds nothing else."""
    values = numbers(column)
    held = {cell.casefold() for cell in words(column, values)} if np.isnan(values).all() else set()
    percent = {cell: float(cell.rstrip("% ")) / 100 for cell in held if re.fullmatch(r"\d+(\.\d+)?\s*%", cell)}
    return _meant(column, values, percent if percent.keys() == held else MEANING if held <= MEANING.keys() else {})


def prices(column: pd.Series) -> tuple[NDArray[np.float64], str, int]:
    """Numbers (n,) of a column of prices, likewise: "$0.00012", "1,234.50". ValueError: cells such as "1,234" in a
    column without any that tells whether the comma is a decimal point."""
    values = numbers(column)
    held = set(words(column, values))
    plain, grouped = ({cell for cell in held if form.fullmatch(cell)} for form in (_MONEY, _GROUPED))
    if grouped and not any("," in cell for cell in plain):
        raise ValueError(f"is {min(grouped)!r} a thousand or a little more than one? Write 1234.0 or 1.234")
    read = {cell.casefold(): float(re.sub(r"USD|EUR|[$€£,\s]", "", cell, flags=re.I)) for cell in plain | grouped}
    return _meant(column, values, read)


def _meant(column: pd.Series, values: NDArray, meaning: Mapping[str, float]) -> tuple[NDArray[np.float64], str, int]:
    texts = column.astype(object).map(lambda cell: as_text(cell).strip())
    meant = texts.str.casefold().map(meaning).to_numpy(np.float64, na_value=np.nan)
    read = np.isnan(values) & np.isfinite(meant)
    return np.where(read, meant, values), texts[read].iloc[0] if read.any() else "", int(read.sum())


def labels(column: pd.Series, classes: Collection[str] = ()) -> pd.Series:
    """Labels as text, so that 3, 3.0 and "3" agree; None for empty cells, unless the word is one of the classes."""

    def text(value: object) -> str | None:
        if isinstance(value, Real) and not isinstance(value, bool):
            return None if np.isnan(value) else f"{float(value):.12g}"
        word = as_text(value).strip()
        return None if word in EMPTY and word not in classes else word

    return column.astype(object).map(text)


def as_text(cell: object) -> str:
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    missing = cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)
    return "" if missing else str(cell)
