"""Is the advice sound? On every table at hand and at many prices, the chosen router against the best single agent."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from l2d_utils.own import intake
from l2d_utils.data import load_routing
from l2d_utils.own.advice import advise, features
from l2d_utils.results import tidy
from l2d_utils.routing.prices import list_prices, with_list_prices
from l2d_utils.studies.compare import remember

#: Tables of the study; "llmrouter9" records no dollars and gets list prices.
TABLES = ("paretobandit", "llmrouter9", "routellm_gsm8k")
#: Price weights of the study; 0 is the only one for a table without dollars.
WEIGHTS = (0.0, 0.01, 0.03, 0.1, 0.25, 0.5, 1.0, 4.0)


def soundness_study(
    folder: str | Path,
    *,
    tables: Iterable[str] = TABLES,
    weights: Iterable[float] = WEIGHTS,
    say: Callable[[str], None] = print,
) -> pd.DataFrame:
    """What following the advice gains over the best single agent, all candidates, on held-out rows.

    Finished parts are kept in `folder` (see `studies.remember`).

    Returns:
        results.TIDY frame: `data` the table, `setting` the price weight, `method` the delivered choice, metrics
        gain, gain/low, gain/high (95 %, errors per prompt), rows, agents and routed (share of the held-out rows that
        were not sent to the best single agent).
    """
    found = []
    for name in tables:
        table = load_routing(name)
        if name == "llmrouter9":
            table = with_list_prices(table, list_prices(name))
        case, X = None, None
        for weight in weights if table.dollars is not None else [0.0]:

            def measure_part(table=table, weight=weight) -> pd.DataFrame:
                nonlocal case, X
                if case is None:
                    case = replace(intake.read(intake.as_frame(table)), name=table.name)
                    X = features(case)
                advice = advise(case, weight, X=X)
                numbers = {"gain": advice.gain.mean, "gain/low": advice.gain.low, "gain/high": advice.gain.high}
                numbers |= {"rows": len(advice.rows), "agents": len(case.agents)}
                numbers["routed"] = float((advice.routes != advice.single).mean())
                say(f"{table.name}, w = {weight:g}: {advice.choice.method}, {advice.gain.mean:+.4f}")
                rows = [{"metric": metric, "value": value} for metric, value in numbers.items()]
                named = {"data": table.name, "setting": f"{weight:g}", "method": advice.choice.method}
                return tidy(rows, notebook="09", study="soundness", split="test", seed=0, **named)

            found.append(remember(folder, {"data": table.name, "study": "soundness", "w": weight}, measure_part))
    return pd.concat(found, ignore_index=True)
