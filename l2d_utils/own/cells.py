"""Cells of a stranger's table: numbers in the ways people write them, labels, texts."""

from __future__ import annotations

import re
from decimal import Decimal
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

#: Cells of a csv that are read as missing.
EMPTY = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "None", "-")
#: Words that stand for a score.
RIGHT, WRONG = ("pass", "passed", "yes", "true", "correct"), ("fail", "failed", "no", "false", "incorrect")
#: Prices in which a comma is no decimal point, for a point follows, or another comma; and those that leave it open.
_MONEY = re.compile(
    r"(USD|EUR|[$€£])?\s*(\d{1,3}(,\d{3})+\.\d+|\d{1,3}(,\d{3}){2,}|\d+(\.\d+)?(e-?\d+)?)", re.IGNORECASE
)
_GROUPED = re.compile(r"(USD|EUR|[$€£])?\s*\d{1,3},\d{3}", re.IGNORECASE)


def numbers(column: pd.Series) -> NDArray[np.float64]:
    """The column as float64 (n,), NaN for every cell that is no finite number."""
    if pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
        values = column.to_numpy(np.float64, na_value=np.nan, copy=True)
    else:
        cells = column.astype(object).map(lambda v: v if isinstance(v, (str, Real, Decimal)) else None)
        values = pd.to_numeric(cells, errors="coerce").to_numpy(np.float64, na_value=np.nan, copy=True)
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
    held = {cell.casefold() for cell in words(column, values)}
    if not held or not np.isnan(values).all():
        return values, "", 0
    if held <= {*RIGHT, *WRONG}:
        meaning = {word: 1.0 for word in RIGHT} | {word: 0.0 for word in WRONG}
    elif all(re.fullmatch(r"\d+(\.\d+)?\s*%", cell) for cell in held):
        meaning = {cell: float(cell.rstrip("% ")) / 100 for cell in held}
    else:
        return values, "", 0
    return _meant(column, values, meaning)


def prices(column: pd.Series) -> tuple[NDArray[np.float64], str, int]:
    """Numbers (n,) of a column of prices, likewise: "$0.00012", "1,234.50".

    Raises:
        ValueError: cells such as "1,234" in a column without any that tells whether the comma is a decimal point.
    """
    values = numbers(column)
    held = set(words(column, values))
    plain = {cell for cell in held if _MONEY.fullmatch(cell)}
    grouped = {cell for cell in held if _GROUPED.fullmatch(cell)}
    if grouped and not any("," in cell for cell in plain):
        raise ValueError(f"is {min(grouped)!r} a thousand or a little more than one? Write 1234.0 or 1.234")
    read = {cell.casefold(): float(re.sub(r"USD|EUR|[$€£,\s]", "", cell, flags=re.I)) for cell in plain | grouped}
    return _meant(column, values, read)


def _meant(column: pd.Series, values: NDArray, meaning: dict[str, float]) -> tuple[NDArray[np.float64], str, int]:
    texts = column.astype(object).map(lambda cell: as_text(cell).strip())
    meant = texts.str.casefold().map(meaning).to_numpy(np.float64, na_value=np.nan)
    read = np.isnan(values) & np.isfinite(meant)
    return np.where(read, meant, values), texts[read].iloc[0] if read.any() else "", int(read.sum())


def labels(column: pd.Series, classes: set[str] | frozenset[str] = frozenset()) -> pd.Series:
    """Labels as text, so that 3, 3.0 and "3" agree; None for empty cells, unless the word is one of the classes."""

    def text(value: object) -> str | None:
        if isinstance(value, Real) and not isinstance(value, bool):
            return None if np.isnan(value) else f"{float(value):.12g}"
        word = "" if value is None or value is pd.NaT else str(value).strip()
        return None if word in EMPTY and word not in classes else word

    return column.astype(object).map(text)


def as_text(cell: object) -> str:
    if isinstance(cell, bytes):
        return cell.decode("utf-8", "replace")
    missing = cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and cell != cell)
    return "" if missing else str(cell)
