"""Many methods on one routing problem, over seeds, as one tidy table: what the experiment notebooks share.

A `Problem` is features, costs and a split. `compare` tunes every method on the validation rows of a problem and
measures it on the test rows, for one problem per seed; `summary`, `per_agent` and `differences` turn its table into
the frames that `plots` draws. `imbalanced_experts` builds MILD's experts, `base_features` the features that routers
are trained on, `train_from_pixels` a router without them. `remember` keeps finished parts of a long study.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from l2d_utils import agents, training, tuning
from l2d_utils.costs import costs_from_predictions
from l2d_utils.data import ImageData, Split, split_images, stratified_subset
from l2d_utils.losses import PRESETS, to_tensor_type
from l2d_utils.metrics import (
    Interval,
    best_single,
    deferral_loss,
    deferral_ratios,
    interval,
    oracle_routes,
    paired,
    random_loss,
    regret_by_agent,
)
from l2d_utils.results import output_folder, tidy, write_atomically
from l2d_utils.routers import DeferralRouter, PlugInRouter
from l2d_utils.rules import offsets_for_costs, route

# ---------------------------------------------------------------- a problem and its methods


class Problem(NamedTuple):
    """One routing problem.

    X: (n, d) features. costs: (n, K). split: row numbers of the train, validation and test parts. expected: (n, K)
    expected costs given all that could be known (for simulated experts: given the label), or None.
    """

    X: NDArray
    costs: NDArray[np.float64]
    split: Split
    expected: NDArray[np.float64] | None = None


class Fitted(NamedTuple):
    """A tuned method: routes (n_test,) on the test rows, its validation deferral loss, the numbers it chose."""

    routes: NDArray[np.int64]
    validation_loss: float
    chosen: dict[str, float]


#: Gradient tolerance of the routers' fits: 1e-3 takes twice as long and changes the deferral loss by about 0.001.
TOL = 3e-3

#: Methods that nothing is trained for; "knows_label" needs `Problem.expected`.
CONTROLS = ("best_single", "random", "oracle", "knows_label")


def _scaled(settings: Iterable[Mapping[str, Any]], l2_factor: float) -> list[dict[str, Any]]:
    return [{**params, "l2": params["l2"] * l2_factor} for params in settings]


def _chosen(params: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among the parameters: {"l2": ..., "gamma": ...}; margins as margin/1, margin/2, ..."""
    flat = {"l2": params["l2"], **(params.get("loss_params") or {})}
    margins = flat.pop("margins", ())
    return flat | {f"margin/{k}": float(rho) for k, rho in enumerate(margins, 1)}


def tune(method: str, problem: Problem, *, l2_factor: float = 1.0, random_state: int = 0) -> tuple[Any, Fitted]:
    """Tune one trained method on the validation rows; 15 settings for every method.

    Args:
        method: a preset of `losses.PRESETS`, "mild_free" (3 ridge strengths, then 12 moves of single margins) or
            "plug_in".
        l2_factor: multiplies every ridge strength of the grids.
        random_state: of the router.

    Returns:
        The fitted router, and what it did.

    Raises:
        ValueError: unknown method.
    """
    parts = problem.split
    X, costs = problem.X, problem.costs
    rows = (X[parts.train], costs[parts.train], X[parts.validation], costs[parts.validation])
    router = DeferralRouter(tol=TOL, random_state=random_state)
    if method == "plug_in":
        found = tuning.select(PlugInRouter(), _scaled(tuning.plug_in_grid(), l2_factor), *rows)
    elif method == "mild_free":
        start = tuning.select(router, _scaled([{"loss": "two_stage", "l2": l2} for l2 in tuning.L2], l2_factor), *rows)
        found = tuning.search_margins(
            *rows, start=np.ones(costs.shape[1]), l2=start.params["l2"], tol=TOL, random_state=random_state
        )
        found = found._replace(params={**found.params, "l2": start.params["l2"]})
    elif method in PRESETS:
        found = tuning.select(router, _scaled(tuning.grid(method), l2_factor), *rows)
    else:
        known = sorted({*PRESETS, "plug_in", *CONTROLS})
        raise ValueError(f"method must be one of {known}, or one of them with _offsets; found {method!r}")
    routes = found.best.predict(X[parts.test])
    return found.best, Fitted(routes, found.loss, _chosen(found.params))


def with_tuned_offsets(router: Any, problem: Problem) -> Fitted:
    """The router with one offset per agent added to its scores, chosen on the validation rows.  [prior: post-hoc]"""
    parts = problem.split
    scores, costs = router.decision_function(problem.X[parts.validation]), problem.costs[parts.validation]
    offsets = offsets_for_costs(scores, costs)
    routes = route(router.decision_function(problem.X[parts.test]), offsets)
    chosen = {f"offset/{k}": float(b) for k, b in enumerate(offsets, 1)}
    return Fitted(routes, deferral_loss(costs, route(scores, offsets)), chosen)


def measure(costs: ArrayLike, routes: ArrayLike) -> dict[str, float]:
    """Deferral loss, share/1.. and regret/1.. of a routing; agents count from 1 as in the papers.

    An agent that is best on no row has no regret: its entry is left out.
    """
    costs = np.asarray(costs)
    regret = regret_by_agent(costs, routes)
    numbers = {"deferral_loss": deferral_loss(costs, routes)}
    numbers |= {f"share/{k}": float(v) for k, v in enumerate(deferral_ratios(routes, costs.shape[1]), 1)}
    return numbers | {f"regret/{k}": float(v) for k, v in enumerate(regret, 1) if np.isfinite(v)}


def _measure_random(costs: NDArray) -> dict[str, float]:
    """What uniform random routing gives on average (exact, nothing is drawn)."""
    n_agents = costs.shape[1]
    always = [regret_by_agent(costs, np.full(len(costs), k)) for k in range(n_agents)]
    numbers = {"deferral_loss": random_loss(costs)} | {f"share/{k + 1}": 1 / n_agents for k in range(n_agents)}
    return numbers | {f"regret/{k}": float(v) for k, v in enumerate(np.mean(always, axis=0), 1) if np.isfinite(v)}


def _control(method: str, problem: Problem) -> dict[str, float]:
    test = problem.costs[problem.split.test]
    if method == "random":
        return _measure_random(test)
    if method == "oracle":
        return measure(test, oracle_routes(test))
    if method == "best_single":
        # chosen on training rows, so that the control is something one could deploy
        return measure(test, np.full(len(test), best_single(problem.costs[problem.split.train])))
    if problem.expected is None:
        raise ValueError("'knows_label' needs Problem.expected; found None")
    return measure(test, problem.expected[problem.split.test].argmin(axis=1))


def compare_on(
    methods: Sequence[str], problem: Problem, *, l2_factor: float = 1.0, random_state: int = 0
) -> list[dict[str, Any]]:
    """Records (split, method, metric, value) of all methods on one problem; see `compare`."""
    fits: dict[str, tuple[Any, Fitted]] = {}
    records = []
    for method in methods:
        if method in CONTROLS:
            records += [("test", method, *item) for item in _control(method, problem).items()]
            continue
        base = method.removesuffix("_offsets")
        if base not in fits:
            fits[base] = tune(base, problem, l2_factor=l2_factor, random_state=random_state)
        fitted = fits[base][1] if method == base else with_tuned_offsets(fits[base][0], problem)
        numbers = measure(problem.costs[problem.split.test], fitted.routes)
        records += [("test", method, *item) for item in numbers.items()]
        records.append(("validation", method, "deferral_loss", fitted.validation_loss))
        records += [("validation", method, f"chosen/{name}", value) for name, value in fitted.chosen.items()]
    return [dict(zip(("split", "method", "metric", "value"), r, strict=True)) for r in records]


def compare(
    methods: Sequence[str],
    problem_of: Callable[[int], Problem],
    seeds: Iterable[int],
    *,
    l2_factor: float = 1.0,
    **constants: Any,
) -> pd.DataFrame:
    """Tune every method on validation rows and measure it on test rows, for one problem per seed.

    Args:
        methods: names of `losses.PRESETS`, "plug_in", any of these with "_offsets" (the tuned router plus one offset
            per agent, tuned on validation), and the `CONTROLS` "best_single", "random", "oracle", "knows_label".
        problem_of: seed → Problem. The seed should decide everything random: split, experts, training.
        seeds: whole numbers.
        l2_factor: multiplies every ridge strength of `tuning.grid`; 100/n_train keeps the strengths in proportion to
            the training size.
        constants: entries of the other TIDY columns, for example notebook="06", study="quick", setting="70/20/10".

    Returns:
        results.TIDY frame. split "test": metrics deferral_loss, share/1.., regret/1..; split "validation":
        deferral_loss at the chosen setting, and chosen/l2, chosen/gamma, ...
    """
    parts = []
    for seed in seeds:
        records = compare_on(methods, problem_of(seed), l2_factor=l2_factor, random_state=seed)
        parts.append(tidy(records, seed=seed, **constants))
    return pd.concat(parts, ignore_index=True)


# ---------------------------------------------------------------- tables from tidy rows


def _by_seed(frame: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """seed × method table of one metric; methods in order of appearance."""
    rows = frame[(frame["metric"] == metric) & (frame["split"] == split)]
    if rows.empty:
        raise ValueError(f"frame has no rows with metric {metric!r} and split {split!r}")
    if rows.duplicated(["seed", "method"]).any():
        raise ValueError(f"{metric!r} stands twice for one seed and method: select one study and setting first")
    return rows.pivot(index="seed", columns="method", values="value")[list(dict.fromkeys(rows["method"]))]


def _row(name: str, found: Interval, **more: Any) -> dict[str, Any]:
    return {"method": name, **more, "mean": found.mean, "low": found.low, "high": found.high}


def summary(frame: pd.DataFrame, metric: str = "deferral_loss", *, split: str = "test") -> pd.DataFrame:
    """Mean and 95 % interval over seeds: columns method, mean, low, high."""
    table = _by_seed(frame, metric, split)
    return pd.DataFrame([_row(name, interval(table[name].to_numpy())) for name in table])


def differences(
    frame: pd.DataFrame, baseline: str, metric: str = "deferral_loss", *, split: str = "test"
) -> pd.DataFrame:
    """Paired difference of every other method and `baseline` over the same seeds: method, mean, low, high."""
    table = _by_seed(frame, metric, split)
    if baseline not in table:
        raise ValueError(f"baseline {baseline!r} is none of the methods {list(table)}")
    base = table[baseline].to_numpy()
    return pd.DataFrame([_row(name, paired(table[name].to_numpy(), base)) for name in table if name != baseline])


def per_agent(frame: pd.DataFrame, quantity: str = "share", *, split: str = "test") -> pd.DataFrame:
    """Share or regret of each agent: columns method, agent ("expert 1", ...), mean, low, high, and `share` = mean."""
    names = [m for m in dict.fromkeys(frame["metric"]) if str(m).startswith(f"{quantity}/")]
    rows = [
        _row(method, interval(table[method].to_numpy()), agent=f"expert {name.split('/')[1]}")
        for name in names
        for table in [_by_seed(frame, name, split)]
        for method in table
    ]
    return pd.DataFrame(rows).assign(share=lambda found: found["mean"])


def best_of(frame: pd.DataFrame, methods: Sequence[str]) -> str:
    """The method with the smallest mean validation deferral loss: how to name the best baseline without test rows."""
    return str(_by_seed(frame, "deferral_loss", "validation")[list(methods)].mean().idxmin())


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
    return Problem(X, costs, Split(train, *rest), expected)


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
        training.train(module, data.images[fit_rows], loss, random_state=random_state, **settings)
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


def remember(folder: str | Path, key: Mapping[str, Any], compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """`compute()`, kept as a CSV under a name made from `key`: a study that is stopped goes on where it was.

    key: what the part depends on, JSON; it becomes the file's name. A part is written whole or not at all.
    """
    text = json.dumps(key, sort_keys=True)
    label = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(str(v) for v in key.values()))[:60].strip("-")
    path = Path(folder) / f"{label}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.csv"
    if not path.is_file():
        frame = compute()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda p: frame.to_csv(p, index=False))
    return pd.read_csv(path, keep_default_na=False)


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


def image_study(
    data: ImageData,
    parts: Sequence[tuple[str, int, Sequence[str]]],
    seeds: Sequence[int],
    folder: str | Path,
    *,
    say: Callable[[str], None] = print,
    **features: Any,
) -> pd.DataFrame:
    """`compare` on cached features for (setting name, training size, methods) triples, all seeds of the first part
    first. Finished seeds are kept in `folder`, and a study that was stopped goes on from there.

    features: arguments of `image_features`. Returns a TIDY frame with setting "name, n=size".
    """
    found = []
    for name, size, methods in parts:
        for seed in seeds:
            key = {"data": data.name, "setting": name, "n": size, "seed": seed, "methods": list(methods)}

            def measure_seed(name=name, size=size, methods=methods, seed=seed) -> pd.DataFrame:
                def problem_of(seed: int) -> Problem:
                    X, split, _ = image_features(data, random_state=seed, **features)
                    return expert_problem(data, X, split, imbalance(name), size=size, random_state=seed)

                say(f"{data.name}, {name}, n={size}, seed {seed}")
                return compare(
                    methods, problem_of, [seed], l2_factor=100 / size,
                    study="features", data=data.name, setting=f"{name}, n={size}",
                )  # fmt: skip

            found.append(remember(folder, key, measure_seed))
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
        scores = train_from_pixels(
            loss, params, data.images, problem, network=network, lr=lr, random_state=seed, **train
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
        for control in CONTROLS:
            numbers = _control(control, problem_of(seed))
            records += [
                {"seed": seed, "split": "test", "method": control, "metric": m, "value": v} for m, v in numbers.items()
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
    return tidy(records, study="pixels", data=data.name, setting=f"{setting}, n={size}")


def provenance(data: ImageData, **settings: Any) -> pd.DataFrame:
    """Columns what, value: data and checksum, package version and source hash, torch, and `settings`."""
    from l2d_utils import __version__

    source = hashlib.sha256()
    package = Path(__file__).parent
    for path in sorted(package.rglob("*.py")):
        source.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    found = {
        "data": data.name, "data sha256": data.sha256, "package version": __version__,
        "package source sha256": source.hexdigest(), "torch": torch.__version__, **settings,
    }  # fmt: skip
    return pd.DataFrame({"what": list(found), "value": [str(v) for v in found.values()]})


def stored(name: str, out: str | Path, committed: str | Path) -> pd.DataFrame:
    """The table name.csv from this run's folder `out` if the run made it, else the one in the folder `committed`.

    Raises:
        FileNotFoundError: neither has it.
    """
    for folder in (output_folder(out), Path(committed)):
        if (folder / f"{name}.csv").is_file():
            return pd.read_csv(folder / f"{name}.csv", keep_default_na=False)
    raise FileNotFoundError(f"{name}.csv is in neither {out} nor {committed}: run the full profile once")
