"""Tidy rows → the frames that are shown: means with intervals, paired differences, shares, what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from l2d_utils.methods import label
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
    """Paired difference of every other method and `baseline` over the same seeds: columns method, mean, low, high, and
    decided: the interval excludes 0."""
    table = _by_seed(frame, metric, split)
    if baseline not in table:
        raise ValueError(f"baseline {baseline!r} is none of the methods {list(table)}")
    base = table[baseline].to_numpy()
    found = {name: paired(table[name].to_numpy(), base) for name in table if name != baseline}
    return pd.DataFrame([_row(name, gap, decided=gap.excludes_zero) for name, gap in found.items()])


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


def with_interval(frame: pd.DataFrame, fmt: str = "{:.3f}") -> pd.Series:
    """Columns mean and high as text: "0.190 ± 0.003"."""
    half = (frame["high"] - frame["mean"]).map(fmt.replace("+", "").format)
    return frame["mean"].map(fmt.format) + " ± " + half


def overview(frame: pd.DataFrame) -> pd.DataFrame:
    """Deferral loss, shares and regrets with their 95 % intervals as text: one row per method, named by its label."""
    table = summary(frame).assign(loss=with_interval).set_index("method")[["loss"]]
    for quantity in ("share", "regret"):
        for agent, found in per_agent(frame, quantity).groupby("agent"):
            table[f"{quantity} {agent.split()[-1]}"] = found.set_index("method").pipe(with_interval, "{:.2f}")
    return table.rename(index=label)


def chosen(frame: pd.DataFrame) -> pd.DataFrame:
    """What validation chose, over all seeds: columns method, parameter, smallest, largest, and on_edge: the share of
    the seeds in which the value lay on the edge of its grid, so that a wider one might have given something better."""
    rows = frame[(frame["metric"] == "chosen") & ~frame["parameter"].str.contains("/")]
    edges = frame[frame["metric"] == "edge"].groupby(["method", "parameter"])["value"].sum()
    table = rows.groupby(["method", "parameter"], sort=False)["value"].agg(["min", "max", "size"])
    share = edges.reindex(table.index).fillna(0.0) / table["size"]
    table = table.assign(on_edge=share).rename(columns={"min": "smallest", "max": "largest"})
    return table.drop(columns="size").reset_index()
