"""Testing on rows that took no part in the choice, and the advice that comes of it.  [ours]"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from l2d_utils import text
from l2d_utils.costs import costs_from_scores, default_dollar_unit
from l2d_utils.data import DataError
from l2d_utils.methods import label
from l2d_utils.metrics import Interval, best_single, deferral_ratios, routed_costs
from l2d_utils.own.choosing import CHOOSE_ROWS, MIN_USEFUL, Choice, choose, fitted_router, grouped_folds
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

    def saved(self, routes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Errors that routes (m,) save against the best single agent on each held-out row, (m,)."""
        return routed_costs(self.costs, self.single) - routed_costs(self.costs, routes)

    @property
    def gain(self) -> Interval:
        """Errors per prompt that the chosen router saves against the best single agent, on held-out rows."""
        return by_prompt(self.saved(self.routes), self.case.group[self.rows])

    @property
    def outcome(self) -> str:
        """ "use" the router, "not proven", or "do not". A router is for use if one was chosen on the development rows,
        and on most sets of held-out rows, and if it saves beyond noise there."""
        gain = self.gain
        if self.choice.method == "best_single" or gain.high < 0:
            return "do not"
        return "use" if 2 * self._routed > len(self.taken) and gain.low > 0 else "not proven"

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
        instead = f"everything to {agent}."
        if self.choice.method == "best_single":
            why = "an agent is hardly ever any use at this price, so none was tried"
            why = f"the nearest was {label(self.choice.candidate)}" if self.choice.settings else why
            beaten = f"No router beat it on the development rows beyond noise ({why})"
            return f"Send {instead} {beaten}, so the safe choice is the simple one."
        (mean, low, high), prompts = self.gain, len(np.unique(self.case.group[self.rows]))
        against = f"{abs(mean):.4f} errors per prompt against always asking {agent}"
        found = f"{against} (95 % interval {low:.4f} to {high:.4f}, {prompts:,} prompts)."
        if self.outcome == "use":
            return f"Use the router ({chosen}). On held-out rows it saves {found}"
        if self.outcome == "do not":
            return f"Send {instead} The router chosen on the development rows ({chosen}) lost {found}"
        if 2 * self._routed <= len(self.taken):
            parts = f"{self._routed} of {len(self.taken)} folds took a router"
            return f"Not proven: send {instead} The choice is unstable: {parts}, though all rows did."
        more = "saves" if mean > 0 else "loses"
        return f"Not proven: send {instead} On held-out rows the router ({chosen}) {more} {found}"

    def shares(self) -> pd.DataFrame:
        """Share of the held-out prompts per agent: method, agent, share; the oracle beside what is delivered."""
        (method, _, sent), agents = self.delivered, self.case.agents
        routings = {method: sent, "oracle": self.costs.argmin(axis=1)}
        shares = {name: deferral_ratios(routes, len(agents)) for name, routes in routings.items()}
        rows = [(name, *row) for name, share in shares.items() for row in zip(agents, share, strict=True)]
        return pd.DataFrame(rows, columns=["method", "agent", "share"])

    def tasks(self) -> pd.DataFrame:
        """Per task, largest first: prompts, the agent asked most and its share, errors saved per prompt."""
        sent, task = self.delivered[2], self.case.task
        frame = pd.DataFrame({"sent": sent, "gain": self.saved(sent)})
        rows = []
        for name, part in frame.groupby(np.full(len(sent), "all") if task is None else task[self.rows]):
            shares = deferral_ratios(part["sent"], len(self.case.agents))
            rows.append((name, len(part), self.case.agents[shares.argmax()], shares.max(), part["gain"].mean()))
        table = pd.DataFrame(rows, columns=["task", "prompts", "asked most", "share", "gain"])
        return table.sort_values("prompts", ascending=False, kind="stable", ignore_index=True)

    def worst(self, n: int = 8) -> pd.DataFrame:
        """The held-out prompts on which most was lost against the best agent of each. Show by `prompt_html`."""
        sent, agents = self.delivered[2], self.case.agents
        lost = routed_costs(self.costs, sent) - self.costs.min(axis=1)
        top = np.argsort(-lost.round(9), kind="stable")[:n]
        shown = [self.case.prompts[i] or f"row {i}" for i in self.rows[top]]
        opening = commonprefix(shown)
        if len(opening) > 40 and len(shown) > 1:  # instructions that stand before every prompt hide what differs
            shown = [f"… {prompt[opening.rfind(' ') + 1 :]}" for prompt in shown]
        task = {} if self.case.task is None else {"task": self.case.task[self.rows[top]]}
        return pd.DataFrame({
            **task,
            "prompt": shown,
            "went to": [agents[k] for k in sent[top]],
            "better": [agents[k] for k in self.costs[top].argmin(axis=1)],
            "lost": [f"{x:.2f}" for x in lost[top]],
        })  # fmt: skip


def advise(
    case: Case, price_weight: float = 0.0, *,
    methods: Sequence[str] | None = None, folds: int = 5, X: NDArray | None = None, random_state: int = 0,
) -> Advice:  # fmt: skip
    """Choose a router on development rows and measure it on rows that took no part in the choice.

    Args:
        case: from `intake`. price_weight: errors that one dollar unit is worth (`costs.costs_from_scores`); ValueError
            if it is negative or not finite, DataError if it is above 0 for a table without costs.
        methods: candidates, as in `choose`. X: features, if they are already at hand.
        folds: outer folds where the table brings no hold-out and has at most `CHOOSE_ROWS` rows (above: one part in
            `folds` is held out).

    Returns:
        Advice. With a hold-out the figures belong to the very router that is delivered; with outer folds they belong
        to the procedure, which then runs once more on all rows.
    """
    if not 0 <= price_weight < np.inf:
        raise ValueError(f"price_weight must be a finite number ≥ 0; found {price_weight}")
    if price_weight > 0 and case.dollars is None:
        why = "needs columns cost/<agent>; give them, or use 0"
        raise DataError(f"{case.name}: a price weight of {price_weight:g} {why}")
    X = features(case) if X is None else X
    case = _without_useless(case, price_weight)
    splits, outer = held_out(case, folds, random_state)

    def chosen(dev: NDArray) -> tuple[Choice, NDArray[np.float64]]:
        costs, known = _costs(case, dev, price_weight), {"group": case.group[dev], "trusted": case.complete[dev]}
        return choose(X[dev], costs[dev], **known, methods=methods, random_state=random_state), costs

    parts = []
    for dev, test in splits:
        choice, costs = chosen(dev)
        parts.append((choice.method, costs[test], _routes(choice, X, costs, dev, test)))
    taken, paid, sent = zip(*parts, strict=True)
    if len(splits) > 1:
        choice = chosen(np.arange(len(X)))[0]
    rows, costs = np.concatenate([test for _, test in splits]), np.concatenate(paid)
    routes = pd.concat(sent, join="inner")  # a method that some fold could not train has no figure
    found = {name: routed_costs(costs, to) for name, to in routes.items()} | {"random": costs.mean(axis=1)}
    tests = [(m, x.mean(), *by_prompt(found["best_single"] - x, case.group[rows])) for m, x in found.items()]
    tests = pd.DataFrame(tests, columns=["method", "loss", "mean", "low", "high"])
    own = (routes[name].to_numpy() for name in ("chosen router", "best_single"))
    return Advice(case, price_weight, choice, outer, taken, rows, *own, costs, tests)


def _without_useless(case: Case, price_weight: float) -> Case:
    """The case without agents that are hardly ever below the largest cost: no loss can learn when to use them."""
    costs = _costs(case, np.arange(len(case.scores)), price_weight)
    useful = np.flatnonzero((costs.max() - costs > 0).sum(axis=0) >= max(MIN_USEFUL, 0.002 * len(costs)))
    if len(useful) == len(case.agents) or len(useful) < 2:
        return case
    lost = [a for k, a in enumerate(case.agents) if k not in useful]
    note = Oddity(f"agents that are (nearly) never any use: {', '.join(map(repr, lost))}", len(lost), "left out")
    kept = {"scores": case.scores[:, useful], "agents": tuple(case.agents[k] for k in useful)}
    kept["dollars"] = None if case.dollars is None else case.dollars[:, useful]
    return replace(case, **kept, oddities=(*case.oddities, note))


def _costs(case: Case, dev: NDArray, price_weight: float) -> NDArray[np.float64]:
    """Costs (n, K): gaps filled, and dollars counted, by the development rows."""
    unit = None if case.dollars is None else default_dollar_unit(case.dollars[dev])
    return costs_from_scores(filled(case.scores, dev), case.dollars, price_weight=price_weight, dollar_unit=unit)


def held_out(case: Case, folds: int, random_state: int = 0) -> tuple[list[tuple[NDArray, NDArray]], str]:
    """[(development rows, held-out rows), ...] and a description; held-out rows all have complete scores."""
    if case.test is not None:
        parts, how = [case.test], "the table's own hold-out"
    else:
        fold = grouped_folds(case.group, folds, random_state)
        one = len(case.scores) > CHOOSE_ROWS
        parts = [fold == k for k in range(1 if one else folds)]
        how = f"one part in {folds}, drawn at random" if one else f"{folds} outer folds"
    return [(np.flatnonzero(~part), np.flatnonzero(part & case.complete)) for part in parts], how


def _routes(choice: Choice, X: NDArray, costs: NDArray, dev: NDArray, test: NDArray) -> pd.DataFrame:
    """The agent that each method and control sends the held-out rows to: m rows, a column for each."""
    routers = {"chosen router": choice.router, choice.candidate: choice.candidate_router}
    if len(dev) <= CHOOSE_ROWS:  # the losers only inform: on large tables they are not fitted again
        losers = {name: trial for name, trial in choice.settings.items() if name not in routers}
        routers |= {name: fitted_router(t, X[dev], costs[dev]) for name, t in losers.items()}
    routes = {name: router.predict(X[test]) for name, router in routers.items()}
    return pd.DataFrame(routes | {"best_single": best_single(costs[dev]), "oracle": costs[test].argmin(axis=1)})
