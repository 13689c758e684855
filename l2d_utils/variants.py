"""Variants of a data set under which a model and its expert differ: clean, long tail, label noise, specialist.

A variant alters the *training* rows of the two agents only, after validation and test rows were set aside. It is kept
as row numbers and training labels, so that what an agent saw is on record. [paper: data recipe; adapted to data sets
with few classes by the shares in `variant`]
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from l2d_utils import agents, training
from l2d_utils.data import ImageData

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


def record(found: Variant) -> pd.DataFrame:
    """What each agent was trained on, one line per row: agent ("base", "expert"), row, label as trained on."""
    parts = {"base": found.base, "expert": found.expert}
    return pd.concat(
        [pd.DataFrame({"agent": agent, "row": part.rows, "label": part.labels}) for agent, part in parts.items()],
        ignore_index=True,
    )


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
        checkpoint = None if cache is None else Path(cache) / f"{name}.pt"
        training.train(module, images, loss, random_state=random_state, checkpoint=checkpoint, **settings)
        dtype = next(module.parameters()).numpy(force=True).dtype
        return {what: a.astype(dtype) for what, a in agents.outputs(module, data.images[out_rows]).items()}

    return compute() if cache is None else agents.cache_outputs(Path(cache) / f"{name}.npz", compute, key)
