"""The study of post-hoc deferral: scores (see `methods`, `scores`) for a fixed model and a fixed expert. Every trained
one picks among the same number of settings by the area under the cost curve on validation rows, so that objectives are
compared and not efforts.
"""

import inspect
from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from l2d_utils import methods as table
from l2d_utils.choose import Chosen, choose
from l2d_utils.metrics import DeferralCurve, best_single, deferral_curve, gap_closed, interval, paired
from l2d_utils.rules import threshold_for_rate
from l2d_utils.scores import Sample, Score
from l2d_utils.studies.tables import by_seed, of_metric

#: What a study tries: keys of `methods`; values of λ (errors) and ridge strengths (on standardised features); deferral
#: rates at which accuracies are listed.
Grid = namedtuple("Grid", "methods temperatures ridges rates", defaults=[()])


def compared() -> tuple[str, ...]:
    """Keys of the scores that the chapter compares: untrained ones, trained ones, then DR-CPE, which has a λ too."""
    return tuple(sorted(("random", *table.standing_in(table.POSTHOC)), key=lambda key: len(_parameters(key))))


def _parameters(key: str) -> tuple[str, ...]:
    method = table.find(key)
    if method.score is None:
        raise ValueError(f"method must be a score for one model and one expert; {key!r} is none")
    return tuple(inspect.signature(method.score).parameters)


def settings_of(key: str, temperatures: Sequence[float], ridges: Sequence[float]) -> list[dict[str, Any]]:
    """The settings that a score is tuned over, as many for every trained one. With a λ (or parameters of its own):
    each value with every ridge strength. With a ridge alone: a finer grid, from a third of the smallest to three times
    the largest. ValueError for a key without a score."""
    taken, own = _parameters(key), table.find(key).own
    if "l2" not in taken:
        return [{}]
    if "temperature" in taken:
        own = tuple({"temperature": t} for t in temperatures)
    if own:
        return [{**setting, "l2": l2} for setting in own for l2 in ridges]
    return [{"l2": float(l2)} for l2 in np.geomspace(min(ridges) / 3, max(ridges) * 3, len(temperatures) * len(ridges))]


def oracle(rows: Sample) -> Score:
    """c_h − c_m of these very rows: sees the labels. The bound, good for `rows.X` only."""
    gain = rows.costs @ np.array([1.0, -1.0])
    return lambda X: gain


def curve(score: Score, rows: Sample) -> DeferralCurve:
    """Exact deferral curve of the score on these rows."""
    return deferral_curve(score(rows.X), *rows.costs.T)


def tune(key: str, grid: Grid, train: Sample, validation: Sample) -> Chosen:
    """Fit every setting on `train`; keep the smallest mean cost over all rates on `validation`."""
    settings = settings_of(key, grid.temperatures, grid.ridges)
    fitted = (table.find(key).score(train, **setting) for setting in settings)
    return choose(settings, fitted, lambda score: curve(score, validation).area)


def measure(score: Score, test: Sample, rates: Sequence[float]) -> list[dict[str, Any]]:
    """Records (metric, rate, value) of one score on the test rows: mean_accuracy of the system over all deferral rates;
    gap_closed; accuracy at exactly each of the rates; curve, accuracy at 0 %, 5 %, ..., 100 %."""
    found = curve(score, test)
    closed = gap_closed(score(test.X), *test.costs.T)
    records = [{"metric": "mean_accuracy", "value": 1 - found.area}, {"metric": "gap_closed", "value": closed}]
    for metric, at in (("accuracy", rates), ("curve", np.linspace(0, 1, 21))):
        records += [{"metric": metric, "rate": round(r, 4), "value": 1 - found.cost_at(r)} for r in at]
    return records


def transferred(score: Score, validation: Sample, test: Sample, rates: Sequence[float]) -> list[dict[str, Any]]:
    """Records (metric, rate, value) for thresholds that are set on `validation`: got, the deferral rate on the test
    rows; transferred, the system accuracy there."""
    seen, values, records = score(validation.X), score(test.X), []
    for rate in rates:
        defer = values >= threshold_for_rate(seen, rate)
        found = {"got": defer.mean(), "transferred": 1 - np.where(defer, *test.costs.T[::-1]).mean()}
        records += [{"metric": metric, "rate": rate, "value": float(value)} for metric, value in found.items()]
    return records


def study(grid: Grid, train: Sample, validation: Sample, test: Sample) -> list[dict[str, Any]]:
    """Records of all methods of the grid, and of the oracle, on one division of the rows.

    On test: those of `measure` and `transferred`, and the accuracy of the agents "model" and "expert" (method
    "best_single"; without an agent: of the better one on validation). On validation: mean_accuracy of the chosen
    setting, "chosen" by parameter, and "edge" where it lies on the edge of its grid.
    """
    records = []
    for key in grid.methods:
        found = tune(key, grid, train, validation)
        numbers = measure(found.best, test, grid.rates) + transferred(found.best, validation, test, grid.rates)
        records += [{"split": "test", "method": key, **record} for record in numbers]
        held = {"split": "validation", "method": key}
        records.append(held | {"metric": "mean_accuracy", "value": 1 - found.loss})
        records += [held | {"metric": "chosen", "parameter": p, "value": v} for p, v in found.setting.items()]
        records += [held | {"metric": "edge", "parameter": p, "value": 1.0} for p in found.edges]
    records += [{"split": "test", "method": "oracle", **r} for r in measure(oracle(test), test, grid.rates)]
    accuracy, about = 1 - test.costs.mean(axis=0), {"split": "test", "method": "best_single", "metric": "accuracy"}
    ends = {"": accuracy[best_single(validation.costs)], "model": accuracy[0], "expert": accuracy[1]}
    return records + [about | {"agent": agent, "value": value} for agent, value in ends.items()]


def each_setting(grid: Grid, train: Sample, validation: Sample, test: Sample) -> list[dict[str, Any]]:
    """What every single setting gives, chosen or not, to look into a choice (not to make it on test): records with
    columns temperature and ridge, mean_accuracy on validation and gap_closed on test."""
    records = []
    for key in grid.methods:
        for setting in settings_of(key, grid.temperatures, grid.ridges):
            score = table.find(key).score(train, **setting)
            about = {"method": key, "temperature": setting.get("temperature", ""), "ridge": setting.get("l2", "")}
            held, closed = 1 - curve(score, validation).area, gap_closed(score(test.X), *test.costs.T)
            records.append({**about, "split": "validation", "metric": "mean_accuracy", "value": held})
            records.append({**about, "split": "test", "metric": "gap_closed", "value": closed})
    return records


def curve_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Deferral curves with their 95 % bands over seeds: setting, method, x (rate), y (accuracy), low, high."""
    points = of_metric(frame, "curve").groupby(["setting", "method", "rate"], sort=False)["value"]
    rows = [(*key, *interval(values)) for key, values in points]
    return pd.DataFrame(rows, columns=["setting", "method", "x", "y", "low", "high"])


def transfer_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Rate asked on validation against rate got on test: setting, method, seed, asked, got, off (got − asked)."""
    found = of_metric(frame, "got").rename(columns={"rate": "asked", "value": "got"}).reset_index(drop=True)
    return found[["setting", "method", "seed", "asked", "got"]].assign(off=found["got"] - found["asked"])


def chosen_member(frame: pd.DataFrame, members: Sequence[str], name: str) -> pd.DataFrame:
    """`frame` and once more, under the method `name`, the rows of the member with the largest mean validation accuracy,
    chosen anew in every setting and for every seed; the first member wins ties."""
    held = of_metric(frame, "mean_accuracy", "validation")
    means = held.pivot(index=["setting", "seed"], columns="method", values="value")[list(members)]
    best = means.idxmax(axis=1).rename("best").reset_index()
    rows = frame.merge(best, on=["setting", "seed"]).query("method == best").drop(columns="best")
    return pd.concat([frame, rows.assign(method=name)], ignore_index=True)


def against_best(frame: pd.DataFrame, methods: Sequence[str], rivals: Sequence[str]) -> pd.DataFrame:
    """Paired difference of the share of the gap closed, method minus the rival with the largest mean on test, in every
    setting: columns setting, method, rival, mean, low, high, decided (the interval excludes 0)."""
    found = []
    for setting, part in of_metric(frame, "gap_closed").groupby("setting", sort=False):
        closed = by_seed(part, "gap_closed")
        rival = str(closed[list(rivals)].mean().idxmax())
        for method in methods:
            gap = paired(closed[method], closed[rival])
            about = {"setting": setting, "method": method, "rival": rival}
            found.append({**about, **gap._asdict(), "decided": gap.excludes_zero})
    return pd.DataFrame(found)


def ranks(frame: pd.DataFrame, others: Sequence[str], members: Sequence[str]) -> pd.DataFrame:
    """Rank of each method in every setting by its mean share of the gap closed (1 is best, ties share the mean rank):
    columns method, one per setting, mean, worst; best worst rank first. One member of a family is in the race at a time
    (for the ranks of `others`, the first), so that relatives do not push anyone down."""
    means = of_metric(frame, "gap_closed").groupby(["method", "setting"], sort=False)["value"].mean().unstack("setting")
    if {*others, *members} - set(means.index) or means.loc[[*others, *members]].isna().any(axis=None):
        raise ValueError("frame must hold gap_closed of every method in every setting")
    races = [means.loc[[*others, member]].rank(ascending=False) for member in members]
    found = pd.concat([races[0].loc[list(others)], *(race.tail(1) for race in races)])
    found = found.assign(mean=found.mean(axis=1), worst=found.max(axis=1)).sort_values(["worst", "mean"])
    return found.rename_axis(columns=None).reset_index()
