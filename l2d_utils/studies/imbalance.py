"""MILD's study on images: experts that know some classes, routers on cached features or trained from pixels.

`imbalanced_experts` makes the experts, `image_features` the features that routers are trained on, `expert_problem`
puts them together. Three studies are kept part by part in a folder: `image_study` (many methods on features),
`capacity_study` (two losses under routers of different capacity) and `pixel_study` (networks trained end to end).
"""

from __future__ import annotations

import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from l2d_utils import agents, training, tuning
from l2d_utils.costs import costs_from_predictions
from l2d_utils.data import ImageData, Split, split_images, stratified_subset
from l2d_utils.losses import PRESETS, to_tensor_type
from l2d_utils.metrics import deferral_loss
from l2d_utils.results import tidy
from l2d_utils.routers import DeferralRouter
from l2d_utils.rules import offsets_for_costs, route
from l2d_utils.studies.compare import CONTROLS, Problem, compare, control, measure, remember

# ---------------------------------------------------------------- MILD's experts


@dataclass(frozen=True)
class Imbalance:
    """Experts that are good at home. All per expert.

    homes: classes; accuracy: on them; elsewhere: on the other classes (None: chance); population: share of the
    examples whose class belongs to the home, when it is not that of the data (then homes must not overlap).
    """

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
    for k, (home, accuracy, elsewhere) in enumerate(
        zip(setting.homes, setting.accuracy, setting.elsewhere, strict=True)
    ):
        seed = int(np.random.SeedSequence([random_state, k]).generate_state(1)[0])
        predictions.append(
            agents.specialist(labels, home, n_classes, accuracy=accuracy, elsewhere=elsewhere, random_state=seed)
        )
        right[k] = 1 / n_classes if elsewhere is None else elsewhere
        right[k, list(home)] = accuracy
    return costs_from_predictions(np.column_stack(predictions), labels), 1.0 - right.T[labels]


def population_rows(
    labels: NDArray, rows: NDArray, setting: Imbalance, *, size: int | None = None, random_state: int
) -> NDArray[np.int64]:
    """`size` of the rows (default: as many as there are) with the setting's population shares, sorted.

    Raises:
        ValueError: a home has too few rows for `size`.
    """
    if setting.population is None:
        return stratified_subset(labels, rows, len(rows) if size is None else size, random_state)
    members = [rows[np.isin(labels[rows], home)] for home in setting.homes]
    shares = np.asarray(setting.population)
    if size is None:
        size = int(min(len(m) / share for m, share in zip(members, shares, strict=True)))
    wanted = np.round(shares * size).astype(int)
    wanted[0] = size - wanted[1:].sum()
    drawn = [stratified_subset(labels, m, int(w), random_state) for m, w in zip(members, wanted, strict=True)]
    return np.sort(np.concatenate(drawn))


def expert_problem(
    data: ImageData,
    X: NDArray,
    split: Split,
    setting: Imbalance,
    *,
    size: int | None = None,
    random_state: int,
) -> Problem:
    """Route between the setting's experts: `size` training rows, all validation and test rows its population allows.

    X: (n, d) features of all images (rows outside the split are not used).
    """
    costs, expected = imbalanced_experts(data.labels, setting, len(data.classes), random_state=random_state)
    train = population_rows(data.labels, split.train, setting, size=size, random_state=random_state)
    rest = [population_rows(data.labels, r, setting, random_state=random_state) for r in (split.validation, split.test)]
    return Problem(X, costs, Split(train, *rest), expected, data.labels)


# ---------------------------------------------------------------- features and routers from pixels


def _initialised(network: Callable[..., agents.ImageClassifier], images: NDArray, n_outputs: int, random_state: int):
    """An untrained net that standardises pixels by the channel moments of `images`."""
    mean, std = agents.channel_moments(images)
    with agents.seeded(random_state):
        return network(n_outputs=n_outputs, mean=mean, std=std)


def base_features(
    data: ImageData,
    fit_rows: NDArray,
    out_rows: NDArray,
    *,
    network: Callable[..., agents.ImageClassifier],
    random_state: int,
    cache: str | Path | None = None,
    **settings: Any,
) -> tuple[NDArray, float]:
    """Train a classifier on `fit_rows` and return its penultimate features, and its accuracy on `out_rows`.

    Args:
        network: makes the untrained classifier from n_outputs, mean and std, for example `agents.SmallCNN`.
        cache: folder that finished features are kept in, by a key of everything that they depend on.
        settings: of `training.train` (epochs, batch_size, lr, dtype, autocast, augment).

    Returns:
        (n, width) array over all images with NaN outside `out_rows`, float64 if that was the training dtype, else
        float32; accuracy.
    """

    def compute() -> dict[str, NDArray]:
        module = _initialised(network, data.images[fit_rows], len(data.classes), random_state)
        loss = training.classification_loss(data.labels[fit_rows])
        # with a cache it is part of a long study
        progress = None if cache is None else training.progress_bar(settings["epochs"], f"{data.name}, base classifier")
        training.train(module, data.images[fit_rows], loss, random_state=random_state, progress=progress, **settings)
        found = agents.outputs(module, data.images[out_rows])
        right = found["logits"].argmax(axis=1) == data.labels[out_rows]
        return {"features": found["features"], "accuracy": np.array(right.mean())}

    if cache is None:
        found = compute()
    else:
        key = {
            "data": data.sha256, "network": repr(network(n_outputs=len(data.classes))), "seed": random_state,
            "rows": hashlib.sha256(np.concatenate([fit_rows, [-1], out_rows]).tobytes()).hexdigest(),
            "settings": {name: getattr(value, "__name__", str(value)) for name, value in settings.items()},
        }  # fmt: skip
        name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
        found = agents.cache_outputs(Path(cache) / f"features-{data.name}-{name}.npz", compute, key)
    double = settings.get("dtype", torch.float32) == torch.float64
    X = np.full((len(data.labels), found["features"].shape[1]), np.nan, dtype=np.float64 if double else np.float32)
    X[out_rows] = found["features"]
    return X, float(found["accuracy"])


def train_from_pixels(
    loss: str,
    loss_params: Mapping[str, Any],
    images: NDArray,
    problem: Problem,
    *,
    network: Callable[..., agents.ImageClassifier],
    random_state: int,
    **settings: Any,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Train a router end to end with a preset; its scores (n, K) on the validation and on the test rows.

    network: as in `base_features`; it gets one output per agent. settings: of `training.train`. `problem.X` is unused.
    The loss is divided by its mean row weight, as in `DeferralRouter`, so that one learning rate suits every preset.
    """
    parts = problem.split
    objective = PRESETS[loss].build(problem.costs[parts.train], **loss_params)
    row_weight = float(objective.weights.sum() / len(parts.train))
    objective = to_tensor_type(objective, torch.empty(0, dtype=torch.float32))
    module = _initialised(network, images[parts.train], problem.costs.shape[1], random_state)
    training.train(
        module, images[parts.train], lambda scores, rows: objective(scores, rows) / row_weight,
        random_state=random_state, **settings,
    )  # fmt: skip
    offset = objective.decision_offset.double().numpy()
    validation, test = (agents.outputs(module, images[r])["logits"] + offset for r in (parts.validation, parts.test))
    return validation, test


# ---------------------------------------------------------------- long studies


def image_features(
    data: ImageData,
    *,
    base_rows: int,
    pool: int,
    validation: int,
    test: int | None = None,
    random_state: int,
    **base: Any,
) -> tuple[NDArray, Split, float]:
    """One seed of the image study without its experts: features, split, accuracy of the base classifier.

    The rows outside validation and test are parted once more: `base_rows` of them train the base classifier, `pool`
    others are the split's training part. So no router sees features that were fitted to its own rows.

    Args:
        validation, test: as in `data.split_images`.
        base: network, epochs, cache and the like of `base_features`.
    """
    split = split_images(data, validation=validation, test=test, random_state=random_state)
    fit_rows = stratified_subset(data.labels, split.train, base_rows, random_state)
    rest = np.setdiff1d(split.train, fit_rows, assume_unique=True)
    split = Split(stratified_subset(data.labels, rest, pool, random_state), split.validation, split.test)
    out_rows = np.concatenate([split.train, split.validation, split.test])
    X, accuracy = base_features(data, fit_rows, out_rows, random_state=random_state, **base)
    return X, split, accuracy


def _described(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings of a base classifier or a training as JSON; a network by the name and size that it makes."""
    found = {name: str(getattr(value, "__name__", value)) for name, value in settings.items() if name != "cache"}
    if "network" in settings:
        module = settings["network"](n_outputs=2)
        found["network"] = f"{type(module).__name__} {sum(p.numel() for p in module.parameters())}"
    return found


def image_study(
    data: ImageData,
    parts: Sequence[tuple[str, int, Sequence[str]]],
    seeds: Sequence[int],
    folder: str | Path,
    *,
    study: str = "features",
    say: Callable[[str], None] = print,
    **features: Any,
) -> pd.DataFrame:
    """`compare` on cached features for (setting name, training size, methods) triples, all seeds of the first part
    first. Finished seeds are kept in `folder`, and a study that was stopped goes on from there.

    features: arguments of `image_features`. Returns a TIDY frame with setting "name, n=size"; to what `compare` gives
    it adds the base classifier's accuracy on rows that it was not trained on, as method "base", metric "accuracy".
    """
    found = []
    for name, size, methods in parts:
        for seed in seeds:
            key = {"data": data.name, "setting": name, "n": size, "seed": seed, "study": study}
            key |= {"methods": list(methods), "features": _described(features)}

            def measure_seed(name=name, size=size, methods=methods, seed=seed) -> pd.DataFrame:
                say(f"{data.name}, {name}, n={size}, seed {seed}, {len(methods)} methods")
                X, split, accuracy = image_features(data, random_state=seed, **features)
                problem = expert_problem(data, X, split, imbalance(name), size=size, random_state=seed)
                constants = {"study": study, "data": data.name, "setting": f"{name}, n={size}"}
                base = {"method": "base", "metric": "accuracy", "split": "test", "seed": seed, "value": accuracy}
                table = compare(methods, lambda _: problem, [seed], l2_factor=100 / size, **constants)
                return pd.concat([table, tidy([base], **constants)], ignore_index=True)

            found.append(remember(folder, key, measure_seed))
    return pd.concat(found, ignore_index=True)


#: Kinds of routers of `capacity_study`: their `DeferralRouter` arguments for 100 training rows.
CAPACITIES: dict[str, dict[str, Any]] = {
    "linear, ridge": {"l2": 0.1},
    "linear, no ridge": {"l2": 0.0, "max_iter": 2000},
    "linear, no ridge, 20 steps": {"l2": 0.0, "max_iter": 20},
    "64 hidden units, no ridge": {"l2": 0.0, "hidden": (64,), "max_iter": 500},
}


def capacity_study(
    data: ImageData,
    setting: str,
    size: int,
    seeds: Sequence[int],
    folder: str | Path,
    *,
    kinds: Mapping[str, Mapping[str, Any]] = CAPACITIES,
    say: Callable[[str], None] = print,
    **features: Any,
) -> pd.DataFrame:
    """Does MILD gain when the router can overfit? Two-stage against margins and temperatures, ridge not tuned.  [ours]

    For each kind of router: two-stage; MILD with the five γ of `tuning.grid` and one temperature with its five ρ, both
    chosen on validation; two-stage with offsets. Returns a TIDY frame like `image_study`, one setting per kind.
    """
    own = {m: [s["loss_params"] for s in tuning.grid(m)][::3] for m in ("mild", "global_temperature")}

    def one(kind: Mapping[str, Any], seed: int) -> pd.DataFrame:
        X, split, _ = image_features(data, random_state=seed, **features)
        problem = expert_problem(data, X, split, imbalance(setting), size=size, random_state=seed)
        parts = (split := problem.split).train, split.validation, split.test
        rows = [(problem.X[r], problem.costs[r]) for r in parts]
        arguments = {**kind, "l2": kind["l2"] * 100 / size}

        def fit(loss: str, params: Mapping[str, float]) -> tuple[float, DeferralRouter]:
            router = DeferralRouter(loss, dict(params), tol=1e-4, random_state=seed, **arguments)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)  # stopping early is the point of one kind
                router.fit(*rows[0])
            return deferral_loss(rows[1][1], router.predict(rows[1][0])), router

        loss, plain = fit("two_stage", {})
        chosen = {"two_stage": (loss, plain, {})}
        for method, grid in own.items():
            # the first of each grid, γ = 0 or ρ = 1, is two-stage
            trials = [(loss, plain, grid[0]), *((*fit(method, params), params) for params in grid[1:])]
            chosen[method] = min(trials, key=lambda trial: trial[0])
        offsets = offsets_for_costs(plain.decision_function(rows[1][0]), rows[1][1])
        chosen["two_stage_offsets"] = (np.nan, plain.with_offsets(offsets), {})
        records = [
            {"method": m, "split": "test", "metric": name, "value": v}
            for m, (_, router, _) in chosen.items()
            for name, v in measure(rows[2][1], router.predict(rows[2][0])).items()
        ]
        records += [
            {"method": m, "split": "validation", "metric": f"chosen/{name}", "value": v}
            for m, (_, _, params) in chosen.items()
            for name, v in params.items()
        ]
        train_error = measure(rows[0][1], plain.predict(rows[0][0]))["deferral_loss"]
        return pd.DataFrame(
            [*records, {"method": "two_stage", "split": "train", "metric": "deferral_loss", "value": train_error}]
        )

    found = []
    for name, kind in kinds.items():
        for seed in seeds:
            key = {"data": data.name, "setting": setting, "n": size, "seed": seed, "kind": name}
            key |= {"how": {k: str(v) for k, v in kind.items()}, "features": _described(features)}

            def run(kind=kind, seed=seed, name=name) -> pd.DataFrame:
                say(f"{data.name}, {setting}, n={size}, seed {seed}: {name}")
                return one(kind, seed)

            constants = {"study": "capacity", "data": data.name, "setting": name, "seed": seed}
            found.append(tidy(remember(folder, key, run), **constants))
    return pd.concat(found, ignore_index=True)


#: Three settings of each method that is trained from pixels: (loss parameters, learning rate).
PIXEL_GRID: dict[str, list[tuple[dict[str, float], float]]] = {
    "two_stage": [({}, 3e-3), ({}, 1e-3), ({}, 6e-3)],
    "global_temperature": [({"rho": rho}, 3e-3) for rho in (1.0, 0.5, 2.0)],
    "mild": [({"gamma": gamma}, 3e-3) for gamma in (0.0, 0.35, -0.35)],
    "one_vs_all": [({}, 3e-3), ({}, 1e-3), ({}, 6e-3)],
    "dr_cpe_joint": [({"temperature": temperature}, 3e-3) for temperature in (1.0, 0.3, 3.0)],
    "logit_adjustment": [({"tau": tau}, 3e-3) for tau in (0.25, 0.1, 0.5)],
}


def pixel_study(
    data: ImageData,
    methods: Sequence[str],
    seeds: Sequence[int],
    folder: str | Path,
    *,
    setting: str,
    size: int,
    validation: int,
    network: Callable[..., agents.ImageClassifier],
    test: int | None = None,
    n_settings: int = 3,
    say: Callable[[str], None] = print,
    **train: Any,
) -> pd.DataFrame:
    """Routers trained end to end, each tuned on validation over the first `n_settings` of `PIXEL_GRID`.

    Every method is also measured with validation-tuned offsets, and the `CONTROLS` stand beside them. Finished runs are
    kept in `folder`; a margin of 1 for all (γ = 0, ρ = 1) is two-stage and trained once. Returns what `compare` does.
    """

    def problem_of(seed: int) -> Problem:
        split = split_images(data, validation=validation, test=test, random_state=seed)
        X = np.zeros((len(data.labels), 1))
        return expert_problem(data, X, split, imbalance(setting), size=size, random_state=seed)

    how = {"network": type(network(n_outputs=2)).__name__, **{name: str(value) for name, value in train.items()}}

    def one_run(loss: str, params: dict[str, float], lr: float, seed: int) -> pd.DataFrame:
        say(f"{data.name} from pixels, {setting}, n={size}, seed {seed}: {loss} {params or ''} lr={lr}")
        problem = problem_of(seed)
        bar = training.progress_bar(train["epochs"], f"{how['network']}, {loss}")
        scores = train_from_pixels(
            loss, params, data.images, problem, network=network, lr=lr, random_state=seed, progress=bar, **train
        )
        costs = problem.costs[problem.split.validation], problem.costs[problem.split.test]
        records = []
        for suffix, offsets in (("", 0.0), ("_offsets", offsets_for_costs(scores[0], costs[0]))):
            numbers = {"validation": deferral_loss(costs[0], route(scores[0], offsets))}
            numbers |= measure(costs[1], route(scores[1], offsets))
            records += [{"method": suffix, "metric": m, "value": v} for m, v in numbers.items()]
        return pd.DataFrame(records)

    records: list[dict[str, Any]] = []
    for seed in seeds:
        for name in CONTROLS:
            numbers = control(name, problem_of(seed))
            records += [
                {"seed": seed, "split": "test", "method": name, "metric": m, "value": v} for m, v in numbers.items()
            ]
    trials: dict[tuple[str, int], list[dict[str, float]]] = {}
    for number in range(n_settings):  # the plainest setting of all methods and seeds first
        for seed in seeds:
            for method in methods:
                params, lr = PIXEL_GRID[method][number]
                plain = params in ({"gamma": 0.0}, {"rho": 1.0})
                loss, own = ("two_stage", {}) if plain else (method, params)
                key = {"data": data.name, "setting": setting, "n": size, "seed": seed, "loss": loss, "params": own}
                key |= {"lr": lr, **how}
                done = remember(folder, key, lambda run=(loss, own, lr, seed): one_run(*run))
                for suffix, rows in done.groupby("method"):
                    numbers = dict(zip(rows["metric"], rows["value"].astype(float), strict=True))
                    chosen = {f"chosen/{name}": value for name, value in {**params, "lr": lr}.items()}
                    trials.setdefault((method + suffix, seed), []).append(numbers | chosen)
    for (method, seed), found in trials.items():
        best = min(found, key=lambda numbers: numbers["validation"])
        for metric, value in best.items():
            held_out = metric == "validation" or metric.startswith("chosen/")
            name = "deferral_loss" if metric == "validation" else metric
            row = {"seed": seed, "split": "validation" if held_out else "test", "method": method}
            records.append(row | {"metric": name, "value": value})
    return tidy(records, study=f"pixels, {how['network']}", data=data.name, setting=f"{setting}, n={size}")


# ---------------------------------------------------------------- the full study of notebook 06

_CONTROLS = ("through_labels", "best_single", "random", "knows_label", "oracle")
_OFFSETS = ("two_stage_offsets", "mild_offsets", "two_stage_shares")
#: Methods of the full study, everywhere and at the setting of the paper.
CORE = ("two_stage", "mild", "global_temperature", "one_vs_all", "plug_in", *_OFFSETS, *_CONTROLS)
EVERY = (
    "two_stage", "two_stage_cost_sum", "mild", "mild_free", "global_temperature", "reweighted", "class_balanced",
    "focal", "ldam", "logit_adjustment", "vs", "one_vs_all", "dr_cpe_joint", "dr_cpe_marginal", "margin_dr_cpe",
    "plug_in", "two_stage_offsets", "mild_offsets", "one_vs_all_offsets", "two_stage_shares", "one_vs_all_shares",
    *_CONTROLS,
)  # fmt: skip


def full_study(
    data: ImageData, seeds: int, pixel_seeds: int, folder: str | Path, *, say: Callable[[str], None] = print
) -> pd.DataFrame:
    """All that section 7 of notebook 06 shows for one data set, finished parts kept in `folder`; a TIDY frame.

    On features: a LeNet on 10,000 rows for 6 epochs. CIFAR-10 gets every setting, two of them once more on as many
    fresh seeds, the capacity study and routers from pixels (on 5,000 rows: a LeNet for 15 epochs, a ResNet-8 for 10);
    other data sets two settings on features.
    """
    channels = data.images.shape[-1]
    lenet = functools.partial(agents.LeNet, channels, size=data.images.shape[1])
    features = {
        "network": lenet, "base_rows": 10_000, "pool": 10_000, "validation": 4000, "epochs": 6, "batch_size": 128,
        "cache": Path(folder) / "features",
    }  # fmt: skip
    main, on_cifar = ("70/20/10", 2000, EVERY), data.name == "cifar10"
    rest = [("generalist", 2000), *(FULL_SWEEP if on_cifar else [])]
    parts = [main if on_cifar else (*main[:2], CORE), *((name, size, CORE) for name, size in rest)]
    found = [image_study(data, parts, range(seeds), folder, say=say, **features)]
    if on_cifar:
        again, fresh = [(name, size, CORE) for name, size in FULL_FRESH], range(seeds, 2 * seeds)
        found.append(image_study(data, again, fresh, folder, study="fresh seeds", say=say, **features))
        found.append(capacity_study(data, "70/20/10", 500, range(seeds), folder, say=say, **features))
        for network, epochs in ((lenet, 15), (functools.partial(agents.ResNet, 8, channels), 10)):
            pixels = pixel_study(
                data, FULL_PIXELS, range(pixel_seeds), folder, setting="70/20/10", size=5000, validation=4000,
                network=network, say=say, epochs=epochs, batch_size=128,
            )  # fmt: skip
            found.append(pixels)
    return pd.concat(found, ignore_index=True)


#: Further settings and training sizes on CIFAR-10; those that are repeated on fresh seeds, because MILD seemed to gain
#: there; and the methods of the routers from pixels.
FULL_SWEEP = [
    ("generalist", 500), ("90/8/2", 500), ("90/8/2", 5000),
    ("70/20/10", 500), ("70/20/10", 5000), ("70/20/10", 10_000),
]  # fmt: skip
FULL_FRESH = [("90/8/2", 500), ("90/8/2", 5000)]
FULL_PIXELS = ["two_stage", "global_temperature", "mild", "one_vs_all", "dr_cpe_joint"]
