"""MILD's study on images: experts that know some classes, routers on cached features or trained from pixels.

`imbalanced_experts` and `image_features` meet in an `expert_problem`. Two studies are kept part by part in a folder,
`feature_study` (many methods, linear and of other capacity) and `pixel_study`; `run` takes a list of them.
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from l2d_utils import agents, losses, metrics, training
from l2d_utils.cache import keep
from l2d_utils.costs import costs_from_predictions
from l2d_utils.data import ImageData, Split, split_images, stratified_subset
from l2d_utils.methods import find, fingerprint
from l2d_utils.results import joined, tidy
from l2d_utils.studies.compare import Problem, choose_setting, records, routed, tune_and_measure


@dataclass(frozen=True)
class Imbalance:
    """Per expert: classes of its home; accuracy on them and elsewhere (None: chance); population: share of the examples
    whose class belongs to the home, when it is not that of the data (then homes must not overlap)."""

    homes: tuple[tuple[int, ...], ...]
    accuracy: tuple[float, ...]
    elsewhere: tuple[float | None, ...]
    population: tuple[float, ...] | None = None


def imbalance(name: str, n_classes: int = 10, accuracy: float = 1.0) -> Imbalance:
    """Named settings of the image study.  [reconstructed; theory section 3]

    "70/20/10": three experts, good on that share of the classes. "90/8/2": the same homes, and examples drawn so that
    these shares of them fall to each expert. "generalist": expert 1 has 0.8 of `accuracy` on all classes; experts 2
    and 3 have `accuracy` on 20 % and 10 % of them. Elsewhere all experts guess.
    """
    homes, chance = agents.imbalanced_homes(n_classes), (None,) * 3
    if name == "70/20/10":
        return Imbalance(homes, (accuracy,) * 3, chance)
    if name == "90/8/2":
        return Imbalance(homes, (accuracy,) * 3, chance, (0.90, 0.08, 0.02))
    if name == "generalist":
        return Imbalance((tuple(range(n_classes)), *homes[1:]), (0.8 * accuracy, accuracy, accuracy), chance)
    raise ValueError(f"name must be one of '70/20/10', '90/8/2', 'generalist'; found {name!r}")


def imbalanced_experts(
    labels: ArrayLike, setting: Imbalance, n_classes: int, *, random_state: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Costs (n, K), 1 per wrong answer, of the setting's experts, and their expected costs given the label (n, K)."""
    labels = np.asarray(labels)
    predictions, right = [], np.empty((len(setting.homes), n_classes))
    experts = zip(setting.homes, setting.accuracy, setting.elsewhere, strict=True)
    for k, (home, accuracy, elsewhere) in enumerate(experts):
        seed = int(np.random.SeedSequence([random_state, k]).generate_state(1)[0])
        how = {"accuracy": accuracy, "elsewhere": elsewhere, "random_state": seed}
        predictions.append(agents.specialist(labels, home, n_classes, **how))
        right[k] = 1 / n_classes if elsewhere is None else elsewhere
        right[k, list(home)] = accuracy
    return costs_from_predictions(np.column_stack(predictions), labels), 1.0 - right.T[labels]


def population_rows(
    labels: NDArray, rows: NDArray, setting: Imbalance, *, size: int | None = None, random_state: int
) -> NDArray[np.int64]:
    """`size` rows (default: as many as there are; ValueError if a home has too few) with the setting's population
    shares, sorted."""
    if setting.population is None:
        return stratified_subset(labels, rows, len(rows) if size is None else size, random_state)
    members = [rows[np.isin(labels[rows], home)] for home in setting.homes]
    shares = np.asarray(setting.population)
    size = int(min([len(m) for m in members] / shares)) if size is None else size
    wanted = np.round(shares * size).astype(int)
    wanted[0] = size - wanted[1:].sum()
    drawn = [stratified_subset(labels, m, int(w), random_state) for m, w in zip(members, wanted, strict=True)]
    return np.sort(np.concatenate(drawn))


def expert_problem(
    data: ImageData, X: NDArray, split: Split, setting: Imbalance, *, size: int | None = None, random_state: int
) -> Problem:
    """Route between the setting's experts: `size` training rows, all validation and test rows its population allows.
    X: (n, d) features of all images (rows outside the split are not used)."""
    costs, expected = imbalanced_experts(data.labels, setting, len(data.classes), random_state=random_state)
    train = population_rows(data.labels, split.train, setting, size=size, random_state=random_state)
    rest = [population_rows(data.labels, r, setting, random_state=random_state) for r in (split.validation, split.test)]
    return Problem(X, costs, Split(train, *rest), expected, data.labels)


def _network(name: str, data: ImageData) -> Callable[..., agents.ImageClassifier]:
    """Makes untrained networks for images of this shape, from n_outputs, mean and std: "LeNet" or "ResNet-8"."""
    side, channels = data.images.shape[2:]
    if name == "LeNet":
        return functools.partial(agents.LeNet, channels, size=side)
    if name == "ResNet-8":
        return functools.partial(agents.ResNet, 8, channels)
    raise ValueError(f"network must be 'LeNet' or 'ResNet-8'; found {name!r}")


def image_features(
    data: ImageData, *, base_rows: int, pool: int, validation: int, test: int | None = None, random_state: int,
    network: str, folder: str | Path | None = None, **settings: Any,
) -> tuple[NDArray, Split, float]:  # fmt: skip
    """What the routers of one seed see, the penultimate layer of a small classifier: features (n, width) of all images,
    NaN outside the split; the split; test accuracy of the classifier.

    The rows outside validation and test are parted once more: `base_rows` of them train the classifier, `pool`
    others are the split's training part. So no router sees features that were fitted to its own rows.

    validation, test: as in `data.split_images`. network: "LeNet" or "ResNet-8"; settings: of `training.train` (epochs,
    batch_size, lr, dtype). folder: where finished features are kept, and unfinished trainings go on from.
    """
    split = split_images(data, validation=validation, test=test, random_state=random_state)
    fit_rows = stratified_subset(data.labels, split.train, base_rows, random_state)
    rest = np.setdiff1d(split.train, fit_rows, assume_unique=True)
    split = Split(stratified_subset(data.labels, rest, pool, random_state), split.validation, split.test)
    out_rows = np.concatenate([split.train, split.validation, split.test])
    arguments = {"images": data.images[fit_rows], "labels": data.labels[fit_rows], "out_images": data.images[out_rows]}
    arguments |= {"n_classes": len(data.classes), "random_state": random_state, "network": _network(network, data)}
    train = training.classifier_outputs
    compute = train if folder is None else functools.partial(keep, folder, train, resume="checkpoint")
    found = compute(**arguments, **settings)
    X = np.full((len(data.labels), found["features"].shape[1]), np.nan, dtype=found["features"].dtype)
    X[out_rows] = found["features"]
    return X, split, float((found["logits"].argmax(axis=1) == data.labels[out_rows]).mean())


def scores_from_pixels(
    data: ImageData, problem: Problem, network: str, loss: str, loss_params: Mapping[str, Any], epochs: int,
    random_state: int, entries: Sequence[Any] = (), **settings: Any,
) -> dict[str, NDArray[np.float64]]:  # fmt: skip
    """Train a router end to end with a preset: its "scores" (m, K) on the validation rows, then on the test rows.

    `problem.X` is unused; settings: of `training.train`. The loss is divided by its mean row weight, as in
    `DeferralRouter`, so that one learning rate suits every preset.
    """
    train, *rest = problem.split.train, problem.split.validation, problem.split.test
    objective = losses.PRESETS[loss].build(problem.costs[train], **loss_params)
    row_weight = float(objective.weights.sum() / len(train))
    objective = losses.to_tensor_type(objective, torch.empty(0, dtype=torch.float32))
    mean, std = agents.channel_moments(data.images[train])
    with agents.seeded(random_state):
        module = _network(network, data)(n_outputs=problem.costs.shape[1], mean=mean, std=std)
    bar = training.progress_bar(epochs, f"{network}, {loss} {loss_params or ''}")
    training.train(
        module, data.images[train], lambda scores, rows: objective(scores, rows) / row_weight, epochs=epochs,
        random_state=random_state, progress=bar, **settings,
    )  # fmt: skip
    scores = agents.outputs(module, data.images[np.concatenate(rest)])["logits"]
    return {"scores": scores + objective.decision_offset.double().numpy()}


#: Kinds of routers on features: options of `compare.fit_method`. "linear" is the one of all other studies. The others,
#: for MILD's argument about capacity, have one ridge strength that is not tuned; all strengths are for 100 rows.
ROUTERS: dict[str, dict[str, Any]] = {
    "linear": {"solver": {"tol": 2e-3, "warm_start": True}},
    "linear, ridge": {"ridge": 0.1, "solver": {"tol": 1e-4}},
    "linear, no ridge": {"ridge": 0.0, "solver": {"tol": 1e-4, "max_iter": 2000}},
    "linear, no ridge, 20 steps": {"ridge": 0.0, "solver": {"tol": 1e-4, "max_iter": 20}},
    "64 hidden units, no ridge": {"ridge": 0.0, "solver": {"tol": 1e-4, "max_iter": 500, "hidden": (64,)}},
}


def feature_study(
    data: ImageData, methods: Sequence[str], seeds: Iterable[int], folder: str | Path, *, experts: str, n: int,
    base: Mapping[str, Any], router: str = "linear", study: str = "features",
) -> pd.DataFrame:  # fmt: skip
    """Every method on the features of small classifiers. Finished parts are kept in `folder`: a stopped study goes on.

    methods: keys of the table. experts: name of an `imbalance`. n: training rows of the routers. base: arguments of
    `image_features`. router: one of `ROUTERS`; another than "linear" becomes the setting.

    Returns a tidy frame as of `compare`, and two facts more: training loss of the tuned methods (split "train");
    accuracy of the base classifier on rows that it was not trained on (method "base", metric "accuracy").
    """
    how = {"study": study, "data": data.name, "setting": experts if router == "linear" else router, "n": n}
    fit = {**ROUTERS[router], "ridge_factor": 100 / n}  # the same prior whatever the number of rows
    found = []
    for seed in seeds:
        X, split, accuracy = image_features(data, random_state=seed, folder=folder, **base)
        problem = expert_problem(data, X, split, imbalance(experts), size=n, random_state=seed)
        more = {"methods": list(methods), "problem": problem, "fit": fit, "entries": fingerprint(methods)}
        rate = {"method": "base", "split": "test", "metric": "accuracy", "value": accuracy}
        found.append(keep(folder, _on_features, say=print, **how, seed=seed, **more))
        found.append(tidy([rate], seed=seed, **how))
    return joined(found)


def _on_features(
    problem: Problem, methods: list[str], entries: list[Any], fit: Mapping[str, Any], seed: int, **how: Any
) -> pd.DataFrame:
    """One part. `entries`, the methods as they stand in the table, belong to its key."""
    fit = {**fit, "solver": {**fit["solver"], "random_state": seed}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is the point of one kind
        tuned, rows = tune_and_measure(methods, problem, **fit)
    X, costs = problem.X[problem.split.train], problem.costs[problem.split.train]
    fitted = {"split": "train", "metric": "deferral_loss"}
    rows += [{**fitted, "method": key, "value": metrics.deferral_loss(costs, tuned[key].predict(X))} for key in tuned]
    return tidy(rows, seed=seed, **how)


def pixel_settings(key: str) -> list[dict[str, Any]]:
    """Three settings of a router trained from pixels: every second of the method's own values, so that both signs of
    MILD's γ are among them, or three learning rates where it has none."""
    rates = [{"loss_params": {}, "lr": lr} for lr in (3e-3, 1e-3, 6e-3)]
    return [{"loss_params": dict(own), "lr": 3e-3} for own in find(key).own[::2]] or rates


def pixel_study(
    data: ImageData, methods: Sequence[str], seeds: Iterable[int], folder: str | Path, *, experts: str, n: int,
    validation: int, test: int | None = None, study: str = "pixels", **train: Any,
) -> pd.DataFrame:  # fmt: skip
    """Routers trained end to end, each tuned over its `pixel_settings`; arguments and result as of `feature_study`.
    train: network ("LeNet" or "ResNet-8"), and settings of `training.train`."""
    found = []
    for seed in seeds:
        split = split_images(data, validation=validation, test=test, random_state=seed)
        row_numbers, tuned = np.arange(len(data.labels))[:, None], {}
        problem = expert_problem(data, row_numbers, split, imbalance(experts), size=n, random_state=seed)
        arguments = {"data": data, "problem": problem, "random_state": seed, **train}
        for method in (find(key) for key in methods if find(key).route is None):
            settings = pixel_settings(base := method.base or method.key)
            routers = [_from_pixels(folder, base, setting, arguments) for setting in settings]
            tuned[method.key] = choose_setting(method, settings, routers, problem)
        rows = records(problem.costs[problem.split.test], routed(methods, problem, tuned), tuned)
        found.append(tidy(rows, seed=seed, study=study, data=data.name, setting=experts, n=n))
    return joined(found)


def _from_pixels(folder, loss: str, setting: Mapping[str, Any], arguments: Mapping[str, Any]) -> SimpleNamespace:
    """A trained router of which the scores of the held-out rows are left; its inputs (m, 1) are row numbers."""
    if setting["loss_params"] in ({"gamma": 0.0}, {"rho": 1.0}):  # a margin of 1 for all: trained once
        loss, setting = "two_stage", {**setting, "loss_params": {}}
    own = {"loss": loss, **setting, "entries": fingerprint([loss])}
    kept = keep(folder, scores_from_pixels, say=print, resume="checkpoint", **own, **arguments)
    split, costs = arguments["problem"].split, arguments["problem"].costs
    scores = np.full(costs.shape, np.nan)
    scores[np.concatenate([split.validation, split.test])] = kept["scores"]
    return SimpleNamespace(decision_function=lambda X: scores[X[:, 0]])


def run(data: ImageData, parts: Iterable[Mapping[str, Any]], folder: str | Path) -> pd.DataFrame:
    """Studies one after the other, each as its arguments, with seeds as [first, end): a `pixel_study` where there is a
    network, else a `feature_study`."""
    made = ((pixel_study if "network" in part else feature_study, part) for part in parts)
    return joined(study(data, folder=folder, **{**part, "seeds": range(*part["seeds"])}) for study, part in made)
