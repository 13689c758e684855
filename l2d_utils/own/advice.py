"""Testing on rows that took no part in the choice, and the advice that comes of it.  [ours]"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from l2d_utils import text
from l2d_utils.costs import costs_from_scores, default_dollar_unit
from l2d_utils.data import DataError
from l2d_utils.methods import label
from l2d_utils.metrics import Interval, best_single, deferral_loss, deferral_ratios, routed_costs
from l2d_utils.own.choosing import CHOOSE_ROWS, EVERY, MIN_USEFUL, Choice, choose, fitted_router, grouped_folds
from l2d_utils.own.counting import by_prompt
from l2d_utils.own.intake import Case, filled
from l2d_utils.own.suspicions import Oddity


def features(case: Case) -> NDArray:
    """The case's features, or its prompts embedded: (n, d), float32 from `CHOOSE_ROWS` rows on."""
    if case.features is not None:
        return case.features
    n = len(case.prompts)
    X = np.empty((n, text.DIM), dtype=np.float32 if n > CHOOSE_ROWS else np.float64)
    for start in range(0, n, CHOOSE_ROWS):
        X[start : start + CHOOSE_ROWS] = text.embed(case.prompts[start : start + CHOOSE_ROWS])
    return X


@dataclass(frozen=True, eq=False)
class Advice:
    """A tested router and everything its report is made of.

    choice: what was chosen on all development rows, and how. rows (m,): held-out rows with a score from every agent;
    routes, single (m,): the agent that the chosen router, and the best single agent rule, sent each to; costs (m, K).
    outer: in words, how the rows were held out. taken: per set of held-out rows, the method that was chosen for it.
    tests: per method and control the held-out loss, and the mean gain over the best single agent with its interval; no
    choice was made by it.
    """

    case: Case
    price_weight: float
    choice: Choice
    outer: str
    taken: tuple[str, ...]
    rows: NDArray[np.int64]
    routes: NDArray[np.int64]
    single: NDArray[np.int64]
    costs: NDArray[np.float64]
    tests: pd.DataFrame

    @property
    def gain(self) -> Interval:
        """Errors per prompt that the chosen router saves against the best single agent, on held-out rows."""
        saved = routed_costs(self.costs, self.single) - routed_costs(self.costs, self.routes)
        return by_prompt(saved, self.case.group[self.rows])

    @property
    def outcome(self) -> str:
        """ "use" the router, "not proven", or "do not". A router is for use if one was chosen on the development rows,
        and on most sets of held-out rows, and if it saves beyond noise there."""
        if self.choice.method == "best_single" or self.gain.high < 0:
            return "do not"
        stable = 2 * self._routed > len(self.taken)
        return "use" if stable and self.gain.low > 0 else "not proven"

    @property
    def _routed(self) -> int:
        return sum(method != "best_single" for method in self.taken)

    @property
    def delivered(self) -> tuple[str, BaseEstimator, NDArray[np.int64]]:
        """Method and router that are taken home: the chosen one if it is for use, else the best single agent; and the
        agents (m,) that its procedure sent the held-out rows to."""
        if self.outcome != "use":
            return "best_single", self.choice.single, self.single
        same = set(self.taken) == {self.choice.method}
        return self.choice.method if same else "chosen router", self.choice.router, self.routes

    def verdict(self) -> str:
        """What to do, in a sentence or two."""
        agent, chosen = self.case.agents[int(np.bincount(self.single).argmax())], label(self.choice.method)
        mean, low, high = self.gain
        found = (
            f"{abs(mean):.4f} errors per prompt against always asking {agent} (95 % interval {low:.4f} to {high:.4f}, "
            f"{len(np.unique(self.case.group[self.rows])):,} prompts)."
        )
        if self.outcome == "use":
            return f"Use the router ({chosen}). On held-out rows it saves {found}"
        if self.choice.method == "best_single":
            nearest = f"the nearest was {label(self.choice.candidate)}"
            why = (
                nearest if self.choice.settings else "an agent is hardly ever any use at this price, so none was tried"
            )
            return (
                f"Send everything to {agent}. No router beat it on the development rows beyond noise "
                f"({why}), so the safe choice is the simple one."
            )
        if self.outcome == "do not":
            return f"Send everything to {agent}. The router chosen on the development rows ({chosen}) lost {found}"
        if 2 * self._routed <= len(self.taken):
            parts = f"{self._routed} of {len(self.taken)} folds took a router"
            return f"Not proven: send everything to {agent}. The choice is unstable: {parts}, though all rows did."
        more = "saves" if mean > 0 else "loses"
        return f"Not proven: send everything to {agent}. On held-out rows the router ({chosen}) {more} {found}"

    def shares(self) -> pd.DataFrame:
        """Share of the held-out prompts per agent: method, agent, share; the oracle beside what is delivered."""
        method, _, sent = self.delivered
        routings = {method: sent, "oracle": self.costs.argmin(axis=1)}
        rows = [
            (method, agent, share)
            for method, routes in routings.items()
            for agent, share in zip(self.case.agents, deferral_ratios(routes, len(self.case.agents)), strict=True)
        ]
        return pd.DataFrame(rows, columns=["method", "agent", "share"])

    def tasks(self) -> pd.DataFrame:
        """Per task, largest first: prompts, the agent asked most and its share, errors saved per prompt."""
        task = np.full(len(self.rows), "all") if self.case.task is None else self.case.task[self.rows]
        sent = self.delivered[2]
        gain = routed_costs(self.costs, self.single) - routed_costs(self.costs, sent)
        rows = []
        for name in np.unique(task):
            inside = task == name
            shares = deferral_ratios(sent[inside], len(self.case.agents))
            rows.append((name, inside.sum(), self.case.agents[shares.argmax()], shares.max(), gain[inside].mean()))
        table = pd.DataFrame(rows, columns=["task", "prompts", "asked most", "share", "gain"])
        return table.sort_values(["prompts", "task"], ascending=[False, True], kind="stable").reset_index(drop=True)

    def worst(self, n: int = 8) -> pd.DataFrame:
        """The held-out prompts on which most was lost against the best agent of each. Show by `prompt_html`."""
        sent = self.delivered[2]
        lost = routed_costs(self.costs, sent) - self.costs.min(axis=1)
        top = np.argsort(-lost.round(9), kind="stable")[:n]
        shown = [self.case.prompts[i] or f"row {i}" for i in self.rows[top]]
        opening = commonprefix(shown)
        if len(opening) > 40 and len(shown) > 1:  # instructions that stand before every prompt hide what differs
            shown = [f"… {prompt[opening.rfind(' ') + 1 :]}" for prompt in shown]
        frame = pd.DataFrame({"prompt": shown})
        if self.case.task is not None:
            frame.insert(0, "task", self.case.task[self.rows[top]])
        frame["went to"] = [self.case.agents[k] for k in sent[top]]
        frame["better"] = [self.case.agents[k] for k in self.costs[top].argmin(axis=1)]
        frame["lost"] = [f"{x:.2f}" for x in lost[top]]
        return frame


def advise(
    case: Case,
    price_weight: float = 0.0,
    *,
    methods: Sequence[str] | None = None,
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
    splits, outer = held_out(case, folds, random_state)
    parts = [_test(case, X, dev, test, price_weight, settings) for dev, test in splits]
    choice = parts[0].choice
    if len(splits) > 1:
        costs = _costs(case, np.arange(len(X)), price_weight)
        choice = choose(X, costs, group=case.group, trusted=case.complete, **settings)
    rows, costs = (np.concatenate([getattr(p, name) for p in parts]) for name in ("rows", "costs"))
    routes, single = (np.concatenate([p.routes[name] for p in parts]) for name in ("chosen router", "best_single"))
    taken = tuple(p.choice.method for p in parts)
    tests = _tests(parts, costs, single, case.group[rows])
    return Advice(case, price_weight, choice, outer, taken, rows, routes, single, costs, tests)


def _without_useless(case: Case, price_weight: float) -> Case:
    """The case without agents that are hardly ever below the largest cost: no loss can learn when to use them."""
    costs = _costs(case, np.arange(len(case.scores)), price_weight)
    useful = np.flatnonzero((costs.max() - costs > 0).sum(axis=0) >= max(MIN_USEFUL, 0.002 * len(costs)))
    if len(useful) == len(case.agents) or len(useful) < 2:
        return case
    lost = [a for k, a in enumerate(case.agents) if k not in useful]
    note = Oddity(f"agents that are (nearly) never any use: {', '.join(map(repr, lost))}", len(lost), "left out")
    dollars = None if case.dollars is None else case.dollars[:, useful]
    agents = tuple(case.agents[k] for k in useful)
    return replace(case, scores=case.scores[:, useful], dollars=dollars, agents=agents, oddities=(*case.oddities, note))


def _costs(case: Case, dev: NDArray, price_weight: float) -> NDArray[np.float64]:
    """Costs (n, K): gaps filled, and dollars counted, by the development rows."""
    unit = None if case.dollars is None else default_dollar_unit(case.dollars[dev])
    return costs_from_scores(filled(case.scores, dev), case.dollars, price_weight=price_weight, dollar_unit=unit)


def held_out(case: Case, folds: int, random_state: int) -> tuple[list[tuple[NDArray, NDArray]], str]:
    """[(development rows, held-out rows), ...] and a description; held-out rows all have complete scores."""
    if case.test is not None:
        parts, how = [case.test], "the table's own hold-out"
    else:
        fold = grouped_folds(case.group, folds, random_state)
        one = len(case.scores) > CHOOSE_ROWS
        parts = [fold == k for k in range(1 if one else folds)]
        how = f"one part in {folds}, drawn at random" if one else f"{folds} outer folds"
    return [(np.flatnonzero(~part), np.flatnonzero(part & case.complete)) for part in parts], how


class _Part(NamedTuple):
    """One choice and its held-out rows (m,): their costs (m, K), and routes (m,) by method and control."""

    choice: Choice
    rows: NDArray[np.int64]
    costs: NDArray[np.float64]
    routes: dict[str, NDArray[np.int64]]


def _test(case: Case, X: NDArray, dev: NDArray, test: NDArray, price_weight: float, settings: dict[str, Any]) -> _Part:
    costs = _costs(case, dev, price_weight)
    choice = choose(X[dev], costs[dev], group=case.group[dev], trusted=case.complete[dev], **settings)
    routes = {
        "chosen router": choice.router.predict(X[test]),
        choice.candidate: choice.candidate_router.predict(X[test]),
    }
    if len(dev) <= CHOOSE_ROWS:  # the losers only inform: on large tables they are not fitted again
        for method, trial in choice.settings.items():
            if method not in routes:
                routes[method] = fitted_router(trial, X[dev], costs[dev], np.arange(len(dev))).predict(X[test])
    routes["best_single"] = np.full(len(test), best_single(costs[dev]))
    routes["oracle"] = costs[test].argmin(axis=1)
    return _Part(choice, test, costs[test], routes)


def _tests(parts: list[_Part], costs: NDArray, single: NDArray, group: NDArray) -> pd.DataFrame:
    """Held-out loss and gain over the best single agent: the chosen router, all methods, controls."""
    alone = routed_costs(costs, single)
    rows = []
    for name in parts[0].routes:
        if all(name in p.routes for p in parts):
            routes = np.concatenate([p.routes[name] for p in parts])
            rows.append((name, deferral_loss(costs, routes), *by_prompt(alone - routed_costs(costs, routes), group)))
    rows.append(("random", costs.mean(), *by_prompt(alone - costs.mean(axis=1), group)))
    return pd.DataFrame(rows, columns=["method", "loss", "mean", "low", "high"])
