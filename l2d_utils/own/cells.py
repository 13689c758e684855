"""Cells of a stranger's table: numbers in the ways people write them, labels, texts."""

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Cells of a csv that are read as missing.
EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "None", "-")
#: Words that stand for a score.
MEANING = dict.fromkeys(("pass", "passed", "yes", "true", "correct"), 1.0)
MEANING |= dict.fromkeys(("fail", "failed", "no", "false", "incorrect"), 0.0)
#: Prices in which a comma is no decimal point, for a point follows, or another comma; and those that leave it open.
_CURRENCY = r"(USD|EUR|[$€£])?\s*"
_MONEY = re.compile(_CURRENCY + r"(\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,}|\d+(\.\d+)?(e-?\d+)?)", re.IGNORECASE)
_GROUPED = re.compile(_CURRENCY + r"\d{1,3},\d{3}", re.IGNORECASE)


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
    """Numbers (n,) of a column of prices, likewise: "$0.00012", "1,234.50".

    Raises:
        ValueError: cells such as "1,234" in a column without any that tells whether the comma is a decimal point.
    """
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
