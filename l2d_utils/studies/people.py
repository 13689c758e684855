"""Deferral to people: CIFAR-10N's answers beside a model's, and whom to ask when every question has a price."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from l2d_utils import choose, methods, rules
from l2d_utils.cache import keep
from l2d_utils.data import HumanLabels, ImageData, Split
from l2d_utils.metrics import best_single, deferral_loss
from l2d_utils.results import joined, tidy
from l2d_utils.scores import TOL, Sample, sample
from l2d_utils.studies.compare import Problem
from l2d_utils.studies.variants import RANDOM_STATE, Plan, base_outputs, divide, score_study

#: What can be done with an image, and how many questions to people it takes.
ACTIONS = ("the model", "one person", "three people")
QUESTIONS = np.array([0.0, 1.0, 3.0])

_RIDGES = tuple({"l2": l2} for l2 in (0.001, 0.003, 0.01, 0.03))
#: Four settings of every router: those trained once and moved to each price, and those trained anew for every price.
ONCE = {
    "dr_cpe_marginal":
        tuple({"loss_params": {"temperature": t}, "l2": l2, "tol": TOL} for t in (1.0, 0.3) for l2 in (0.003, 0.03)),
    "plug_in": _RIDGES,
}  # fmt: skip
ANEW = {
    "two_stage": _RIDGES,
    "global_temperature": tuple({"loss_params": {"rho": rho}, "l2": 0.003} for rho in (0.5, 1.0, 2.0, 4.0)),
}


def answers(data: ImageData, humans: HumanLabels, plan: Plan, model: dict[str, NDArray]) -> tuple[Sample, NDArray]:
    """Training images that the base model has not seen, with people's answers.

    model: its outputs on pool, test and rest. Returns a `Sample` whose expert is the first of the three labels, and
    the errors (n, 5) of the model, of each of the three labels (shuffled annotators, not three fixed people), and of
    their aggregate.
    """
    rows = divide(data, plan)
    kept = np.concatenate([rows.pool, rows.rest])
    unseen = np.r_[: len(rows.pool), len(rows.pool) + len(rows.test) : len(model["logits"])]
    training_row = (np.cumsum(~data.test) - 1)[kept]  # human labels are in the order of the training images
    said, labels = humans.labels[training_row], data.labels[kept]
    one = {"logits": 50.0 * np.eye(len(data.classes))[said[:, 0]]}
    found = sample({name: part[unseen] for name, part in model.items()}, one, labels)
    said = np.column_stack([found.model.argmax(axis=1), said, humans.aggregate[training_row]])
    return found, (said != labels[:, None]).astype(np.float64)


def action_costs(errors: ArrayLike, price: float) -> NDArray[np.float64]:
    """(n, 3) costs of `ACTIONS`, in errors, when every question costs `price`; errors (n, 5) as `answers` gives them.
    Three people's answers are put together as the data set's aggregate."""
    if not np.isfinite(price) or price < 0:
        raise ValueError(f"price must be a finite number ≥ 0; found {price}")
    return np.asarray(errors, dtype=np.float64)[:, [0, 1, 4]] + price * QUESTIONS


def ask_people(rows: Sample, errors: NDArray, split: Split, prices: Sequence[float]) -> list[dict[str, Any]]:
    """Choose among `ACTIONS` at every price; records (method, price, metric, agent, label, value) on the test rows.

    `ONCE`: trained once, on errors alone, and moved to each price by offsets; the setting is the one with the smallest
    validation deferral loss, averaged over the prices. `ANEW`: trained, and the setting chosen, for every price.
    "confidence" is Chow's rule with the model's own error probability 1 − max_y h_y and the people's mean training
    errors; "best_single" takes the action that is cheapest there; "one_person" and "three_people" always ask.

    Metrics: deferral_loss (errors, price included), accuracy, questions (per image), share of agents 1..3 (`ACTIONS`),
    and for dr_cpe_marginal the shares among the images of each class.
    """
    free, *problems = (Problem(rows.X, action_costs(errors, price), split) for price in (0.0, *prices))
    train, test, n = split.train, split.test, len(split.test)
    people = errors[train][:, [1, 4]].mean(axis=0)
    expected = np.column_stack([1 - rows.model[test].max(axis=1), np.tile(people, (n, 1))])
    routes = {key: _moved(key, free, prices) for key in ONCE}
    routes |= {key: [_trained(key, problem) for problem in problems] for key in ANEW}
    routes["confidence"] = [(expected + price * QUESTIONS).argmin(axis=1) for price in prices]
    routes["best_single"] = [np.full(n, best_single(problem.costs[train])) for problem in problems]
    routes["one_person"], routes["three_people"] = ([np.full(n, k)] * len(prices) for k in (1, 2))
    routes["oracle"] = [problem.costs[test].argmin(axis=1) for problem in problems]
    found, labels = [], rows.labels[test]
    for method, by_price in routes.items():
        for price, problem, to in zip(prices, problems, by_price, strict=True):
            loss, errs = deferral_loss(problem.costs[test], to), deferral_loss(free.costs[test], to)
            values = {"deferral_loss": loss, "accuracy": 1 - errs, "questions": QUESTIONS[to].mean()}
            records = [{"metric": metric, "value": value} for metric, value in values.items()] + _shares(to)
            if method == "dr_cpe_marginal":
                records += [r | {"label": c} for c in np.unique(rows.labels) for r in _shares(to[labels == c])]
            found += [{"method": method, "price": price, **record} for record in records]
    return found


def _shares(to: NDArray) -> list[dict[str, Any]]:
    return [{"metric": "share", "agent": k, "value": (to == k - 1).mean()} for k in range(1, len(ACTIONS) + 1)]


def _trained(key: str, problem: Problem) -> NDArray:
    """Routes of the test rows by the router that is best on the validation rows."""
    X, costs, split = problem[:3]
    rows = X[split.train], costs[split.train], X[split.validation], costs[split.validation]
    return choose.select(methods.find(key).make(tol=TOL), ANEW[key], *rows).best.predict(X[split.test])


def _moved(key: str, problem: Problem, prices: Sequence[float]) -> list[NDArray]:
    """Routes of the test rows at each price, by offsets to the router that is best on average over the prices."""
    X, costs, split = problem[:3]
    due = [price * QUESTIONS for price in prices]

    def routed(router: Any, rows: NDArray) -> list[NDArray]:
        scores = router.decision_function(X[rows])
        unit = (router.get_params().get("loss_params") or {}).get("temperature", 1.0)
        return [rules.route(scores, rules.offsets_for_prices(d, unit, len(d))) for d in due]

    def loss(router: Any) -> float:
        routes = routed(router, split.validation)
        return np.mean([deferral_loss(costs[split.validation] + d, to) for d, to in zip(due, routes, strict=True)])

    fitted = choose.fit_settings(methods.find(key).make(), ONCE[key], X[split.train], costs[split.train])
    return routed(choose.choose(ONCE[key], fitted, loss).best, split.test)


def people_study(
    data: ImageData, humans: HumanLabels, plan: Plan, seeds: Sequence[int], folder: str | Path, *,
    test_rows: int, prices: Sequence[float], say: Callable[[str], None] | None = print,
) -> pd.DataFrame:  # fmt: skip
    """Deferral to people, on training images that the base model (of the clean variant) has not seen.

    The study "one person" is `score_study` with the first human label as the expert; "prices" is `ask_people`;
    "accuracy" is that of the model, the three labels and the aggregate, of all and by class. `test_rows` of the images
    test all seeds; of the others each seed trains on `plan.score_rows` and chooses on the rest. `folder` keeps parts.
    """
    rows, errors = answers(data, humans, plan, base_outputs(data, plan, "clean", folder))
    test, rest = np.split(np.random.default_rng(RANDOM_STATE).permutation(len(rows.labels)), [test_rows])
    one = score_study(f"{data.name} people", rows.at(rest), rows.at(test), plan, seeds, folder, say=say)
    found = [one.assign(study="one person")]
    how = {"rows": rows, "errors": errors, "prices": prices, "entries": methods.fingerprint([*ONCE, *ANEW])}
    for seed in seeds:
        split = Split(*np.split(np.random.default_rng(seed).permutation(rest), [plan.score_rows]), test)
        found.append(keep(folder, _priced, say=say, seed=seed, split=split, **how))
    for k, who in enumerate(("model", "human 1", "human 2", "human 3", "aggregate")):
        right = pd.Series(1 - errors[test, k])
        records = [{"value": right.mean()}]
        records += [{"label": c, "value": v} for c, v in right.groupby(rows.labels[test]).mean().items()]
        found.append(tidy(records, metric="accuracy", method=who, study="accuracy", split="test"))
    return joined(found).assign(data=data.name)


def _priced(seed: int, entries: list, **arguments: Any) -> pd.DataFrame:  # the entries are there for the key
    return tidy(ask_people(**arguments), seed=seed, study="prices", split="test")
