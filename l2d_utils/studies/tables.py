"""Tidy rows → the frames that are shown: means with intervals, paired differences, shares of the agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from l2d_utils.metrics import Interval, interval, paired


def _by_seed(frame: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """seed × method table of one metric; methods in order of appearance."""
    rows = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    if rows.empty:
        raise ValueError(f"frame has no rows with metric {metric!r} and split {split!r}")
    if rows.duplicated(["seed", "method"]).any():
        raise ValueError(f"{metric!r} stands twice for one seed and method: select one study and setting first")
    return rows.pivot(index="seed", columns="method", values="value")[list(dict.fromkeys(rows["method"]))]


def _row(name: str, found: Interval, **more: Any) -> dict[str, Any]:
    return {"method": name, **more, "mean": found.mean, "low": found.low, "high": found.high}


def summary(frame: pd.DataFrame, metric: str = "deferral_loss", *, split: str = "test") -> pd.DataFrame:
    """Mean and 95 % interval over seeds: columns method, mean, low, high."""
    table = _by_seed(frame, metric, split)
    return pd.DataFrame([_row(name, interval(table[name].to_numpy())) for name in table])


def differences(
    frame: pd.DataFrame, baseline: str, metric: str = "deferral_loss", *, split: str = "test"
) -> pd.DataFrame:
    """Paired difference of every other method and `baseline` over the same seeds: method, mean, low, high."""
    table = _by_seed(frame, metric, split)
    if baseline not in table:
        raise ValueError(f"baseline {baseline!r} is none of the methods {list(table)}")
    base = table[baseline].to_numpy()
    return pd.DataFrame([_row(name, paired(table[name].to_numpy(), base)) for name in table if name != baseline])


def per_agent(frame: pd.DataFrame, quantity: str = "share", *, split: str = "test") -> pd.DataFrame:
    """Share or regret of each agent: columns method, agent ("expert 1", ...), mean, low, high, and `share` = mean."""
    rows = [
        _row(method, interval(table[method].to_numpy()), agent=f"expert {agent}")
        for agent, part in frame[frame["metric"] == quantity].groupby("agent", sort=False)
        for table in [_by_seed(part, quantity, split)]
        for method in table
    ]
    return pd.DataFrame(rows).assign(share=lambda found: found["mean"])


def best_of(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    """The method with the smallest mean validation deferral loss: how to name the best baseline without test rows."""
    return str(_by_seed(frame, "deferral_loss", "validation")[list(methods)].mean().idxmin())
