"""What a figure may be given: the border of the package, so that the drawing code can trust its input."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

Columns = Sequence[str | None]


def check_frame(
    name: str, frame: pd.DataFrame, names: Columns, numbers: Columns = (), optional: Columns = (), *,
    gaps: Columns = (), place: Columns = (),
) -> pd.DataFrame:  # fmt: skip
    """A copy of `frame` with a fresh index, its columns of numbers as float64.

    names: columns that must be there and hold no missing value; place: the same, and no two rows may agree in all of
    them (None in either is no column). numbers: columns that must be there and be finite; gaps: the same, but NaN is
    allowed; optional: as `gaps`, and added as NaN when absent (the interval of a single run). Raises ValueError naming
    the argument `name`, the column and the row.
    """
    place = [column for column in place if column is not None]
    names = [*place, *(column for column in names if column is not None)]
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name}: expected a DataFrame, found {type(frame).__name__}")
    if missing := [column for column in (*names, *numbers, *gaps) if column not in frame.columns]:
        raise ValueError(f"{name}: missing column {missing[0]!r}; it has {list(frame.columns)}")
    if frame.empty:
        raise ValueError(f"{name}: has no rows")
    frame = frame.reset_index(drop=True)
    for column in names:
        refuse_rows(name, frame, column, frame[column].isna())
    for column in (*numbers, *gaps, *optional):
        if column not in frame.columns:
            frame[column] = np.nan
            continue
        try:
            values = frame[column].to_numpy(dtype=np.float64, na_value=np.nan)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: column {column!r} must hold numbers") from error
        frame[column] = values
        refuse_rows(name, frame, column, np.isinf(values) if column in (*gaps, *optional) else ~np.isfinite(values))
    if place and len(repeated := np.flatnonzero(frame.duplicated(place))):
        raise ValueError(f"{name}: row {repeated[0]} repeats {tuple(frame.loc[repeated[0], place])} of columns {place}")
    return frame


def refuse_rows(name: str, frame: pd.DataFrame, column: str, bad: Sequence[bool], wanted: str = "") -> None:
    """Raise ValueError naming the first row of `frame` where `bad` is true, and what is in its `column`."""
    if len(rows := np.flatnonzero(bad)):
        raise ValueError(f"{name}: column {column!r} has {frame[column].iloc[rows[0]]} in row {rows[0]}{wanted}")


def check_choice(name: str, value: object, allowed: Sequence[object]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {list(allowed)}, found {value!r}")


def check_fractions(name: str, values: object) -> np.ndarray:
    """`values` as a float64 vector of probabilities that sum to 1 (within 1e-6); ValueError otherwise."""
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{name}: expected a non-empty vector, found shape {values.shape}")
    if len(bad := np.flatnonzero(~(values >= 0))):
        raise ValueError(f"{name}: entry {bad[0]} is {values[bad[0]]}, not a fraction >= 0")
    if not abs(values.sum() - 1) <= 1e-6:
        raise ValueError(f"{name}: sums to {values.sum():.6g}, expected 1")
    return values


def panels_of(frame: pd.DataFrame, panel: str | None) -> list[tuple[str, pd.DataFrame]]:
    """(title, rows) of every panel in order of appearance; one untitled panel when `panel` is None."""
    if panel is None:
        return [("", frame)]
    return [(str(key), rows) for key, rows in frame.groupby(panel, sort=False)]
