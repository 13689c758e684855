"""Routing among language models: list prices, splits, tuned routers with offsets, dollars, RouteLLM's measures.

A routing table brings prompts, a quality per agent in [0, 1] and (perhaps) dollars per request. `costs_from_scores`
turns it into costs at one price weight; what stands here is what only language models need.
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.kernel_approximation import Nystroem
from sklearn.model_selection import KFold
from sklearn.neighbors import KNeighborsRegressor, NearestNeighbors

from l2d_utils import tuning
from l2d_utils.costs import costs_from_scores, default_dollar_unit
from l2d_utils.data import DataError, RoutingTable, Split, data_folder, load_routing
from l2d_utils.losses import PRESETS
from l2d_utils.metrics import (
    best_single,
    deferral_curve,
    deferral_loss,
    oracle_routes,
    random_loss,
)
from l2d_utils.results import tidy
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.rules import offsets_for_costs, route
from l2d_utils.studies import Problem, measure, remember
from l2d_utils.text import embed, embed_tfidf
from l2d_utils.validate import check_costs, check_matrix, check_positive

# ---------------------------------------------------------------------------------------------------------------
# prices


def list_prices(name: str) -> dict[str, float]:
    """Agent → dollars per million output tokens, from ``$L2D_DATA_DIR/routing/<name>_prices.json``.

    Raises:
        FileNotFoundError: the file is not there.
        DataError: it is no JSON object of {"output": dollars} per agent.
    """
    folder = data_folder()
    path = None if folder is None else folder / "routing" / f"{name}_prices.json"
    if path is None or not path.is_file():
        raise FileNotFoundError(f"no price list: $L2D_DATA_DIR/routing/{name}_prices.json is expected")
    try:
        return {
            agent: check_positive("output", entry["output"]) for agent, entry in json.loads(path.read_bytes()).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f'{path} must map each agent to {{"output": dollars per million tokens}} ({error})') from None


def with_list_prices(table: RoutingTable, prices: Mapping[str, float], tokens: float = 1000.0) -> RoutingTable:
    """The table with dollars filled in from list prices, every answer counted as `tokens` tokens.  [ours]

    For tables that do not record what each answer cost. The same length for every agent is an assumption.

    Args:
        prices: agent → dollars per million tokens, for every agent of the table.
    """
    missing = [agent for agent in table.agents if agent not in prices]
    if missing:
        raise ValueError(f"prices has no entry for the agent {missing[0]!r}")
    per_request = np.array([prices[agent] for agent in table.agents]) * check_positive("tokens", tokens) / 1e6
    return replace(table, dollars=np.tile(per_request, (len(table.prompts), 1)))


# ---------------------------------------------------------------------------------------------------------------
# splits


def resplit(table: RoutingTable, *, validation: float, random_state: int) -> Split:
    """The table's own test rows, and a fresh random draw of `validation` (a fraction) of all other rows.

    Raises:
        ValueError: the table marks no rows as "test".
    """
    marked = np.zeros(len(table.prompts), dtype=bool) if table.split is None else table.split == "test"
    if not marked.any() or marked.all():
        raise ValueError(f"{table.name} has no split into 'test' and other rows")
    others = np.random.default_rng(random_state).permutation(np.flatnonzero(~marked))
    size = round(validation * len(others))
    return Split(np.sort(others[size:]), np.sort(others[:size]), np.flatnonzero(marked))


def folds(table: RoutingTable, n_folds: int, *, validation: float, random_state: int = 0) -> list[Split]:
    """`n_folds` splits whose test parts are disjoint and cover the table, spread evenly over the tasks.

    Every row is tested once, so differences between folds carry the variation of the test rows too.
    """
    tasks = np.zeros(len(table.prompts)) if table.task is None else table.task
    rng = np.random.default_rng(random_state)
    shuffled = rng.permutation(len(tasks))
    by_task = shuffled[np.argsort(tasks[shuffled], kind="stable")]
    splits = []
    for fold in range(n_folds):
        others = np.delete(by_task, np.s_[fold::n_folds])
        held = rng.random(len(others)) < validation
        splits.append(Split(np.sort(others[~held]), np.sort(others[held]), np.sort(by_task[fold::n_folds])))
    return splits


# ---------------------------------------------------------------------------------------------------------------
# features


def kernel_features(
    prompts: Sequence[str],
    embeddings: NDArray,
    scores: NDArray,
    train: NDArray,
    *,
    dim: int = 300,
    neighbours: int = 50,
) -> NDArray[np.float64]:
    """Features that let a linear router follow clusters of prompts, (n, dim + K), fitted on the training rows.

    Landmark (Nyström) features of a Gaussian kernel on embeddings and TF-IDF words side by side [prior: Williams,
    Seeger 2001], and the mean score of every agent on the nearest training prompts, a training row not counting
    itself [prior: k nearest neighbours as a router].

    Args:
        prompts: all n texts. embeddings: (n, e), rows of length 1. scores: (n, K), used on training rows only.
        train: row numbers.
    """
    words = embed_tfidf([prompts[i] for i in train], prompts, min(256, dim), 0)[1]
    both = np.hstack([embeddings, words])
    kernel = Nystroem(gamma=1.0, n_components=dim, random_state=0).fit(both[train]).transform(both)
    near = NearestNeighbors(n_neighbors=neighbours + 1).fit(both[train]).kneighbors(both, return_distance=False)
    own = np.full(len(both), -1)
    own[train] = np.arange(len(train))
    counts = near != own[:, None]
    counts[counts.all(axis=1), -1] = False  # rows that are not their own neighbour: the nearest ones all the same
    means = np.einsum("nk,nka->na", counts, scores[train][near]) / counts.sum(axis=1, keepdims=True)
    return np.hstack([kernel, means])


# ---------------------------------------------------------------------------------------------------------------
# tuned routers, with and without offsets


class NeighbourRouter(BaseEstimator):
    """DR-CPE with a free scorer: log density ratios from the nearest training inputs.  [ours]

    s_k(x) = log of the mean of exp(−c_k/λ) over the neighbours of x, the pointwise minimiser of the DR-CPE loss on
    them. With a free scorer margins are offsets −log ρ_k, so this router with offsets is margin DR-CPE. As λ → ∞ it
    orders the agents like the plain k-nearest-neighbour router.

    Args:
        n_neighbors: k. temperature: λ, in the unit of the costs.
    """

    def __init__(self, n_neighbors=50, temperature=1.0):
        self.n_neighbors = n_neighbors
        self.temperature = temperature

    def fit(self, X: ArrayLike, costs: ArrayLike) -> NeighbourRouter:
        """Keep features (n, d), n ≥ k, and costs (n, K)."""
        costs = check_costs(costs)
        self.tilts_ = np.exp((costs.min() - costs) / check_positive("temperature", self.temperature))
        self.neighbours_ = NearestNeighbors(n_neighbors=self.n_neighbors).fit(check_matrix("X", X))
        return self

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores (n, K)."""
        near = self.neighbours_.kneighbors(check_matrix("X", X), return_distance=False)
        return np.log(np.maximum(self.tilts_[near].mean(axis=1), np.finfo(np.float64).tiny))

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Agent index per row, (n,)."""
        return self.decision_function(X).argmax(axis=1)


#: A method with offsets and the method whose scores it moves.
WITH_OFFSETS = {
    "neighbour_dr_cpe_offsets": "neighbour_dr_cpe",
    "knn_offsets": "knn",
    "two_stage_offsets": "two_stage",
    "mild_offsets": "mild",
    "dr_cpe_offsets": "dr_cpe_joint",
    "margin_dr_cpe_offsets": "margin_dr_cpe",
    "plug_in_offsets": "plug_in",
}


@dataclass(frozen=True, eq=False)
class TunedRouter:
    """A fitted router, the offsets (K,) added to its scores, and how it was chosen on validation rows."""

    router: BaseEstimator
    offsets: NDArray[np.float64]
    params: dict[str, Any]
    validation_loss: float

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Scores plus offsets, (n, K)."""
        return self.router.decision_function(X) + self.offsets

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:
        """Agent index per row, (n,)."""
        return self.decision_function(X).argmax(axis=1)


#: Neighbours of the k-nearest-neighbour router, at most half of the training rows.
NEIGHBOURS = (5, 10, 15, 20, 30, 40, 50, 60, 80, 100, 120, 160, 200, 250, 300)


def candidates(method: str, every: int = 1) -> tuple[BaseEstimator, list[dict[str, Any]]]:
    """The estimator of a method and its 15 settings (`tuning.grid`), or every `every`-th of them.

    Thinning starts at the third, so that with every=3 (five settings) or 6 (three) the presets that have a parameter
    of their own keep its values at the strongest ridge, and the others keep weak, middling and strong ridges.
    """
    start = 0 if every == 1 else 2
    if method == "plug_in":
        return PlugInRouter(), tuning.plug_in_grid()[start::every]
    if method == "knn":
        return PlugInRouter(), [{"regressor": KNeighborsRegressor(k)} for k in NEIGHBOURS[start::every]]
    if method == "neighbour_dr_cpe":
        sizes = ((k, t) for t in (1.0, 0.3, 3.0) for k in NEIGHBOURS[2::3])
        return NeighbourRouter(), [{"n_neighbors": k, "temperature": t} for k, t in sizes][start::every]
    return DeferralRouter(tol=1e-4), tuning.grid(method)[start::every]


#: How far offsets are moved from 0 towards the best ones of the validation rows.
SHRINKAGE = (0.0, 0.25, 0.5, 0.75, 1.0)


def shrunken_offsets(
    scores: ArrayLike, costs: ArrayLike, folds: int = 5, random_state: int = 0
) -> tuple[NDArray[np.float64], float]:
    """Offsets t·b: b minimises the loss on these rows, t in `SHRINKAGE` is chosen by cross-validation.  [ours]

    Fitted offsets are chosen to be good on their own rows. For t every row is judged by offsets that were fitted on
    the other folds; t = 0 leaves the router alone.

    Returns:
        (K,) offsets, and the cross-validated deferral loss of the chosen t.
    """
    scores, costs = check_matrix("scores", scores), check_costs(costs)
    routes = np.empty((len(SHRINKAGE), len(scores)), dtype=np.int64)
    for fit, judge in KFold(folds, shuffle=True, random_state=random_state).split(scores):
        offsets = offsets_for_costs(scores[fit], costs[fit])
        for row, t in zip(routes, SHRINKAGE, strict=True):
            row[judge] = route(scores[judge], t * offsets)
    losses = [deferral_loss(costs, row) for row in routes]
    t = SHRINKAGE[int(np.argmin(losses))]
    return t * offsets_for_costs(scores, costs) if t else np.zeros(scores.shape[1]), min(losses)


def _neighbours(setting: Mapping[str, Any]) -> int:
    return setting["regressor"].n_neighbors if "regressor" in setting else setting.get("n_neighbors", 0)


def tune(
    methods: Iterable[str], problem: Problem, *, every: int = 1, l2: float | None = None
) -> dict[str, TunedRouter]:
    """Fit every method's settings on the training rows and choose one on the validation rows.

    A plain method takes the setting of the smallest validation loss. A method with offsets (`WITH_OFFSETS`) shares
    the fits of its base and takes the setting whose cross-validated loss with `shrunken_offsets` is smallest.
    (`studies.tune` moves the one router that was best without offsets; here both are chosen together.)

    Args:
        methods: presets of `losses.PRESETS`, "plug_in", "knn", or keys of `WITH_OFFSETS`.
        every: thins all grids alike (see `candidates`).
        l2: one ridge strength for every setting, to see what a method does when the ridge is *not* tuned.

    Returns:
        method → tuned router.
    """
    X, costs = problem.X[problem.split.train], problem.costs[problem.split.train]
    X_validation, costs_validation = problem.X[problem.split.validation], problem.costs[problem.split.validation]
    methods = list(methods)
    tuned: dict[str, TunedRouter] = {}

    def keep_better(method: str, found: TunedRouter) -> None:
        if method not in tuned or found.validation_loss < tuned[method].validation_loss:
            tuned[method] = found

    for base in dict.fromkeys(WITH_OFFSETS.get(method, method) for method in methods):
        moved = [method for method in methods if WITH_OFFSETS.get(method) == base]
        estimator, settings = candidates(base, every)
        settings = [setting for setting in settings if _neighbours(setting) <= max(NEIGHBOURS[0], len(X) // 2)]
        if l2 is not None:  # nearest neighbours have none
            settings = [json.loads(s) for s in dict.fromkeys(json.dumps({**s, "l2": l2}) for s in settings)]
        for params in settings:
            router = clone(estimator).set_params(**params).fit(X, costs)
            scores = router.decision_function(X_validation)
            if base in methods:
                loss = deferral_loss(costs_validation, scores.argmax(axis=1))
                keep_better(base, TunedRouter(router, np.zeros(scores.shape[1]), dict(params), loss))
            for method in moved:
                offsets, loss = shrunken_offsets(scores, costs_validation)
                keep_better(method, TunedRouter(router, offsets, dict(params), loss))
    return {method: tuned[method] for method in methods}


class Evaluation(NamedTuple):
    """`routers` by method, and `routes` (n_test,) by method and control, all for one `problem`."""

    problem: Problem
    routers: dict[str, TunedRouter]
    routes: dict[str, NDArray[np.int64]]

    @property
    def costs(self) -> NDArray[np.float64]:
        """Costs of the test rows, (n_test, K)."""
        return self.problem.costs[self.problem.split.test]


def problem_at_price(table: RoutingTable, X: ArrayLike, split: Split, price_weight: float) -> Problem:
    """Features (n, d) and costs at a price weight; the dollar unit is that of the training rows."""
    unit = None if table.dollars is None else default_dollar_unit(table.dollars[split.train])
    costs = costs_from_scores(table.scores, table.dollars, price_weight=price_weight, dollar_unit=unit)
    return Problem(np.asarray(X), costs, split)


def evaluate(
    methods: Iterable[str],
    problem: Problem,
    *,
    dollars: ArrayLike | None = None,
    every: int = 1,
    l2: float | None = None,
) -> Evaluation:
    """Tune the methods and route the test rows, the controls best single, cheapest and oracle beside them.

    Args:
        dollars: (n, K) per request, for the control "cheapest"; like the best single agent it is chosen on training
            rows.
        every, l2: as in `tune`.
    """
    train, test = problem.split.train, problem.split.test
    routers = tune(methods, problem, every=every, l2=l2)
    routes = {name: router.predict(problem.X[test]) for name, router in routers.items()}
    routes["best_single"] = np.full(len(test), best_single(problem.costs[train]))
    if dollars is not None:
        routes["cheapest"] = np.full(len(test), np.asarray(dollars)[train].mean(axis=0).argmin())
    routes["oracle"] = oracle_routes(problem.costs[test])
    return Evaluation(problem, routers, routes)


def records(found: Evaluation) -> list[dict[str, Any]]:
    """Rows for `results.tidy`, in the terms of `studies.compare`: test metrics of every routing (uniform random
    routing in expectation), and the validation loss of every tuned one."""
    rows = [("test", "random", "deferral_loss", random_loss(found.costs))]
    for method, routes in found.routes.items():
        rows += [("test", method, *item) for item in measure(found.costs, routes).items()]
    rows += [("validation", name, "deferral_loss", router.validation_loss) for name, router in found.routers.items()]
    return [dict(zip(("split", "method", "metric", "value"), row, strict=True)) for row in rows]


def study(
    table: RoutingTable,
    splits: Sequence[Split],
    features: Callable[[Split], NDArray],
    price_weights: Iterable[float],
    methods: Sequence[str],
    folder: str | Path,
    *,
    say: Callable[[str], None] = print,
    **constants: Any,
) -> pd.DataFrame:
    """All methods, whole grids, on all splits (their numbers are the seeds) and price weights.

    What is finished is kept in `folder`; a study that was stopped goes on from there.

    Args:
        features: split → X (n, d), fitted on its training rows only.
        constants: entries of the other TIDY columns; `study` also names the kept files.

    Returns:
        results.TIDY frame with the price weight as `setting`, as from `studies.compare`.
    """
    found = []
    for seed, split in enumerate(splits):
        X: list[NDArray] = []  # made when first needed: a study that goes on skips the finished splits
        for weight in price_weights:

            def measure_cell(split=split, weight=weight, seed=seed, X=X) -> pd.DataFrame:
                if not X:
                    X.append(features(split))
                cell = evaluate(methods, problem_at_price(table, X[0], split, weight), dollars=table.dollars)
                say(f"{table.name}, {constants.get('study', '')}, split {seed}, price weight {weight:g}")
                return tidy(records(cell), data=table.name, seed=seed, setting=f"{weight:g}", **constants)

            key = {"data": table.name, **constants, "weight": weight, "seed": seed, "methods": list(methods)}
            found.append(remember(folder, key, measure_cell))
    return pd.concat(found, ignore_index=True)


#: What the full studies compare: every preset, the plain peers, and the methods with offsets.
ALL_METHODS = (*(name for name in PRESETS if name != "mild_free"), "plug_in", "knn", *WITH_OFFSETS)


def nine_models_study(folder: str | Path, *, n_folds: int = 10, say: Callable[[str], None] = print) -> pd.DataFrame:
    """All methods on "llmrouter9" at price weights 0, 0.25 and 0.5, every row tested once; see `study`.

    Dollars are list prices, so the dollar unit is the dearest model's price and 0.25 charges it a quarter error.
    """
    table = load_routing("llmrouter9")
    table = with_list_prices(table, list_prices("llmrouter9"))
    embeddings = embed(table.prompts)

    def features(split: Split) -> NDArray:
        return kernel_features(table.prompts, embeddings, table.scores, split.train).astype(np.float32)

    splits = folds(table, n_folds, validation=0.2)
    weights = (0.0, 0.25, 0.5)
    return study(table, splits, features, weights, ALL_METHODS, folder, say=say, notebook="08", study="nine models")


def two_models_study(
    folder: str | Path, *, n_folds: Mapping[str, int] | None = None, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """RouteLLM's measures on MMLU and GSM8K, and from MMLU to GSM8K: `setting` names the rows that are measured.

    Features are 64 principal components of the prompt embeddings.
    """
    mmlu, gsm8k = load_routing("routellm_mmlu"), load_routing("routellm_gsm8k")
    prompts, scores = mmlu.prompts + gsm8k.prompts, np.vstack([mmlu.scores, gsm8k.scores])
    start = {mmlu.name: 0, gsm8k.name: len(mmlu.prompts)}
    embeddings = embed(prompts)
    found = []
    for table in (gsm8k, mmlu):
        n = (n_folds or {"routellm_mmlu": 5, "routellm_gsm8k": 10})[table.name]
        for seed, split in enumerate(folds(table, n, validation=0.2)):

            def measure_fold(table=table, split=split, seed=seed) -> pd.DataFrame:
                moved = Split(*(start[table.name] + rows for rows in (split.train, split.validation, split.test)))
                X = PCA(64, svd_solver="full").fit(embeddings[moved.train]).transform(embeddings)
                rows = {table.name: moved.test}
                if table is mmlu:
                    rows[gsm8k.name] = start[gsm8k.name] + np.arange(len(gsm8k.prompts))
                tests = {name: (X[at], *scores[at].T) for name, at in rows.items()}
                measured = strongest_calls(CALL_METHODS, Problem(X, 1.0 - scores, moved), tests)
                say(f"{table.name}, fold {seed}")
                return tidy(measured, notebook="08", study="calls", data=table.name, seed=seed)

            found.append(remember(folder, {"calls": table.name, "seed": seed, "n": n}, measure_fold))
    return pd.concat(found, ignore_index=True)


#: Methods whose scores order the prompts of two models; no operating point, hence no offsets.
CALL_METHODS = (
    "plug_in",
    "knn",
    "two_stage",
    "global_temperature",
    "mild",
    "one_vs_all",
    "dr_cpe_joint",
    "margin_dr_cpe",
)


#: The studies that take long, by the name under which their table is kept.
FULL_STUDIES = {"nine": nine_models_study, "calls": two_models_study}


def gap_to_oracle(loss: ArrayLike, single: ArrayLike, oracle: ArrayLike) -> NDArray[np.float64]:
    """Share of the way from the best single agent (0) to the oracle (1) that a deferral loss covers; < 0 is worse."""
    single, oracle = np.asarray(single, dtype=np.float64), np.asarray(oracle, dtype=np.float64)
    if (single <= oracle).any():
        raise ValueError("the best single agent is as good as the oracle: there is no gap to close")
    return (single - np.asarray(loss, dtype=np.float64)) / (single - oracle)


# ---------------------------------------------------------------------------------------------------------------
# prompts on a page


def prompt_html(frame: pd.DataFrame, *, longest: int = 160) -> str:
    """The frame as an HTML table in which every cell is shown as text: no markup, no script, no mathematics.

    Cells longer than `longest` characters are cut. Dollar signs are escaped too, or a notebook would typeset them.
    """

    def cell(value: object) -> str:
        text = " ".join(str(value).split())
        text = text if len(text) <= longest else text[: longest - 1] + "…"
        return html.escape(text).replace("$", "&#36;").replace("\\", "&#92;")

    shown = frame.rename(columns=cell).map(cell)
    page = shown.to_html(escape=False, index=False, border=0, justify="left")
    return page.replace("<td>", '<td style="text-align: left">')  # no cell can hold a literal <td> any more


# ---------------------------------------------------------------------------------------------------------------
# accuracy against dollars


class Spending(NamedTuple):
    """`accuracy` (mean score of the chosen agents) and `dollars` per 1,000 requests."""

    accuracy: float
    dollars: float


def spending(scores: ArrayLike, dollars: ArrayLike, routes: ArrayLike) -> Spending:
    """What a routing buys and costs.  scores, dollars (n, K); routes (n,)."""
    rows = np.arange(len(np.asarray(routes)))
    return Spending(
        float(np.asarray(scores)[rows, routes].mean()), float(1000 * np.asarray(dollars)[rows, routes].mean())
    )


def frontier(
    router: Any, table: RoutingTable, X: ArrayLike, split: Split, price_weights: Iterable[float]
) -> pd.DataFrame:
    """One trained router at many price weights, by offsets alone: columns price_weight, accuracy, dollars.  [ours]

    For each weight the offsets that minimise the validation costs at that weight are found anew; nothing is
    retrained. Accuracy and dollars (per 1,000 requests) are those of the test rows.
    """
    held, test = split.validation, split.test
    unit = default_dollar_unit(table.dollars[split.train])
    scores, test_scores = router.decision_function(X[held]), router.decision_function(X[test])
    points = []
    for weight in price_weights:
        costs = costs_from_scores(table.scores[held], table.dollars[held], price_weight=weight, dollar_unit=unit)
        routes = route(test_scores, offsets_for_costs(scores, costs))
        points.append({"price_weight": weight, **spending(table.scores[test], table.dollars[test], routes)._asdict()})
    return pd.DataFrame(points)


# ---------------------------------------------------------------------------------------------------------------
# RouteLLM's measures


class CallPerformance(NamedTuple):
    """`apgr`: average performance gap recovered, in gaps; `cpt50`, `cpt80`: call-performance thresholds, fractions."""

    apgr: float
    cpt50: float
    cpt80: float


def call_performance(scores: ArrayLike, weak: ArrayLike, strong: ArrayLike) -> CallPerformance:
    """RouteLLM's measures from the exact deferral curve.  [prior: Ong et al. 2024, RouteLLM]

    The performance gap recovered at a rate r of calls to the strong model is PGR(r) = (quality(r) − weak) /
    (strong − weak). APGR is its mean over r in [0, 1] (random routing: 0.5); CPT(x) is the smallest rate at which
    PGR reaches x (random routing: x).

    Args:
        scores: (n,) higher goes to the strong model sooner.
        weak, strong: (n,) quality of the two models' answers in [0, 1].

    Raises:
        ValueError: the strong model is not better on average.
    """
    weak, strong = np.asarray(weak, dtype=np.float64), np.asarray(strong, dtype=np.float64)
    curve = deferral_curve(scores, 1.0 - weak, 1.0 - strong)
    gap = curve.cost[0] - curve.cost[-1]
    if gap <= 0:
        raise ValueError(f"the strong model must be better on average; its lead is {gap:.4g}")
    recovered = (curve.cost[0] - curve.cost) / gap
    return CallPerformance(
        float((curve.cost[0] - curve.area) / gap), *(_first_rate(curve.rate, recovered, x) for x in (0.5, 0.8))
    )


def strongest_calls(
    methods: Iterable[str], problem: Problem, tests: Mapping[str, tuple[NDArray, NDArray, NDArray]]
) -> list[dict[str, Any]]:
    """RouteLLM's measures of methods on two models, model 0 weak and model 1 strong: rows for `results.tidy`.

    Settings are chosen by APGR on the validation rows: no operating point, hence no offsets, plays a part.

    Args:
        problem: costs (n, 2) are errors.
        tests: name → (X, weak, strong): features and the two models' qualities of the rows to be measured.
    """

    def calls(router: BaseEstimator, X: NDArray, weak: NDArray, strong: NDArray) -> CallPerformance:
        scores = router.decision_function(X)
        return call_performance(scores[:, 1] - scores[:, 0], weak, strong)

    split = problem.split
    held = (problem.X[split.validation], *(1.0 - problem.costs[split.validation]).T)
    rows = []
    for method in methods:
        estimator, settings = candidates(method)
        best = None
        for params in settings:
            router = clone(estimator).set_params(**params).fit(problem.X[split.train], problem.costs[split.train])
            reached = calls(router, *held).apgr
            if best is None or reached > best[0]:
                best = (reached, router)
        rows.append({"split": "validation", "method": method, "setting": "", "metric": "apgr", "value": best[0]})
        for name, test in tests.items():
            for metric, value in calls(best[1], *test)._asdict().items():
                rows.append({"split": "test", "method": method, "setting": name, "metric": metric, "value": value})
    return rows


def _first_rate(rate: NDArray, recovered: NDArray, target: float) -> float:
    """Where the piecewise linear curve first reaches `target`."""
    j = int(np.argmax(recovered >= target - 1e-12))  # 0.8 of a gap is seldom a round number in binary
    if j == 0:
        return float(rate[0])
    low, high = recovered[j - 1], recovered[j]
    return float(rate[j - 1] + (target - low) / (high - low) * (rate[j] - rate[j - 1]))
