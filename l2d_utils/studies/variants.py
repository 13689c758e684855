"""Variants of a data set under which a model and its expert differ: clean, long tail, label noise, specialist.

A variant alters the *training* rows of the two agents only, after validation and test rows were set aside. It is kept
as row numbers and training labels, so that what an agent saw is on record. [paper: data recipe; adapted to data sets
with few classes by the shares in `variant`]
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from l2d_utils import agents, posthoc, training
from l2d_utils.data import HumanLabels, ImageData, split_images, stratified_subset
from l2d_utils.metrics import best_single, deferral_loss
from l2d_utils.results import save_table, tidy
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.rules import offsets_for_prices, route
from l2d_utils.studies.compare import provenance, remember

#: Classes that the specialist keeps whole: mammals, or {melanoma, nevi}. Other data sets name their own.
HOMES: dict[str, tuple[int, ...]] = {
    "cifar10": (3, 4, 5, 7),
    "cifar100": (
        *(3, 4, 15, 19, 21, 30, 31, 34, 36, 38, 42, 43, 50),
        *(55, 63, 64, 65, 66, 72, 74, 75, 80, 88, 95, 97),
    ),
    "dermamnist": (4, 5),
}

NAMES = ("specialist", "label_noise", "long_tail", "clean")


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """What one agent is trained on: rows int64 (m,), sorted, into the data set; labels int64 (m,) as trained on."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Variant:
    """Training sets of the base model and of the expert, and in words what was done."""

    name: str
    base: TrainingSet
    expert: TrainingSet
    description: str


def _checked(labels: ArrayLike, rows: ArrayLike, n_classes: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    labels, rows = np.asarray(labels), np.asarray(rows)
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers (n,); found {labels.dtype} {labels.shape}")
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer) or not len(rows):
        raise ValueError(f"rows must be at least one row number; found {rows.dtype} {rows.shape}")
    if len(bad := np.flatnonzero((rows < 0) | (rows >= len(labels)))):
        raise ValueError(f"rows: entry {bad[0]} is {rows[bad[0]]}, not a row of the {len(labels)} labels")
    if len(np.unique(rows)) < len(rows):
        raise ValueError("rows must not repeat")
    rows = np.sort(rows).astype(np.int64)
    present = np.unique(labels[rows])
    if len(bad := present[(present < 0) | (present >= n_classes)]):
        raise ValueError(f"labels must be classes in 0..{n_classes - 1}; found {bad[0]}")
    missing = np.setdiff1d(np.arange(n_classes), present)
    if missing.size:
        raise ValueError(f"class {missing[0]} has no row among the {len(rows)} rows")
    return labels.astype(np.int64), rows


def _classes(name: str, classes: Collection[int], n_classes: int) -> NDArray[np.int64]:
    found = np.unique(np.asarray(sorted(classes), dtype=np.int64))
    if not found.size or found[0] < 0 or found[-1] >= n_classes:
        raise ValueError(f"{name} must hold classes in 0..{n_classes - 1}; found {sorted(classes)}")
    return found


def clean(labels: ArrayLike, rows: ArrayLike, n_classes: int) -> TrainingSet:
    """All rows as they are.

    Args (the same for every function here):
        labels: int (n,) of the whole data set.
        rows: (m,) row numbers that may be trained on.
        n_classes: every class must have at least one of the rows, before and after.
    """
    labels, rows = _checked(labels, rows, n_classes)
    return TrainingSet(rows, labels[rows])


def thinned(
    labels: ArrayLike, rows: ArrayLike, n_classes: int, *, whole: Collection[int], share: float, random_state: int
) -> TrainingSet:
    """Classes in `whole` keep all their rows, every other class the `share` (rounded) of its own: a long tail, or a
    specialist's data.

    Raises:
        ValueError: share outside (0, 1]; a class that would be left with no rows (named).
    """
    labels, rows = _checked(labels, rows, n_classes)
    whole = _classes("whole", whole, n_classes)
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1]; found {share}")
    rng, kept = np.random.default_rng(random_state), []
    for c in range(n_classes):
        members = rng.permutation(rows[labels[rows] == c])
        size = len(members) if c in whole else round(share * len(members))
        if size == 0:
            raise ValueError(f"class {c} would be left with no rows: {share:g} of its {len(members)} is less than one")
        kept.append(members[:size])
    rows = np.sort(np.concatenate(kept))
    return TrainingSet(rows, labels[rows])


def noisy(
    labels: ArrayLike, rows: ArrayLike, n_classes: int, *, classes: Collection[int], random_state: int
) -> TrainingSet:
    """Rows of these classes get labels drawn uniformly from all classes; the others keep theirs.

    Raises:
        ValueError: a class outside 0..n_classes − 1; a class that no row is labelled with afterwards.
    """
    labels, rows = _checked(labels, rows, n_classes)
    trained = labels[rows].copy()
    hit = np.isin(trained, _classes("classes", classes, n_classes))
    drawn = np.random.default_rng(random_state).integers(0, n_classes, len(rows))
    trained[hit] = drawn[hit]
    missing = np.setdiff1d(np.arange(n_classes), trained)
    if missing.size:
        raise ValueError(f"class {missing[0]} would be left with no rows after label noise; use more rows")
    return TrainingSet(rows, trained)


def variant(
    name: str,
    labels: ArrayLike,
    rows: ArrayLike,
    n_classes: int,
    *,
    home: Collection[int] | None = None,
    tail_share: float = 0.1,
    random_state: int = 42,
) -> Variant:
    """A named variant of the study.  [paper: recipe for 100 classes; shares kept for any number of classes, ours]

    "clean": both agents train on all rows. "long_tail": both on data whose second half of the classes keeps
    `tail_share` of its rows. "label_noise": both on data whose first 30 % of the classes (rounded up) have uniform
    labels. "specialist": the base model on all rows, the expert on the classes in `home` whole and `tail_share` of
    every other class.

    Args:
        labels, rows, n_classes: as in `clean`.
        home: the specialist's classes, for example `HOMES["cifar10"]`; only "specialist" needs it.

    Raises:
        ValueError: unknown name, `home` missing, a class left with no rows.
    """
    everything = clean(labels, rows, n_classes)
    if name == "clean":
        return Variant(name, everything, everything, "both agents trained on the same rows, as they are")
    if name == "long_tail":
        head = range((n_classes + 1) // 2)
        both = thinned(labels, rows, n_classes, whole=head, share=tail_share, random_state=random_state)
        words = f"classes {len(head)}..{n_classes - 1} keep {tail_share:.0%} of their training rows"
        return Variant(name, both, both, words)
    if name == "label_noise":
        hit = range(-(-3 * n_classes // 10))
        both = noisy(labels, rows, n_classes, classes=hit, random_state=random_state)
        return Variant(name, both, both, f"training labels of classes 0..{len(hit) - 1} are uniform draws")
    if name == "specialist":
        if home is None:
            raise ValueError("home must name the specialist's classes; found None")
        expert = thinned(labels, rows, n_classes, whole=home, share=tail_share, random_state=random_state)
        words = f"the expert sees classes {sorted(home)} whole and {tail_share:.0%} of every other class"
        return Variant(name, everything, expert, words)
    raise ValueError(f"name must be one of {NAMES}; found {name!r}")


def record(found: Iterable[Variant]) -> pd.DataFrame:
    """What every agent was trained on: `row`, and per variant and agent ("clean/base", …) the label that the row was
    trained on with, −1 where that agent did not see it.
    """
    columns = {
        f"{made.name}/{agent}": pd.Series(part.labels, index=part.rows)
        for made in found
        for agent, part in (("base", made.base), ("expert", made.expert))
    }
    return pd.DataFrame(columns).fillna(-1).astype(int).rename_axis("row").sort_index().reset_index()


def agent_outputs(
    data: ImageData,
    training_set: TrainingSet,
    out_rows: NDArray[np.int64],
    *,
    network: Callable[..., agents.ImageClassifier],
    random_state: int,
    cache: str | Path | None = None,
    **settings: Any,
) -> dict[str, NDArray]:
    """Train one agent on its training set and return what it says about `out_rows`.

    Args:
        network: makes the untrained classifier from n_outputs, mean and std (of the training pixels).
        cache: folder in which the finished outputs are kept with a checksum, under a key of everything that they
            depend on; a training that was stopped goes on from its last epoch there.
        settings: of `training.train` (epochs, batch_size, lr, dtype, autocast).

    Returns:
        logits (m, n_classes) and features (m, width) of the m out_rows, float64 if that was the training dtype,
        else float32.
    """
    images = data.images[training_set.rows]
    mean, std = agents.channel_moments(images)
    with agents.seeded(random_state):
        module = network(n_outputs=len(data.classes), mean=mean, std=std)
    arrays = (training_set.rows, training_set.labels, out_rows)
    key = {
        "data": data.sha256, "network": repr(module), "seed": random_state,
        "rows": hashlib.sha256(b"|".join(np.asarray(a, dtype=np.int64).tobytes() for a in arrays)).hexdigest(),
        "settings": {name: getattr(value, "__name__", str(value)) for name, value in sorted(settings.items())},
    }  # fmt: skip
    name = f"agent-{data.name}-{hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]}"

    def compute() -> dict[str, NDArray]:
        loss = training.classification_loss(training_set.labels)
        kept = {}
        if cache is not None:  # a long study
            kept = {
                "checkpoint": Path(cache) / f"{name}.pt",
                "progress": training.progress_bar(settings["epochs"], name),
            }
        training.train(module, images, loss, random_state=random_state, **kept, **settings)
        dtype = next(module.parameters()).numpy(force=True).dtype
        return {what: a.astype(dtype) for what, a in agents.outputs(module, data.images[out_rows]).items()}

    return compute() if cache is None else agents.cache_outputs(Path(cache) / f"{name}.npz", compute, key)


# ---------------------------------------------------------------- the long study


class Rows(NamedTuple):
    """Disjoint sorted row numbers: `agents` are trained on (before a variant), `pool` belongs to the scores, `test` is
    the data's own test part, `rest` are further training images that nothing above has seen.
    """

    agents: NDArray[np.int64]
    pool: NDArray[np.int64]
    test: NDArray[np.int64]
    rest: NDArray[np.int64]


def divide(data: ImageData, *, agent_rows: int, pool: int, random_state: int = 42) -> Rows:
    """Set the pool aside first, then draw the agents' rows from what is left; stratified by class."""
    split = split_images(data, validation=pool, random_state=random_state)
    fit = stratified_subset(data.labels, split.train, agent_rows, random_state)
    return Rows(fit, split.validation, split.test, np.setdiff1d(split.train, fit, assume_unique=True))


def pair_outputs(
    data: ImageData,
    found: Variant,
    rows: Rows,
    *,
    base: Mapping[str, Any],
    expert: Mapping[str, Any],
    random_state: int = 42,
    cache: str | Path | None = None,
    **settings: Any,
) -> tuple[dict[str, NDArray], dict[str, NDArray]]:
    """Train both agents; outputs of the base model on pool, test and rest, of the expert on pool and test, so ordered.

    base, expert: network and training settings of that agent; settings: of both (see `agent_outputs`).
    """
    out = np.concatenate([rows.pool, rows.test])
    common = {"random_state": random_state, "cache": cache, **settings}
    model = agent_outputs(data, found.base, np.concatenate([out, rows.rest]), **common, **base)
    return model, agent_outputs(data, found.expert, out, **common, **expert)


def score_study(
    rows: posthoc.Sample,
    test: posthoc.Sample,
    seeds: Sequence[int],
    folder: str | Path,
    key: Mapping[str, Any],
    *,
    score_rows: int,
    methods: Sequence[str] = posthoc.METHODS,
    records: Callable[..., list[dict[str, Any]]] = posthoc.study,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> pd.DataFrame:
    """`posthoc.study` with a fresh division of `rows` per seed: `score_rows` train the scores, the others choose.

    Finished seeds are kept in `folder` under `key`. settings: temperatures, ridges, rates. Returns a TIDY frame.
    records: `posthoc.study`, or `posthoc.each_setting` (which takes no rates).
    """
    found = []
    if records is not posthoc.study:
        key = {**key, "records": records.__name__}
    for seed in seeds:

        def one(seed: int = seed) -> pd.DataFrame:
            say(f"{key}, seed {seed}")
            order = np.random.default_rng(seed).permutation(len(rows.labels))
            train, validation = rows.at(order[:score_rows]), rows.at(order[score_rows:])
            return tidy(records(methods, train, validation, test, **settings), seed=seed)

        what = {**key, "seed": seed, "score_rows": score_rows, "methods": list(methods), **settings}
        found.append(remember(folder, what, one))
    return pd.concat(found, ignore_index=True)


def image_study(
    data: ImageData,
    names: Sequence[str],
    seeds: Sequence[int],
    folder: str | Path,
    *,
    agent_rows: int,
    pool: int,
    home: Collection[int],
    base: Mapping[str, Any],
    expert: Mapping[str, Any],
    learn: Mapping[str, Any],
    **settings: Any,
) -> pd.DataFrame:
    """The whole study on data with a test part: for each variant two agents, trained once, then `score_study`.

    The test rows are the same for all seeds, so intervals over seeds speak of the scores' training rows and choices.

    Args:
        folder: finished parts are kept here; a study that was stopped goes on from there.
        home: the specialist's classes.
        base, expert, learn: what is the model's own, the expert's own, and common; see `agent_outputs`.
        settings: of `score_study` (score_rows, temperatures, ridges, rates, methods, records, say).

    Returns:
        TIDY frame with one value of `setting` per variant.
    """
    rows, found = divide(data, agent_rows=agent_rows, pool=pool), []
    for name in names:
        pair = variant(name, data.labels, rows.agents, len(data.classes), home=home)
        model, other = pair_outputs(data, pair, rows, base=base, expert=expert, cache=folder, **learn)
        seen = np.concatenate([rows.pool, rows.test])
        everything = posthoc.sample({k: v[: len(seen)] for k, v in model.items()}, other, data.labels[seen])
        held, test = np.split(np.arange(len(seen)), [pool])
        key = {"data": data.name, "variant": name, "agent_rows": agent_rows, "pool": pool}
        frame = score_study(everything.at(held), everything.at(test), seeds, folder, key, **settings)
        found.append(frame.assign(data=data.name, setting=name.replace("_", " ")))
    return pd.concat(found, ignore_index=True)


def full_plan(data: ImageData, *, epochs: int = 8) -> dict[str, Any]:
    """Sizes and agents of the long study on any data set with a test part, as arguments of `image_study`.

    A ResNet-8 and a ResNet-20 as its expert; 15,000 rows for the agents and as many for the scores, or a third of the
    training part each where that is less. Two thirds of the pool train the scores, the others choose.
    """
    rows = min(15_000, int((~data.test).sum()) // 3)
    of_depth = functools.partial(agents.ResNet, channels=data.images.shape[-1])
    return {
        "agent_rows": rows, "pool": rows, "score_rows": 2 * rows // 3,
        "base": {"network": functools.partial(of_depth, 8)}, "expert": {"network": functools.partial(of_depth, 20)},
        "learn": {"epochs": epochs, "batch_size": 128, "lr": 5e-3, "autocast": torch.bfloat16},
    }  # fmt: skip


def save_study(
    data: ImageData, frame: pd.DataFrame, name: str, out: str | Path, *, agent_rows: int, pool: int, **settings: Any
) -> None:
    """Write what `image_study` found to the folder `out`.

    <name>_variants.csv (TIDY rows without the curves), <name>_curves.csv (`posthoc.curve_table`), <name>_rows.csv (the
    training rows and labels of every agent, `record`) and <name>_provenance.csv (data, code, settings).
    """
    tidy_columns = {k: settings[k] for k in ("notebook", "study") if k in settings}
    frame = frame.assign(**tidy_columns)
    is_curve = frame["metric"].str.startswith("curve/")
    save_table(frame[~is_curve], f"{name}_variants", out)
    save_table(posthoc.curve_table(frame), f"{name}_curves", out)
    names = [setting.replace(" ", "_") for setting in dict.fromkeys(frame["setting"])]
    rows = divide(data, agent_rows=agent_rows, pool=pool)
    home = HOMES.get(data.name)
    save_table(
        record(variant(n, data.labels, rows.agents, len(data.classes), home=home) for n in names), f"{name}_rows", out
    )
    plain = {k: v for k, v in settings.items() if k not in tidy_columns}
    seeds = sorted(set(frame["seed"]))
    made = provenance(data, profile="full", seeds=seeds, variants=names, agent_rows=agent_rows, pool=pool, **plain)
    save_table(made, f"{name}_provenance", out)


# ---------------------------------------------------------------- people


def people(
    data: ImageData, humans: HumanLabels, rows: Rows, model: Mapping[str, NDArray]
) -> tuple[posthoc.Sample, NDArray[np.float64]]:
    """Training images that the base model has not seen, with people's answers.

    model: its outputs on pool, test and rest. Returns a `Sample` whose expert is the first of the three labels, and
    the errors (n, 5) of the model, of each of the three labels, and of their aggregate.

    The three columns are shuffled annotators, not three fixed people.
    """
    keep = np.concatenate([rows.pool, rows.rest])
    at = np.concatenate([np.arange(len(rows.pool)), np.arange(len(rows.pool) + len(rows.test), len(model["logits"]))])
    training_row = np.cumsum(~data.test) - 1  # human labels are in the order of the training images
    answers = humans.labels[training_row[keep]]
    labels, n_classes = data.labels[keep], len(data.classes)
    one = {"logits": 50.0 * np.eye(n_classes)[answers[:, 0]]}
    sample = posthoc.sample({name: part[at] for name, part in model.items()}, one, labels)
    said = np.column_stack([sample.model.argmax(axis=1), answers, humans.aggregate[training_row[keep]]])
    return sample, (said != labels[:, None]).astype(np.float64)


#: What can be done with an image, and how many questions to people it takes.
ACTIONS = ("the model", "one person", "three people")
QUESTIONS = np.array([0.0, 1.0, 3.0])


def action_costs(errors: ArrayLike, price: float) -> NDArray[np.float64]:
    """(n, 3) costs of `ACTIONS`, in errors, when every question costs `price`; errors (n, 5) as `people` gives them.

    Three people's answers are put together as the data set's aggregate.
    """
    if not np.isfinite(price) or price < 0:
        raise ValueError(f"price must be a finite number ≥ 0; found {price}")
    return np.asarray(errors, dtype=np.float64)[:, [0, 1, 4]] + price * QUESTIONS


def _settings(method: str) -> list[dict[str, Any]]:
    """Four settings of every trained method of `ask_people`."""
    if method == "dr_cpe_marginal":
        return [{"temperature": t, "l2": l2} for t in (1.0, 0.3) for l2 in (0.003, 0.03)]
    if method == "global_temperature":
        return [{"rho": rho, "l2": 0.003} for rho in (0.5, 1.0, 2.0, 4.0)]
    return [{"l2": l2} for l2 in (0.001, 0.003, 0.01, 0.03)]


def _trained(method: str, X: NDArray, costs: NDArray, l2: float, **params: float) -> DeferralRouter | PlugInRouter:
    if method == "plug_in":
        return PlugInRouter(l2=l2).fit(X, costs)
    return DeferralRouter(method, params, l2=l2, tol=posthoc.TOL).fit(X, costs)


def ask_people(
    sample: posthoc.Sample,
    errors: NDArray,
    train: NDArray,
    validation: NDArray,
    test: NDArray,
    prices: Sequence[float],
) -> list[dict[str, Any]]:
    """Choose among `ACTIONS` at every price; records (setting = price, method, metric, value) on the test rows.

    "dr_cpe_marginal" and "plug_in" are trained once, on errors alone, and moved to each price by offsets; their setting
    is the one with the smallest validation deferral loss, averaged over the prices. "two_stage" and
    "global_temperature" are trained anew, and their setting chosen anew, for every price. "confidence" is Chow's rule
    with the model's own error probability 1 − max_y h_y and the people's mean errors on the training rows;
    "best_single" always takes the action that is cheapest there; "one_person" and "three_people" always ask.

    Metrics: deferral_loss (errors, price included), accuracy, questions (per image), share/k (k = 1, 2, 3 as in
    `ACTIONS`), and for dr_cpe_marginal share/k/c among the images of class c.
    """
    X, free = sample.X, action_costs(errors, 0.0)
    due = [price * QUESTIONS for price in prices]
    seen = {rows: free[part] for rows, part in (("train", train), ("validation", validation), ("test", test))}

    def losses(routes: Sequence[NDArray]) -> list[float]:
        return [deferral_loss(seen["validation"] + d, to) for d, to in zip(due, routes, strict=True)]

    def once(method: str, settings: dict[str, Any], rows: NDArray) -> list[NDArray]:
        router = fitted[method, str(settings)]
        scores, unit = router.decision_function(X[rows]), settings.get("temperature", 1.0)
        return [route(scores, offsets_for_prices(d, unit, len(d))) for d in due]

    found: dict[str, list[NDArray]] = {}
    fitted: dict[tuple[str, str], DeferralRouter | PlugInRouter] = {}
    for method in ("dr_cpe_marginal", "plug_in"):
        grid = _settings(method)
        fitted |= {(method, str(s)): _trained(method, X[train], seen["train"], **s) for s in grid}
        best = min(grid, key=lambda s: float(np.mean(losses(once(method, s, validation)))))
        found[method] = once(method, best, test)
    for method in ("two_stage", "global_temperature"):
        found[method] = []
        for d in due:
            routers = [_trained(method, X[train], seen["train"] + d, **s) for s in _settings(method)]
            best = min(routers, key=lambda r: deferral_loss(seen["validation"] + d, r.predict(X[validation])))
            found[method].append(best.predict(X[test]))
    people = np.broadcast_to(seen["train"][:, 1:].mean(axis=0), (len(test), 2))
    expected = np.column_stack([1 - sample.model[test].max(axis=1), people])
    found["confidence"] = [(expected + d).argmin(axis=1) for d in due]
    found["best_single"] = [np.full(len(test), best_single(seen["train"] + d)) for d in due]
    found |= {name: [np.full(len(test), k)] * len(due) for k, name in ((1, "one_person"), (2, "three_people"))}
    found["oracle"] = [(seen["test"] + d).argmin(axis=1) for d in due]

    records = []
    for method, routes in found.items():
        for price, d, to in zip(prices, due, routes, strict=True):
            numbers = {
                "deferral_loss": deferral_loss(seen["test"] + d, to),
                "accuracy": 1 - deferral_loss(seen["test"], to),
                "questions": float(QUESTIONS[to].mean()),
            }
            numbers |= {f"share/{k + 1}": float((to == k).mean()) for k in range(3)}
            if method == "dr_cpe_marginal":
                of_class = {c: to[sample.labels[test] == c] for c in np.unique(sample.labels)}
                numbers |= {
                    f"share/{k + 1}/{c}": float((to == k).mean()) for c, to in of_class.items() for k in range(3)
                }
            constants = {"setting": f"{price:g}", "method": method}
            records += [{**constants, "metric": metric, "value": value} for metric, value in numbers.items()]
    return records


def people_study(
    data: ImageData,
    humans: HumanLabels,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    agent_rows: int,
    pool: int,
    test_rows: int,
    prices: Sequence[float],
    base: Mapping[str, Any],
    learn: Mapping[str, Any],
    score_rows: int,
    **settings: Any,
) -> pd.DataFrame:
    """Deferral to people, on training images that the base model has not seen.

    The study "one person" is `score_study` with the first human label as the expert; "prices" is `ask_people`;
    "accuracy" holds the accuracy of model, three labels and aggregate per class. Test rows are `test_rows` of the
    images, the same for all seeds; of the others each seed takes `score_rows` to train on and the rest to choose on.
    Finished seeds are kept in `folder`. Arguments as in `image_study`.
    """
    rows = divide(data, agent_rows=agent_rows, pool=pool)
    out = np.concatenate([rows.pool, rows.test, rows.rest])
    everything = clean(data.labels, rows.agents, len(data.classes))
    model = agent_outputs(data, everything, out, random_state=42, cache=folder, **learn, **base)
    sample, errors = people(data, humans, rows, model)
    order = np.random.default_rng(42).permutation(len(sample.labels))
    test, rest = order[:test_rows], order[test_rows:]
    key = {"data": data.name, "variant": "people", "agent_rows": agent_rows, "pool": pool}
    found = [
        score_study(
            sample.at(rest), sample.at(test), seeds, folder, key, score_rows=score_rows, **settings
        ).assign(study="one person")
    ]  # fmt: skip
    for seed in seeds:

        def one(seed: int = seed) -> pd.DataFrame:
            shuffled = np.random.default_rng(seed).permutation(rest)
            train, validation = shuffled[:score_rows], shuffled[score_rows:]
            return tidy(ask_people(sample, errors, train, validation, test, prices), seed=seed)

        what = {**key, "study": "prices", "seed": seed, "score_rows": score_rows, "prices": list(prices)}
        found.append(remember(folder, what, one).assign(study="prices", split="test"))
    for k, who in enumerate(("model", "human 1", "human 2", "human 3", "aggregate")):
        right = pd.Series(1 - errors[test, k]).groupby(sample.labels[test]).mean()
        records = [{"metric": "accuracy", "value": 1 - errors[test, k].mean()}]
        records += [{"metric": f"accuracy/{c}", "value": v} for c, v in right.items()]
        found.append(tidy(records, method=who, study="accuracy", split="test"))
    return pd.concat(found, ignore_index=True).assign(data=data.name)


def save_people(
    data: ImageData, humans: HumanLabels, frame: pd.DataFrame, name: str, out: str | Path, **settings: Any
) -> None:
    """Write what `people_study` found: <name>.csv (TIDY rows without the curves) and <name>_provenance.csv."""
    notebook = settings.pop("notebook", "")
    kept = frame[~frame["metric"].str.startswith("curve/")].assign(notebook=notebook)
    save_table(kept, name, out)
    seeds = sorted(set(frame["seed"]) - {""})
    about = {"people": humans.source, "people sha256": humans.sha256, "profile": "full", "seeds": seeds}
    save_table(provenance(data, **about, **settings), f"{name}_provenance", out)
