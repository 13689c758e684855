"""Tidy rows → the frames that are shown: means with intervals, paired differences, shares, what was chosen."""

from collections.abc import Sequence

import pandas as pd

from l2d_utils.methods import label
from l2d_utils.metrics import interval, paired


def of_metric(frame: pd.DataFrame, metric: str, split: str = "test") -> pd.DataFrame:
    """Rows of one metric, with rate as a number if the metric has one; ValueError if there are none."""
    rows = frame[(frame["split"] == split) & (frame["metric"] == metric)]
    if rows.empty:
        raise ValueError(f"frame has no {split} rows of {metric}")
    return rows.assign(rate=pd.to_numeric(rows["rate"])) if "rate" in rows else rows


def by_seed(frame: pd.DataFrame, metric: str, split: str = "test") -> pd.DataFrame:
    """seed × method table of one metric, methods in order of appearance; ValueError if a number stands there twice."""
    rows = of_metric(frame, metric, split)
    if rows.duplicated(["seed", "method"]).any():
        raise ValueError(f"{metric!r} stands twice for one seed and method: select one study and setting first")
    return rows.pivot(index="seed", columns="method", values="value")[list(dict.fromkeys(rows["method"]))]


def summary(frame: pd.DataFrame, metric: str = "deferral_loss") -> pd.DataFrame:
    """Mean and 95 % interval over seeds: columns method, mean, low, high."""
    found = by_seed(frame, metric).items()
    return pd.DataFrame([{"method": name, **interval(values)._asdict()} for name, values in found])


def differences(frame: pd.DataFrame, baseline: str, metric: str = "deferral_loss") -> pd.DataFrame:
    """Paired difference of every other method and `baseline` over the same seeds: columns method, mean, low, high, and
    decided: the interval excludes 0."""
    table = by_seed(frame, metric)
    if baseline not in table:
        raise ValueError(f"baseline {baseline!r} is none of the methods {list(table)}")
    found = {name: paired(values, table[baseline]) for name, values in table.items() if name != baseline}
    return pd.DataFrame([{"method": k, "decided": gap.excludes_zero, **gap._asdict()} for k, gap in found.items()])


def per_agent(frame: pd.DataFrame, quantity: str = "share") -> pd.DataFrame:
    """Share or regret of each agent: columns method, agent ("expert 1", ...), mean, low, high, and `share` = mean."""
    agents = of_metric(frame, quantity).groupby("agent", sort=False)
    found = pd.concat([summary(part, quantity).assign(agent=f"expert {agent}") for agent, part in agents])
    return found[["method", "agent", "mean", "low", "high"]].assign(share=found["mean"]).reset_index(drop=True)


def best_of(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    """The method with the smallest mean validation deferral loss: how to name the best baseline without test rows."""
    return str(by_seed(frame, "deferral_loss", "validation")[list(methods)].mean().idxmin())


def with_interval(frame: pd.DataFrame, fmt: str = "{:.3f}") -> pd.Series:
    """Columns mean and high as text: "0.190 ± 0.003"."""
    return frame["mean"].map(fmt.format) + " ± " + (frame["high"] - frame["mean"]).map(fmt.replace("+", "").format)


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
    by = ["method", "parameter"]
    rows = frame[(frame["metric"] == "chosen") & ~frame["parameter"].str.contains("/")]
    edges = frame[frame["metric"] == "edge"].groupby(by)["value"].sum()
    table = rows.groupby(by, sort=False)["value"].agg(smallest="min", largest="max", on_edge="size")
    return table.assign(on_edge=edges.reindex(table.index).fillna(0.0) / table["on_edge"]).reset_index()
