"""Many methods on one routing problem, over seeds, as one tidy table: what the experiment notebooks share.

A `Problem` is features, costs and a split. `compare` tunes every method on the validation rows of a problem and
measures it on the test rows, for one problem per seed; `summary`, `per_agent` and `differences` turn its table into
the frames that `plots` draws. `remember` keeps finished parts of a long study, `provenance` and `stored` its result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from l2d_utils import tuning
from l2d_utils.data import ImageData, Split
from l2d_utils.losses import PRESETS
from l2d_utils.metrics import (
    Interval,
    best_single,
    deferral_loss,
    deferral_ratios,
    interval,
    oracle_routes,
    paired,
    random_loss,
    regret_by_agent,
)
from l2d_utils.results import TIDY, output_folder, tidy, write_atomically
from l2d_utils.ridge_path import select_on_path
from l2d_utils.routers import PlugInRouter
from l2d_utils.rules import offsets_for_costs, offsets_for_shares, route

# ---------------------------------------------------------------- a problem and its methods


class Problem(NamedTuple):
    """One routing problem.

    X: (n, d) features. costs: (n, K). split: row numbers of the train, validation and test parts. expected: (n, K)
    expected costs given all that could be known (for simulated experts: given the label), or None. labels: (n,) what
    it is known from, or None.
    """

    X: NDArray
    costs: NDArray[np.float64]
    split: Split
    expected: NDArray[np.float64] | None = None
    labels: NDArray[np.int64] | None = None


class Fitted(NamedTuple):
    """A tuned method: routes (n_test,) on the test rows, its validation deferral loss, the numbers it chose."""

    routes: NDArray[np.int64]
    validation_loss: float
    chosen: dict[str, float]


#: Gradient tolerance of the routers' fits.
TOL = 2e-3

#: Methods that nothing is trained for; "knows_label" needs `Problem.expected`.
CONTROLS = ("best_single", "random", "oracle", "knows_label")


def _scaled(settings: Iterable[Mapping[str, Any]], l2_factor: float) -> list[dict[str, Any]]:
    return [{**params, "l2": params["l2"] * l2_factor} for params in settings]


def _chosen(params: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the parameters: {"l2": ..., "gamma": ...}; margins as margin/1, margin/2, ..."""
    flat = {"l2": params["l2"], **(params.get("loss_params") or {})}
    margins = flat.pop("margins", ())
    return flat | {f"margin/{k}": float(rho) for k, rho in enumerate(margins, 1)}


def tune(method: str, problem: Problem, *, l2_factor: float = 1.0, random_state: int = 0) -> tuple[Any, Fitted]:
    """Tune one trained method on the validation rows; 15 settings for every method.

    Args:
        method: a preset of `losses.PRESETS`, "mild_free" (3 ridge strengths, then 12 moves of single margins) or
            "plug_in".
        l2_factor: multiplies every ridge strength of the grids.
        random_state: of the router.

    Returns:
        The fitted router, and what it did.

    Raises:
        ValueError: unknown method.
    """
    parts = problem.split
    X, costs = problem.X, problem.costs
    rows = (X[parts.train], costs[parts.train], X[parts.validation], costs[parts.validation])
    path = {"tol": TOL, "random_state": random_state}
    if method == "plug_in":
        found = tuning.select(PlugInRouter(), _scaled(tuning.plug_in_grid(), l2_factor), *rows)
    elif method == "mild_free":
        start = _scaled([{"loss": "two_stage", "l2": l2} for l2 in tuning.L2], l2_factor)
        l2 = select_on_path(start, *rows, **path).params["l2"]
        found = tuning.search_margins(*rows, start=np.ones(costs.shape[1]), l2=l2, **path)
        found = found._replace(params={**found.params, "l2": l2})
    elif method in PRESETS:
        found = select_on_path(_scaled(tuning.grid(method), l2_factor), *rows, **path)
    else:
        known = sorted({*PRESETS, "plug_in", *CONTROLS})
        raise ValueError(f"method must be one of {known}, or one with _offsets or _shares; found {method!r}")
    routes = found.best.predict(X[parts.test])
    return found.best, Fitted(routes, found.loss, _chosen(found.params))


def with_offsets(router: Any, problem: Problem, aim: str) -> Fitted:
    """The router with one offset per agent added to its scores, chosen on the validation rows.

    aim: "offsets" for the smallest deferral loss [prior: post-hoc], "shares" for the shares that routing by
        `Problem.expected` gives the agents, whatever it costs [ours].
    """
    parts = problem.split
    scores, costs = router.decision_function(problem.X[parts.validation]), problem.costs[parts.validation]
    if aim == "offsets":
        offsets = offsets_for_costs(scores, costs)
    else:
        ideal = _known(problem, "expected", aim)[parts.validation].argmin(axis=1)
        offsets = offsets_for_shares(scores, deferral_ratios(ideal, costs.shape[1]))
    routes = route(router.decision_function(problem.X[parts.test]), offsets)
    chosen = {f"offset/{k}": float(b) for k, b in enumerate(offsets, 1)}
    return Fitted(routes, deferral_loss(costs, route(scores, offsets)), chosen)


def _known(problem: Problem, field: str, method: str) -> NDArray:
    """An optional field of the problem that the method cannot do without."""
    value = getattr(problem, field)
    if value is None:
        raise ValueError(f"{method!r} needs Problem.{field}; found None")
    return value


def through_labels(problem: Problem, *, l2_factor: float = 1.0) -> Fitted:
    """Guess the label, then ask whom to ask: expected costs under a logistic regression's P(label | x).  [ours]

    The regression is trained on labels, not on the agents' answers, in 15 ridge strengths; the agents' expected costs
    given the label are taken as known. No luck of an agent can mislead it: what remains is doubt about the label.
    """
    labels, expected = (_known(problem, field, "through_labels") for field in ("labels", "expected"))
    X, costs, parts = problem.X, problem.costs, problem.split
    seen = np.unique(labels[parts.train])
    by_label = np.stack([expected[labels == label][0] for label in seen])
    best = None
    for params in _scaled(tuning.plug_in_grid(), l2_factor):
        regression = LogisticRegression(C=1 / (params["l2"] * len(parts.train)), tol=1e-3, max_iter=500)
        model = make_pipeline(StandardScaler(), regression).fit(X[parts.train], labels[parts.train])
        validation, test = (
            (model.predict_proba(X[rows]) @ by_label).argmin(axis=1) for rows in (parts.validation, parts.test)
        )
        loss = deferral_loss(costs[parts.validation], validation)
        if best is None or loss < best.validation_loss:
            best = Fitted(test, loss, params)
    return best


def measure(costs: ArrayLike, routes: ArrayLike) -> dict[str, float]:
    """Deferral loss, share/1.. and regret/1.. of a routing; agents count from 1 as in the papers.

    An agent that is best on no row has no regret: its entry is left out.
    """
    costs = np.asarray(costs)
    regret = regret_by_agent(costs, routes)
    numbers = {"deferral_loss": deferral_loss(costs, routes)}
    numbers |= {f"share/{k}": float(v) for k, v in enumerate(deferral_ratios(routes, costs.shape[1]), 1)}
    return numbers | {f"regret/{k}": float(v) for k, v in enumerate(regret, 1) if np.isfinite(v)}


def _measure_random(costs: NDArray) -> dict[str, float]:
    """What uniform random routing gives on average (exact, nothing is drawn)."""
    n_agents = costs.shape[1]
    always = [regret_by_agent(costs, np.full(len(costs), k)) for k in range(n_agents)]
    numbers = {"deferral_loss": random_loss(costs)} | {f"share/{k + 1}": 1 / n_agents for k in range(n_agents)}
    return numbers | {f"regret/{k}": float(v) for k, v in enumerate(np.mean(always, axis=0), 1) if np.isfinite(v)}


def control(method: str, problem: Problem) -> dict[str, float]:
    """Test measures of one of the `CONTROLS`."""
    test = problem.costs[problem.split.test]
    if method == "random":
        return _measure_random(test)
    if method == "oracle":
        return measure(test, oracle_routes(test))
    if method == "best_single":
        # chosen on training rows, so that the control is something one could deploy
        return measure(test, np.full(len(test), best_single(problem.costs[problem.split.train])))
    return measure(test, _known(problem, "expected", method)[problem.split.test].argmin(axis=1))


def compare_on(
    methods: Sequence[str], problem: Problem, *, l2_factor: float = 1.0, random_state: int = 0
) -> list[dict[str, Any]]:
    """Records (split, method, metric, value) of all methods on one problem; see `compare`."""
    fits: dict[str, tuple[Any, Fitted]] = {}
    records = []
    for method in methods:
        if method in CONTROLS:
            records += [("test", method, *item) for item in control(method, problem).items()]
            continue
        base, _, aim = method.rpartition("_") if method.endswith(("_offsets", "_shares")) else (method, "", "")
        if base == "through_labels":
            fitted = through_labels(problem, l2_factor=l2_factor)
        else:
            if base not in fits:
                fits[base] = tune(base, problem, l2_factor=l2_factor, random_state=random_state)
            fitted = with_offsets(fits[base][0], problem, aim) if aim else fits[base][1]
        numbers = measure(problem.costs[problem.split.test], fitted.routes)
        records += [("test", method, *item) for item in numbers.items()]
        records.append(("validation", method, "deferral_loss", fitted.validation_loss))
        records += [("validation", method, f"chosen/{name}", value) for name, value in fitted.chosen.items()]
    return [dict(zip(("split", "method", "metric", "value"), r, strict=True)) for r in records]


def compare(
    methods: Sequence[str],
    problem_of: Callable[[int], Problem],
    seeds: Iterable[int],
    *,
    l2_factor: float = 1.0,
    **constants: Any,
) -> pd.DataFrame:
    """Tune every method on validation rows and measure it on test rows, for one problem per seed.

    Args:
        methods: names of `losses.PRESETS`, "plug_in", any of these with "_offsets" or "_shares" (the tuned router plus
            one offset per agent, see `with_offsets`), "through_labels", and the `CONTROLS`.
        problem_of: seed → Problem. The seed should decide everything random: split, experts, training.
        seeds: whole numbers.
        l2_factor: multiplies every ridge strength of `tuning.grid`; 100/n_train keeps the strengths in proportion to
            the training size.
        constants: entries of the other TIDY columns, for example notebook="06", study="quick", setting="70/20/10".

    Returns:
        results.TIDY frame. split "test": metrics deferral_loss, share/1.., regret/1..; split "validation":
        deferral_loss at the chosen setting, and chosen/l2, chosen/gamma, ...
    """
    parts = []
    for seed in seeds:
        records = compare_on(methods, problem_of(seed), l2_factor=l2_factor, random_state=seed)
        parts.append(tidy(records, seed=seed, **constants))
    return pd.concat(parts, ignore_index=True)


# ---------------------------------------------------------------- tables from tidy rows


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
    names = [m for m in dict.fromkeys(frame["metric"]) if str(m).startswith(f"{quantity}/")]
    rows = [
        _row(method, interval(table[method].to_numpy()), agent=f"expert {name.split('/')[1]}")
        for name in names
        for table in [_by_seed(frame, name, split)]
        for method in table
    ]
    return pd.DataFrame(rows).assign(share=lambda found: found["mean"])


def best_of(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    """The method with the smallest mean validation deferral loss: how to name the best baseline without test rows."""
    return str(_by_seed(frame, "deferral_loss", "validation")[list(methods)].mean().idxmin())


# ---------------------------------------------------------------- long studies


def remember(folder: str | Path, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """`compute()`, kept as a CSV under a name made from `key`: a study that is stopped goes on where it was.

    key: what the part depends on, JSON; it becomes the file's name. A part is written whole or not at all.
    """
    text = json.dumps(key, sort_keys=True)
    label = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(str(v) for v in key.values()))[:60].strip("-")
    path = Path(folder) / f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.csv"
    if not path.is_file():
        frame = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda p: frame.to_csv(p, index=False))
    return _read(path)


#: Columns of a tidy table that are text even where they look like numbers, as notebook "08" does.
_TEXT = {name: str for name in TIDY if name not in ("seed", "value")}


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, keep_default_na=False, dtype=_TEXT)


def provenance(data: ImageData, **settings: Any) -> pd.DataFrame:
    """Columns what, value: data and checksum, package version and source hash, torch, and `settings`."""
    from l2d_utils import __version__

    source = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        source.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    found = {
        "data": data.name, "data sha256": data.sha256, "package version": __version__,
        "package source sha256": source.hexdigest(), "torch": torch.__version__, **settings,
    }  # fmt: skip
    return pd.DataFrame({"what": list(found), "value": [str(v) for v in found.values()]})


def stored(name: str, out: str | Path, committed: str | Path) -> pd.DataFrame:
    """The table name.csv from this run's folder `out` if the run made it, else the one in the folder `committed`.

    Raises:
        FileNotFoundError: neither has it.
    """
    for folder in (output_folder(out), Path(committed)):
        if (folder / f"{name}.csv").is_file():
            return _read(folder / f"{name}.csv")
    raise FileNotFoundError(f"{name}.csv is in neither {out} nor {committed}: run the full profile once")
