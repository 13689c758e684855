"""Means over rows whose noise is counted by prompts: a prompt that stands in ten rows is one piece of evidence."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from l2d_utils.metrics import Interval, interval


def standard_error(values: NDArray[np.float64], group: NDArray[np.int64]) -> tuple[float, int]:
    """Standard error of the mean of values (n,), rows of one group being one draw, and the number of groups.  [prior:
    cluster-robust variance]"""
    codes = np.unique(group, return_inverse=True)[1]
    n_groups = int(codes.max()) + 1
    if n_groups == len(values):
        return float(values.std(ddof=1) / np.sqrt(len(values))), n_groups
    sums = np.bincount(codes, weights=values - values.mean())
    return float(np.sqrt(n_groups / max(n_groups - 1, 1) * (sums**2).sum()) / len(values)), n_groups


def by_prompt(values: ArrayLike, group: ArrayLike) -> Interval:
    """Mean of values (n,) and its 95 % Student-t interval over the groups (n,) of rows.

    Example:
        >>> by_prompt([0.0, 1.0] * 50, [0, 1] * 50).low < by_prompt([0.0, 1.0] * 50, range(100)).low
        True
    """
    values, group = np.asarray(values, dtype=np.float64), np.asarray(group)
    error, n_groups = standard_error(values, group)
    if n_groups == len(values) or n_groups < 2:
        return interval(values)
    mean, half = float(values.mean()), float(stats.t.ppf(0.975, n_groups - 1)) * error
    return Interval(mean, mean - half, mean + half)
