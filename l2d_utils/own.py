"""Bring your own experts: a table in, a tested router and its report out.

    python -m l2d_utils.own TABLE --price-weight 0.3 --out folder

The choice is *nested*. Inside the development rows, cross-validation picks method, setting and offsets, and falls back
to the best single agent unless a router beats it beyond noise. The reported figures come from rows that took no part
in that: the table's own hold-out, or outer folds.  [ours]
"""

from __future__ import annotations

import argparse
import html
import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning

from l2d_utils import intake, plots, results, routers, routing, text
from l2d_utils.costs import costs_from_scores, default_dollar_unit
from l2d_utils.data import DataError
from l2d_utils.intake import Case, Oddity
from l2d_utils.metrics import Interval, best_single, deferral_loss, deferral_ratios, interval, routed_costs
from l2d_utils.routers import PlugInRouter
from l2d_utils.rules import route

#: Candidates: the simple peers, both papers' losses, and each with offsets.
METHODS = (
    *("plug_in", "knn", "two_stage", "mild", "dr_cpe_joint", "margin_dr_cpe"),
    *("plug_in_offsets", "two_stage_offsets", "mild_offsets", "margin_dr_cpe_offsets"),
)
#: Every sixth setting of `tuning.grid`: three per method.
EVERY = 6
#: Rows drawn for choosing; the chosen setting is then fitted on all. From as many rows on, features are float32.
CHOOSE_ROWS = 20_000
#: Rows that a nearest-neighbour router keeps: more would not answer within 5 ms.
KNN_ROWS = 5_000
#: An agent that is below the largest cost on fewer rows than this cannot be learned.
MIN_USEFUL = 10
#: Price weights of the frontier.
LADDER = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 16.0)
#: What a saved router embeds prompts with.
EMBEDDING = "wordllama l2_supercat 256"


# ---------------------------------------------------------------------------------------------------------------
# choosing, inside the development rows


class Choice(NamedTuple):
    """What cross-validation on the development rows chose.

    `method` ("best_single" if no router beat it beyond noise) and its fitted `router`; `candidate`: the router with
    the smallest validation loss, chosen or not; `trials`: one row per method; `settings`: method → (parameters,
    offsets).
    """

    method: str
    router: BaseEstimator
    candidate: str
    candidate_router: BaseEstimator
    trials: pd.DataFrame
    settings: dict[str, tuple[dict[str, Any], NDArray[np.float64]]]


def features(case: Case) -> NDArray:
    """The case's features, or its prompts embedded: (n, d), float32 from `CHOOSE_ROWS` rows on."""
    if case.features is not None:
        return case.features
    n = len(case.prompts)
    X = np.empty((n, text.DIM), dtype=np.float32 if n > CHOOSE_ROWS else np.float64)
    for start in range(0, n, CHOOSE_ROWS):
        X[start : start + CHOOSE_ROWS] = text.embed(case.prompts[start : start + CHOOSE_ROWS])
    return X


def grouped_folds(group: ArrayLike, n_folds: int, random_state: int) -> NDArray[np.int64]:
    """Fold number per row, (n,); rows of one group share a fold, and folds are equal up to group sizes."""
    names, codes = np.unique(group, return_inverse=True)
    fold_of = np.random.default_rng(random_state).permutation(np.arange(len(names)) % n_folds)
    return fold_of[codes]


def choose(
    X: ArrayLike,
    costs: ArrayLike,
    *,
    group: ArrayLike | None = None,
    trusted: ArrayLike | None = None,
    methods: Sequence[str] = METHODS,
    every: int = EVERY,
    folds: int = 3,
    random_state: int = 0,
) -> Choice:
    """Choose a router for these (development) rows by cross-validation, or fall back to the best single agent.

    A router is taken if its cross-validated loss is below the best single agent's beyond noise: by a one-sided
    paired test at 5 %, divided by the number of settings tried (Bonferroni), since the best of many tries is compared.

    Args:
        X: (n, d). costs: (n, K).
        group: (n,) rows that must not be separated by a fold. trusted: (n,) bool, rows whose costs were all observed;
            only they are validated on.
        methods, every: as in `routing.tune`.
    """
    X, costs = np.asarray(X), np.asarray(costs, dtype=np.float64)
    n = len(X)
    group = np.arange(n) if group is None else np.asarray(group)
    trusted = np.ones(n, dtype=bool) if trusted is None else np.asarray(trusted)
    rng = np.random.default_rng(random_state)
    sample = np.arange(n) if n <= CHOOSE_ROWS else np.sort(rng.choice(n, CHOOSE_ROWS, replace=False))
    fold = grouped_folds(group[sample], folds, random_state)
    judged = trusted[sample]
    held, single = costs[sample][judged], best_single(costs)
    alone = held[:, single]
    if ((costs.max() - costs[sample] > 0).sum(axis=0) < MIN_USEFUL).any():
        methods = ()  # an agent that is never any good: there is nothing to choose between

    best: dict[str, tuple] = {}
    tried = 0
    for method, params, scores in _trials(methods, every, X[sample], costs[sample], fold):
        tried += 1
        offsets, loss = np.zeros(costs.shape[1]), None
        if method in routing.WITH_OFFSETS:
            offsets, loss = routing.shrunken_offsets(scores[judged], held)
        gain = alone - held[np.arange(len(held)), route(scores[judged], offsets)]
        # the loss of shrunken offsets is cross-validated; their gains row by row are not, and only give the spread
        mean = gain.mean() if loss is None else alone.mean() - loss
        if method not in best or mean > best[method][0]:
            best[method] = (mean, gain.std(ddof=1) / np.sqrt(len(gain)), params, offsets)

    constant = PlugInRouter(regressor=DummyRegressor()).fit(X[sample[:1]], costs.mean(axis=0, keepdims=True))
    limit = stats.norm.ppf(1 - 0.05 / max(tried, 1))
    rows = [("best_single", "", alone.mean(), 0.0, 0.0)]
    rows += [(m, _words(p), alone.mean() - g, g, g - limit * e) for m, (g, e, p, _) in best.items()]
    trials = pd.DataFrame(rows, columns=["method", "setting", "validation_loss", "gain", "gain_at_least"])
    if not best:
        return Choice("best_single", constant, "best_single", constant, trials, {})
    candidate = max(best, key=lambda m: best[m][0])
    mean, error, params, offsets = best[candidate]
    router = _fit(candidate, params, X, costs, sample).with_offsets(offsets)
    chosen = ("best_single", constant) if mean - limit * error <= 0 else (candidate, router)
    settings = {m: (params, offsets) for m, (_, _, params, offsets) in best.items()}
    return Choice(*chosen, candidate, router, trials, settings)


def _trials(
    methods: Sequence[str], every: int, X: NDArray, costs: NDArray, fold: NDArray
) -> Iterator[tuple[str, dict[str, Any], NDArray]]:
    """(method, params, cross-validated scores (n, K)); a method with offsets shares the scores of its base."""
    for base in dict.fromkeys(routing.WITH_OFFSETS.get(m, m) for m in methods):
        users = [m for m in methods if routing.WITH_OFFSETS.get(m, m) == base]
        for params in routing.candidates(base, every)[1]:
            if base == "knn" and params["regressor"].n_neighbors > min(KNN_ROWS, len(X)) // 3:
                continue
            scores = _cross_validated(base, params, X, costs, fold)
            for user in users:
                yield user, params, scores


def _cross_validated(method: str, params: dict[str, Any], X: NDArray, costs: NDArray, fold: NDArray) -> NDArray:
    """Scores (n, K), each from a fit that never saw the row's fold."""
    scores = np.empty(costs.shape)
    for k in np.unique(fold):
        train = np.flatnonzero(fold != k)
        fitted = _fit(method, params, X[train], costs[train], np.arange(len(train)))
        scores[fold == k] = fitted.decision_function(X[fold == k])
    return scores


def _fit(method: str, params: dict[str, Any], X: NDArray, costs: NDArray, sample: NDArray) -> BaseEstimator:
    estimator, _ = routing.candidates(routing.WITH_OFFSETS.get(method, method))
    if method == "knn":
        X, costs = X[sample[:KNN_ROWS]], costs[sample[:KNN_ROWS]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # validation judges what came out
        return clone(estimator).set_params(**params).fit(X, costs)


def _words(params: dict[str, Any]) -> str:
    """Parameters in a few words: "gamma 0.35, ridge 1"."""
    parts = [f"{name} {value:g}" for name, value in (params.get("loss_params") or {}).items()]
    if "regressor" in params:
        parts.append(f"{params['regressor'].n_neighbors} neighbours")
    if "l2" in params:
        parts.append(f"ridge {params['l2']:.2g}")
    return ", ".join(parts)


# ---------------------------------------------------------------------------------------------------------------
# testing, outside them


@dataclass(frozen=True, eq=False)
class Advice:
    """A tested router and everything its report is made of.

    choice: the delivered router, and how it was chosen. rows (m,): held-out rows with a score from every agent;
    routes, single (m,): the agent that the chosen router, and the best single agent rule, sent each to; costs (m, K).
    outer: in words, how the rows were held out. tests: per method and control the held-out loss, and the mean gain over
    the best single agent with its interval; no choice was made by it.
    """

    case: Case
    price_weight: float
    choice: Choice
    outer: str
    rows: NDArray[np.int64]
    routes: NDArray[np.int64]
    single: NDArray[np.int64]
    costs: NDArray[np.float64]
    tests: pd.DataFrame

    @property
    def gain(self) -> Interval:
        """Errors per prompt that the chosen router saves against the best single agent, on held-out rows."""
        return interval(routed_costs(self.costs, self.single) - routed_costs(self.costs, self.routes))

    def verdict(self) -> str:
        """What to do, in a sentence or two."""
        agent = self.case.agents[int(np.bincount(self.single).argmax())]
        if self.choice.method == "best_single":
            label = plots.method_label(self.choice.candidate)
            return (
                f"Send everything to {agent}. No router beat it on the development rows beyond noise "
                f"(the nearest was {label}), so the safe choice is the simple one."
            )
        low, high = self.gain.low, self.gain.high
        proof = "On held-out rows it saves" if low > 0 else "On held-out rows the difference is within noise:"
        return (
            f"Use the router ({plots.method_label(self.choice.method)}). {proof} {self.gain.mean:.4f} errors per "
            f"prompt against always asking {agent} (95 % interval {low:.4f} to {high:.4f}, {len(self.rows):,} prompts)."
        )

    def shares(self) -> pd.DataFrame:
        """Share of the held-out prompts per agent: columns method, agent, share; the oracle beside the router."""
        routings = {self.choice.method: self.routes, "oracle": self.costs.argmin(axis=1)}
        rows = [
            (method, agent, share)
            for method, routes in routings.items()
            for agent, share in zip(self.case.agents, deferral_ratios(routes, len(self.case.agents)), strict=True)
        ]
        return pd.DataFrame(rows, columns=["method", "agent", "share"])

    def tasks(self) -> pd.DataFrame:
        """Per task, largest first: prompts, the agent asked most and its share, errors saved per prompt."""
        task = np.full(len(self.rows), "all") if self.case.task is None else self.case.task[self.rows]
        gain = routed_costs(self.costs, self.single) - routed_costs(self.costs, self.routes)
        rows = []
        for name in np.unique(task):
            inside = task == name
            shares = deferral_ratios(self.routes[inside], len(self.case.agents))
            rows.append((name, inside.sum(), self.case.agents[shares.argmax()], shares.max(), gain[inside].mean()))
        table = pd.DataFrame(rows, columns=["task", "prompts", "asked most", "share", "gain"])
        return table.sort_values(["prompts", "task"], ascending=[False, True], kind="stable").reset_index(drop=True)

    def worst(self, n: int = 8) -> pd.DataFrame:
        """The held-out prompts on which most was lost against the best agent of each. Show by `prompt_html`."""
        lost = routed_costs(self.costs, self.routes) - self.costs.min(axis=1)
        top = np.argsort(-lost.round(9), kind="stable")[:n]
        frame = pd.DataFrame({"prompt": [self.case.prompts[i] or f"row {i}" for i in self.rows[top]]})
        if self.case.task is not None:
            frame.insert(0, "task", self.case.task[self.rows[top]])
        frame["went to"] = [self.case.agents[k] for k in self.routes[top]]
        frame["better"] = [self.case.agents[k] for k in self.costs[top].argmin(axis=1)]
        frame["lost"] = [f"{x:.2f}" for x in lost[top]]
        return frame


def advise(
    case: Case,
    price_weight: float = 0.0,
    *,
    methods: Sequence[str] = METHODS,
    folds: int = 5,
    inner: int = 3,
    every: int = EVERY,
    X: NDArray | None = None,
    random_state: int = 0,
) -> Advice:
    """Choose a router on development rows and measure it on rows that took no part in the choice.

    Args:
        case: from `intake`. price_weight: errors that one dollar unit is worth, ≥ 0 (`costs.costs_from_scores`).
        folds: outer folds where the table brings no hold-out and has at most `CHOOSE_ROWS` rows (above: one part in
            `folds` is held out). inner: folds of the choice.
        methods, every: candidates, as in `choose`. X: features, if they are already at hand.

    Returns:
        Advice. With a hold-out the figures belong to the very router that is delivered; with outer folds they belong
        to the procedure, which then runs once more on all rows.

    Raises:
        DataError: a price weight above 0 for a table without costs. ValueError: a price weight that is negative.
    """
    if not np.isfinite(price_weight) or price_weight < 0:
        raise ValueError(f"price_weight must be a finite number ≥ 0; found {price_weight}")
    if price_weight > 0 and case.dollars is None:
        raise DataError(
            f"{case.name}: a price weight of {price_weight:g} needs columns cost/<agent>; give them, or use 0"
        )
    X = features(case) if X is None else X
    case = _without_useless(case, price_weight)
    settings = {"methods": methods, "every": every, "folds": inner, "random_state": random_state}
    splits, outer = _outer(case, folds, random_state)
    parts = [_test_once(case, X, dev, test, price_weight, settings) for dev, test in splits]
    choice = parts[0]["choice"]
    if len(splits) > 1:
        everything = np.arange(len(X))
        costs = _costs(case, everything, price_weight)
        choice = choose(X, costs, group=case.group, trusted=case.complete, **settings)
    joined = {key: np.concatenate([p[key] for p in parts]) for key in ("rows", "routes", "single", "costs")}
    return Advice(case, price_weight, choice, outer, **joined, tests=_tests(parts))


def _without_useless(case: Case, price_weight: float) -> Case:
    """The case without agents that are hardly ever below the largest cost: no loss can learn when to use them."""
    costs = _costs(case, np.arange(len(case.errors)), price_weight)
    useful = np.flatnonzero((costs.max() - costs > 0).sum(axis=0) >= max(MIN_USEFUL, 0.002 * len(costs)))
    if len(useful) == len(case.agents) or len(useful) < 2:
        return case
    lost = [a for k, a in enumerate(case.agents) if k not in useful]
    note = Oddity(f"agents that are (nearly) never any use: {', '.join(map(repr, lost))}", len(lost), "left out")
    return replace(
        case, errors=case.errors[:, useful], dollars=None if case.dollars is None else case.dollars[:, useful],
        agents=tuple(case.agents[k] for k in useful), oddities=(*case.oddities, note),
    )  # fmt: skip


def _costs(case: Case, dev: NDArray, price_weight: float) -> NDArray[np.float64]:
    """Costs (n, K): gaps filled, and dollars counted, by the development rows."""
    scores = 1.0 - intake.filled(case.errors, dev)
    unit = None if case.dollars is None else default_dollar_unit(case.dollars[dev])
    return costs_from_scores(scores, case.dollars, price_weight=price_weight, dollar_unit=unit)


def _outer(case: Case, folds: int, random_state: int) -> tuple[list[tuple[NDArray, NDArray]], str]:
    """[(development rows, held-out rows), ...] and a description; held-out rows all have complete scores."""
    if case.test is not None:
        parts, how = [case.test], "the table's own hold-out"
    else:
        fold = grouped_folds(case.group, folds, random_state)
        one = len(case.errors) > CHOOSE_ROWS
        parts = [fold == k for k in range(1 if one else folds)]
        how = f"one part in {folds}, drawn at random" if one else f"{folds} outer folds"
    return [(np.flatnonzero(~part), np.flatnonzero(part & case.complete)) for part in parts], how


def _test_once(
    case: Case, X: NDArray, dev: NDArray, test: NDArray, price_weight: float, settings: dict[str, Any]
) -> dict[str, Any]:
    costs = _costs(case, dev, price_weight)
    known = case.complete
    choice = choose(X[dev], costs[dev], group=case.group[dev], trusted=known[dev], **settings)
    routes = {
        "chosen router": choice.router.predict(X[test]),
        choice.candidate: choice.candidate_router.predict(X[test]),
    }
    if len(dev) <= CHOOSE_ROWS:  # the losers only inform: on large tables they are not fitted again
        for method, (params, moved) in choice.settings.items():
            if method not in routes:
                fitted = _fit(method, params, X[dev], costs[dev], np.arange(len(dev))).with_offsets(moved)
                routes[method] = fitted.predict(X[test])
    routes["best_single"] = np.full(len(test), best_single(costs[dev]))
    routes["oracle"] = costs[test].argmin(axis=1)
    return {
        "choice": choice, "rows": test, "costs": costs[test], "by_method": routes,
        "routes": routes["chosen router"], "single": routes["best_single"],
    }  # fmt: skip


def _tests(parts: list[dict[str, Any]]) -> pd.DataFrame:
    """Held-out loss and gain over the best single agent: the chosen router, all methods, controls."""
    costs, single = (np.concatenate([p[key] for p in parts]) for key in ("costs", "single"))
    alone = routed_costs(costs, single)
    rows = []
    for name in parts[0]["by_method"]:
        if all(name in p["by_method"] for p in parts):
            routes = np.concatenate([p["by_method"][name] for p in parts])
            rows.append((name, deferral_loss(costs, routes), *interval(alone - routed_costs(costs, routes))))
    rows.append(("random", costs.mean(), *interval(alone - costs.mean(axis=1))))
    return pd.DataFrame(rows, columns=["method", "loss", "mean", "low", "high"])


# ---------------------------------------------------------------------------------------------------------------
# dollars


class PriceCurve(NamedTuple):
    """What accuracy costs, on held-out rows.

    `points`: price_weight, accuracy, dollars per 1,000 requests of the re-priced plug-in router; `alone`: agent,
    accuracy, dollars of every agent. On development rows the cheapest point was taken whose accuracy is within one
    standard error of that of `agent`, the most accurate one. Held out it saves `saved` dollars per 1,000 requests, the
    fraction `share` of that agent's bill; its accuracy differs from the agent's by `lead`.
    """

    points: pd.DataFrame
    alone: pd.DataFrame
    agent: str
    saved: Interval
    share: float
    lead: Interval


def price_curve(
    case: Case, *, X: NDArray | None = None, folds: int = 5, inner: int = 3, random_state: int = 0
) -> PriceCurve:
    """One plug-in router at every price weight of `LADDER`, without retraining, and its saving at equal accuracy.

    The router estimates E[error_k|x] and E[dollars_k|x] apart; the price weight w then only adds them up:
    argmin_k error_k + w·dollars_k/unit. Up to `CHOOSE_ROWS` development rows are used. Folds as in `advise`.  [ours]

    Raises:
        DataError: a table without costs.
    """
    if case.dollars is None:
        raise DataError(f"{case.name}: no columns cost/<agent>, so there are no dollars to save")
    X = features(case) if X is None else X
    n_agents = len(case.agents)
    points, differences, agents = [], [], []
    for dev, test in _outer(case, folds, random_state)[0]:
        rng = np.random.default_rng(random_state)
        dev = dev if len(dev) <= CHOOSE_ROWS else np.sort(rng.choice(dev, CHOOSE_ROWS, replace=False))
        scores, unit = 1.0 - intake.filled(case.errors, dev), default_dollar_unit(case.dollars[dev])
        targets = np.hstack([1.0 - scores[dev], case.dollars[dev] / unit])
        fold = grouped_folds(case.group[dev], inner, random_state)
        trials = [
            (p, _cross_validated("plug_in", p, X[dev], targets, fold)) for p in routing.candidates("plug_in", EVERY)[1]
        ]
        params, within = min(trials, key=lambda t: ((t[1] + targets)[:, :n_agents] ** 2).mean())
        outside = _fit("plug_in", params, X[dev], targets, dev).decision_function(X[test])
        best = int(scores[dev].mean(axis=0).argmax())
        choices = [(np.full(len(dev), best), np.full(len(test), best))]
        for weight in LADDER:
            choices.append(
                tuple((s[:, :n_agents] + weight * s[:, n_agents:]).argmax(axis=1) for s in (within, outside))
            )
            points.append(
                pd.DataFrame({"price_weight": weight, **_bought(1.0 - case.errors, case.dollars, test, choices[-1][1])})
            )
        bought = [_bought(scores, case.dollars, dev, inside) for inside, _ in choices]
        behind = [bought[0]["accuracy"] - b["accuracy"] for b in bought]
        enough = [i for i, d in enumerate(behind) if d.mean() <= d.std() / np.sqrt(len(d))]
        taken = choices[min(enough, key=lambda i: bought[i]["dollars"].mean())][1]
        differences.append(
            (
                _bought(1.0 - case.errors, case.dollars, test, taken),
                _bought(1.0 - case.errors, case.dollars, test, choices[0][1]),
            )
        )
        agents.append(best)
    got, had = ({key: np.concatenate([d[i][key] for d in differences]) for key in differences[0][i]} for i in (0, 1))
    tested = np.concatenate([test for _, test in _outer(case, folds, random_state)[0]])
    alone = pd.DataFrame({
        "agent": case.agents,
        "accuracy": 1.0 - case.errors[tested].mean(axis=0),
        "dollars": 1000 * case.dollars[tested].mean(axis=0),
    })  # fmt: skip
    return PriceCurve(
        pd.concat(points).groupby("price_weight", as_index=False).mean(), alone,
        case.agents[int(np.bincount(agents).argmax())],
        interval(had["dollars"] - got["dollars"]),
        float(1.0 - got["dollars"].sum() / had["dollars"].sum()),
        interval(got["accuracy"] - had["accuracy"]),
    )  # fmt: skip


def _bought(scores: NDArray, dollars: NDArray, rows: NDArray, routes: NDArray) -> dict[str, NDArray]:
    """Per row: score of the agent asked, and its dollars times 1,000."""
    return {"accuracy": scores[rows, routes], "dollars": 1000 * dollars[rows, routes]}


# ---------------------------------------------------------------------------------------------------------------
# the router that is taken home


@dataclass(frozen=True, eq=False)
class AgentRouter:
    """A router with its agents' names; it embeds prompts itself if it was trained on prompts."""

    router: BaseEstimator
    agents: tuple[str, ...]
    embeds: bool

    def route(self, prompts: str | Sequence[str] | ArrayLike) -> str | list[str]:
        """The agent's name for one prompt, or a list of names for many (rows of features without an embedding)."""
        if self.embeds:
            one = isinstance(prompts, str)
            X = text.embed([prompts] if one else prompts)
        else:
            X = np.asarray(prompts, dtype=np.float64)
            one = X.ndim == 1
            X = np.atleast_2d(X)
        names = [self.agents[k] for k in self.router.predict(X)]
        return names[0] if one else names


def save(router: AgentRouter, folder: str | Path) -> None:
    """Write router.npz and router.json (agents, and what embeds a prompt) into an existing folder; no pickle."""
    folder = Path(folder)
    routers.save(router.router, folder / "router.npz")
    embedding = {"name": EMBEDDING, "sha256": text.CHECKSUMS} if router.embeds else None
    content = json.dumps({"agents": router.agents, "embedding": embedding}, indent=1, ensure_ascii=False)
    results.write_atomically(folder / "router.json", lambda path: path.write_text(content + "\n", encoding="utf-8"))


def load(folder: str | Path) -> AgentRouter:
    """Read what `save` wrote, and make sure that prompts are embedded here as they were in training.

    Raises:
        ValueError: damaged files, or another embedding. FileNotFoundError.
    """
    path = Path(folder) / "router.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        agents, embedding = tuple(map(str, found["agents"])), found["embedding"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if embedding is not None and embedding != {"name": EMBEDDING, "sha256": text.CHECKSUMS}:
        raise ValueError(f"{path}: the router was trained on the embedding {embedding}; here it is {EMBEDDING}")
    router = routers.load(Path(folder) / "router.npz")
    if len(agents) != router.n_agents_:
        raise ValueError(f"{path} names {len(agents)} agents, and the router knows {router.n_agents_}")
    return AgentRouter(router, agents, embedding is not None)


# ---------------------------------------------------------------------------------------------------------------
# the report


def safe(value: object) -> str:
    """Text that neither Markdown nor HTML takes for markup."""
    escaped = html.escape(" ".join(str(value).split()))
    return "".join(f"&#{ord(c)};" if c in "\\`*_[]$|~#" else c for c in escaped.replace("&#x27;", "&apos;"))


def _signed(x: Interval, digits: int = 4) -> str:
    return f"{x.mean:+.{digits}f} [{x.low:+.{digits}f}, {x.high:+.{digits}f}]"


def tests_table(advice: Advice) -> pd.DataFrame:
    """Candidates and controls in words: validation loss, held-out loss, held-out gain with its interval."""
    validation = advice.choice.trials.set_index("method")["validation_loss"]
    table = advice.tests.sort_values("loss", kind="stable")
    return pd.DataFrame({
        "method": [plots.method_label(m) for m in table["method"]],
        "validation loss": [f"{validation[m]:.4f}" if m in validation else "" for m in table["method"]],
        "held-out loss": [f"{x:.4f}" for x in table["loss"]],
        "saved per prompt [95 %]": [_signed(Interval(*r)) for r in table[["mean", "low", "high"]].to_numpy()],
    })  # fmt: skip


def card(advice: Advice, curve: PriceCurve | None = None) -> str:
    """The model card: Markdown with HTML tables, every number taken from `advice`, every foreign text escaped."""
    case, choice = advice.case, advice.choice
    agents = ", ".join(safe(a) for a in case.agents)
    n_dev = int((~case.test).sum()) if case.test is not None else len(case.errors)
    spread = pd.DataFrame(
        [(a, f"{1 - np.nanmean(case.errors[:, k]):.3f}",
          "" if case.dollars is None else f"{1000 * case.dollars[:, k].mean():.4g}",
          f"{deferral_ratios(advice.routes, len(case.agents))[k]:.1%}") for k, a in enumerate(case.agents)],
        columns=["agent", "mean score", "dollars per 1,000", "share of held-out prompts"],
    )  # fmt: skip
    tasks = advice.tasks().head(20)
    tasks["share"], tasks["gain"] = [f"{x:.0%}" for x in tasks["share"]], [f"{x:+.4f}" for x in tasks["gain"]]
    setting = choice.trials.set_index("method").loc[choice.method, "setting"]
    inputs = "features of the table" if case.features is not None else f"prompts, embedded by {EMBEDDING} (static)"
    lines = [
        f"# Router card: {safe(case.name)}", "",
        f"**{safe(advice.verdict())}**", "",
        "## What it is", "",
        f"- Routes each input to one of {len(case.agents)} agents: {agents}.",
        f"- Method: {safe(plots.method_label(choice.method))}" + (f" ({safe(setting)})." if setting else "."),
        f"- Input: {inputs}.",
        f"- Costs in errors: 1 − score + {advice.price_weight:g} × dollars / unit"
        + (", the unit being the mean price of the dearest agent." if case.dollars is not None else " (no prices)."),
        "", "## Data", "",
        f"- {safe(case.source)}; {len(case.errors):,} rows used.",
        f"- Developed on {n_dev:,} rows; reported on {len(advice.rows):,} held-out rows ({advice.outer}).",
        "- What was odd, and what was done:", "",
        routing.prompt_html(case.report(), longest=400), "",
        "## Result on held-out rows", "",
        f"Saved against the best single agent, in errors per prompt: {_signed(advice.gain)} (95 % interval). "
        "Settings and method were chosen on other rows.", "",
        routing.prompt_html(tests_table(advice)), "",
    ]  # fmt: skip
    if curve is not None:
        lines += [
            "## Dollars at equal accuracy", "",
            f"A plug-in router, arranged on development rows to be as accurate as {safe(curve.agent)} (within noise), "
            f"saves "
            f"{_signed(curve.saved, 3)} dollars per 1,000 held-out requests ({curve.share:.1%} of that agent's bill); "
            f"its accuracy differs by {_signed(curve.lead)} from the agent's.", "",
        ]  # fmt: skip
    lines += [
        "## Who is asked", "", routing.prompt_html(spread), "",
        routing.prompt_html(tasks), "",
        "## Where it goes wrong", "",
        "Held-out inputs on which most was lost against the best agent of each (text is shown as text):", "",
        routing.prompt_html(advice.worst()), "",
        "## Limits", "",
        "- It knows prompts like those of the table; for others, or after an agent changes, measure again.",
        "- The intervals speak of the draw of held-out prompts, not of a changed world.",
        "- Scores are taken as given: if a judge model gave them, the router learned to please the judge.",
        "- The embedding averages word vectors: word order, and languages that it hardly knows, are lost on it.", "",
        "## Use", "", "```python", SNIPPET.strip(), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


#: Five lines that load a saved router and route a new prompt.
SNIPPET = """
from l2d_utils import own

router = own.load("folder")  # router.npz and router.json
agent = router.route("Prove that the square root of 2 is irrational.")
print(agent)
"""


def frontier_figure(curve: PriceCurve, advice: Advice):
    """Held-out score against dollars: the plug-in router at every price, the delivered router, every agent alone."""
    case, rows = advice.case, advice.rows
    here = {key: values.mean() for key, values in _bought(1.0 - case.errors, case.dollars, rows, advice.routes).items()}
    line = curve.points.assign(method="plug-in, re-priced")
    chosen = pd.DataFrame([{"method": f"the chosen router, w = {advice.price_weight:g}", **here}])
    return plots.frontier(
        pd.concat([line, chosen]), curve.alone.assign(agent=curve.alone["agent"].map(short)),
        ylabel="mean score", title="Held-out score against dollars",
    )  # fmt: skip


def gains_figure(advice: Advice):
    """Held-out gain over the best single agent: the chosen router, every candidate, controls."""
    shown = advice.tests[~advice.tests["method"].isin(["oracle", "random", "best_single"])]
    return plots.intervals(
        shown, "errors saved per prompt against the best single agent", better="higher",
        references={"best single": 0.0}, title="Held-out rows: what each candidate saves",
    )  # fmt: skip


def short(agent: str, longest: int = 28) -> str:
    """The agent's name without its maker, for figures."""
    name = agent.rsplit("/", 1)[-1]
    return name if len(name) <= longest else name[: longest - 1] + "…"


def write(advice: Advice, out: str | Path, curve: PriceCurve | None = None) -> Path:
    """Router, model card, tables and figure into the folder `out` (`results.output_folder`); returns the folder."""
    folder = results.output_folder(out)
    save(AgentRouter(advice.choice.router, advice.case.agents, advice.case.features is None), folder)
    results.write_atomically(folder / "card.md", lambda path: path.write_text(card(advice, curve), encoding="utf-8"))
    for name, frame in (
        ("oddities", advice.case.report()), ("trials", advice.choice.trials), ("tests", advice.tests),
        ("shares", advice.shares()), ("tasks", advice.tasks()),
    ):  # fmt: skip
        results.save_table(frame, name, folder)
    if curve is not None:
        results.save_figure(frontier_figure(curve, advice), "frontier", curve.points, folder)
    return folder


# ---------------------------------------------------------------------------------------------------------------
# one command


def _price_weight(value: str) -> float:
    number = float(value)
    if not np.isfinite(number) or number < 0:
        raise argparse.ArgumentTypeError(f"a number ≥ 0 is needed; found {value}")
    return number


def main(arguments: Iterable[str] | None = None) -> int:
    """The command line; 0, or 2 after one line on stderr."""
    parser = argparse.ArgumentParser(prog="python -m l2d_utils.own", description=__doc__.split("\n")[0])
    parser.add_argument("table", help="routing table (.csv, .parquet) or a name such as paretobandit")
    parser.add_argument("--price-weight", type=_price_weight, default=0.0, help="errors per dollar unit, >= 0")
    parser.add_argument("--out", default="own", help="folder for router, card and tables (L2D_OUT, if set, wins)")
    parser.add_argument("--folds", type=int, default=5, help="outer folds if the table brings no hold-out")
    options = parser.parse_args(None if arguments is None else list(arguments))
    try:
        if options.folds < 2:
            raise ValueError(f"--folds must be at least 2; found {options.folds}")
        case = intake.read(options.table)
        print(f"{case.name}: {len(case.errors):,} rows, {len(case.agents)} agents")
        for oddity in case.oddities:
            print(f"  odd: {oddity.found} ({oddity.count}): {oddity.done}")
        X = features(case)
        advice = advise(case, options.price_weight, folds=options.folds, X=X)
        curve = None if case.dollars is None else price_curve(advice.case, X=X, folds=options.folds)
        folder = write(advice, options.out, curve)
    except (ValueError, OSError, ArithmeticError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(advice.verdict())
    print(f"card, router and tables: {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
