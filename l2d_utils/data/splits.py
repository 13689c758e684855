"""Rows for training, validation and test, stratified by class."""

from dataclasses import dataclass

import numpy as np

from l2d_utils.data.images import ImageData


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint sorted int64 row numbers."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def stratified_subset(labels: np.ndarray, rows: np.ndarray, size: int, random_state: int) -> np.ndarray:
    """`size` of the row numbers `rows` (m,), with every class of `labels` (n,) in its share (to the nearest whole row).

    Sorted int64 (size,); the same for the same random_state.

    Example:
        >>> stratified_subset(np.array([0, 0, 0, 0, 1, 1]), np.arange(6), 3, random_state=0)
        array([0, 2, 5])
    """
    rows = np.asarray(rows, dtype=np.int64)
    if not 0 < size <= len(rows):
        raise ValueError(f"size must be between 1 and the {len(rows)} rows there are; found {size}")
    rng = np.random.default_rng(random_state)
    classes, counts = np.unique(labels[rows], return_counts=True)
    exact = counts * (size / len(rows))
    take = np.floor(exact + 1e-9).astype(np.int64)
    largest = np.argsort(take - exact, kind="stable")[: size - take.sum()]  # largest remainders get the rest
    take[largest] += 1
    chosen = [rng.permutation(rows[labels[rows] == c])[:k] for c, k in zip(classes, take, strict=True)]
    return np.sort(np.concatenate(chosen))


def split_images(data: ImageData, *, validation: float, test: float | None = None, random_state: int) -> Split:
    """Split rows into train, validation and test parts, stratified by class, deterministic in random_state.

    validation, test: a number of rows, or a fraction in (0, 1) of the rows outside a given test part. A test part that
    the data brings is kept as it is, and `test` must then be None; otherwise `test` is needed. ValueError: a part would
    lack a class (named), or be empty; `test` given or missing against the rule.

    Example:
        >>> from l2d_utils.data import load_images
        >>> split = split_images(load_images("digits"), validation=300, test=0.2, random_state=0)
        >>> [len(part) for part in (split.train, split.validation, split.test)]
        [1138, 300, 359]
    """
    labels, everything = data.labels, np.arange(len(data.labels))
    if (data.test is None) == (test is None):
        problem = "no test part: give test=" if test is None else "a test part of its own: test must be None"
        raise ValueError(f"{data.name} has {problem}")
    if data.test is None:
        n = len(everything)
        test_rows = stratified_subset(labels, everything, _rows("test", test, n), random_state)
    else:
        n, test_rows = int(np.sum(~data.test)), np.flatnonzero(data.test)
    rest = np.setdiff1d(everything, test_rows, assume_unique=True)
    size = _rows("validation", validation, n)
    if size >= len(rest):
        raise ValueError(f"validation takes {size} of the {len(rest)} rows outside the test part: no training row left")
    # a stream of its own, so that validation rows do not depend on how the test rows were drawn
    validation_rows = stratified_subset(labels, rest, size, random_state + 1_000_003)
    split = Split(np.setdiff1d(rest, validation_rows, assume_unique=True), validation_rows, test_rows)
    for part, rows in vars(split).items():
        if len(missing := np.setdiff1d(np.arange(len(data.classes)), labels[rows])):
            lost = f"class {missing[0]} ({data.classes[missing[0]]!r})"
            raise ValueError(f"the {part} part of {data.name} has no row of {lost}")
    return split


def _rows(name: str, size: float, n: int) -> int:
    if isinstance(size, (bool, np.bool_)) or not np.isfinite(size) or size <= 0:
        raise ValueError(f"{name} must be a number of rows or a fraction in (0, 1); found {size!r}")
    if size < 1:
        return max(1, round(size * n))
    if size != int(size) or size >= n:
        raise ValueError(f"{name} must be a fraction or a whole number of rows below {n}; found {size!r}")
    return int(size)
