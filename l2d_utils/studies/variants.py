"""Variants of a data set under which a model and its expert differ: clean, long tail, label noise, specialist.

A variant alters the *training* rows of the two agents only, after validation and test rows were set aside. It is kept
as row numbers and training labels, so that what an agent saw is on record. [paper: data recipe; see `variant`]
"""

from collections import namedtuple
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from l2d_utils import agents, methods, training
from l2d_utils.cache import keep
from l2d_utils.data import ImageData, split_images, stratified_subset
from l2d_utils.results import joined, tidy
from l2d_utils.scores import Sample, sample
from l2d_utils.studies import posthoc

#: Classes that the specialist keeps whole: mammals, or {melanoma, nevi}. Other data sets name their own.
HOMES: dict[str, tuple[int, ...]] = {
    "cifar10": (3, 4, 5, 7),
    "cifar100": (3, 4, 15, 19, 21, 30, 31, 34, 36, 38, 42, 43, 50, 55, 63, 64, 65, 66, 72, 74, 75, 80, 88, 95, 97),
    "dermamnist": (4, 5),
}

NAMES = ("specialist", "label_noise", "long_tail", "clean")
#: Of their rows, what thinned classes keep.
TAIL_SHARE = 0.1
#: Of the variants, and in `image_study` of the rows and the agents; the seeds of a study divide the pool.
RANDOM_STATE = 42

#: What one agent is trained on: rows int64 (m,), sorted, into the data set; labels int64 (m,) as trained on.
TrainingSet = namedtuple("TrainingSet", "rows labels")
#: Training sets of the base model and of the expert, and in words what was done.
Variant = namedtuple("Variant", "name base expert description")


def clean(labels: ArrayLike, rows: ArrayLike, n_classes: int) -> TrainingSet:
    """All rows as they are: `variant` says what is what. ValueError: labels or rows that are no whole numbers, a row
    outside the labels or given twice, a label outside 0..n_classes − 1, a class without a row (named)."""
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
    trained = labels[rows].astype(np.int64)
    if len(bad := np.setdiff1d(trained, np.arange(n_classes))):
        raise ValueError(f"labels must be classes in 0..{n_classes - 1}; found {bad[0]}")
    return _complete(rows, trained, n_classes, f"has no row among the {len(rows)} rows")


def _complete(rows: NDArray, labels: NDArray, n_classes: int, trouble: str) -> TrainingSet:
    """The training set, if every class is in it."""
    if len(missing := np.setdiff1d(np.arange(n_classes), labels)):
        raise ValueError(f"class {missing[0]} {trouble}; use more rows")
    return TrainingSet(rows, labels)


def _thinned(given: TrainingSet, whole: Collection[int], n_classes: int, random_state: int) -> TrainingSet:
    """Classes in `whole` keep all their rows, every other class `TAIL_SHARE` (rounded) of its own."""
    rng = np.random.default_rng(random_state)
    members = [rng.permutation(given.rows[given.labels == c]) for c in range(n_classes)]
    kept = [m[: len(m) if c in whole else round(TAIL_SHARE * len(m))] for c, m in enumerate(members)]
    mask = np.isin(given.rows, np.concatenate(kept))
    trouble = f"would be left with no rows: {TAIL_SHARE} of what it has is less than one"
    return _complete(given.rows[mask], given.labels[mask], n_classes, trouble)


def _noisy(given: TrainingSet, classes: Collection[int], n_classes: int, random_state: int) -> TrainingSet:
    """Rows of these classes get labels drawn uniformly from all classes; the others keep theirs."""
    drawn = np.random.default_rng(random_state).integers(0, n_classes, len(given.rows))
    trained = np.where(np.isin(given.labels, classes), drawn, given.labels)
    return _complete(given.rows, trained, n_classes, "would be left with no rows after label noise")


def variant(
    name: str, labels: ArrayLike, rows: ArrayLike, n_classes: int, *, home: Collection[int] | None = None,
    random_state: int = RANDOM_STATE,
) -> Variant:  # fmt: skip
    """A named variant of the study.  [paper: recipe for 100 classes; shares kept for any number of classes, ours]

    "clean": both agents train on all rows. "long_tail": both on data whose second half of the classes keeps
    `TAIL_SHARE` of its rows. "label_noise": both on data whose first 30 % of the classes (rounded up) have uniform
    labels. "specialist": the base model on all rows, the expert on the classes in `home` whole and `TAIL_SHARE` of
    every other class.

    labels: int (n,) of the whole data set. rows: (m,) row numbers that may be trained on. home: the specialist's
    classes, for example `HOMES["cifar10"]`. ValueError: unknown name, `home` missing, a class left with no rows; as
    `clean`.
    """
    given, how = clean(labels, rows, n_classes), (n_classes, random_state)
    both, words = given, "both agents trained on the same rows, as they are"
    if name == "long_tail":
        head = range((n_classes + 1) // 2)
        both = _thinned(given, head, *how)
        words = f"classes {len(head)}..{n_classes - 1} keep {TAIL_SHARE:.0%} of their training rows"
    elif name == "label_noise":
        hit = range(-(-3 * n_classes // 10))
        both, words = _noisy(given, hit, *how), f"training labels of classes 0..{len(hit) - 1} are uniform draws"
    elif name == "specialist":
        if home is None or set(home) - set(range(n_classes)):
            raise ValueError(f"home must name the specialist's classes, in 0..{n_classes - 1}; found {home}")
        words = f"the expert sees classes {sorted(home)} whole and {TAIL_SHARE:.0%} of every other class"
        return Variant(name, given, _thinned(given, home, *how), words)
    elif name != "clean":
        raise ValueError(f"name must be one of {NAMES}; found {name!r}")
    return Variant(name, both, both, words)


def record(found: Iterable[Variant]) -> pd.DataFrame:
    """What every agent was trained on: `row`, and per variant and agent ("clean/base", …) the label that the row was
    trained on with, −1 where that agent did not see it."""
    sets = {f"{made.name}/{agent}": getattr(made, agent) for made in found for agent in ("base", "expert")}
    columns = {name: pd.Series(part.labels, index=part.rows) for name, part in sets.items()}
    return pd.DataFrame(columns).fillna(-1).astype(int).rename_axis("row").sort_index().reset_index()


@dataclass(frozen=True)
class Agent:
    """How an agent is trained. network: makes the untrained classifier from n_outputs, mean and std; the others are
    settings of `training.train`."""

    network: Callable[..., agents.ImageClassifier]
    epochs: int
    batch_size: int
    lr: float
    dtype: torch.dtype = torch.float32
    autocast: torch.dtype | None = None


def agent_outputs(
    data: ImageData, given: TrainingSet, out: NDArray, agent: Agent, random_state: int, cache: str | Path | None = None
) -> dict[str, NDArray]:
    """Train one agent on what it is given; its logits and features on the rows `out` (`training.classifier_outputs`).
    cache: folder in which finished outputs are kept; a training that was stopped goes on from its last epoch there."""
    arguments = {"images": data.images[given.rows], "labels": given.labels, "out_images": data.images[out]}
    arguments |= {"n_classes": len(data.classes), "random_state": random_state, **vars(agent)}
    if cache is None:
        return training.classifier_outputs(**arguments)
    return keep(cache, training.classifier_outputs, resume="checkpoint", **arguments)


#: Disjoint sorted row numbers, int64: of the agents' training (before a variant), of the scores, of the data's own test
#: part, and further training images that nothing above has seen.
Rows = namedtuple("Rows", "agents pool test rest")


@dataclass(frozen=True)
class Plan:
    """A long study: numbers of rows for the agents, for the scores (`pool`), and of those to train them (the others
    choose); the agents; what the scores are tuned over; the specialist's classes."""

    agent_rows: int
    pool: int
    score_rows: int
    base: Agent
    expert: Agent
    grid: posthoc.Grid
    home: tuple[int, ...] | None = None


def divide(data: ImageData, plan: Plan) -> Rows:
    """Set the pool aside first, then draw the agents' rows from what is left; stratified by class."""
    split = split_images(data, validation=plan.pool, random_state=RANDOM_STATE)
    fit = stratified_subset(data.labels, split.train, plan.agent_rows, RANDOM_STATE)
    return Rows(fit, split.validation, split.test, np.setdiff1d(split.train, fit, assume_unique=True))


def planned(data: ImageData, plan: Plan, name: str) -> Variant:
    """The variant of that name on the rows that the plan gives to the agents."""
    return variant(name, data.labels, divide(data, plan).agents, len(data.classes), home=plan.home)


def base_outputs(data: ImageData, plan: Plan, name: str, folder: str | Path) -> dict[str, NDArray]:
    """What the base model of a variant says about pool, test and rest, so ordered."""
    out, given = np.concatenate(divide(data, plan)[1:]), planned(data, plan, name).base
    return agent_outputs(data, given, out, plan.base, RANDOM_STATE, folder)


def image_study(
    data: ImageData, plan: Plan, names: Sequence[str], seeds: Sequence[int], folder: str | Path, **how: Any
) -> pd.DataFrame:
    """The study on data with a test part: per variant (the `setting`) two agents, trained once, then `score_study`, of
    which `how` holds records and say. Finished parts are kept in `folder`. The test rows are the same for all seeds, so
    intervals over seeds speak of the scores' training rows and choices."""
    rows, found = divide(data, plan), []
    seen = np.concatenate([rows.pool, rows.test])
    for name in names:
        model = {what: part[: len(seen)] for what, part in base_outputs(data, plan, name, folder).items()}
        expert = agent_outputs(data, planned(data, plan, name).expert, seen, plan.expert, RANDOM_STATE, folder)
        both = sample(model, expert, data.labels[seen])
        pool, test = (both.at(part) for part in np.split(np.arange(len(seen)), [plan.pool]))
        frame = score_study(f"{data.name} {name}", pool, test, plan, seeds, folder, **how)
        found.append(frame.assign(data=data.name, setting=name.replace("_", " ")))
    return joined(found)


def score_study(
    name: str, rows: Sample, test: Sample, plan: Plan, seeds: Sequence[int], folder: str | Path, *,
    records: Callable[..., list[dict[str, Any]]] = posthoc.study, say: Callable[[str], None] | None = print,
) -> pd.DataFrame:  # fmt: skip
    """`posthoc.study` (or `each_setting`) with a fresh division of `rows` per seed: `plan.score_rows` of them train the
    scores, the others choose. Finished seeds are kept in `folder`; `name` is part of the files' names."""
    how = {"rows": rows, "test": test, "score_rows": plan.score_rows, "grid": plan.grid, "records": records}
    how["entries"] = methods.fingerprint(plan.grid.methods)  # for the key, as `part` is for the name
    return joined(keep(folder, _scores, say=say, part=name, seed=seed, **how) for seed in seeds)


def _scores(part: str, seed: int, rows: Sample, test: Sample, score_rows: int, grid: posthoc.Grid, records, entries):
    train, choose = np.split(np.random.default_rng(seed).permutation(len(rows.labels)), [score_rows])
    return tidy(records(grid, rows.at(train), rows.at(choose), test), seed=seed)
